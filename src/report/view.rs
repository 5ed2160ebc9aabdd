//! The verdicts and figures of a report, alike in every format.

pub use super::look::{Look, tensor_passed};
use super::naming::{in_words, output_of, typed_name, ulp_unit};
use super::words::first_line;
use crate::error::printable;
use crate::metrics::{Metrics, Quantiles};
use crate::record::{
    Decision, Gate, LaneName, LaneTotals, OutputType, Run, TensorRecord, Verdict, lanes_once,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Five decimals, or three significant digits where those do not fit.
pub fn short(v: f64) -> String {
    if v.is_nan() {
        "NaN".into()
    } else if v == 0.0 {
        "0".into()
    } else if (1e-3..1e4).contains(&v.abs()) {
        format!("{v:.5}")
    } else {
        format!("{v:.2e}")
    }
}

/// A lane's name for people.
pub fn name(lane: &LaneName) -> String {
    printable(&lane.to_string())
}

/// A figure: as it is read, and in full as JSON has it.
pub struct Figure {
    /// Key in the JSON report.
    pub key: String,
    /// What is shown.
    pub text: String,
    /// The value as JSON writes it; `null` for NaN.
    pub full: String,
}

impl Figure {
    /// A figure from its JSON value.
    fn new(key: &str, value: &Value) -> Self {
        let text = match value {
            Value::Number(n) if n.is_u64() || n.is_i64() => n.to_string(),
            Value::Number(n) => short(n.as_f64().unwrap_or(f64::NAN)),
            Value::Null => "NaN".into(),
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        Self {
            key: key.into(),
            text,
            full: value.to_string(),
        }
    }

    /// A figure from a number.
    pub fn of(key: &str, value: f64) -> Self {
        Self {
            key: key.into(),
            // Counts are whole numbers, in gates as well.
            text: if value.fract() == 0.0 && value.abs() < 1e9 {
                format!("{value:.0}")
            } else {
                short(value)
            },
            full: serde_json::json!(value).to_string(),
        }
    }
}

/// One decision.
pub struct DecisionView {
    /// Its verdict.
    pub verdict: Look,
    /// The lane.
    pub lane: String,
    /// Whether it returned something, or broke.
    pub ran: bool,
    /// Whether it broke.
    pub broke: bool,
    /// The published string, but for what it does not say: that a lane broke, and another type than BF16.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The gates behind it.
    pub gates: Vec<GateView>,
}

/// One gate.
pub struct GateView {
    /// Its verdict.
    pub verdict: Look,
    /// Its name.
    pub name: &'static str,
    /// What was measured.
    pub value: Figure,
    /// `≤` or `≥`.
    pub relation: &'static str,
    /// The limit.
    pub limit: String,
}

impl DecisionView {
    /// Of one tensor.
    pub fn new(d: &Decision) -> Self {
        Self {
            verdict: Look::of(d.verdict),
            lane: name(&d.lane),
            ran: d.verdict != Verdict::NotRun,
            broke: d.verdict == Verdict::Broke,
            decision: in_words(d.published(), (&d.lane, d.verdict), output_of(d)),
            reason: printable(first_line(&d.reason)),
            gates: d.gates.iter().map(GateView::new).collect(),
        }
    }

    /// Over all tensors of a run.
    fn of_totals(l: &LaneTotals, run: &Run) -> Self {
        let total = run.summary.tensors;
        let decisions = run.tensors.iter().filter_map(|t| t.decision_of(&l.lane));
        let output = decisions
            .map(output_of)
            .max_by_key(|of| *of != OutputType::Bf16);
        Self {
            verdict: Look::of(l.verdict),
            lane: name(&l.lane),
            ran: l.verdict != Verdict::NotRun,
            broke: l.verdict == Verdict::Broke,
            decision: in_words(
                l.decision.clone(),
                (&l.lane, l.verdict),
                output.unwrap_or_default(),
            ),
            reason: printable(first_line(&l.why(total))),
            gates: Vec::new(),
        }
    }
}

impl GateView {
    fn new(g: &Gate) -> Self {
        Self {
            verdict: Look::of_passed(Some(g.passed)),
            name: g.name.name(),
            value: Figure::of("value", g.value),
            relation: g.must_be.sign(),
            limit: g.limit.to_string(),
        }
    }
}

/// What failed, what broke, what passed, what did not run.
fn worst_first(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Differs => 0,
        Verdict::Broke => 1,
        Verdict::WithinTolerance | Verdict::Allowed | Verdict::Identical => 2,
        Verdict::NotRun => 3,
    }
}

/// Every lane's decision on one tensor of a run, in the same order.
pub fn verdicts_on(run: &Run, t: &TensorRecord) -> Vec<DecisionView> {
    let asked = t.decisions.iter().filter(|d| run.is_asked_for(&d.lane));
    let mut asked: Vec<&Decision> = asked.collect();
    asked.sort_by_key(|d| worst_first(d.verdict));
    asked.into_iter().map(DecisionView::new).collect()
}

/// Every lane's outcome over the whole run, those that ran first and of them those that failed; of a lane on
/// software the reason says so. Of lanes that were not asked for nothing is said.
pub fn verdicts(run: &Run) -> Vec<DecisionView> {
    let ran = lanes_once(&run.tensors);
    let software = |name: &LaneName| {
        let mut on_software = ran.iter().filter(|l| l.software == Some(true));
        let lane = on_software.find(|l| l.name == *name && l.reason.is_none())?;
        Some(printable(
            lane.device.as_deref().unwrap_or("unknown device"),
        ))
    };
    let mut lanes = run.asked_for();
    lanes.sort_by_key(|l| worst_first(l.verdict));
    lanes
        .into_iter()
        .map(|l| {
            let mut view = DecisionView::of_totals(l, run);
            if let Some(fault) = named_fault(run, l) {
                view.reason = format!("{fault}; {}", view.reason);
            }
            if let Some(device) = software(&l.lane) {
                view.reason = format!("software: {device}; {}", view.reason);
            }
            view
        })
        .collect()
}

/// The fault by which most of a lane's wrong outputs are explained, and how many of them.
fn named_fault(run: &Run, l: &LaneTotals) -> Option<String> {
    let lane = l.lane.to_string();
    let mut tensors: BTreeMap<String, usize> = BTreeMap::new();
    let all = run.tensors.iter().flat_map(|t| &t.diagnosis);
    for d in all.map(|d| &d.diagnosis) {
        if d.explained && d.lane == lane {
            *tensors.entry(d.title()).or_default() += 1;
        }
    }
    let (title, count) = tensors.into_iter().max_by_key(|(_, count)| *count)?;
    let share = match l.failed {
        0 | 1 => String::new(),
        failed => format!(" in {count} of the {failed} tensors that fail"),
    };
    Some(printable(&format!("{title}{share}")))
}

/// Name of the root mean square error of two outputs.
pub const OUTPUT_RMSE: &str = "output rmse";

/// What a comparison is against: its figures mean something else for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The source's weights, which no correct decoder gives back.
    Source,
    /// The reference before it is rounded.
    Reference,
    /// Another lane's output, rounded as the first is.
    Output,
}

