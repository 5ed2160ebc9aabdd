//! What is decided, a paragraph for each lane: alike at a terminal, in Markdown and on a page.

use super::look::Look;
use super::screen::{Screen, Tone, marked_paragraph};
use super::shared::{Cause, Shared};
use super::view::{DecisionView, verdicts};
use super::words::{checkpoint_problem, lanes_shown, plain_problems};
use crate::decimal::fixed;
use crate::error::printable;
use crate::record::{Outcome, Run, TensorRecord, missing_lanes};

/// One decision, or what is decided for the run.
pub struct Said {
    /// What leads: a lane's published string, or how the run ended.
    pub lead: String,
    /// How it looks.
    pub look: Look,
    /// What follows.
    pub why: String,
    /// The lane's decision, where it is one.
    pub lane: Option<DecisionView>,
}

impl Said {
    fn of_run(lead: &str, look: Look, why: String) -> Self {
        Self {
            lead: lead.into(),
            look,
            why,
            lane: None,
        }
    }

    /// The whole of it, a paragraph.
    pub fn paragraph(&self, screen: Screen) -> String {
        let (lead, why) = (&self.lead, &self.why);
        marked_paragraph("decision: ", lead, self.look.tone, why, screen)
    }
}

impl From<DecisionView> for Said {
    fn from(v: DecisionView) -> Self {
        let why = match v.reason.as_str() {
            "" => String::new(),
            reason if v.broke => format!(": {reason}"),
            reason => format!(" ({reason})"),
        };
        Self {
            lead: v.decision.clone(),
            look: v.verdict,
            why,
            lane: Some(v),
        }
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
            ", and its error against the source is up to {} times what the format costs ({base})",
            fixed(worst.ratio, 1)
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

/// The first of some tensors and how many more there are; nothing of none.
fn first_of<'r>(what: &str, mut those: impl Iterator<Item = &'r TensorRecord>) -> Option<String> {
    let first = printable(&those.next()?.tensor_base);
    Some(format!("{what} {first}{}", more(those.count())))
}

/// What broke the run, a line each: the tensors of a damaged file in one.
fn broken(run: &Run) -> Vec<String> {
    let shared = Shared::of(run);
    let files = shared.troubles.iter();
    let files = files.filter(|known| matches!(known.cause, Cause::File(_)));
    let of_file = files.map(|known| format!("bad input: {}", known.title()));
    let single = run.tensors.iter().filter(|t| t.error.is_some());
    let single = single.filter(|t| !shared.has_error(t));
    let broke = run.tensors.iter().filter(|t| t.broke());
    let others = [
        first_of("bad input:", single),
        first_of("a lane broke at", broke),
    ];
    of_file.chain(others.into_iter().flatten()).collect()
}

/// How the run ended where its lanes do not say it, the checkpoint first; then every lane's decision, with why a
/// lane did not run where the table of lanes is not `beside` it.
pub fn decisions(run: &Run, beside: bool) -> Vec<Said> {
    let s = &run.summary;
    let said = |word: &str, look, why: &str| Said::of_run(word, look, format!(": {why}"));
    if s.tensors == 0 {
        let plain = Look {
            tone: Tone::Plain,
            ..Look::NONE
        };
        return vec![Said::of_run(
            "no TQ4 tensor in this partition",
            plain,
            String::new(),
        )];
    }
    let mut all = Vec::new();
    if let Some(damage) = checkpoint_problem(run) {
        all.push(said("FAILED", Look::FAIL, &damage));
    }
    let plain = plain_problems(run);
    if let Some((name, reason)) = plain.first() {
        let more = more(plain.len() - 1);
        let what = format!("not quantised, and not the source's: {name} ({reason}){more}");
        all.push(said("FAILED", Look::FAIL, &what));
    }
    match s.outcome {
        Outcome::Broke => {
            let lines = broken(run).into_iter();
            all.extend(lines.map(|w| said("BROKE", Look::FAIL, &w)));
        }
        Outcome::RequiredLaneMissing => {
            let missing = missing_lanes(&run.model, &run.tensors);
            let lanes = missing.iter().map(|m| match &m.software {
                Some(device) => format!("{} ran on software only ({device})", m.lane),
                None if m.several => format!("{} did not run on every tensor", m.lane),
                None => format!("{} did not run", m.lane),
            });
            let lanes = printable(&lanes.collect::<Vec<_>>().join(", "));
            all.push(said("A REQUIREMENT IS NOT MET", Look::NONE, &lanes));
        }
        Outcome::NothingCompared => {
            let why = "no lane ran beside the reference, and there is no source";
            all.push(said("NOTHING WAS COMPARED", Look::NONE, why));
        }
        Outcome::Passed if s.lanes.iter().all(|l| l.passed == 0) => {
            all.push(Said::of_run(
                "only the reference ran",
                Look::NONE,
                cost(run),
            ));
        }
        Outcome::Passed | Outcome::Failed => {}
    }
    let lanes = lanes_shown(run);
    let told = |v: &DecisionView| {
        let mut lanes = lanes
            .iter()
            .filter_map(|l| Some((&l.name, l.reason.as_ref()?)));
        beside
            && !v.ran
            && lanes.any(|(n, r)| super::view::name(n) == v.lane && printable(r) == v.reason)
    };
    all.extend(verdicts(run).into_iter().map(|mut v| {
        if told(&v) {
            v.reason.clear();
        }
        v.into()
    }));
    all
}
