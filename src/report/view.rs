//! The verdicts and figures of a report, alike in every format.

use crate::error::printable;
use crate::metrics::{Metrics, Quantiles};
use crate::record::{
    Decision, Gate, LaneName, LaneTotals, Outcome, Run, Summary, TensorRecord, Verdict, lanes_once,
};
use serde_json::Value;

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

/// Pass, fail or not run: a class for its colour, a mark and a word, for colour alone says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Class in the style sheet.
    pub class: &'static str,
    /// A sign of its own shape.
    pub mark: &'static str,
    /// The word.
    pub word: &'static str,
}

impl Look {
    /// Right.
    pub const PASS: Self = Self {
        class: "pass",
        mark: "\u{2714}",
        word: "pass",
    };
    /// Wrong.
    pub const FAIL: Self = Self {
        class: "fail",
        mark: "\u{2718}",
        word: "FAIL",
    };
    /// Not judged.
    pub const NONE: Self = Self {
        class: "none",
        mark: "\u{25cb}",
        word: "not run",
    };

    /// Of a verdict.
    pub fn of(verdict: Verdict) -> Self {
        match verdict.passed() {
            Some(true) => Self {
                word: verdict.word(),
                ..Self::PASS
            },
            Some(false) => Self::FAIL,
            None => Self {
                word: verdict.word(),
                ..Self::NONE
            },
        }
    }

    /// Right, wrong or not judged.
    pub fn of_passed(passed: Option<bool>) -> Self {
        match passed {
            Some(true) => Self::PASS,
            Some(false) => Self::FAIL,
            None => Self::NONE,
        }
    }

    /// Of a tensor: the worst that became of it.
    pub fn of_tensor(t: &TensorRecord) -> Self {
        let passed = tensor_passed(t);
        let word = match passed {
            _ if t.error.is_some() => "BAD INPUT",
            _ if t.broke() => "BROKE",
            _ if t.damaged() => "DAMAGED",
            None => "NOT RUN",
            Some(_) => Self::of_passed(passed).word,
        };
        Self {
            word,
            ..Self::of_passed(passed)
        }
    }

    /// Of a run, with a sentence.
    pub fn of_run(s: &Summary) -> (Self, &'static str) {
        match s.outcome {
            Outcome::Passed if s.lanes.iter().all(|l| l.passed == 0) => {
                (Self::NONE, "no kernel lane ran")
            }
            Outcome::Passed => (Self::PASS, "every lane that ran passed"),
            Outcome::Failed if s.checkpoint.as_ref().is_some_and(|c| c.damaged > 0) => (
                Self::FAIL,
                "the checkpoint is damaged or the source is another model's",
            ),
            Outcome::Failed => (
                Self::FAIL,
                "a lane failed its gates, or a tensor that is not quantised is not the source's",
            ),
            Outcome::NothingCompared => (
                Self::NONE,
                "nothing was compared: no lane ran beside the reference, and there is no source",
            ),
            Outcome::Broke => (Self::FAIL, "a lane broke, or a tensor is bad input"),
            Outcome::RequiredLaneMissing => (
                Self::NONE,
                "a required lane did not run on every tensor, or on software only",
            ),
        }
    }
}

/// What became of a tensor on all lanes together: right, wrong, or not judged.
pub fn tensor_passed(t: &TensorRecord) -> Option<bool> {
    let mut decisions = t.decisions.iter();
    if t.error.is_some() || t.broke() || t.damaged() || t.failed() {
        Some(false)
    } else if decisions.any(|d| d.verdict.passed() == Some(true)) {
        Some(true)
    } else {
        None
    }
}

