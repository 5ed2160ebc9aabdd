//! Decisions: what a lane's comparison with the reference came to, and by which gates.

use super::{Exactness, LaneKind, LaneName};
use serde::{Deserialize, Serialize};

/// What became of a lane, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every element equals the rounded reference.
    Identical,
    /// Every element is one that correct arithmetic can give, and every gate is met.
    Allowed,
    /// The lane differs, by no more than the user takes.
    WithinTolerance,
    /// The lane did not run.
    NotRun,
    /// The lane broke.
    Broke,
    /// A gate is not met.
    Differs,
}

impl Verdict {
    /// `true` for passed, `false` for failed, `None` where there is no output to judge.
    pub fn passed(self) -> Option<bool> {
        match self {
            Self::Identical | Self::Allowed | Self::WithinTolerance => Some(true),
            Self::NotRun | Self::Broke => None,
            Self::Differs => Some(false),
        }
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Allowed => "allowed",
            Self::WithinTolerance => "within tolerance",
            Self::NotRun => "not run",
            Self::Broke => "failed",
            Self::Differs => "differs",
        }
    }
}

/// A rule that a comparison must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// No NaN or infinity where the reference has none.
    NoNan,
    /// No element outside its allowed set.
    Allowed,
    /// The published gate on `rmse / rhs_rms`, for BF16.
    RmseRatio,
    /// The output is not, bit for bit, that of a fault which the allowed sets let through.
    NotAFault,
    /// No element differs: of two recordings without their model.
    Equal,
    /// `rmse / rhs_rms` within the user's tolerance.
    ToleranceRmse,
    /// No element beyond the user's tolerance.
    ToleranceElements,
}

impl GateName {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoNan => "no_nan",
            Self::RmseRatio => "rmse_ratio",
            Self::Allowed => "allowed",
            Self::NotAFault => "not_a_fault",
            Self::Equal => "equal",
            Self::ToleranceRmse => "tolerance_rmse",
            Self::ToleranceElements => "tolerance_elements",
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
    /// How the elements stand to what is allowed; `None` where no reference takes part.
    pub exactness: Option<Exactness>,
}

impl Decision {
    /// The decision for a lane that did not run, with the reason.
    pub fn not_run(lane: LaneName, reason: &str) -> Self {
        Self::without_output(lane, Verdict::NotRun, reason)
    }

    /// The decision for a lane that did not run, or broke.
    pub fn without_output(lane: LaneName, verdict: Verdict, reason: &str) -> Self {
        Self {
            lane,
            rhs: LaneName::Reference,
            verdict,
            reason: reason.into(),
            gates: Vec::new(),
            exactness: None,
        }
    }

    /// The published string.
    pub fn published(&self) -> String {
        published(&self.lane, &self.rhs, self.verdict)
    }
}

/// The published string of a decision: `LANE_dequant_matches_reference_with_bf16_rounding`,
/// `LANE_dequant_differs_from_reference` or `LANE_dequant_not_run`; `LANE_dequant_within_tolerance` where
/// the lane differs and may; `A_matches_B` and so on for a pair without the reference.
pub fn published(lane: &LaneName, rhs: &LaneName, verdict: Verdict) -> String {
    let reference = *rhs == LaneName::Reference;
    match verdict {
        Verdict::NotRun | Verdict::Broke => format!("{lane}_dequant_not_run"),
        Verdict::Identical | Verdict::Allowed if reference => {
            format!("{lane}_dequant_matches_reference_with_bf16_rounding")
        }
        Verdict::WithinTolerance if reference => format!("{lane}_dequant_within_tolerance"),
        Verdict::Differs if reference => format!("{lane}_dequant_differs_from_reference"),
        Verdict::Identical | Verdict::Allowed => format!("{lane}_matches_{rhs}"),
        Verdict::WithinTolerance => format!("{lane}_within_tolerance_of_{rhs}"),
        Verdict::Differs => format!("{lane}_differs_from_{rhs}"),
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
    verdict: Verdict,
    passed: Option<bool>,
    reason: String,
    gates: Vec<Gate>,
    exactness: Option<Exactness>,
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
            verdict: d.verdict,
            passed: d.verdict.passed(),
            lane: d.lane,
            against: d.rhs,
            reason: d.reason,
            gates: d.gates,
            exactness: d.exactness,
        }
    }
}

impl From<Wire> for Decision {
    fn from(w: Wire) -> Self {
        Self {
            lane: w.lane,
            rhs: w.against,
            verdict: w.verdict,
            reason: w.reason,
            gates: w.gates,
            exactness: w.exactness,
        }
    }
}

/// The published string of the outcome that counts most: CUDA's, of several devices the first with the
/// worst, unless a lane failed; then that of the first lane that failed, CUDA before the others.
pub fn leading(decisions: &[Decision]) -> String {
    let is_cuda = |d: &&Decision| d.lane.kind() == Some(LaneKind::Cuda);
    let cuda = || decisions.iter().filter(is_cuda);
    let others = decisions.iter().filter(|d| !is_cuda(d));
    let failed = cuda()
        .chain(others)
        .find(|d| d.verdict.passed() == Some(false));
    let worst = cuda().min_by_key(|d| std::cmp::Reverse(d.verdict));
    failed.or(worst).map_or_else(
        || published(&LaneName::Cuda, &LaneName::Reference, Verdict::NotRun),
        Decision::published,
    )
}
