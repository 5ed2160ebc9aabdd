//! The section of one tensor: verdicts and figures from its report, charts from its picture.

use super::heat::{self, Across, MASK};
use super::plots;
use crate::error::printable;
use crate::picture::{Comparison, Element, Picture};
use crate::record::{LaneName, StripDiagnosis, TensorRecord};
use crate::report::view::{DecisionView, Figure, Row, rows, short};
use crate::report::words::{damage, foreign_codebook, problem, shape_line};

/// A chart with what is said under it.
pub struct Chart {
    /// The drawing.
    pub svg: String,
    /// Its title.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// Ends of the colour scale, for a heat map.
    pub ramp: Option<(Figure, Figure)>,
}

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
    pub element: Element,
    /// The figures of the element.
    pub figures: Vec<Figure>,
}

/// A diagnosis with the pictures that let one see it.
pub struct DiagnosisView {
    /// The lane.
    pub lane: String,
    /// Whether a fault explains the output.
    pub explained: bool,
    /// Faults, joined by ` + `.
    pub faults: String,
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

/// The section of a tensor.
pub struct TensorView {
    /// Anchor.
    pub id: String,
    /// Name.
    pub base: String,
    /// Shape and format.
    pub shape: String,
    /// Decisions.
    pub decisions: Vec<DecisionView>,
    /// Comparisons.
    pub rows: Vec<Row>,
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
        let charts = faults.chain(lanes).chain(&self.codes);
        charts.map(|c| c.svg.len()).sum()
    }

    /// The section of `t`, drawn from `picture` where there is one. `masks` counts the masks of the page,
    /// whose ids must differ.
    pub fn new(
        index: usize,
        t: &TensorRecord,
        picture: Option<&Picture>,
        masks: &mut usize,
    ) -> Self {
        let mut number = |mut charts: Vec<Chart>| {
            for chart in charts.iter_mut().filter(|c| c.svg.contains(MASK)) {
                *masks += 1;
                chart.svg = chart.svg.replace(MASK, &format!("mask{masks}"));
            }
            charts
        };
        let diagnosis = t.diagnosis.iter().map(|d| {
            let charts = picture.map_or_else(Vec::new, |p| side_by_side(p, &d.diagnosis.lane));
            DiagnosisView::new(d, t.row_count, number(charts))
        });
        let diagnosis = diagnosis.collect();
        // What failed first, then the kernel lanes, then the cost of the format.
        let failed = |c: &Comparison| t.diagnosis.iter().any(|d| d.diagnosis.lane == c.lhs);
        let format = |c: &Comparison| LaneName::from(c.rhs.as_str()) == LaneName::Source;
        let mut pictured = Vec::new();
        if let Some(p) = picture {
            let mut order: Vec<&Comparison> = p.comparisons.iter().collect();
            order.sort_by_key(|c| (!failed(c), format(c)));
            pictured.extend(order.into_iter().map(|c| Pictured {
                name: printable(&format!("{} vs {}", c.lhs, c.rhs)),
                charts: number(charts(c, p)),
                worst: c.worst.iter().map(WorstView::new).collect(),
            }));
        }
        Self {
            id: format!("tensor-{index}"),
            base: printable(&t.tensor_base),
            shape: shape_line(t),
            decisions: t.decisions.iter().map(DecisionView::new).collect(),
            rows: rows(t),
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
            codes: picture.map_or_else(Vec::new, codes_charts),
            pictured,
        }
    }
}

impl DiagnosisView {
    fn new(d: &StripDiagnosis, rows: usize, charts: Vec<Chart>) -> Self {
        let names: Vec<String> = d
            .diagnosis
            .faults
            .iter()
            .map(|f| printable(&f.name))
            .collect();
        let strip = if d.strip_rows == rows {
            String::new()
        } else {
            let end = d.strip_start + d.strip_rows;
            format!("rows {}..{end}: ", d.strip_start)
        };
        Self {
            lane: printable(&d.diagnosis.lane),
            explained: d.diagnosis.explained,
            faults: names.join(" + "),
            group: GroupView::new(d),
            evidence: strip + &printable(&d.diagnosis.evidence),
            charts,
        }
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
                        Some(got) => (got.to_string(), (got - expected).to_string()),
                        None => ("NaN or infinity".into(), String::new()),
                    };
                    (index, [expected.to_string(), got, off])
                })
                .collect(),
        }
    }
}

