//! Many tensors at a glance: one mark each, by layer and projection, and a table that sorts.

use super::chart::{AXIS, Area, Axes, DATA, Drawn, FAIL, draw_axes, svg};
use super::plots::BOTTOM;
use crate::error::printable;
use crate::record::{Run, TensorRecord};
use crate::report::view::{Figure, Look, name, ratio, source_ratio, tensor_passed};
use plotters::prelude::*;

/// Size of a panel.
const PANEL: (u32, u32) = (440, 170);
/// Panels at most; the projections beyond are drawn together in the last.
const PANELS: usize = 24;

/// One tensor's mark.
struct Mark {
    base: String,
    passed: Option<bool>,
    /// What the mark stands at: the error against the source, or the worst lane's.
    height: f64,
}

impl Mark {
    /// `None` where there is no finite height.
    fn new(t: &TensorRecord) -> Option<Self> {
        let lanes = t.decisions.iter();
        let ratios = lanes.filter_map(|d| ratio(t, &d.lane, &d.rhs));
        let height = source_ratio(t).or_else(|| ratios.max_by(f64::total_cmp))?;
        height.is_finite().then(|| Self {
            base: printable(&t.tensor_base),
            passed: tensor_passed(t),
            height,
        })
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

/// The overview.
pub struct Overview {
    /// Tensors in all.
    pub total: usize,
    /// Lanes in column order.
    pub lanes: Vec<String>,
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
    /// The overview of the tensors in `order`, of which the first `sections` have one.
    pub fn new(run: &Run, order: &[&TensorRecord], sections: usize) -> Self {
        let source = order.iter().any(|t| source_ratio(t).is_some());
        let marks: Vec<Mark> = order.iter().filter_map(|t| Mark::new(t)).collect();
        let figure = |v: f64| Figure::of("rmse_over_rhs_rms", v);
        let row = |(i, t): (usize, &&TensorRecord)| OverviewRow {
            base: printable(&t.tensor_base),
            anchor: (i < sections).then(|| format!("tensor-{i}")),
            wrong: (t.error.is_some() || t.broke() || t.damaged()).then(|| Look::of_tensor(t)),
            layer: layer_and_projection(&t.tensor_base)
                .0
                .map_or_else(String::new, |l| l.to_string()),
            shape: t.shape,
            source: source_ratio(t).map(figure),
            lanes: (run.summary.lanes.iter())
                .map(|l| match t.decision_of(&l.lane) {
                    Some(d) => (Look::of(d.verdict), ratio(t, &d.lane, &d.rhs).map(figure)),
                    None => (Look::NONE, None),
                })
                .collect(),
        };
        Self {
            total: order.len(),
            lanes: run.summary.lanes.iter().map(|l| name(&l.lane)).collect(),
            height: if source {
                "rmse ratio of the reference against the source"
            } else {
                "rmse ratio of the worst lane"
            },
            without_height: order.len() - marks.len(),
            panels: panels(&marks),
            source,
            rows: order.iter().enumerate().map(row).collect(),
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
    let heights = marks.iter().map(|m| m.height);
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
                .filter(|(_, m)| m.passed == Some(false))
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
                    // Not -0.
                    format!("{:.0}", v.round() + 0.0)
                } else {
                    String::new()
                }
            },
            y_tick: &|v| tick(*v, y.1),
            grid: true,
        },
    )?;
    let of = |passed: Option<bool>| {
        let marks = group.iter().filter(move |(_, m)| m.passed == passed);
        marks.map(|(layer, m)| (*layer as f64, m.height))
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
