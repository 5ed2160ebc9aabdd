//! `tq4.Verdict`: what became of an array that was held to a tensor.

use crate::error::raise;
use crate::model::Model;
use crate::{rows, threads, values, words};
use pyo3::prelude::*;
use tq4::fault::NamedFault;
use tq4::record::Exactness;
use tq4::{
    Decision, LaneName, Metrics, Output, OutputType, Strip, TensorRecord, Tolerance, TqTensor,
    dequantize, judge_strip,
};

/// Name of what is judged, in the record.
const NAME: &str = "actual";

/// An element that is not what it must be.
#[pyclass(frozen, get_all, module = "tq4")]
#[derive(Debug, Clone)]
pub struct Element {
    /// ``(row, column)`` in the array.
    pub index: (usize, usize),
    /// What the array holds; NaN where that is NaN or infinite.
    pub got: f64,
    /// The reference, rounded to the array's type.
    pub expected: f64,
    /// Least and largest allowed value; ``None`` where the element itself is one that a correct kernel may
    /// return.
    pub allowed: Option<(f64, f64)>,
}

#[pymethods]
impl Element {
    fn __repr__(&self) -> String {
        format!("<tq4.Element {}>", words::element(self))
    }
}

/// What became of an array that was held to a tensor. True in a condition when it passed.
#[pyclass(frozen, module = "tq4")]
pub struct Verdict {
    pub(crate) record: TensorRecord,
    pub(crate) decision: Decision,
    pub(crate) metrics: Metrics,
    pub(crate) tolerance: Option<Tolerance>,
    pub(crate) worst: Option<Element>,
    pub(crate) greatest: Option<Element>,
}

/// Holds values to rows of a tensor: `values` are a C-contiguous array of NumPy, float32 or uint16 with the bits of
/// `dtype`.
#[pyfunction]
#[pyo3(name = "_check")]
pub fn check(
    py: Python<'_>,
    values: &Bound<'_, PyAny>,
    dtype: &str,
    model: &Bound<'_, Model>,
    name: &str,
    rows: Option<&Bound<'_, PyAny>>,
    tolerance: Option<&str>,
) -> PyResult<Verdict> {
    let model = model.get();
    let base = model.base(name)?;
    let tolerance = tolerance.map(str::parse::<Tolerance>).transpose();
    let tolerance = tolerance.map_err(raise)?;
    let [count, columns] = model.inner.info(base).map_err(raise)?.shape;
    let rows = rows::bounds(rows, count)?;
    let tensor = py.detach(|| model.inner.rows(base, rows.clone()));
    let tensor = tensor.map_err(raise)?;
    let values = values::output(values, values::output_type(dtype)?, [rows.len(), columns])?;
    py.detach(|| {
        let strip = Strip {
            rows: rows.clone(),
            cols: columns,
            ..Strip::of(tensor)
        };
        let record = threads::run(|| judge_strip(NAME, strip, values, tolerance))?;
        let mut verdict = Verdict::new(record.map_err(raise)?, tolerance);
        let row = |row: usize| {
            let at = rows.start + row;
            model.inner.rows(base, at..at + 1).map_err(raise)
        };
        verdict.find(row)?;
        Ok(verdict)
    })
}

impl Verdict {
    fn new(record: TensorRecord, tolerance: Option<Tolerance>) -> Self {
        let name = LaneName::from(NAME);
        let decision = record.decision_of(&name).cloned();
        let metrics = record.metrics.iter().find(|m| m.lhs == name).cloned();
        Self {
            decision: decision.expect("what was judged has a decision"),
            metrics: metrics.expect("what was judged has figures"),
            record,
            tolerance,
            worst: None,
            greatest: None,
        }
    }

    /// Finds the elements that a failure shows; `row` reads a row of the tensor.
    fn find(&mut self, row: impl Fn(usize) -> PyResult<TqTensor>) -> PyResult<()> {
        let exact = self.decision.exactness.as_ref();
        if let Some(outside) = exact.and_then(|e| e.worst) {
            let (at, of) = ((outside.row, outside.col), self.output());
            let reference = dequantize(&row(at.0)?)[at.1];
            self.worst = Some(Element {
                index: at,
                got: outside.got.unwrap_or(f64::NAN),
                expected: Output::rounding(vec![reference], of).single()[0].into(),
                allowed: Some(outside.allowed.into()),
            });
        }
        let furthest = self
            .record
            .diagnosis
            .first()
            .map(|d| &d.diagnosis.place.worst);
        self.greatest = furthest.map(|w| Element {
            index: (w.row, w.col),
            got: w.got.unwrap_or(f32::NAN).into(),
            expected: w.expected.into(),
            allowed: None,
        });
        if self.worst.is_none() {
            self.worst = self.greatest.clone();
        }
        Ok(())
    }
}

