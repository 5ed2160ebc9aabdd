//! The section of one tensor: what became of it and where first, then its figures.

use super::figures::{Chart, Figures, is_of_source, of_group, title};
use super::heat::MASK;
use crate::decimal::shortest;
use crate::error::printable;
use crate::fault::Diagnosis;
use crate::picture::{Comparison, Picture, WorstElement};
use crate::record::{Run, StripDiagnosis, TensorRecord, Tolerance};
use crate::report::view::{Against, ComparisonRow, DecisionView, Figure, rows, short, verdicts_on};
use crate::report::words::{damage, foreign_codebook, problem, shape_line};

/// One comparison in pictures.
pub struct Pictured {
    /// The two lanes.
    pub name: String,
    /// Charts.
    pub charts: Vec<Chart>,
    /// The worst elements.
    pub worst: Vec<WorstView>,
}

/// One of the worst elements.
pub struct WorstView {
    /// Row and column in the tensor, code and sign.
    pub element: WorstElement,
    /// The figures of the element.
    pub figures: Vec<Figure>,
}

/// A diagnosis with the pictures that let one see it.
pub struct DiagnosisView {
    /// The lane.
    pub lane: String,
    /// What explains the output.
    pub title: String,
    /// One line.
    pub evidence: String,
    /// A wrong group.
    pub group: GroupView,
    /// Measured and emulated charts, side by side.
    pub charts: Vec<Chart>,
}

/// A wrong group, expected and got side by side.
pub struct GroupView {
    /// Row in the tensor.
    pub row: usize,
    /// Group of the row.
    pub group: usize,
    /// Index in the group; expected, got and difference. Those furthest off first.
    pub elements: Vec<(usize, [String; 3])>,
}

/// What became of a lane.
pub struct LaneLine {
    /// The decision.
    pub decision: DecisionView,
    /// The fault in a sentence, of a lane that failed.
    pub fault: Option<String>,
}

/// The section of a tensor.
pub struct TensorView {
    /// Anchor.
    pub id: String,
    /// Name.
    pub base: String,
    /// Shape and format.
    pub shape: String,
    /// Lanes that returned something, those that failed first.
    pub judged: Vec<LaneLine>,
    /// Lanes that were asked for and did not.
    pub not_run: Vec<DecisionView>,
    /// The charts that say what is wrong and where.
    pub lead: Vec<Chart>,
    /// Comparisons.
    pub rows: Vec<ComparisonRow>,
    /// Whether any is of two outputs.
    pub outputs: bool,
    /// Largest difference of the model's codebook from the recomputed one, if more than rounding.
    pub codebook: Option<Figure>,
    /// Why it could not be validated.
    pub error: Option<String>,
    /// What is wrong with its checkpoint.
    pub damage: Option<String>,
    /// The rms error against the source: measured, expected, and the ratio of the two.
    pub checkpoint: Option<[Figure; 3]>,
    /// Diagnoses.
    pub diagnosis: Vec<DiagnosisView>,
    /// Charts of the codebook's use.
    pub codes: Vec<Chart>,
    /// Charts of each comparison.
    pub pictured: Vec<Pictured>,
}

impl TensorView {
    /// Bytes of its drawings.
    pub fn drawn(&self) -> usize {
        let faults = self.diagnosis.iter().flat_map(|d| &d.charts);
        let lanes = self.pictured.iter().flat_map(|p| &p.charts);
        let charts = self
            .lead
            .iter()
            .chain(faults)
            .chain(lanes)
            .chain(&self.codes);
        charts.map(|c| c.svg.len()).sum()
    }

    /// The section of `t`, drawn from `picture` where there is one. `masks` counts the masks of the page,
    /// whose ids must differ.
    pub fn new(
        index: usize,
        (run, t): (&Run, &TensorRecord),
        (picture, tolerance): (Option<&Picture>, Option<Tolerance>),
        masks: &mut usize,
    ) -> Self {
        let mut number = |mut charts: Vec<Chart>| {
            for chart in charts.iter_mut().filter(|c| c.svg.contains(MASK)) {
                *masks += 1;
                chart.svg = chart.svg.replace(MASK, &format!("mask{masks}"));
            }
            charts
        };
        let figures = picture.map(|p| Figures::new(t, p, tolerance));
        let (first, later) = picture.map_or_else(Default::default, |p| by_weight(t, p));
        let lead = number(lead(t, figures, &first));
        let diagnosis = t.diagnosis.iter().map(|d| {
            let charts = figures.map_or_else(Vec::new, |f| f.beside_emulation(&d.diagnosis.lane));
            DiagnosisView::new(d, t.row_count, number(charts))
        });
        let diagnosis = diagnosis.collect();
        let mut pictured = Vec::new();
        if let Some(f) = figures {
            // What stands above, in the lead or beside its emulation, is not drawn again.
            let charts = |c: &Comparison, in_lead: bool| {
                let by_group = f.by_group(c).filter(|_| !in_lead);
                let others = match f.has_emulation(&c.lhs) {
                    true => vec![f.scatter(c)],
                    false => f.others(c),
                };
                by_group.into_iter().chain(others).collect()
            };
            let all = first.iter().map(|c| (c, true));
            pictured.extend(
                all.chain(later.iter().map(|c| (c, false)))
                    .map(|(c, in_lead)| Pictured {
                        name: title(c),
                        charts: number(charts(c, in_lead)),
                        worst: c.worst.iter().map(WorstView::new).collect(),
                    }),
            );
        }
        let (judged, not_run): (Vec<_>, Vec<_>) =
            verdicts_on(run, t).into_iter().partition(|d| d.ran);
        let judged = judged.into_iter();
        let rows = rows(t);
        Self {
            id: format!("tensor-{index}"),
            base: printable(&t.tensor_base),
            shape: shape_line(t),
            judged: judged.map(|d| LaneLine::new(d, Some(t))).collect(),
            not_run,
            lead,
            outputs: rows.iter().any(|r| r.against == Against::Output),
            rows,
            codebook: foreign_codebook(t),
            error: t.error.as_ref().map(problem),
            damage: damage(t),
            checkpoint: t.checkpoint.as_ref().map(|c| {
                [
                    Figure::of("measured_rms", c.measured_rms),
                    Figure::of("expected_rms", c.expected_rms),
                    Figure::of("ratio", c.ratio),
                ]
            }),
            diagnosis,
            codes: figures.map_or_else(Vec::new, |f| f.codes()),
            pictured,
        }
    }
}