/// One decision.
pub struct DecisionView {
    /// Its verdict.
    pub verdict: Look,
    /// The lane.
    pub lane: String,
    /// The published string.
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
            decision: printable(&d.published()),
            reason: printable(&d.reason),
            gates: d.gates.iter().map(GateView::new).collect(),
        }
    }

    /// Of all of `total` tensors.
    fn of_totals(l: &LaneTotals, total: u64) -> Self {
        Self {
            verdict: Look::of(l.verdict),
            lane: name(&l.lane),
            decision: printable(&l.decision),
            reason: printable(&l.why(total)),
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

/// Every lane's outcome over the whole run; of a lane on software the reason says so.
pub fn verdicts(run: &Run) -> Vec<DecisionView> {
    let ran = lanes_once(&run.tensors);
    let software = |name: &LaneName| {
        let mut on_software = ran.iter().filter(|l| l.software == Some(true));
        let lane = on_software.find(|l| l.name == *name && l.reason.is_none())?;
        Some(printable(
            lane.device.as_deref().unwrap_or("unknown device"),
        ))
    };
    let lanes = run.summary.lanes.iter();
    lanes
        .map(|l| {
            let mut view = DecisionView::of_totals(l, run.summary.tensors);
            if let Some(device) = software(&l.lane) {
                view.reason = format!("software: {device}; {}", view.reason);
            }
            view
        })
        .collect()
}

/// One comparison: the figures that are looked at first, and all of them.
pub struct Row {
    /// The compared lane, as the record names it.
    pub lhs: String,
    /// What it is held to, as the record names it.
    pub rhs: String,
    /// The two as people say them.
    pub name: String,
    /// Verdict, for a comparison that gates look at.
    pub verdict: Option<Look>,
    /// All figures, by the keys of the JSON report and in their order.
    pub figures: Vec<Figure>,
    /// Share of equal elements in percent; 100 only when every one is.
    pub equal_percent: String,
}

impl Row {
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
            f
        };
        let equal = 100.0 * m.bit_equal as f64 / m.elements as f64;
        Self {
            lhs: printable(&m.lhs.published()),
            rhs: printable(&m.rhs.published()),
            name: format!("{} vs {}", name(&m.lhs), name(&m.rhs)),
            verdict: decision_on(t, m).map(|d| Look::of(d.verdict)),
            figures: keys
                .iter()
                .filter(|(key, _)| !no_figures.contains(&key.as_str()))
                .map(|(key, value)| about(Figure::new(key, value)))
                .collect(),
            equal_percent: if m.bit_equal == m.elements {
                "100".into()
            } else {
                format!("{:.3}", (equal * 1000.0).floor() / 1000.0)
            },
        }
    }

    /// The figure with this key.
    pub fn get(&self, key: &str) -> &Figure {
        let mut figures = self.figures.iter();
        figures.find(|f| f.key == key).expect("a key of the report")
    }
}

/// The comparisons of a tensor.
pub fn rows(t: &TensorRecord) -> Vec<Row> {
    t.metrics.iter().map(|m| Row::new(t, m)).collect()
}

/// The decision that a comparison led to.
fn decision_on<'t>(t: &'t TensorRecord, m: &Metrics) -> Option<&'t Decision> {
    let mut decisions = t.decisions.iter();
    decisions.find(|d| d.lane == m.lhs && d.rhs == m.rhs)
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

/// Heads of [`line`].
pub const LINE: [&str; 7] = [
    "tensor",
    "vs source",
    "worst lane",
    "rmse ratio",
    "equal %",
    "ULP",
    "verdict",
];

/// A tensor in a line.
pub fn line(t: &TensorRecord) -> [String; 7] {
    let finite = |m: &Metrics| Some(m.rmse_over_rhs_rms).filter(|v| v.is_finite());
    let size = |m: &Metrics| finite(m).unwrap_or(f64::INFINITY);
    let judged = t.metrics.iter().filter(|m| decision_on(t, m).is_some());
    let worst = judged.max_by(|a, b| size(a).total_cmp(&size(b)));
    let [lane, ratio, equal, ulp] = worst.map_or_else(Default::default, |m| {
        let row = Row::new(t, m);
        let ulp = m.max_ulp.to_string();
        [
            name(&m.lhs),
            short(m.rmse_over_rhs_rms),
            row.equal_percent,
            ulp,
        ]
    });
    [
        printable(&t.tensor_base),
        source_ratio(t).map(short).unwrap_or_default(),
        lane,
        ratio,
        equal,
        ulp,
        Look::of_tensor(t).word.into(),
    ]
}
