//! Many tensors at a glance: those that failed, one mark each, and a table that sorts.

use super::marks::{Height, MarkState, Panels, layer_and_projection};
use crate::error::printable;
use crate::record::{Run, Status, TensorRecord};
use crate::report::shared::Shared;
use crate::report::view::{Figure, Look, name, ratio, source_ratio, tensor_passed};
use crate::report::words::{damage, first_line, problem};

/// A row of the table.
pub struct OverviewRow {
    /// The tensor.
    pub base: String,
    /// Anchor of its section.
    pub anchor: Option<String>,
    /// What its lanes' verdicts do not say.
    pub wrong: Option<Look>,
    /// Layer, or nothing.
    pub layer: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Error against the source.
    pub source: Option<Figure>,
    /// Verdict and error against what it is held to, by lane.
    pub lanes: Vec<(Look, Option<Figure>)>,
}

/// A tensor that failed, or what many have in common.
pub struct FailedView {
    /// The tensor, or how many where.
    pub base: String,
    /// Anchor of its section.
    pub anchor: Option<String>,
    /// Its verdict.
    pub verdict: Look,
    /// Why, in a sentence.
    pub why: String,
}

/// Tensors that are named one by one before all others.
const NAMED: usize = 5;

/// Why a tensor failed.
fn why(t: &TensorRecord) -> String {
    let lanes = t.diagnosis.iter().map(|d| &d.diagnosis);
    let lanes = lanes.map(|d| printable(&format!("{}: {}", d.lane, d.sentence())));
    let broke = t.lanes.iter().filter(|l| l.status == Status::Failed);
    let broke = broke.map(|l| {
        let reason = first_line(l.reason.as_deref().unwrap_or_default());
        printable(&format!("{}: {reason}", l.name))
    });
    let undiagnosed = t
        .decisions
        .iter()
        .filter(|d| d.verdict.passed() == Some(false));
    let undiagnosed = undiagnosed
        .filter(|_| t.diagnosis.is_empty())
        .map(|d| printable(&format!("{}: {}", d.lane, d.reason)));
    let error = t.error.iter().map(problem);
    let all: Vec<String> = error
        .chain(broke)
        .chain(damage(t))
        .chain(lanes)
        .chain(undiagnosed)
        .collect();
    all.join("; ")
}

/// The overview.
pub struct Overview {
    /// Tensors in all.
    pub total: usize,
    /// Lanes in column order.
    pub lanes: Vec<String>,
    /// The worst of those that failed.
    pub failed: Vec<FailedView>,
    /// How many more failed.
    pub more_failed: usize,
    /// Class, sign and words of each kind of mark.
    pub legend: Vec<[&'static str; 3]>,
    /// The charts; those of the lanes first.
    pub panels: Vec<Panels>,
    /// Whether there is a source.
    pub source: bool,
    /// The table, worst first.
    pub rows: Vec<OverviewRow>,
}

impl Overview {
    /// The overview of the tensors in `order`, of which the first `sections` have one.
    pub fn new(run: &Run, order: &[&TensorRecord], sections: usize) -> Self {
        let source = order.iter().any(|t| source_ratio(t).is_some());
        let asked = run.asked_for();
        let failed = order.iter().any(|t| t.failed());
        let heights = [Height::Lanes, Height::Source].into_iter();
        let heights = heights.filter(|h| {
            *h == Height::Source && source || *h == Height::Lanes && (failed || !source)
        });
        let all = order.iter().enumerate();
        let shared = Shared::of(run);
        let wrong: Vec<_> = all
            .filter(|(_, t)| tensor_passed(t) == Some(false) && !shared.covers(t))
            .collect();
        let troubles = shared.troubles.iter().map(|known| FailedView {
            base: known.title(),
            anchor: None,
            verdict: known.verdict(),
            why: known.first(),
        });
        let anchor = |i: usize| (i < sections).then(|| format!("tensor-{i}"));
        let figure = |v: f64| Figure::of("rmse_over_rhs_rms", v);
        let row = |(i, t): (usize, &&TensorRecord)| OverviewRow {
            base: printable(&t.tensor_base),
            anchor: anchor(i),
            wrong: (t.error.is_some() || t.broke() || t.damaged()).then(|| Look::of_tensor(t)),
            layer: layer_and_projection(&t.tensor_base)
                .0
                .map_or_else(String::new, |l| l.to_string()),
            shape: t.shape,
            source: source_ratio(t).map(figure),
            lanes: asked
                .iter()
                .map(|l| match t.decision_of(&l.lane) {
                    Some(d) => (Look::of(d.verdict), ratio(t, &d.lane, &d.rhs).map(figure)),
                    None => (Look::NONE, None),
                })
                .collect(),
        };
        Self {
            total: order.len(),
            lanes: asked.iter().map(|l| name(&l.lane)).collect(),
            failed: troubles
                .chain(wrong.iter().take(NAMED).map(|(i, t)| FailedView {
                    base: printable(&t.tensor_base),
                    anchor: anchor(*i),
                    verdict: Look::of_tensor(t),
                    why: why(t),
                }))
                .collect(),
            more_failed: wrong.len().saturating_sub(NAMED),
            legend: MarkState::ALL
                .into_iter()
                .filter(|s| order.iter().any(|t| MarkState::of(t) == *s))
                .map(MarkState::legend)
                .collect(),
            panels: heights
                .map(|height| Panels::new(height, order))
                .filter(|p| !p.charts.is_empty())
                .collect(),
            source,
            rows: order.iter().enumerate().map(row).collect(),
        }
    }
}