impl LaneLine {
    /// Of a lane; with the fault where it is one tensor's.
    pub fn new(decision: DecisionView, t: Option<&TensorRecord>) -> Self {
        Self {
            fault: t.and_then(|t| fault_of(t, &decision.lane)),
            decision,
        }
    }
}

/// What is wrong with a lane's output, in a sentence.
fn fault_of(t: &TensorRecord, lane: &str) -> Option<String> {
    let mut all = t.diagnosis.iter().map(|d| &d.diagnosis);
    let found = all.find(|d| printable(&d.lane) == lane)?;
    Some(printable(&found.sentence()))
}

/// The comparisons that lead a section, and the others: what failed, or where nothing did every lane's, and
/// the source's where it is damaged or there is no other.
fn by_weight<'p>(t: &TensorRecord, p: &'p Picture) -> (Vec<&'p Comparison>, Vec<&'p Comparison>) {
    let failed = |c: &&Comparison| t.diagnosis.iter().any(|d| d.diagnosis.lane == c.lhs);
    let any_failed = p.comparisons.iter().any(|c| failed(&c));
    let alone = p.comparisons.len() == 1;
    let leads = |c: &&Comparison| match is_of_source(c) {
        true => t.damaged() || alone,
        false => failed(c) || !any_failed,
    };
    let (mut first, mut later): (Vec<_>, Vec<_>) = p.comparisons.iter().partition(leads);
    first.sort_by_key(|c| !is_of_source(c));
    // The cost of the format last.
    later.sort_by_key(|c| is_of_source(c));
    (first, later)
}

/// The charts that say what is wrong and where.
fn lead(t: &TensorRecord, figures: Option<Figures<'_>>, first: &[&Comparison]) -> Vec<Chart> {
    let mut charts = Vec::new();
    for c in first {
        charts.extend(figures.and_then(|f| f.by_group(c)));
    }
    // Side by side with the map where one lane failed.
    for d in &t.diagnosis {
        let (lane, group) = (printable(&d.diagnosis.lane), &d.diagnosis.group);
        charts.extend(of_group(&lane, d.strip_start + group.row, group));
    }
    charts
}

impl DiagnosisView {
    fn new(d: &StripDiagnosis, rows: usize, charts: Vec<Chart>) -> Self {
        let strip = if d.strip_rows == rows {
            String::new()
        } else {
            let end = d.strip_start + d.strip_rows;
            format!("rows {}..{end}: ", d.strip_start)
        };
        Self {
            lane: printable(&d.diagnosis.lane),
            title: printable(&d.diagnosis.title()),
            group: GroupView::new(d),
            evidence: strip + &printable(without_title(&d.diagnosis)),
            charts,
        }
    }
}

/// The evidence behind the title that it starts with.
fn without_title(d: &Diagnosis) -> &str {
    match d.evidence.strip_prefix(&d.title()) {
        Some(rest) => rest.trim_start_matches([':', ',', ' ']),
        None => &d.evidence,
    }
}

impl GroupView {
    fn new(d: &StripDiagnosis) -> Self {
        let group = &d.diagnosis.group;
        let elements = group.worst_first().into_iter();
        Self {
            row: d.strip_start + group.row,
            group: group.group,
            elements: elements
                .map(|(index, expected, got)| {
                    let (got, off) = match got {
                        Some(got) => (shortest(got), shortest(got - expected)),
                        None => ("NaN or infinity".into(), String::new()),
                    };
                    (index, [shortest(expected), got, off])
                })
                .collect(),
        }
    }
}

impl WorstView {
    fn new(e: &WorstElement) -> Self {
        // From f32 directly, so that the text is the shortest that gives the value back.
        let figure = |key: &str, v: f32| Figure {
            key: key.into(),
            text: short(v.into()),
            full: serde_json::json!(v).to_string(),
        };
        Self {
            figures: vec![
                figure("centroid", e.centroid),
                figure("scale", e.scale),
                figure("rhs", e.rhs),
                figure("lhs", e.lhs),
            ],
            element: e.clone(),
        }
    }
}
