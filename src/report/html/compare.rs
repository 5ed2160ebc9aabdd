//! The page of two machines' outputs, side by side.

use super::overview::{LaneMark, Mark, Overview};
use super::tensor::TensorView;
use super::{PASSED_SECTIONS, SECTIONS, Shell, TensorsPage};
use crate::error::printable;
use crate::recording::Comparison;
use crate::report::view::{DecisionView, LaneView, Row, Verdict};
use crate::report::{LaneReport, Tool};
use askama::Template;

/// The page of a comparison in which no reference takes part.
pub fn compare_page(
    tensors: &[Comparison],
    notes: &[String],
    lanes: &[LaneReport],
    tool: &Tool,
) -> String {
    let pair = |c: &Comparison| printable(&format!("{} vs {}", c.metrics.lhs, c.metrics.rhs));
    let mut pairs: Vec<String> = Vec::new();
    for name in tensors.iter().map(pair) {
        if !pairs.contains(&name) {
            pairs.push(name);
        }
    }
    let together: Vec<&[Comparison]> = tensors
        .chunk_by(|a, b| a.tensor_base == b.tensor_base)
        .collect();
    let mut marks: Vec<(usize, Mark)> = together
        .iter()
        .map(|chunk| Mark {
            base: printable(&chunk[0].tensor_base),
            shape: chunk[0].shape,
            source_ratio: None,
            lanes: chunk
                .iter()
                .map(|c| LaneMark {
                    lane: pair(c),
                    passed: c.decision.passed,
                    ratio: Some(c.metrics.rmse_over_rhs_rms),
                })
                .collect(),
            anchor: None,
            bad_input: false,
        })
        .enumerate()
        .collect();
    marks.sort_by(|(_, a), (_, b)| Mark::worse(a, b));
    let failed = marks.iter().filter(|(_, m)| m.badness().0 > 0).count();
    let sections = failed.clamp(PASSED_SECTIONS, SECTIONS).min(marks.len());
    let views: Vec<TensorView> = marks[..sections]
        .iter_mut()
        .map(|(i, mark)| {
            let view = section(*i, together[*i]);
            mark.anchor = Some(view.id.clone());
            view
        })
        .collect();
    let mut overview = Overview::new(marks.into_iter().map(|(_, m)| m).collect());
    overview.height = "rmse ratio of the two outputs that are furthest apart";
    overview.ratio = "rmse ratio of the first output against the second";
    let page = TensorsPage {
        shell: Shell::new(
            "tq4 compare",
            vec![
                ("made by", printable(&tool.version)),
                ("host", printable(&tool.host)),
                ("arguments", printable(&tool.command_line.join(" "))),
            ],
        ),
        outcome: None,
        verdicts: pairs
            .iter()
            .map(|name| {
                let of: Vec<&Comparison> = tensors.iter().filter(|c| pair(c) == *name).collect();
                verdict(name, &of)
            })
            .collect(),
        totals: notes
            .iter()
            .map(|n| format!("note: {}", printable(n)))
            .collect(),
        machines: machines(lanes),
        lanes: lanes.iter().map(LaneView::new).collect(),
        without_section: together.len() - views.len(),
        without_pictures: 0,
        overview: Some(overview),
        tensors: views,
        plain: Vec::new(),
    };
    page.render().expect("writing to memory")
}

/// The worst outcome of a pair over all tensors.
fn verdict(name: &str, of: &[&Comparison]) -> DecisionView {
    let failed: Vec<&&Comparison> = of
        .iter()
        .filter(|c| c.decision.passed != Some(true))
        .collect();
    let worst = failed.first().map_or(of[0], |c| **c);
    let mut view = DecisionView::new(&worst.decision);
    view.lane = name.to_owned();
    view.gates.clear();
    if failed.is_empty() && of.len() > 1 {
        view.reason = format!("{0} of {0} tensors", of.len());
    } else if of.len() > 1 {
        view.reason = format!(
            "{} of {} tensors; {}: {}",
            failed.len(),
            of.len(),
            printable(&worst.tensor_base),
            view.reason
        );
    }
    view
}

fn section(index: usize, together: &[Comparison]) -> TensorView {
    let first = &together[0];
    let mut view = TensorView::bare(
        index,
        &first.tensor_base,
        format!(
            "rows {}..{}, {} columns",
            first.row_start,
            first.row_start + first.shape[0],
            first.shape[1]
        ),
    );
    for c in together {
        view.decisions.push(DecisionView::new(&c.decision));
        view.rows
            .push(Row::new(&c.metrics, Some(Verdict::of(c.decision.passed))));
    }
    view
}

/// What computed each output: a line for each property, a column for each lane.
pub fn machines(lanes: &[LaneReport]) -> Vec<(&'static str, Vec<String>)> {
    let text = |of: fn(&LaneReport) -> Option<String>| -> Vec<String> {
        lanes
            .iter()
            .map(|l| printable(&of(l).unwrap_or_default()))
            .collect()
    };
    vec![
        ("", text(|l| Some(l.name.clone()))),
        ("device", text(|l| l.device.clone())),
        ("driver", text(|l| l.driver.clone())),
        ("API", text(|l| l.api.clone())),
        (
            "software",
            text(|l| l.software.map(|s| if s { "yes" } else { "no" }.to_owned())),
        ),
        ("kernel", text(|l| l.kernel_checksum.clone())),
    ]
}
