//! Totals over the records of a run. They follow from the header and the records alone, so that a run
//! in pieces ends with the summary of one run.

use super::{
    CheckpointTotals, LaneKind, LaneName, LaneRecord, Model, PlainRecord, PlainStatus, Status,
    TensorRecord, Unmet, Verdict, published, unmet,
};
use crate::natural::natural;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// One lane over all tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneTotals {
    /// Name of the lane.
    pub lane: LaneName,
    /// Tensors that met every gate.
    pub passed: u64,
    /// Tensors that did not.
    pub failed: u64,
    /// Tensors on which it did not run.
    pub not_run: u64,
    /// Tensors on which it broke; these are in `not_run` as well.
    pub broke: u64,
    /// The verdict, the worst over all tensors; over those that it holds, of a recording.
    pub verdict: Verdict,
    /// Its published string, as in a tensor's `decisions`.
    pub decision: String,
    /// Why: of the first tensor with that outcome.
    pub reason: String,
    /// That tensor.
    pub tensor_base: String,
}

impl LaneTotals {
    /// Why, with how many of `total` tensors it is about.
    pub fn why(&self, total: u64) -> String {
        let count = match self.verdict.passed() {
            Some(false) => self.failed,
            None => self.not_run,
            Some(true) => self.passed,
        };
        match self.verdict.passed() {
            _ if total == 1 => self.reason.clone(),
            Some(true) if self.verdict == Verdict::Identical => {
                format!("{count} of {total} tensors, identical in every element")
            }
            None if count == total => self.reason.clone(),
            _ => format!(
                "{count} of {total} tensors; {}: {}",
                self.tensor_base, self.reason
            ),
        }
    }
}

/// The tensors that are not quantised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainTotals {
    /// Tensors with the source's bytes.
    pub equal: u64,
    /// Tensors that are the source's, rounded to another dtype.
    #[serde(default)]
    pub cast: u64,
    /// Tensors that are quantised by another method.
    #[serde(default)]
    pub not_decoded: u64,
    /// Tensors that differ.
    pub differs: u64,
    /// Tensors that the source does not hold.
    pub only_in_tq4: u64,
    /// Tensors that the TQ4 model does not hold.
    pub only_in_source: u64,
    /// Bytes compared.
    pub bytes: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that ran passed.
    Passed,
    /// A lane failed its gates, or a tensor that is not quantised is not the source's.
    Failed,
    /// A lane broke, or a tensor is bad input.
    Broke,
    /// A required lane did not run on every tensor, or on software only.
    RequiredLaneMissing,
    /// Nothing ran beside the reference, and there is no source.
    NothingCompared,
}

/// Totals of a run or of one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// TQ4 tensors.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their bytes of codes, scales and signs.
    pub bytes: u64,
    /// TQ4 tensors that are bad input.
    pub errors: u64,
    /// Every kernel lane and recording.
    pub lanes: Vec<LaneTotals>,
    /// The tensors that are not quantised; null when they were not compared.
    pub plain: Option<PlainTotals>,
    /// The checkpoint against its source; null when no tensor was judged by one.
    #[serde(default)]
    pub checkpoint: Option<CheckpointTotals>,
    /// The worst outcome for CUDA, as its published string; of a lane that failed, where one did.
    pub decision: String,
    /// The end of the run.
    pub outcome: Outcome,
    /// Every TQ4 tensor, worst first.
    pub worst_first: Vec<String>,
}

