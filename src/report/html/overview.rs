//! Many tensors at a glance: one mark each, by layer and projection, and a table that sorts.

use super::chart::{AXIS, Area, Axes, DATA, Drawn, FAIL, draw_axes, svg};
use super::plots::BOTTOM;
use crate::error::printable;
use crate::report::TensorReport;
use crate::report::table::plain;
use crate::report::view::{Figure, Verdict};
use plotters::prelude::*;

/// Size of a panel.
const PANEL: (u32, u32) = (440, 170);
/// Panels at most; the projections beyond are drawn together in the last.
const PANELS: usize = 24;

/// What is shown of one tensor.
pub struct Mark {
    /// The tensor.
    pub base: String,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// `rmse_over_rhs_rms` of the reference against the source; `None` without a source.
    pub source_ratio: Option<f64>,
    /// Outcome and `rmse_over_rhs_rms` against the reference, by kernel lane.
    pub lanes: Vec<LaneMark>,
    /// Anchor of the tensor's section, where the page has one.
    pub anchor: Option<String>,
    /// Whether the tensor could not be validated.
    pub bad_input: bool,
}

/// One lane of a tensor.
pub struct LaneMark {
    /// Its name.
    pub lane: String,
    /// Its outcome.
    pub passed: Option<bool>,
    /// `rmse_over_rhs_rms` against the reference.
    pub ratio: Option<f64>,
}

impl Mark {
    /// The mark of a tensor's report.
    pub fn new(t: &TensorReport, anchor: Option<String>) -> Self {
        let against = |lane: &str, rhs: &str| {
            t.metrics
                .iter()
                .find(|m| plain(&m.lhs) == lane && m.rhs == rhs)
                .map(|m| m.rmse_over_rhs_rms)
        };
        Self {
            base: printable(&t.tensor_base),
            shape: t.shape,
            source_ratio: against("reference", "bf16_source"),
            lanes: t
                .decisions
                .iter()
                .map(|d| LaneMark {
                    lane: printable(&d.lane),
                    passed: d.passed,
                    ratio: against(&d.lane, "reference_dequant"),
                })
                .collect(),
            anchor,
            bad_input: false,
        }
    }

    /// Sorts the worst first: failed lanes, then the error against the source, NaN before all.
    pub fn badness(&self) -> (usize, f64) {
        let failed = self
            .lanes
            .iter()
            .filter(|l| l.passed == Some(false))
            .count()
            + 100 * usize::from(self.bad_input);
        let ratio = self.height().unwrap_or(0.0);
        (failed, if ratio.is_nan() { f64::INFINITY } else { ratio })
    }

    /// The order of [`Mark::badness`], the worst first, then by name.
    pub fn worse(a: &Self, b: &Self) -> std::cmp::Ordering {
        let ((fa, ra), (fb, rb)) = (a.badness(), b.badness());
        fb.cmp(&fa)
            .then(rb.total_cmp(&ra))
            .then_with(|| a.base.cmp(&b.base))
    }

    fn passed(&self) -> Option<bool> {
        if self.lanes.iter().any(|l| l.passed == Some(false)) {
            Some(false)
        } else {
            self.lanes.iter().find_map(|l| l.passed)
        }
    }

    /// What the mark stands at.
    fn height(&self) -> Option<f64> {
        let largest = || {
            self.lanes
                .iter()
                .filter_map(|l| l.ratio)
                .max_by(f64::total_cmp)
        };
        self.source_ratio.or_else(largest)
    }
}

/// Layer and projection in a tensor's name: the first number, and what stands around it. Further
/// numbers, such as an expert's, are not told apart.
pub fn layer_and_projection(base: &str) -> (Option<usize>, String) {
    let mut layer = None;
    let mut rest: Vec<&str> = Vec::new();
    for part in base.split('.') {
        match (part.parse::<usize>(), layer) {
            (Ok(n), None) => {
                layer = Some(n);
                // The stack's name says nothing when there is one stack.
                rest.clear();
            }
            (Ok(_), Some(_)) => rest.push("*"),
            (Err(_), _) => rest.push(part),
        }
    }
    (layer, rest.join("."))
}

/// A row of the table.
pub struct OverviewRow {
    /// The tensor.
    pub base: String,
    /// Anchor of its section.
    pub anchor: Option<String>,
    /// Whether the tensor could not be validated.
    pub bad_input: bool,
    /// Layer, or nothing.
    pub layer: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Error against the source.
    pub source: Option<Figure>,
    /// Verdict and error against the reference, by lane.
    pub lanes: Vec<(Verdict, Option<Figure>)>,
}

/// The overview.
pub struct Overview {
    /// Tensors in all.
    pub total: usize,
    /// Lanes in column order, each with how many tensors passed, failed and were not run.
    pub lanes: Vec<(String, [usize; 3])>,
    /// What the marks' height is.
    pub height: &'static str,
    /// Tensors whose height is not a number or that have none.
    pub without_height: usize,
    /// Projection and chart.
    pub panels: Vec<(String, String)>,
    /// Whether there is a source.
    pub source: bool,
    /// The table, worst first.
    pub rows: Vec<OverviewRow>,
}