impl WorstView {
    fn new(e: &Element) -> Self {
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

fn heat_chart(c: &Comparison, p: &Picture, across: Across, title: String) -> Chart {
    let heat = heat::map(c, across, p.row_start, p.rows);
    let mut caption = String::from("rms of the error over rms of the value, by cell");
    if heat.scale.is_none() {
        caption = "no cell has an error".into();
    }
    if heat.not_finite {
        caption += "; hatched: NaN or infinity";
    }
    Chart {
        svg: heat.svg,
        title,
        caption,
        ramp: heat
            .scale
            .map(|(low, high)| (Figure::of("low", low), Figure::of("high", high))),
    }
}

fn across_groups(p: &Picture) -> Across {
    Across::Groups(p.cols / p.group_size)
}

fn charts(c: &Comparison, p: &Picture) -> Vec<Chart> {
    let s = &c.scatter;
    let mut caption = String::from("line: half a BF16 step");
    let without = s.equal.iter().sum::<u64>() + s.zero_equal;
    if without > 0 {
        caption += &format!("; {without} of {} elements have no error", c.elements);
    }
    if s.zero_wrong > 0 {
        caption += &format!("; {} are off where the value is zero", s.zero_wrong);
    }
    if s.not_finite > 0 {
        caption += &format!("; {} are NaN or infinite", s.not_finite);
    }
    vec![
        Chart {
            svg: plots::scatter(c),
            title: "Error against magnitude".into(),
            caption,
            ramp: None,
        },
        Chart {
            svg: plots::steps(c),
            title: "Error in BF16 steps".into(),
            caption: format!(
                "{} equal, {} one step away, {} further; line: cumulative share",
                c.steps[0],
                c.steps[1],
                c.elements - c.steps[0] - c.steps[1]
            ),
            ramp: None,
        },
        heat_chart(c, p, across_groups(p), "Error by row and group".into()),
        heat_chart(
            c,
            p,
            Across::Positions,
            "Error by row and position in the group".into(),
        ),
    ]
}

fn codes_charts(p: &Picture) -> Vec<Chart> {
    let mut charts = Vec::new();
    if let Some(n) = &p.normalised {
        let mut caption = String::from(
            "bars: the source; line: density (1 \u{2212} x\u{b2})^((d\u{2212}3)/2); ticks: centroids",
        );
        if n.outside > 0 {
            caption += &format!("; {} values lie outside", n.outside);
        }
        if n.skipped_groups > 0 {
            caption += &format!("; {} groups are zero or not finite", n.skipped_groups);
        }
        charts.push(Chart {
            svg: plots::normalised(n, &p.codes),
            title: "Normalised values against the codebook".into(),
            caption,
            ramp: None,
        });
    }
    charts.push(Chart {
        svg: plots::codes(&p.codes),
        title: "Codes used".into(),
        caption: "bars: this tensor; lines: what the density predicts between the boundaries"
            .into(),
        ramp: None,
    });
    charts
}

/// The lane's heat map and histogram beside those of the emulated fault.
fn side_by_side(p: &Picture, lane: &str) -> Vec<Chart> {
    let measured = p.comparisons.iter().find(|c| c.lhs == lane);
    let emulated = p.emulated.iter().find(|e| e.lane == lane);
    let (Some(measured), Some(emulated)) = (measured, emulated) else {
        return Vec::new();
    };
    [
        (measured, format!("Measured: {}", printable(lane))),
        (
            &emulated.comparison,
            format!("Emulated: {}", emulated.faults),
        ),
    ]
    .into_iter()
    .flat_map(|(c, title)| {
        [
            heat_chart(c, p, Across::Positions, title.clone()),
            Chart {
                svg: plots::steps(c),
                title,
                caption: format!("{} of {} elements differ", c.wrong(), c.elements),
                ramp: None,
            },
        ]
    })
    .collect()
}
