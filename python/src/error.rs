//! Errors of the library as exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use tq4::Error;

/// The exception for an error: what, where and what to do are in its text.
pub fn raise(e: Error) -> PyErr {
    match e {
        Error::Input(_) => PyValueError::new_err(e.to_string()),
        Error::Io { .. } => PyOSError::new_err(e.to_string()),
        Error::Unavailable(_) | Error::Backend(_) | Error::Lost(_) => {
            PyRuntimeError::new_err(e.to_string())
        }
    }
}
