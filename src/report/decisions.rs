//! What is decided, a paragraph for each lane.

use super::screen::{Screen, Tone, marked_paragraph};
use super::view::verdicts;
use super::words::{checkpoint_problem, plain_problems};
use crate::error::printable;
use crate::record::{Outcome, Run, TensorRecord, missing_lanes};

/// One decision, or what is decided for the run.
pub struct Said {
    /// What leads: a lane's published string, or how the run ended.
    pub lead: String,
    /// Its colour.
    pub tone: Tone,
    /// What follows.
    pub why: String,
}

impl Said {
    /// The whole of it, a paragraph.
    pub fn paragraph(&self, screen: Screen) -> String {
        let (lead, why) = (&self.lead, &self.why);
        marked_paragraph("decision: ", lead, self.tone, why, screen)
    }
}

/// What the error against the source is of what the format costs, where there is a source.
fn cost(run: &Run) -> String {
    /// Above this, tensors of the format's cost alone are rare.
    const MUCH: f64 = 1.2;
    let judged = run
        .tensors
        .iter()
        .filter_map(|t| Some((t, t.checkpoint.as_ref()?)));
    let Some((t, worst)) = judged.max_by(|(_, a), (_, b)| a.ratio.total_cmp(&b.ratio)) else {
        return String::new();
    };
    let base = printable(&t.tensor_base);
    match worst.ratio > MUCH {
        true => format!(
            ", and its error against the source is up to {:.1} times what the format costs ({base})",
            worst.ratio
        ),
        false => ", and its error against the source is what the format costs".into(),
    }
}

/// Says how many are not named.
fn more(count: usize) -> String {
    match count {
        0 => String::new(),
        n => format!(" and {n} more"),
    }
}

/// How the run ended where its lanes do not say it, the checkpoint first; then every lane's decision.
pub fn decisions(run: &Run) -> Vec<Said> {
    let s = &run.summary;
    let said = |word: &str, tone, why: &str| Said {
        lead: word.into(),
        tone,
        why: format!(": {why}"),
    };
    if s.tensors == 0 {
        return vec![Said {
            lead: "no TQ4 tensor in this partition".into(),
            tone: Tone::Plain,
            why: String::new(),
        }];
    }
    let mut all = Vec::new();
    if let Some(damage) = checkpoint_problem(run) {
        all.push(said("FAILED", Tone::Bad, &damage));
    }
    let plain = plain_problems(run);
    if let Some((name, reason)) = plain.first() {
        let more = more(plain.len() - 1);
        let what = format!("not quantised, and not the source's: {name} ({reason}){more}");
        all.push(said("FAILED", Tone::Bad, &what));
    }
    let first = |is: &dyn Fn(&TensorRecord) -> bool, what: &str| {
        let mut those = run.tensors.iter().filter(|t| is(t));
        let first = printable(&those.next()?.tensor_base);
        Some(format!("{what} {first}{}", more(those.count())))
    };
    match s.outcome {
        Outcome::Broke => {
            let bad = first(&|t| t.error.is_some(), "bad input:");
            let broke = first(&TensorRecord::broke, "a lane broke at");
            all.extend(
                [bad, broke]
                    .into_iter()
                    .flatten()
                    .map(|w| said("BROKE", Tone::Bad, &w)),
            );
        }
        Outcome::RequiredLaneMissing => {
            let missing = missing_lanes(&run.model, &run.tensors);
            let lanes = missing.iter().map(|m| match &m.software {
                Some(device) => format!("{} ran on software only ({device})", m.lane),
                None if m.several => format!("{} did not run on every tensor", m.lane),
                None => format!("{} did not run", m.lane),
            });
            let lanes = printable(&lanes.collect::<Vec<_>>().join(", "));
            all.push(said("A REQUIREMENT IS NOT MET", Tone::Doubtful, &lanes));
        }
        Outcome::NothingCompared => {
            let why = "no lane ran beside the reference, and there is no source";
            all.push(said("NOTHING WAS COMPARED", Tone::Doubtful, why));
        }
        Outcome::Passed if s.lanes.iter().all(|l| l.passed == 0) => {
            all.push(Said {
                lead: "only the reference ran".into(),
                tone: Tone::Doubtful,
                why: cost(run),
            });
        }
        Outcome::Passed | Outcome::Failed => {}
    }
    all.extend(verdicts(run).into_iter().map(|v| Said {
        lead: v.decision,
        tone: v.verdict.tone,
        why: format!(" ({})", v.reason),
    }));
    all
}
