//! Right, wrong or not judged: how a verdict looks.

use super::screen::Tone;
use crate::record::bench::{Change, Checked, LaneTimes};
use crate::record::{Outcome, Summary, TensorRecord, Verdict};

/// Pass, fail or not run: a class for its colour, a mark and a word, for colour alone says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Class in the style sheet.
    pub class: &'static str,
    /// A sign of its own shape.
    pub mark: &'static str,
    /// The word.
    pub word: &'static str,
    /// Its colour in a terminal.
    pub tone: Tone,
}

impl Look {
    /// Right.
    pub const PASS: Self = Self {
        class: "pass",
        mark: "\u{2714}",
        word: "pass",
        tone: Tone::Good,
    };
    /// Wrong.
    pub const FAIL: Self = Self {
        class: "fail",
        mark: "\u{2718}",
        word: "FAIL",
        tone: Tone::Bad,
    };
    /// Not judged.
    pub const NONE: Self = Self {
        class: "none",
        mark: "\u{25cb}",
        word: "not run",
        tone: Tone::Doubtful,
    };

    /// Of a verdict.
    pub fn of(verdict: Verdict) -> Self {
        let word = verdict.word();
        match verdict {
            Verdict::Identical | Verdict::Allowed => Self { word, ..Self::PASS },
            Verdict::WithinTolerance => Self {
                word,
                tone: Tone::Doubtful,
                ..Self::PASS
            },
            Verdict::Differs => Self::FAIL,
            Verdict::NotRun => Self { word, ..Self::NONE },
            Verdict::Broke => Self { word, ..Self::FAIL },
        }
    }

    /// Right, wrong or not judged.
    pub fn of_passed(passed: Option<bool>) -> Self {
        match passed {
            Some(true) => Self::PASS,
            Some(false) => Self::FAIL,
            None => Self::NONE,
        }
    }

    /// Of what became of a lane's output before it was timed.
    pub fn of_checked(lane: &LaneTimes, elements: u64) -> Self {
        match lane.verdict {
            Checked::Verified if lane.equal == elements => Self {
                word: "equal",
                ..Self::PASS
            },
            Checked::Verified => Self::PASS,
            Checked::Wrong => Self::FAIL,
            Checked::Broke => Self {
                word: "BROKE",
                ..Self::FAIL
            },
        }
    }

    /// Of a speed since the baseline.
    pub fn of_change(outcome: Change) -> Self {
        let of = match outcome {
            Change::Slower => Self::FAIL,
            Change::Faster => Self::PASS,
            Change::Same => Self {
                tone: Tone::Plain,
                ..Self::PASS
            },
            Change::NotDecidable => Self::NONE,
        };
        Self {
            word: outcome.text(),
            ..of
        }
    }

    /// Of a tensor: the worst that became of it.
    pub fn of_tensor(t: &TensorRecord) -> Self {
        let passed = tensor_passed(t);
        let word = match passed {
            _ if t.error.is_some() => "BAD INPUT",
            _ if t.broke() => "BROKE",
            _ if t.damaged() => "DAMAGED",
            None => "NOT RUN",
            Some(_) => Self::of_passed(passed).word,
        };
        Self {
            word,
            ..Self::of_passed(passed)
        }
    }

    /// Of a run, with a sentence.
    pub fn of_run(s: &Summary) -> (Self, &'static str) {
        match s.outcome {
            Outcome::Passed if s.lanes.iter().all(|l| l.passed == 0) => {
                (Self::NONE, "no kernel lane ran")
            }
            Outcome::Passed => (Self::PASS, "every lane that ran passed"),
            Outcome::Failed if s.checkpoint.as_ref().is_some_and(|c| c.damaged > 0) => (
                Self::FAIL,
                "the checkpoint is damaged or the source is another model's",
            ),
            Outcome::Failed => (
                Self::FAIL,
                "a lane failed its gates, or a tensor that is not quantised is not the source's",
            ),
            Outcome::NothingCompared => (
                Self::NONE,
                "nothing was compared: no lane ran beside the reference, and there is no source",
            ),
            Outcome::Broke => (Self::FAIL, "a lane broke, or a tensor is bad input"),
            Outcome::RequiredLaneMissing => (
                Self::NONE,
                "a required lane did not run on every tensor, or on software only",
            ),
        }
    }
}

/// What became of a tensor on all lanes together: right, wrong, or not judged.
pub fn tensor_passed(t: &TensorRecord) -> Option<bool> {
    let mut decisions = t.decisions.iter();
    if t.error.is_some() || t.broke() || t.damaged() || t.failed() {
        Some(false)
    } else if decisions.any(|d| d.verdict.passed() == Some(true)) {
        Some(true)
    } else {
        None
    }
}