impl Overview {
    /// The overview of `marks`.
    pub fn new(mut marks: Vec<Mark>) -> Self {
        marks.sort_by(Mark::worse);
        let mut lanes: Vec<(String, [usize; 3])> = Vec::new();
        for l in marks.iter().flat_map(|m| &m.lanes) {
            let at = lanes.iter().position(|(n, _)| *n == l.lane);
            let at = at.unwrap_or_else(|| {
                lanes.push((l.lane.clone(), [0; 3]));
                lanes.len() - 1
            });
            let outcome = match l.passed {
                Some(true) => 0,
                Some(false) => 1,
                None => 2,
            };
            lanes[at].1[outcome] += 1;
        }
        let source = marks.iter().any(|m| m.source_ratio.is_some());
        let finite = |m: &&Mark| m.height().is_some_and(f64::is_finite);
        Self {
            total: marks.len(),
            height: if source {
                "rmse ratio of the reference against the source"
            } else {
                "rmse ratio of the worst lane against the reference"
            },
            without_height: marks.iter().filter(|m| !finite(m)).count(),
            panels: panels(&marks),
            source,
            rows: marks
                .iter()
                .map(|m| OverviewRow {
                    base: m.base.clone(),
                    anchor: m.anchor.clone(),
                    bad_input: m.bad_input,
                    layer: layer_and_projection(&m.base)
                        .0
                        .map_or_else(String::new, |l| l.to_string()),
                    shape: m.shape,
                    source: m.source_ratio.map(|r| Figure::of("rmse_over_rhs_rms", r)),
                    lanes: lanes
                        .iter()
                        .map(|(name, _)| match m.lanes.iter().find(|l| l.lane == *name) {
                            Some(l) => (
                                Verdict::of(l.passed),
                                l.ratio.map(|r| Figure::of("rmse_over_rhs_rms", r)),
                            ),
                            None => (Verdict::of(None), None),
                        })
                        .collect(),
                })
                .collect(),
            lanes,
        }
    }
}

fn panels(marks: &[Mark]) -> Vec<(String, String)> {
    let mut groups: Vec<(String, Vec<(usize, &Mark)>)> = Vec::new();
    for m in marks {
        let (layer, mut projection) = layer_and_projection(&m.base);
        if groups.len() + 1 >= PANELS && !groups.iter().any(|(p, _)| *p == projection) {
            projection = "others".into();
        }
        let at = groups.iter().position(|(p, _)| *p == projection);
        let at = at.unwrap_or_else(|| {
            groups.push((projection, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push((layer.unwrap_or(0), m));
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    let heights = marks
        .iter()
        .filter_map(Mark::height)
        .filter(|h| h.is_finite());
    let (low, high) = heights.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return Vec::new();
    }
    // One scale for all panels; some room, so that equal values do not fill it.
    let room = ((high - low) * 0.12).max(high.abs() * 0.02).max(1e-9);
    let layers = groups.iter().flat_map(|(_, g)| g.iter().map(|(l, _)| *l));
    let last = layers.max().unwrap_or(0);
    groups
        .iter()
        .map(|(projection, group)| {
            let failed = group
                .iter()
                .filter(|(_, m)| m.passed() == Some(false))
                .count();
            let label = format!(
                "{} tensors {projection} by layer, {failed} failed",
                group.len()
            );
            let text = svg(PANEL, &label, |area| {
                panel(area, group, last, (low - room, high + room))
            });
            (projection.clone(), text)
        })
        .collect()
}

fn panel(area: &Area<'_>, group: &[(usize, &Mark)], last: usize, y: (f64, f64)) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(12)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(66)
        .build_cartesian_2d(-0.7..last as f64 + 0.7, y.0..y.1)?;
    draw_axes(
        &mut chart,
        &Axes {
            x: "layer",
            y: "rmse ratio",
            ticks: (9, 4),
            x_tick: &|v| {
                if (v - v.round()).abs() < 1e-6 {
                    format!("{v:.0}")
                } else {
                    String::new()
                }
            },
            y_tick: &|v| tick(*v, y.1),
            grid: true,
        },
    )?;
    let of = |passed: Option<bool>| {
        group.iter().filter_map(move |(layer, m)| {
            let height = m.height().filter(|h| h.is_finite())?;
            (m.passed() == passed).then_some((*layer as f64, height))
        })
    };
    chart.draw_series(of(None).map(|at| Circle::new(at, 3, AXIS.stroke_width(1))))?;
    chart.draw_series(of(Some(true)).map(|at| Circle::new(at, 3, DATA.filled())))?;
    chart.draw_series(of(Some(false)).map(|at| Cross::new(at, 5, FAIL.stroke_width(3))))?;
    Ok(())
}

/// The text of a tick on an axis that ends at `high`: as many decimals on each.
fn tick(v: f64, high: f64) -> String {
    if (0.01..1e4).contains(&high) {
        let decimals = (2 - high.log10().floor() as i32).clamp(0, 4) as usize;
        format!("{v:.decimals$}")
    } else {
        format!("{v:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_first_number() {
        for (base, layer, projection) in [
            ("model.layers.12.mlp.gate_proj", Some(12), "mlp.gate_proj"),
            (
                "model.layers.3.mlp.experts.17.up_proj",
                Some(3),
                "mlp.experts.*.up_proj",
            ),
            ("lm_head", None, "lm_head"),
            ("7", Some(7), ""),
        ] {
            assert_eq!(layer_and_projection(base), (layer, projection.to_owned()));
        }
    }
}
