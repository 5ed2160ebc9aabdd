//! The extension module `tq4._tq4`: models, tensors and verdicts for Python, and the command.
//!
//! What is known of arrays of other libraries is in `python/tq4/_arrays.py`; here come C-contiguous arrays
//! of NumPy alone.

mod error;
mod model;
mod rows;
mod tensor;
mod threads;
mod values;
mod verdict;
mod words;

use pyo3::prelude::*;
use std::ffi::OsString;

/// `tq4._tq4`.
#[pymodule]
mod _tq4 {
    #[pymodule_export]
    use super::{
        main,
        model::{Model, open},
        tensor::Tensor,
        verdict::{Element, Verdict, check},
    };

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    const RUNTIME_DIR: &str = tq4::environment::RUNTIME_DIR;
    #[pymodule_export]
    const NO_RUNTIME_DIR: &str = tq4::environment::NO_RUNTIME_DIR;
}

/// Runs the command `tq4`: the program's name and its arguments in, the exit code out. At most once in a
/// process.
#[pyfunction]
fn main(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| tq4::cli::run(args))
}
