//! Decisions: what a lane's comparison with the reference came to, and by which gates.

use super::LaneName;
use serde::{Deserialize, Serialize};

/// What became of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every gate is met.
    Passed,
    /// The lane did not run.
    NotRun,
    /// A gate is not met.
    Failed,
}

impl Verdict {
    /// `true` for passed, `false` for failed, `None` for not run.
    pub fn passed(self) -> Option<bool> {
        match self {
            Self::Passed => Some(true),
            Self::NotRun => None,
            Self::Failed => Some(false),
        }
    }

    fn from_passed(passed: Option<bool>) -> Self {
        match passed {
            Some(true) => Self::Passed,
            None => Self::NotRun,
            Some(false) => Self::Failed,
        }
    }
}

/// A rule that a comparison must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// No NaN or infinity where the reference has none.
    NoNan,
    /// The published gate on `rmse / rhs_rms`.
    RmseRatio,
    /// No element further than a BF16 step.
    MaxOneStep,
    /// Nearly all elements equal.
    BitEqual,
}

impl GateName {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoNan => "no_nan",
            Self::RmseRatio => "rmse_ratio",
            Self::MaxOneStep => "max_one_step",
            Self::BitEqual => "bit_equal",
        }
    }
}

/// How a value must stand to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// Not above it.
    #[serde(rename = "<=")]
    AtMost,
    /// Not below it.
    #[serde(rename = ">=")]
    AtLeast,
}

impl Relation {
    /// `at most` or `at least`.
    pub fn words(self) -> &'static str {
        match self {
            Self::AtMost => "at most",
            Self::AtLeast => "at least",
        }
    }

    /// `≤` or `≥`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::AtMost => "\u{2264}",
            Self::AtLeast => "\u{2265}",
        }
    }

    /// Whether `value` stands so to `limit`; a NaN never does.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtMost => value <= limit,
            Self::AtLeast => value >= limit,
        }
    }
}

/// One rule with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Which rule.
    pub name: GateName,
    /// What was measured.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub value: f64,
    /// How the value must stand to the limit.
    pub must_be: Relation,
    /// The limit.
    pub limit: f64,
    /// Whether the rule is met.
    pub passed: bool,
}

impl Gate {
    /// Holds `value` to `limit`.
    pub fn new(name: GateName, value: f64, must_be: Relation, limit: f64) -> Self {
        Self {
            name,
            value,
            must_be,
            limit,
            passed: must_be.holds(value, limit),
        }
    }
}

/// What became of one kernel lane or recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Decision {
    /// The lane or recording.
    pub lane: LaneName,
    /// What it was held to: the reference, or another recording where no reference takes part.
    pub rhs: LaneName,
    /// The outcome.
    pub verdict: Verdict,
    /// One line that says why.
    pub reason: String,
    /// The gates behind it.
    pub gates: Vec<Gate>,
}

impl Decision {
    /// The decision for a lane that did not run, with the reason.
    pub fn not_run(lane: LaneName, reason: &str) -> Self {
        Self {
            lane,
            rhs: LaneName::Reference,
            verdict: Verdict::NotRun,
            reason: reason.into(),
            gates: Vec::new(),
        }
    }

    /// The published string.
    pub fn published(&self) -> String {
        published(&self.lane, &self.rhs, self.verdict)
    }
}

/// The published string of a decision: `LANE_dequant_matches_reference_with_bf16_rounding`,
/// `LANE_dequant_differs_from_reference` or `LANE_dequant_not_run`; `A_matches_B` or `A_differs_from_B`
/// for a pair without the reference.
pub fn published(lane: &LaneName, rhs: &LaneName, verdict: Verdict) -> String {
    match (verdict, rhs) {
        (Verdict::NotRun, _) => format!("{lane}_dequant_not_run"),
        (Verdict::Passed, LaneName::Reference) => {
            format!("{lane}_dequant_matches_reference_with_bf16_rounding")
        }
        (Verdict::Failed, LaneName::Reference) => format!("{lane}_dequant_differs_from_reference"),
        (Verdict::Passed, rhs) => format!("{lane}_matches_{rhs}"),
        (Verdict::Failed, rhs) => format!("{lane}_differs_from_{rhs}"),
    }
}

/// A decision as JSON has it.
#[derive(Serialize, Deserialize)]
struct Wire {
    lane: LaneName,
    #[serde(default = "reference", skip_serializing_if = "is_reference")]
    against: LaneName,
    #[serde(default)]
    decision: String,
    passed: Option<bool>,
    reason: String,
    gates: Vec<Gate>,
}

fn reference() -> LaneName {
    LaneName::Reference
}

fn is_reference(lane: &LaneName) -> bool {
    *lane == LaneName::Reference
}

impl From<Decision> for Wire {
    fn from(d: Decision) -> Self {
        Self {
            decision: d.published(),
            passed: d.verdict.passed(),
            lane: d.lane,
            against: d.rhs,
            reason: d.reason,
            gates: d.gates,
        }
    }
}

impl From<Wire> for Decision {
    fn from(w: Wire) -> Self {
        Self {
            lane: w.lane,
            rhs: w.against,
            verdict: Verdict::from_passed(w.passed),
            reason: w.reason,
            gates: w.gates,
        }
    }
}

/// The outcome for CUDA as its published string, for `#[serde(with)]`.
pub(crate) mod cuda_decision {
    use super::{LaneName, Verdict, published};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(v: &Verdict, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&published(&LaneName::Cuda, &LaneName::Reference, *v))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Verdict, D::Error> {
        let text = String::deserialize(from)?;
        [Verdict::Passed, Verdict::NotRun, Verdict::Failed]
            .into_iter()
            .find(|v| published(&LaneName::Cuda, &LaneName::Reference, *v) == text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no decision")))
    }
}

/// The outcome for CUDA among `decisions`.
pub fn cuda_verdict(decisions: &[Decision]) -> Verdict {
    let cuda = decisions.iter().find(|d| d.lane == LaneName::Cuda);
    cuda.map_or(Verdict::NotRun, |d| d.verdict)
}
