//! Rows as callers name them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyRange, PySlice};
use std::ops::Range;

/// The rows that a slice, a range or `(start, stop)` means, of `count`; all for `None`. Whether there are such
/// rows is for the model to say.
pub fn bounds(rows: Option<&Bound<'_, PyAny>>, count: usize) -> PyResult<Range<usize>> {
    let Some(rows) = rows else {
        return Ok(0..count);
    };
    let (start, stop) = ends(rows)?;
    let sliced = rows.is_instance_of::<PySlice>();
    let place = |end: Option<isize>, missing: usize| match end {
        None => Ok(missing),
        Some(end) => match usize::try_from(end) {
            // As in every slice, from the end.
            Err(_) if sliced => count.checked_sub(end.unsigned_abs()).ok_or(end),
            place => place.map_err(|_| end),
        },
    };
    let found = place(start, 0).and_then(|start| Ok(start..place(stop, count)?));
    found.map_err(|end| {
        PyValueError::new_err(format!("rows: {end} found, the tensor has rows 0..{count}"))
    })
}

/// First row and end.
fn ends(rows: &Bound<'_, PyAny>) -> PyResult<(Option<isize>, Option<isize>)> {
    if let Ok((start, stop)) = rows.extract::<(isize, isize)>() {
        return Ok((Some(start), Some(stop)));
    }
    if !rows.is_instance_of::<PySlice>() && !rows.is_instance_of::<PyRange>() {
        return Err(PyTypeError::new_err(format!(
            "rows: {} found, expected a slice, a range or (start, stop)",
            rows.repr()?
        )));
    }
    let part = |name: &str| -> PyResult<Option<isize>> { rows.getattr(name)?.extract() };
    match part("step")? {
        None | Some(1) => Ok((part("start")?, part("stop")?)),
        Some(step) => Err(PyValueError::new_err(format!(
            "rows: step {step} found, expected rows in succession"
        ))),
    }
}
