//! One self-contained page: no network, no framework, static SVG, light and dark.

mod bench;
mod bench_plots;
mod chart;
mod compare;
mod heat;
mod overview;
mod plots;
mod sweep;
mod tensor;

pub use bench::bench_page;
pub use compare::compare_page;
pub(crate) use sweep::lane_outcome;
pub use sweep::sweep_page;

use crate::error::printable;
use crate::picture::Picture;
use crate::report::view::{DecisionView, LaneView, Verdict, facts};
use crate::report::{LaneReport, Report, TensorReport};
use askama::Template;
use overview::{Mark, Overview};
use sweep::PlainView;
use tensor::TensorView;

/// Tensors whose pictures a page holds: the worst. It bounds the page's size.
pub const PICTURES: usize = 8;
/// Tensors whose figures a page holds: the worst. The others are in the overview.
const SECTIONS: usize = 40;
/// Sections where fewer tensors failed: the figures of some that passed are worth a look.
const PASSED_SECTIONS: usize = 10;

/// What every page has.
struct Shell {
    title: String,
    style: &'static str,
    script: &'static str,
    script_hash: String,
    facts: Vec<(&'static str, String)>,
}

impl Shell {
    fn new(title: &str, facts: Vec<(&'static str, String)>) -> Self {
        use base64::Engine as _;
        use sha2::{Digest, Sha256};
        let script = include_str!("../../../templates/sort.js");
        let digest = Sha256::digest(script.as_bytes());
        Self {
            title: title.into(),
            style: include_str!("../../../templates/style.css"),
            script,
            script_hash: base64::engine::general_purpose::STANDARD.encode(digest),
            facts: facts.into_iter().filter(|(_, v)| !v.is_empty()).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "tensors.html")]
struct TensorsPage {
    shell: Shell,
    outcome: Option<(Verdict, &'static str)>,
    verdicts: Vec<DecisionView>,
    totals: Vec<String>,
    machines: Vec<(&'static str, Vec<String>)>,
    lanes: Vec<LaneView>,
    overview: Option<Overview>,
    tensors: Vec<TensorView>,
    plain: Vec<PlainView>,
    without_section: usize,
    without_pictures: usize,
}

/// How bad a tensor's report is, for [`PICTURES`]: failed lanes, then the error against the source.
pub fn badness(t: &TensorReport) -> (usize, f64) {
    Mark::new(t, None).badness()
}

/// The page of a `validate` run.
///
/// `lanes` has every lane once; `pictures` holds those of some of the tensors, see [`badness`].
pub fn page(report: &Report, lanes: &[LaneReport], pictures: &[&Picture]) -> String {
    tensors_page("validate", false, report, lanes, pictures)
}

/// The page of a comparison of recordings with the reference: the lanes' machines stand side by side.
pub fn recordings_page(report: &Report, lanes: &[LaneReport], pictures: &[&Picture]) -> String {
    tensors_page("compare", true, report, lanes, pictures)
}

fn tensors_page(
    command: &str,
    side_by_side: bool,
    report: &Report,
    lanes: &[LaneReport],
    pictures: &[&Picture],
) -> String {
    let all = report.tensors();
    let first = &all[0];
    let mut order: Vec<usize> = (0..all.len()).collect();
    if all.len() > 1 {
        let marks: Vec<Mark> = all.iter().map(|t| Mark::new(t, None)).collect();
        order.sort_by(|a, b| Mark::worse(&marks[*a], &marks[*b]));
    }
    let mut masks = 0;
    let tensors: Vec<TensorView> = order
        .iter()
        .take(SECTIONS)
        .map(|i| {
            let t = &all[*i];
            let picture = pictures
                .iter()
                .copied()
                .find(|p| p.base == t.tensor_base && p.row_start == t.row_start);
            TensorView::new(*i, t, picture, &mut masks)
        })
        .collect();
    let overview = (all.len() > 1).then(|| {
        let anchor = |i: usize| {
            order[..tensors.len()]
                .contains(&i)
                .then(|| format!("tensor-{i}"))
        };
        let marks = all.iter().enumerate();
        Overview::new(marks.map(|(i, t)| Mark::new(t, anchor(i))).collect())
    });
    let page = TensorsPage {
        shell: Shell::new(
            &match all {
                [one] => format!("tq4 {command}: {}", printable(&one.tensor_base)),
                _ => format!("tq4 {command}: {} tensors", all.len()),
            },
            facts(
                &first.tq_model,
                first.source_model.as_deref().unwrap_or("none"),
                &first.tool,
            ),
        ),
        outcome: None,
        totals: Vec::new(),
        machines: if side_by_side {
            compare::machines(lanes)
        } else {
            Vec::new()
        },
        plain: Vec::new(),
        verdicts: report
            .worst_decisions()
            .into_iter()
            .map(|(d, line)| {
                let mut view = DecisionView::new(d);
                view.reason = printable(&line);
                view
            })
            .collect(),
        lanes: lanes.iter().map(LaneView::new).collect(),
        overview,
        without_section: all.len() - tensors.len(),
        without_pictures: tensors.iter().filter(|t| t.pictured.is_empty()).count(),
        tensors,
    };
    page.render().expect("writing to memory")
}
