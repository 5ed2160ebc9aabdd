//! The page of a sweep: every tensor at a glance, the figures of the worst, what is not the source's.

use super::overview::{Mark, Overview};
use super::tensor::TensorView;
use super::{PASSED_SECTIONS, SECTIONS, Shell, TensorsPage};
use crate::error::printable;
use crate::report::TensorReport;
use crate::report::view::{DecisionView, LaneView, Verdict, facts};
use crate::sweep::record::{
    Header, LaneTotals, PlainRecord, PlainStatus, Summary, SweepOutcome, TensorRecord,
};
use crate::sweep::{lanes, totals};
use askama::Template;

/// A tensor that is not quantised and is not the source's.
pub struct PlainView {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The page of a sweep, of one partition or merged.
pub fn sweep_page(
    header: &Header,
    tensors: &[TensorRecord],
    plain: &[PlainRecord],
    summary: &Summary,
) -> String {
    let mut marks: Vec<(usize, Mark)> = tensors
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let mut mark = Mark::new(&report(header, t), None);
            mark.bad_input = t.error.is_some();
            (i, mark)
        })
        .collect();
    marks.sort_by(|(_, a), (_, b)| Mark::worse(a, b));
    let failed = marks.iter().filter(|(_, m)| m.badness().0 > 0).count();
    let sections = failed.clamp(PASSED_SECTIONS, SECTIONS).min(marks.len());
    for (i, mark) in &mut marks[..sections] {
        mark.anchor = Some(format!("tensor-{i}"));
    }
    let shown: Vec<usize> = marks[..sections].iter().map(|(i, _)| *i).collect();
    let sections: Vec<TensorView> = shown
        .iter()
        .map(|i| {
            let t = &tensors[*i];
            let mut view = TensorView::new(*i, &report(header, t), None, &mut 0);
            if let Some(e) = &t.error {
                view.notes.push(printable(&format!(
                    "bad input: {} ({}) {}",
                    e.what, e.place, e.help
                )));
            }
            // The sweep's own words: it looked at some of the rows.
            view.notes
                .extend(t.diagnosis.iter().map(|d| printable(&d.summary)));
            view
        })
        .collect();
    let source = header.source.as_ref().map_or("none", |s| s.name.as_str());
    let page = TensorsPage {
        shell: Shell::new(
            &format!("tq4 sweep: {}", printable(&header.model.name)),
            facts(&header.model.name, source, &header.tool),
        ),
        outcome: Some(outcome(summary)),
        verdicts: summary
            .lanes
            .iter()
            .map(|l| lane_view(l, summary.tensors))
            .collect(),
        totals: totals(header, summary),
        machines: Vec::new(),
        lanes: lanes(tensors).iter().map(LaneView::new).collect(),
        overview: Some(Overview::new(marks.into_iter().map(|(_, m)| m).collect())),
        without_section: tensors.len() - sections.len(),
        without_pictures: sections.len(),
        tensors: sections,
        plain: plain
            .iter()
            .filter(|p| p.status != PlainStatus::Equal)
            .map(|p| PlainView {
                name: printable(&p.name),
                reason: printable(p.reason.as_deref().unwrap_or_default()),
            })
            .collect(),
    };
    page.render().expect("writing to memory")
}

/// How the sweep ended.
fn outcome(s: &Summary) -> (Verdict, &'static str) {
    match s.outcome {
        SweepOutcome::Passed => (Verdict::of(Some(true)), "every lane that ran passed"),
        SweepOutcome::Failed => (
            Verdict::of(Some(false)),
            "a lane failed its gates, or a tensor that is not quantised is not the source's",
        ),
        SweepOutcome::Broke => (
            Verdict::of(Some(false)),
            "a lane broke, or a tensor is bad input",
        ),
        SweepOutcome::RequiredLaneMissing => (
            Verdict::of(None),
            "a required lane did not run on every tensor",
        ),
    }
}

/// The outcome of a lane over all tensors, and why.
pub(crate) fn lane_outcome(l: &LaneTotals, total: u64) -> (Option<bool>, String) {
    let first = format!("{}: {}", l.tensor_base, l.reason);
    if l.failed > 0 {
        let reason = format!("{} of {total} tensors; {first}", l.failed);
        (Some(false), reason)
    } else if l.not_run == total {
        (None, l.reason.clone())
    } else if l.not_run > 0 {
        (None, format!("{} of {total} tensors; {first}", l.not_run))
    } else {
        (Some(true), format!("{total} of {total} tensors"))
    }
}

fn lane_view(l: &LaneTotals, total: u64) -> DecisionView {
    let (passed, reason) = lane_outcome(l, total);
    DecisionView {
        verdict: Verdict::of(passed),
        lane: printable(&l.lane),
        decision: printable(&l.decision),
        reason: printable(&reason),
        gates: Vec::new(),
    }
}

/// The record in the form of a tensor's report, without its diagnosis.
fn report(header: &Header, t: &TensorRecord) -> TensorReport {
    TensorReport {
        source_model: header.source.as_ref().map(|s| s.name.clone()),
        tq_model: header.model.name.clone(),
        tensor_base: t.tensor_base.clone(),
        row_start: t.row_start,
        row_count: t.row_count,
        shape: t.shape,
        bits: header.bits,
        group_size: header.group_size,
        centroids_config_vs_cuda: header.centroids_config_vs_cuda.clone(),
        metrics: t.metrics.clone(),
        fwht_bug_control: None,
        decision: t.decision.clone(),
        decisions: t.decisions.clone(),
        diagnosis: Vec::new(),
        lanes: t.lanes.clone(),
        tool: header.tool.clone(),
    }
}
