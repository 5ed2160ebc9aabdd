//! Values of kernels: arrays of NumPy in and out. BF16 and F16 go as their bits, in uint16.

use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use tq4::{Output, OutputType};

/// The type with a name of NumPy's.
pub fn output_type(name: &str) -> PyResult<OutputType> {
    match name {
        "float32" => Ok(OutputType::F32),
        "float16" => Ok(OutputType::F16),
        "bfloat16" => Ok(OutputType::Bf16),
        _ => Err(PyValueError::new_err(format!(
            "dtype: {name:?} found, expected \"float32\", \"float16\" or \"bfloat16\""
        ))),
    }
}

/// The name of a type in NumPy.
pub fn type_name(of: OutputType) -> &'static str {
    match of {
        OutputType::F32 => "float32",
        OutputType::F16 => "float16",
        OutputType::Bf16 => "bfloat16",
    }
}

/// Copies a C-contiguous array that holds `shape`, or as many values in one dimension.
pub fn output(array: &Bound<'_, PyAny>, of: OutputType, shape: [usize; 2]) -> PyResult<Output> {
    Ok(match of {
        OutputType::F32 => Output::F32(copy::<f32>(array, shape)?),
        OutputType::F16 => {
            let bits = copy::<u16>(array, shape)?;
            Output::F16(bytemuck::allocation::cast_vec(bits))
        }
        OutputType::Bf16 => {
            let bits = copy::<u16>(array, shape)?;
            Output::Bf16(bytemuck::allocation::cast_vec(bits))
        }
    })
}

fn copy<T: Element + Copy>(array: &Bound<'_, PyAny>, shape: [usize; 2]) -> PyResult<Vec<T>> {
    let array = array.cast::<PyArrayDyn<T>>()?;
    let found = array.shape();
    if *found != shape && *found != [shape[0] * shape[1]] {
        let [rows, columns] = shape;
        let help = match found {
            [r, c] if *c == columns && *r < rows => {
                "; say with rows=(start, stop) which rows these are"
            }
            [r, c] if *c == columns && *r > rows => "; give the rows that are compared, no others",
            [r, c] if [*c, *r] == shape => "; this is its transpose",
            _ => "",
        };
        return Err(PyValueError::new_err(format!(
            "actual: shape {found:?} found, expected [{rows}, {columns}]{help}"
        )));
    }
    let values = array
        .try_readonly()
        .map_err(|e| PyTypeError::new_err(e.to_string()))?;
    Ok(values.as_slice()?.to_vec())
}

/// Bits as the bfloat16 of `ml_dtypes`; as they are where that is not installed.
pub fn as_bfloat16(bits: Bound<'_, PyArray1<u16>>) -> PyResult<Bound<'_, PyAny>> {
    match bits.py().import("ml_dtypes") {
        Ok(package) => bits.call_method1("view", (package.getattr("bfloat16")?,)),
        Err(_) => Ok(bits.into_any()),
    }
}
