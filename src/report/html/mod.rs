//! One self-contained page: no network, no framework, static SVG, light and dark.

mod baseline;
mod bench;
mod bench_plots;
mod chart;
mod figures;
mod group;
mod heat;
mod marks;
mod overview;
mod plots;
mod tensor;

pub use bench::bench_page;

use super::decisions::{Said, decisions};
use super::figures::floor;
use super::view::{DecisionView, Look, name, tensor_passed};
use super::words::{LaneView, lanes_shown, plain_problems, totals};
use super::{Exporter, put};
use crate::counted::counted;
use crate::error::{Result, printable};
use crate::record::{Outcome, Run};
use askama::Template;
use overview::Overview;
use std::io::Write;
use tensor::{LaneLine, TensorView};

/// Bytes of drawings after which no further tensor is drawn: many lanes make large pictures.
const PICTURE_BYTES: usize = 1_500_000;
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

/// The report as a page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page;

impl Page {
    /// Tensors whose pictures a page holds: the worst. It bounds the page's size.
    pub const PICTURES: usize = 8;
}

#[derive(Template)]
#[template(path = "tensors.html")]
struct TensorsPage {
    shell: Shell,
    outcome: (Look, String),
    /// What is decided for the run as a whole.
    said: Vec<Said>,
    verdicts: Vec<LaneLine>,
    /// Lanes that were asked for and did not run.
    not_run: Vec<DecisionView>,
    totals: Vec<String>,
    /// What the rmse ratio of a correct lane is.
    floor: Option<String>,
    lanes: Vec<LaneView>,
    overview: Option<Overview>,
    tensors: Vec<TensorView>,
    plain: Vec<(String, String)>,
    without_section: usize,
    without_pictures: usize,
}

impl Exporter for Page {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        let order = run.worst_first();
        let many = order.len() > 1;
        let failed = order.iter().filter(|t| tensor_passed(t) == Some(false));
        let sections = failed.count().clamp(PASSED_SECTIONS, SECTIONS);
        let (mut masks, mut drawn, mut bytes) = (0, 0, 0);
        let mut tensors = Vec::new();
        for (i, t) in order.iter().take(sections).enumerate() {
            let picture = t.picture.as_deref();
            let picture = picture.filter(|_| drawn < Self::PICTURES && bytes < PICTURE_BYTES);
            drawn += usize::from(picture.is_some());
            let drawn_with = (picture, run.model.tolerance);
            tensors.push(TensorView::new(i, (run, t), drawn_with, &mut masks));
            bytes += tensors[i].drawn();
        }
        let about = match (order.as_slice(), &run.model.tq) {
            ([one], _) => one.tensor_base.clone(),
            (_, Some(tq)) => format!("{}, {}", tq.name, counted(order.len(), "tensor")),
            (_, None) => counted(order.len(), "tensor"),
        };
        let (said, verdicts, not_run) = decided(run);
        let page = TensorsPage {
            shell: Shell::new(&format!("tq4: {}", printable(&about)), facts(run)),
            outcome: outcome(run),
            said,
            verdicts,
            not_run,
            // The lanes' counts are in their verdicts, the tensors' number over the table.
            totals: totals(run, true),
            floor: floor(run),
            lanes: lanes_shown(run).iter().map(LaneView::new).collect(),
            overview: many.then(|| Overview::new(run, &order, tensors.len())),
            without_section: order.len() - tensors.len(),
            without_pictures: tensors.iter().filter(|t| t.pictured.is_empty()).count(),
            tensors,
            plain: plain_problems(run),
        };
        put(&page.render().expect("writing to memory"), to)
    }
}

/// What is decided for the run; for the lanes that returned something, those that failed first; for those that were
/// asked for and did not run. Where that is the outcome, they are among the first.
fn decided(run: &Run) -> (Vec<Said>, Vec<LaneLine>, Vec<DecisionView>) {
    let missing = matches!(
        run.summary.outcome,
        Outcome::RequiredLaneMissing | Outcome::NothingCompared
    );
    let (mut said, mut lanes) = (Vec::new(), Vec::new());
    for mut decision in decisions(run, true) {
        match decision.lane.take() {
            Some(lane) => lanes.push(lane),
            None => said.push(decision),
        }
    }
    let (first, later): (Vec<_>, Vec<_>) = lanes.into_iter().partition(|v| missing || v.ran);
    let one = (run.tensors.len() == 1).then(|| &run.tensors[0]);
    let first = first.into_iter();
    let first = first.map(|d| LaneLine::new(d, one)).collect();
    (said, first, later)
}

/// How a run ended; of lanes that failed, which.
fn outcome(run: &Run) -> (Look, String) {
    let (look, words) = Look::of_run(&run.summary);
    let lanes = run.summary.lanes.iter().filter(|l| l.failed > 0);
    let failed: Vec<String> = lanes.map(|l| name(&l.lane)).collect();
    let damaged = run.tensors.iter().any(|t| t.damaged());
    if run.summary.outcome != Outcome::Failed || damaged || failed.is_empty() {
        return (look, words.into());
    }
    (look, format!("{}: wrong output", failed.join(", ")))
}

/// What a page says about its making.
fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let name = |model: &Option<crate::record::ModelIdentity>| {
        let model = model.as_ref().map(|m| printable(&m.name));
        model.unwrap_or_else(|| "none".into())
    };
    vec![
        ("TQ4 model", name(&run.model.tq)),
        ("source", name(&run.model.source)),
        ("made by", printable(&run.tool.version)),
        ("host", printable(&run.tool.host)),
        ("arguments", printable(&run.tool.command_line.join(" "))),
    ]
}