#[pymethods]
impl Verdict {
    /// Name of the tensor, without ``.weight``.
    #[getter]
    pub(crate) fn name(&self) -> &str {
        &self.record.tensor_base
    }

    /// ``(start, stop)``: the rows of the tensor that the array was held to.
    #[getter]
    pub(crate) fn rows(&self) -> (usize, usize) {
        let start = self.record.row_start;
        (start, start + self.record.row_count)
    }

    /// ``(rows, K)``.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        self.record.shape.into()
    }

    /// Type of the array: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    #[getter]
    pub(crate) fn dtype(&self) -> &'static str {
        values::type_name(self.output())
    }

    /// Whether it passed: identical, allowed, or within the tolerance.
    #[getter]
    pub(crate) fn passed(&self) -> bool {
        self.decision.verdict.passed() == Some(true)
    }

    /// ``"identical"``, ``"allowed"``, ``"within tolerance"`` or ``"differs"``.
    #[getter]
    pub(crate) fn verdict(&self) -> &'static str {
        self.decision.verdict.word()
    }

    /// One line that says why.
    #[getter]
    pub(crate) fn reason(&self) -> &str {
        &self.decision.reason
    }

    /// Name of the fault that explains every element; ``None`` where it passed, and where no known fault does.
    #[getter]
    pub(crate) fn fault(&self) -> Option<String> {
        self.faults(|f| &f.name, " + ")
    }

    /// What to look at for that fault.
    #[getter]
    pub(crate) fn advice(&self) -> Option<String> {
        self.faults(|f| &f.advice, "; ")
    }

    /// The fault with its evidence, or what kind of error it is and where; ``None`` where it passed.
    #[getter]
    pub(crate) fn diagnosis(&self) -> Option<&str> {
        let found = self.record.diagnosis.first();
        found.map(|d| d.diagnosis.evidence.as_str())
    }

    /// Name of the correct arithmetic that gives every element, bit for bit; ``None`` where none does.
    #[getter]
    fn arithmetic(&self) -> Option<&'static str> {
        Some(self.exactness()?.arithmetic?.name())
    }

    /// Elements in all.
    #[getter]
    pub(crate) fn elements(&self) -> u64 {
        self.record.elements
    }

    /// Elements that no correct kernel returns.
    #[getter]
    pub(crate) fn mismatched(&self) -> u64 {
        self.exactness().map_or(0, |e| e.outside)
    }

    /// Elements that are not the rounded reference; those of another correct arithmetic are among them.
    #[getter]
    pub(crate) fn unequal(&self) -> u64 {
        self.exactness().map_or(0, |e| e.unequal)
    }

    /// Elements beyond the ``atol`` and ``rtol`` of the tolerance; 0 without one.
    #[getter]
    pub(crate) fn beyond_tolerance(&self) -> u64 {
        self.exactness().map_or(0, |e| e.beyond_tolerance)
    }

    /// Greatest absolute difference from the reference before rounding.
    #[getter]
    fn max_abs(&self) -> f64 {
        self.metrics.max_abs
    }

    /// Root mean square difference from the reference, over the root mean square of the reference.
    #[getter]
    pub(crate) fn rmse_ratio(&self) -> f64 {
        self.metrics.rmse_over_rhs_rms
    }

    /// Cosine of the angle between array and reference.
    #[getter]
    pub(crate) fn cosine(&self) -> f64 {
        self.metrics.cosine
    }

    /// The element that is furthest outside what is allowed; ``None`` where none is and it passed.
    #[getter]
    fn worst(&self) -> Option<Element> {
        self.worst.clone()
    }

    /// The record of the tensor in JSON, as the reports of the command have it.
    fn to_json(&self) -> String {
        serde_json::to_string(&self.record).expect("a record is plain data")
    }

    /// The same as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.to_json(),))
    }

    fn __bool__(&self) -> bool {
        self.passed()
    }

    fn __str__(&self) -> String {
        words::verdict(self)
    }

    fn __repr__(&self) -> String {
        let fault = self.fault().map_or_else(String::new, |f| format!(", {f}"));
        format!(
            "<tq4.Verdict {:?}: {}{fault}, {} of {} elements mismatched>",
            self.name(),
            self.verdict(),
            self.mismatched(),
            self.elements()
        )
    }
}

impl Verdict {
    pub(crate) fn exactness(&self) -> Option<&Exactness> {
        self.decision.exactness.as_ref()
    }

    /// Type of the judged values.
    fn output(&self) -> OutputType {
        self.exactness()
            .map_or_else(OutputType::default, |e| e.output)
    }

    /// A part of each fault that explains the output.
    fn faults(&self, part: fn(&NamedFault) -> &str, with: &str) -> Option<String> {
        let diagnosis = &self.record.diagnosis.first()?.diagnosis;
        let parts: Vec<&str> = diagnosis.faults.iter().map(part).collect();
        diagnosis.explained.then(|| parts.join(with))
    }
}