impl Against {
    /// Of what stands on the right.
    pub fn of(rhs: &LaneName) -> Self {
        match rhs {
            LaneName::Source => Self::Source,
            LaneName::Reference => Self::Reference,
            _ => Self::Output,
        }
    }

    /// What its root mean square error is called. That of two outputs is another figure than a lane's
    /// against the reference, in which the rounding is.
    pub fn ratio(self) -> &'static str {
        match self {
            Self::Source | Self::Reference => "rmse ratio",
            Self::Output => OUTPUT_RMSE,
        }
    }
}

/// One comparison: the figures that are looked at first, and all of them.
pub struct ComparisonRow {
    /// The compared lane, as the record names it.
    pub lhs: String,
    /// What it is held to, as the record names it.
    pub rhs: String,
    /// The compared lane as people say it.
    pub lane: String,
    /// The two as people say them.
    pub name: String,
    /// What it is against.
    pub against: Against,
    /// Verdict, for a comparison that gates look at.
    pub verdict: Option<Look>,
    /// All figures, by the keys of the JSON report and in their order.
    pub figures: Vec<Figure>,
    /// Elements that differ, of how many.
    pub differ: Figure,
}

impl ComparisonRow {
    /// The row of a comparison.
    fn new(t: &TensorRecord, m: &Metrics) -> Self {
        let Ok(Value::Object(keys)) = serde_json::to_value(m) else {
            unreachable!("a comparison is plain data")
        };
        let no_figures = ["lhs", "rhs", "quantiles"];
        let about = |mut f: Figure| {
            let quantile = f.key.starts_with("rel_p") || f.key == "top1pct_rel_mean";
            if quantile && m.quantiles == Quantiles::Sketch {
                f.text.insert(0, '~');
            }
            if f.key == "max_ulp" {
                f.text += ulp_unit(t, m);
            }
            f
        };
        let unequal = t.unequal(m);
        Self {
            lhs: printable(&m.lhs.published()),
            rhs: printable(&m.rhs.published()),
            lane: typed_name(t, &m.lhs),
            name: format!("{} vs {}", typed_name(t, &m.lhs), typed_name(t, &m.rhs)),
            against: Against::of(&m.rhs),
            verdict: t.decision_on(m).map(|d| Look::of(d.verdict)),
            differ: Figure {
                key: "differ".into(),
                text: count_of(unequal, m.elements),
                full: unequal.to_string(),
            },
            figures: keys
                .iter()
                .filter(|(key, _)| !no_figures.contains(&key.as_str()))
                .map(|(key, value)| about(Figure::new(key, value)))
                .collect(),
        }
    }

