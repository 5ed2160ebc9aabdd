//! The words and figures of a page, ready for its template.

use crate::error::printable;
use crate::gate::{Decision, Gate};
use crate::metrics::Metrics;
use crate::report::table::{plain, short};
use crate::report::{LaneReport, Status, TensorReport, Tool};
use serde_json::Value;

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
    pub fn new(key: &str, value: &Value) -> Self {
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

/// The figures of a comparison, by the keys of the JSON report and in their order.
pub fn figures(m: &Metrics) -> Vec<Figure> {
    match serde_json::to_value(m) {
        Ok(Value::Object(keys)) => keys
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "lhs" | "rhs"))
            .map(|(key, value)| Figure::new(key, value))
            .collect(),
        _ => unreachable!("a comparison is plain data"),
    }
}

/// Pass, fail or not run: a class for its colour, a mark and a word, for colour alone says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Class in the style sheet.
    pub class: &'static str,
    /// A sign of its own shape.
    pub mark: &'static str,
    /// The word.
    pub word: &'static str,
}

impl Verdict {
    /// From the outcome of a decision.
    pub fn of(passed: Option<bool>) -> Self {
        let (class, mark, word) = match passed {
            Some(true) => ("pass", "\u{2714}", "pass"),
            Some(false) => ("fail", "\u{2718}", "FAIL"),
            None => ("none", "\u{25cb}", "not run"),
        };
        Self { class, mark, word }
    }
}

/// One decision.
pub struct DecisionView {
    /// Its verdict.
    pub verdict: Verdict,
    /// The lane.
    pub lane: String,
    /// The decision as the report names it.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The gates behind it.
    pub gates: Vec<GateView>,
}

/// One gate.
pub struct GateView {
    /// Its verdict.
    pub verdict: Verdict,
    /// Its name.
    pub name: String,
    /// What was measured.
    pub value: Figure,
    /// `≤` or `≥`.
    pub relation: &'static str,
    /// The limit.
    pub limit: String,
}

impl DecisionView {
    /// The view of a decision.
    pub fn new(d: &Decision) -> Self {
        Self {
            verdict: Verdict::of(d.passed),
            lane: printable(&d.lane),
            decision: printable(&d.decision),
            reason: printable(&d.reason),
            gates: d.gates.iter().map(GateView::new).collect(),
        }
    }
}

impl GateView {
    fn new(g: &Gate) -> Self {
        Self {
            verdict: Verdict::of(Some(g.passed)),
            name: g.name.clone(),
            value: Figure::of("value", g.value),
            relation: if g.must_be == "<=" {
                "\u{2264}"
            } else {
                "\u{2265}"
            },
            limit: g.limit.to_string(),
        }
    }
}

/// One comparison: the figures that are looked at first, and all of them.
pub struct Row {
    /// The compared lane, as the report names it.
    pub lhs: String,
    /// What it is held to, as the report names it.
    pub rhs: String,
    /// The two as people say them.
    pub name: String,
    /// Verdict, for a comparison that gates look at.
    pub verdict: Option<Verdict>,
    /// All figures.
    pub figures: Vec<Figure>,
    /// Share of equal elements in percent.
    pub equal_percent: String,
}

impl Row {
    /// The row of a comparison.
    pub fn new(m: &Metrics, verdict: Option<Verdict>) -> Self {
        Self {
            lhs: printable(&m.lhs),
            rhs: printable(&m.rhs),
            name: printable(&format!("{} vs {}", plain(&m.lhs), plain(&m.rhs))),
            verdict,
            figures: figures(m),
            equal_percent: crate::report::table::percent(m),
        }
    }

    /// The figure with this key.
    pub fn get(&self, key: &str) -> &Figure {
        self.figures
            .iter()
            .find(|f| f.key == key)
            .expect("a key of the report")
    }
}

/// The comparisons of a tensor.
pub fn rows(t: &TensorReport) -> Vec<Row> {
    t.metrics
        .iter()
        .map(|m| {
            let decided = (m.rhs == "reference_dequant")
                .then(|| t.decisions.iter().find(|d| d.lane == plain(&m.lhs)))
                .flatten();
            Row::new(m, decided.map(|d| Verdict::of(d.passed)))
        })
        .collect()
}

/// One lane.
pub struct LaneView {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub status: &'static str,
    /// Class in the style sheet.
    pub class: &'static str,
    /// Device, or why there is none.
    pub device: String,
    /// Driver and programming interface.
    pub driver: String,
    /// Checksum of the kernel.
    pub kernel: String,
    /// Wall and kernel seconds.
    pub seconds: String,
}

impl LaneView {
    /// The view of a lane.
    pub fn new(lane: &LaneReport) -> Self {
        let or_empty = |text: &Option<String>| printable(text.as_deref().unwrap_or(""));
        let mut device = match (&lane.reason, &lane.help) {
            (Some(reason), Some(help)) => format!("{}; {}", printable(reason), printable(help)),
            (Some(reason), None) => printable(reason),
            _ => or_empty(&lane.device),
        };
        if lane.software == Some(true) && lane.reason.is_none() {
            device += " (software)";
        }
        let (api, driver) = (or_empty(&lane.api), or_empty(&lane.driver));
        let apart = if api.is_empty() || driver.is_empty() {
            ""
        } else {
            ", "
        };
        let seconds = |s: Option<f64>| s.map(|s| format!("{s:.4} s"));
        Self {
            name: printable(&lane.name),
            status: match lane.status {
                Status::Ran => "ran",
                Status::Recorded => "recorded",
                Status::Unavailable => "NOT RUN",
                Status::Failed => "FAILED",
                Status::Skipped => "skipped",
            },
            class: match lane.status {
                Status::Failed => "fail",
                Status::Ran | Status::Recorded => "",
                Status::Unavailable | Status::Skipped => "none",
            },
            device,
            driver: format!("{api}{apart}{driver}"),
            kernel: [&lane.kernel_variant, &lane.kernel_checksum]
                .into_iter()
                .flatten()
                .map(|text| printable(text))
                .collect::<Vec<_>>()
                .join(" "),
            seconds: match (seconds(lane.seconds), seconds(lane.kernel_seconds)) {
                (Some(wall), Some(kernel)) => format!("{wall}, kernel {kernel}"),
                (Some(wall), None) => wall,
                _ => String::new(),
            },
        }
    }
}

/// Rows, columns, bits and group size in one line.
pub fn shape_line(t: &TensorReport) -> String {
    format!(
        "rows {}..{}, {} columns, {} bits, group {}",
        t.row_start,
        t.row_start + t.row_count,
        t.shape[1],
        t.bits,
        t.group_size
    )
}

/// What a page says about its making.
pub fn facts(tq_model: &str, source: &str, tool: &Tool) -> Vec<(&'static str, String)> {
    vec![
        ("TQ4 model", printable(tq_model)),
        ("source", printable(source)),
        ("made by", printable(&tool.version)),
        ("host", printable(&tool.host)),
        ("arguments", printable(&tool.command_line.join(" "))),
    ]
}
