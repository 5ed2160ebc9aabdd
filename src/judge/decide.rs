//! From figures to decisions.

use super::{device, gate};
use crate::record::{
    Decision, Exactness, LaneKind, LaneName, Status, TensorRecord, Tolerance, Verdict, leading,
};

/// The decision for every lane but the one that others are held to, CUDA first. `exact` has one place for
/// each lane, or none.
pub(super) fn decide(
    record: &mut TensorRecord,
    held_to: usize,
    exact: Vec<Option<Exactness>>,
    tolerance: Option<&Tolerance>,
) {
    let against = record.lanes[held_to].name.clone();
    let exact = exact.into_iter().chain(std::iter::repeat_with(|| None));
    let others = record.lanes.iter().zip(exact);
    let others = others.filter(|(l, _)| l.name != against);
    let mut decisions: Vec<Decision> = others
        .map(|(lane, exact)| {
            let figures = record.metrics.iter();
            let mut of_lane = figures.filter(|m| m.lhs == lane.name && m.rhs == against);
            let (name, launched) = (lane.name.clone(), lane.status == Status::Ran);
            match (of_lane.next(), exact) {
                (Some(m), Some(exact)) if exact.elements > 0 => {
                    let mut decision = gate::decide(name, m, exact, tolerance, launched);
                    decision.reason += &device::of_decision(lane, &decision);
                    decision
                }
                (Some(m), _) => gate::decide_pair(name, m, tolerance),
                (None, _) => {
                    let reason = lane.reason.as_deref().unwrap_or("not asked for");
                    let verdict = match lane.status {
                        Status::Failed => Verdict::Broke,
                        _ => Verdict::NotRun,
                    };
                    Decision::without_output(name, verdict, reason)
                }
            }
        })
        .collect();
    let is_cuda = |d: &Decision| d.lane.kind() == Some(LaneKind::Cuda);
    if against == LaneName::Reference && !decisions.iter().any(is_cuda) {
        decisions.push(Decision::not_run(LaneName::Cuda, "not asked for"));
    }
    decisions.sort_by_key(|d| !is_cuda(d));
    record.decision = leading(&decisions);
    record.decisions = decisions;
}