/// Sums up.
pub fn summarise(model: &Model, tensors: &[TensorRecord], plain: &[PlainRecord]) -> Summary {
    let lanes = lane_totals(tensors);
    let plain = (model.source.is_some() && !model.plain.is_empty()).then(|| plain_totals(plain));
    let errors = tensors.iter().filter(|t| t.error.is_some()).count() as u64;
    let mut order: Vec<&TensorRecord> = tensors.iter().collect();
    order.sort_by(|a, b| worse(a, b));
    let checkpoint = CheckpointTotals::of(&order);
    Summary {
        tensors: tensors.len() as u64,
        elements: tensors.iter().map(|t| t.elements).sum(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
        errors,
        decision: leading(&lanes),
        outcome: outcome(model, errors, tensors, &lanes, plain.as_ref()),
        lanes,
        checkpoint,
        plain,
        worst_first: order.into_iter().map(|t| t.tensor_base.clone()).collect(),
    }
}

/// As a tensor's `decision`, over all tensors.
fn leading(lanes: &[LaneTotals]) -> String {
    let is_cuda = |l: &&LaneTotals| l.lane.kind() == Some(LaneKind::Cuda);
    let mut failed: Vec<&LaneTotals> = lanes.iter().filter(|l| l.failed > 0).collect();
    failed.sort_by_key(|l| !is_cuda(l));
    let cuda = lanes.iter().filter(is_cuda);
    let worst = cuda.min_by_key(|l| std::cmp::Reverse(l.verdict));
    failed.first().copied().or(worst).map_or_else(
        || published(&LaneName::Cuda, &LaneName::Reference, Verdict::NotRun),
        |l| l.decision.clone(),
    )
}

fn lane_totals(tensors: &[TensorRecord]) -> Vec<LaneTotals> {
    let mut all: Vec<LaneTotals> = Vec::new();
    let lanes = tensors.iter().flat_map(|t| &t.lanes);
    let recorded = lanes.filter(|l| l.status == Status::Recorded);
    let recorded: HashSet<&LaneName> = recorded.map(|l| &l.name).collect();
    for t in tensors {
        for d in &t.decisions {
            let i = all.iter().position(|l| l.lane == d.lane);
            let i = i.unwrap_or_else(|| {
                let totals = LaneTotals {
                    lane: d.lane.clone(),
                    passed: 0,
                    failed: 0,
                    not_run: 0,
                    broke: 0,
                    verdict: d.verdict,
                    decision: String::new(),
                    reason: String::new(),
                    tensor_base: String::new(),
                };
                all.push(totals);
                all.len() - 1
            });
            let l = &mut all[i];
            *match d.verdict.passed() {
                Some(true) => &mut l.passed,
                Some(false) => &mut l.failed,
                None => &mut l.not_run,
            } += 1;
            let broke = |r: &&LaneRecord| r.name == d.lane && r.status == Status::Failed;
            l.broke += u64::from(t.lanes.iter().any(|r| broke(&r)));
            // A recording is judged by the tensors that it holds.
            let beside = d.verdict == Verdict::NotRun && recorded.contains(&d.lane);
            if !beside && (l.decision.is_empty() || d.verdict > l.verdict) {
                l.verdict = d.verdict;
                l.decision = d.published();
                l.reason.clone_from(&d.reason);
                l.tensor_base.clone_from(&t.tensor_base);
            }
        }
    }
    all
}

fn plain_totals(plain: &[PlainRecord]) -> PlainTotals {
    let mut totals = PlainTotals::default();
    for p in plain {
        *match p.status {
            PlainStatus::Equal => &mut totals.equal,
            PlainStatus::Cast => &mut totals.cast,
            PlainStatus::NotDecoded => &mut totals.not_decoded,
            PlainStatus::Differs => &mut totals.differs,
            PlainStatus::OnlyInTq4 => &mut totals.only_in_tq4,
            PlainStatus::OnlyInSource => &mut totals.only_in_source,
        } += 1;
        if p.differing_bytes.is_some() {
            totals.bytes += p.bytes;
        }
    }
    totals
}

fn outcome(
    model: &Model,
    errors: u64,
    tensors: &[TensorRecord],
    lanes: &[LaneTotals],
    plain: Option<&PlainTotals>,
) -> Outcome {
    if errors > 0 || tensors.iter().any(TensorRecord::broke) {
        return Outcome::Broke;
    }
    let plain_failed = plain.is_some_and(|p| p.differs + p.only_in_tq4 + p.only_in_source > 0);
    let damaged = tensors.iter().any(TensorRecord::damaged);
    if plain_failed || damaged || lanes.iter().any(|l| l.failed > 0) {
        return Outcome::Failed;
    }
    if !missing_lanes(model, tensors).is_empty() {
        return Outcome::RequiredLaneMissing;
    }
    // A partition beyond the last tensor has nothing to compare.
    let idle = lanes.iter().all(|l| l.passed == 0) && !tensors.is_empty();
    if idle && model.source.is_none() {
        return Outcome::NothingCompared;
    }
    Outcome::Passed
}

/// Required lanes that did not run on every tensor, or on software only.
pub fn missing_lanes(model: &Model, tensors: &[TensorRecord]) -> Vec<Unmet> {
    let names = |given: &[String]| -> Vec<LaneName> {
        let given = given.iter().filter_map(|g| g.rsplit_once('='));
        given.map(|(name, _)| name.into()).collect()
    };
    let (recordings, kernels) = (names(&model.recordings), names(&model.kernels));
    let lanes: Vec<&[LaneRecord]> = tensors.iter().map(|t| &t.lanes[..]).collect();
    unmet(&model.lanes, &recordings, &kernels, &lanes)
}

/// Every lane once, with the worst that became of it; a recording as one where it holds any tensor.
pub fn lanes_once(tensors: &[TensorRecord]) -> Vec<LaneRecord> {
    let mut lanes: Vec<LaneRecord> = Vec::new();
    // A lane is not tried on bad input: its state is that of the other tensors.
    let tried = tensors.iter().filter(|t| t.error.is_none());
    for lane in tried.flat_map(|t| &t.lanes) {
        match lanes.iter_mut().find(|l| l.name == lane.name) {
            Some(seen) if outweighs(lane.status, seen.status) => seen.clone_from(lane),
            Some(_) => {}
            None => lanes.push(lane.clone()),
        }
    }
    lanes
}

/// Whether a status says more of a lane than what another tensor had.
fn outweighs(new: Status, seen: Status) -> bool {
    match (new, seen) {
        // A recording is one where it does not hold every tensor, too.
        (Status::Unavailable, Status::Recorded) => false,
        (Status::Recorded, Status::Unavailable) => true,
        _ => new > seen,
    }
}

/// How bad a tensor is, and by which comparison: bad input, a lane that broke, a damaged checkpoint, failed
/// gates, the rest. Of damaged ones the largest rmse ratio against the source comes first, of others with
/// something wrong the largest against the reference, of the rest the largest share of elements that differ.
/// Then names decide.
pub(crate) fn worse(a: &TensorRecord, b: &TensorRecord) -> std::cmp::Ordering {
    let class = |t: &TensorRecord| {
        if t.error.is_some() {
            4
        } else if t.broke() {
            3
        } else if t.damaged() {
            2
        } else {
            i32::from(t.failed())
        }
    };
    // A figure that is not finite is the worst of all; JSON does not tell one from another.
    let finite = |v: f64| if v.is_finite() { v } else { f64::INFINITY };
    let ratio = |t: &TensorRecord, rhs: &LaneName| {
        let of_rhs = t.metrics.iter().filter(|m| m.rhs == *rhs);
        of_rhs
            .map(|m| finite(m.rmse_over_rhs_rms))
            .fold(-1.0, f64::max)
    };
    let by = |rhs| ratio(b, rhs).total_cmp(&ratio(a, rhs));
    // Of outputs that pass, rounding makes the ratio what it is.
    let differing = |t: &TensorRecord| {
        let lanes = t.metrics.iter().filter(|m| m.rhs != LaneName::Source);
        let share = |m| t.unequal(m) as f64 / t.elements.max(1) as f64;
        lanes.map(share).fold(0.0, f64::max)
    };
    let figures = || match class(a) {
        0 => differing(b).total_cmp(&differing(a)),
        2 => by(&LaneName::Source),
        _ => by(&LaneName::Reference).then_with(|| by(&LaneName::Source)),
    };
    class(b)
        .cmp(&class(a))
        .then_with(figures)
        .then_with(|| natural(&a.tensor_base, &b.tensor_base))
}
