//! One mark for each tensor, by layer and projection: what became of it, and how large its error is.

use super::chart::{AXIS, Area, Axes, DATA, Drawn, FAIL, MODEL, draw_axes, power_of_ten, svg};
use super::plots::BOTTOM;
use crate::counted::counted;
use crate::error::printable;
use crate::judge::gate::MAX_RMSE_RATIO;
use crate::record::TensorRecord;
use crate::report::view::{ratio, source_ratio, tensor_passed};
use plotters::prelude::*;

/// Size of a panel.
const PANEL: (u32, u32) = (440, 170);
/// Panels at most; the projections beyond are drawn together in the last.
const PANELS: usize = 24;

/// What became of a tensor, as a mark shows it; what is worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkState {
    /// No lane ran.
    NotRun,
    /// Every lane that ran passed.
    Passed,
    /// A lane failed or broke, or the tensor is bad input.
    Failed,
    /// Its checkpoint is damaged.
    Damaged,
}

impl MarkState {
    /// All of them, in the order of the legend.
    pub const ALL: [Self; 4] = [Self::Damaged, Self::Failed, Self::Passed, Self::NotRun];

    /// Of a tensor.
    pub fn of(t: &TensorRecord) -> Self {
        match tensor_passed(t) {
            _ if t.damaged() => Self::Damaged,
            Some(false) => Self::Failed,
            Some(true) => Self::Passed,
            None => Self::NotRun,
        }
    }

    /// Class, sign and words of the legend.
    pub fn legend(self) -> [&'static str; 3] {
        match self {
            Self::Damaged => ["damaged", "\u{25c6}", "checkpoint damaged"],
            Self::Failed => ["fail", "\u{2716}", "a lane failed or broke"],
            Self::Passed => ["passed", "\u{25cf}", "every lane that ran passed"],
            Self::NotRun => ["idle", "\u{25cb}", "no lane ran"],
        }
    }
}

/// What the height of a mark is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Height {
    /// The largest rmse ratio of a lane, as a power of ten.
    Lanes,
    /// The rmse ratio of the reference against the source.
    Source,
}

impl Height {
    fn of(self, t: &TensorRecord) -> Option<f64> {
        let height = match self {
            Self::Source => source_ratio(t)?,
            Self::Lanes => {
                let lanes = t.decisions.iter();
                let ratios = lanes.filter_map(|d| ratio(t, &d.lane, &d.rhs));
                let worst = ratios.max_by(f64::total_cmp)?;
                // Of a NaN there is no larger one.
                if worst.is_nan() {
                    worst
                } else {
                    worst.max(LEAST).log10()
                }
            }
        };
        height.is_finite().then_some(height)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Lanes => "Error of the worst lane",
            Self::Source => "Error against the source: what the format costs",
        }
    }
}

/// The least rmse ratio that is drawn: 0 has no logarithm.
const LEAST: f64 = 1e-8;

/// One tensor's mark.
struct Mark {
    base: String,
    state: MarkState,
    height: f64,
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

/// Charts of one kind of error.
pub struct Panels {
    /// What the error is of.
    pub title: &'static str,
    /// The line that is drawn, in words.
    pub line: &'static str,
    /// Tensors without a finite error, which have no mark.
    pub without: usize,
    /// Projection and chart.
    pub charts: Vec<(String, String)>,
}

impl Panels {
    /// The charts of the tensors, worst first.
    pub fn new(height: Height, order: &[&TensorRecord]) -> Self {
        let mark = |t: &&TensorRecord| {
            Some(Mark {
                base: printable(&t.tensor_base),
                state: MarkState::of(t),
                height: height.of(t)?,
            })
        };
        let marks: Vec<Mark> = order.iter().filter_map(mark).collect();
        Self {
            title: height.title(),
            line: match height {
                Height::Lanes => "line: the gate on the rmse ratio of BF16 output",
                Height::Source => "",
            },
            without: order.len() - marks.len(),
            charts: charts(height, &marks),
        }
    }
}

fn charts(height: Height, marks: &[Mark]) -> Vec<(String, String)> {
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
    let fine = |group: &[(usize, &Mark)]| group.iter().all(|(_, m)| m.state < MarkState::Failed);
    groups.sort_by(|a, b| fine(&a.1).cmp(&fine(&b.1)).then(a.0.cmp(&b.0)));
    let gate = (height == Height::Lanes).then(|| MAX_RMSE_RATIO.log10());
    let heights = marks
        .iter()
        .map(|m| m.height)
        .chain(gate.filter(|_| !marks.is_empty()));
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
            let count = |state: MarkState| group.iter().filter(|(_, m)| m.state == state).count();
            let label = format!(
                "{} {projection} by layer, {} failed, {} of a damaged checkpoint",
                counted(group.len(), "tensor"),
                count(MarkState::Failed),
                count(MarkState::Damaged)
            );
            let text = svg(PANEL, &label, |area| {
                panel(area, group, last, (low - room, high + room), gate)
            });
            (projection.clone(), text)
        })
        .collect()
}

fn panel(
    area: &Area<'_>,
    group: &[(usize, &Mark)],
    last: usize,
    y: (f64, f64),
    gate: Option<f64>,
) -> Drawn {
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
                    // Not -0.
                    format!("{:.0}", v.round() + 0.0)
                } else {
                    String::new()
                }
            },
            y_tick: &|v| match gate {
                Some(_) => short_power(*v),
                None => tick(*v, y.1),
            },
            grid: true,
        },
    )?;
    if let Some(gate) = gate {
        let ends = [(-0.7, gate), (last as f64 + 0.7, gate)];
        chart.draw_series(LineSeries::new(ends, MODEL.stroke_width(1)))?;
    }
    let of = |state: MarkState| {
        let marks = group.iter().filter(move |(_, m)| m.state == state);
        marks.map(|(layer, m)| (*layer as f64, m.height))
    };
    chart.draw_series(of(MarkState::NotRun).map(|at| Circle::new(at, 3, AXIS.stroke_width(1))))?;
    chart.draw_series(of(MarkState::Passed).map(|at| Circle::new(at, 3, DATA.filled())))?;
    chart.draw_series(of(MarkState::Failed).map(|at| Cross::new(at, 5, FAIL.stroke_width(3))))?;
    chart.draw_series(of(MarkState::Damaged).map(|at| {
        let corners = vec![(0, -7), (6, 0), (0, 7), (-6, 0)];
        EmptyElement::at(at) + Polygon::new(corners, MODEL.filled())
    }))?;
    Ok(())
}

/// The text of a tick on a logarithmic axis: of whole powers of ten alone.
fn short_power(v: f64) -> String {
    if (v - v.round()).abs() < 1e-6 {
        power_of_ten(v.round())
    } else {
        String::new()
    }
}

/// The text of a tick on an axis that ends at `high`: as many decimals on each.
pub fn tick(v: f64, high: f64) -> String {
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
