//! Totals over the records of a sweep. They follow from the header and the records alone, so that a
//! sweep in pieces ends with the summary of a sweep in one run.

use super::record::{
    Header, LaneTotals, PlainRecord, PlainStatus, PlainTotals, Summary, SweepOutcome, TensorRecord,
};
use crate::report::Status;

/// Sums up.
pub fn summarise(header: &Header, tensors: &[TensorRecord], plain: &[PlainRecord]) -> Summary {
    let lanes = lane_totals(tensors);
    let plain = header.source.is_some().then(|| plain_totals(plain));
    let errors = tensors.iter().filter(|t| t.error.is_some()).count() as u64;
    let mut order: Vec<&TensorRecord> = tensors.iter().collect();
    order.sort_by(|a, b| worse(a, b));
    Summary {
        tensors: tensors.len() as u64,
        elements: tensors.iter().map(|t| t.elements).sum(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
        errors,
        decision: lanes
            .iter()
            .find(|l| l.lane == "cuda")
            .map_or_else(|| "cuda_dequant_not_run".to_owned(), |l| l.decision.clone()),
        outcome: outcome(header, tensors.len(), errors, &lanes, plain.as_ref()),
        lanes,
        plain,
        worst_first: order.into_iter().map(|t| t.tensor_base.clone()).collect(),
    }
}

fn lane_totals(tensors: &[TensorRecord]) -> Vec<LaneTotals> {
    let mut totals: Vec<LaneTotals> = Vec::new();
    // Failed before not run before passed.
    let badness = |passed: Option<bool>| match passed {
        Some(false) => 2,
        None => 1,
        Some(true) => 0,
    };
    let mut worst: Vec<i32> = Vec::new();
    for t in tensors {
        for d in &t.decisions {
            let i = totals.iter().position(|l| l.lane == d.lane);
            let i = i.unwrap_or_else(|| {
                totals.push(LaneTotals {
                    lane: d.lane.clone(),
                    passed: 0,
                    failed: 0,
                    not_run: 0,
                    broke: 0,
                    decision: String::new(),
                    reason: String::new(),
                    tensor_base: String::new(),
                });
                worst.push(-1);
                totals.len() - 1
            });
            let l = &mut totals[i];
            match d.passed {
                Some(true) => l.passed += 1,
                Some(false) => l.failed += 1,
                None => l.not_run += 1,
            }
            let broke =
                |r: &&crate::report::LaneReport| r.name == d.lane && r.status == Status::Failed;
            l.broke += u64::from(t.lanes.iter().any(|r| broke(&r)));
            if badness(d.passed) > worst[i] {
                worst[i] = badness(d.passed);
                l.decision.clone_from(&d.decision);
                l.reason.clone_from(&d.reason);
                l.tensor_base.clone_from(&t.tensor_base);
            }
        }
    }
    totals
}

fn plain_totals(plain: &[PlainRecord]) -> PlainTotals {
    let mut totals = PlainTotals::default();
    for p in plain {
        *match p.status {
            PlainStatus::Equal => &mut totals.equal,
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
    header: &Header,
    tensors: usize,
    errors: u64,
    lanes: &[LaneTotals],
    plain: Option<&PlainTotals>,
) -> SweepOutcome {
    if errors > 0 || lanes.iter().any(|l| l.broke > 0) {
        return SweepOutcome::Broke;
    }
    let plain_failed = plain.is_some_and(|p| p.differs + p.only_in_tq4 + p.only_in_source > 0);
    if plain_failed || lanes.iter().any(|l| l.failed > 0) {
        return SweepOutcome::Failed;
    }
    if tensors > 0 && !missing(&header.lanes.require, lanes).is_empty() {
        return SweepOutcome::RequiredLaneMissing;
    }
    SweepOutcome::Passed
}

/// Required lanes that did not run on every tensor.
pub(super) fn missing<'a>(require: &'a [String], lanes: &[LaneTotals]) -> Vec<&'a str> {
    let kind = |name: &str| name.split(':').next().unwrap_or(name).to_owned();
    let is = |l: &LaneTotals, name: &str| l.lane == name || kind(&l.lane) == name;
    require
        .iter()
        // The reference always runs, and there is no decision about it.
        .filter(|r| *r != "reference")
        .filter(|r| !lanes.iter().any(|l| is(l, r) && l.not_run == 0))
        .map(String::as_str)
        .collect()
}

/// How bad a tensor is, and by which comparison: bad input, a lane that broke, failed gates, the rest;
/// then the largest rmse ratio against the reference, then against the source.
fn worse(a: &TensorRecord, b: &TensorRecord) -> std::cmp::Ordering {
    let class = |t: &TensorRecord| {
        if t.error.is_some() {
            3
        } else if t.lanes.iter().any(|l| l.status == Status::Failed) {
            2
        } else {
            i32::from(t.decisions.iter().any(|d| d.passed == Some(false)))
        }
    };
    let ratio = |t: &TensorRecord, rhs: &str| {
        t.metrics
            .iter()
            .filter(|m| m.rhs == rhs)
            .map(|m| finite(m.rmse_over_rhs_rms))
            .fold(-1.0, f64::max)
    };
    let by = |rhs| ratio(b, rhs).total_cmp(&ratio(a, rhs));
    class(b)
        .cmp(&class(a))
        .then_with(|| by("reference_dequant"))
        .then_with(|| by("bf16_source"))
        .then_with(|| a.tensor_base.cmp(&b.tensor_base))
}

/// A figure that is not finite is the worst of all; JSON does not tell one from another.
pub(super) fn finite(v: f64) -> f64 {
    if v.is_finite() { v } else { f64::INFINITY }
}