    /// `rmse_over_rhs_rms` where it is against the source or the reference, and where it is against an output.
    pub fn ratios(&self) -> [Option<&Figure>; 2] {
        let ratio = Some(self.get("rmse_over_rhs_rms"));
        match self.against {
            Against::Source | Against::Reference => [ratio, None],
            Against::Output => [None, ratio],
        }
    }

    /// Elements that differ; against the source only where it says something of a decoder, as is every figure
    /// but how far it is off.
    pub fn differing(&self) -> Option<&Figure> {
        self.of_decoder().then_some(&self.differ)
    }

    /// The figure with this key; against the source only where it says something of a decoder.
    pub fn telling(&self, key: &str) -> Option<&Figure> {
        self.of_decoder().then(|| self.get(key))
    }

    fn of_decoder(&self) -> bool {
        self.against != Against::Source
    }

    /// The figure with this key.
    pub fn get(&self, key: &str) -> &Figure {
        let mut figures = self.figures.iter();
        figures.find(|f| f.key == key).expect("a key of the report")
    }
}

/// The comparisons of a tensor.
pub fn rows(t: &TensorRecord) -> Vec<ComparisonRow> {
    t.metrics.iter().map(|m| ComparisonRow::new(t, m)).collect()
}

/// So many of all of them; 0 alone says it all.
pub fn count_of(count: u64, all: u64) -> String {
    match count {
        0 => "0".into(),
        n => format!("{n} of {all}"),
    }
}

/// `rmse_over_rhs_rms` of a comparison.
pub fn ratio(t: &TensorRecord, lhs: &LaneName, rhs: &LaneName) -> Option<f64> {
    let mut metrics = t.metrics.iter();
    let found = metrics.find(|m| m.lhs == *lhs && m.rhs == *rhs);
    found.map(|m| m.rmse_over_rhs_rms)
}

/// `rmse_over_rhs_rms` of the reference against the source: what the format costs.
pub fn source_ratio(t: &TensorRecord) -> Option<f64> {
    ratio(t, &LaneName::Reference, &LaneName::Source)
}

/// A tensor in a line.
pub struct TensorLine {
    /// Its name.
    pub name: String,
    /// `rmse_over_rhs_rms` of the reference against the source.
    pub source: String,
    /// The worst of its comparisons that gates look at.
    pub worst: Option<ComparisonRow>,
    /// The worst that became of it.
    pub verdict: Look,
}

impl TensorLine {
    /// The line of a tensor.
    pub fn new(t: &TensorRecord) -> Self {
        let size = |m: &Metrics| Some(m.rmse_over_rhs_rms).filter(|v| v.is_finite());
        let size = |m: &Metrics| size(m).unwrap_or(f64::INFINITY);
        let failed = |m: &Metrics| {
            let verdict = t.decision_on(m).map(|d| d.verdict.passed());
            verdict.map(|passed| passed == Some(false))
        };
        let judged = t.metrics.iter().filter(|m| failed(m).is_some());
        let worst = judged.max_by(|a, b| {
            let order = failed(a).cmp(&failed(b));
            order.then_with(|| size(a).total_cmp(&size(b)))
        });
        Self {
            name: printable(&t.tensor_base),
            source: source_ratio(t).map(short).unwrap_or_default(),
            worst: worst.map(|m| ComparisonRow::new(t, m)),
            verdict: Look::of_tensor(t),
        }
    }
}
