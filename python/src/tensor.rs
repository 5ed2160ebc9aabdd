//! `tq4.Tensor`: a TQ4 tensor, its stored parts and its values.

use crate::error::raise;
use crate::{rows, threads, values};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Arc, OnceLock};
use tq4::format::TqInfo;
use tq4::{Normalisation, Output, ScaleType, Scaling, TqModel, TqTensor, dequantize};

/// A TQ4 tensor of a model, the weight ``[N, K]``: its stored parts, and the values that they stand for.
///
/// The file is read when a part is first asked for. Every array is a copy of the caller's own.
#[pyclass(frozen, module = "tq4")]
pub struct Tensor {
    model: Arc<TqModel>,
    info: TqInfo,
    read: OnceLock<TqTensor>,
}

impl Tensor {
    pub(crate) fn new(model: Arc<TqModel>, info: TqInfo) -> Self {
        Self {
            model,
            info,
            read: OnceLock::new(),
        }
    }

    fn stored(&self, py: Python<'_>) -> PyResult<&TqTensor> {
        if let Some(tensor) = self.read.get() {
            return Ok(tensor);
        }
        let rows = 0..self.info.shape[0];
        let tensor = py.detach(|| self.model.rows(&self.info.base, rows));
        let tensor = tensor.map_err(raise)?;
        // Another thread may have been first, with the same contents.
        Ok(self.read.get_or_init(|| tensor))
    }
}

/// A flat array as `[rows, columns]`.
fn shaped<'py>(array: Bound<'py, PyAny>, columns: usize) -> PyResult<Bound<'py, PyAny>> {
    array.call_method1("reshape", ((-1, columns),))
}

#[pymethods]
impl Tensor {
    /// The name, without ``.weight``.
    #[getter]
    fn name(&self) -> &str {
        &self.info.base
    }

    /// ``(N, K)``, the shape of the weight.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        self.info.shape.into()
    }

    /// Bits of a code: 2, 3 or 4.
    #[getter]
    fn bits(&self) -> u32 {
        self.info.codec.layout.bits()
    }

    /// Elements of a group: 32, 64, 128 or 256.
    #[getter]
    fn group_size(&self) -> usize {
        self.info.codec.layout.group_size()
    }

    /// The codebook, float32 ``[2**bits]``, ascending.
    #[getter]
    fn centroids<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.info.codec.codebook.centroids())
    }

    /// Codes as they are stored, uint8 ``[N, K * b / 8]`` with ``b`` the stored bits of a code; low bits first.
    #[getter]
    fn packed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tensor = self.stored(py)?;
        let array = PyArray1::from_slice(py, tensor.packed());
        shaped(array.into_any(), tensor.layout().packed_len(tensor.cols()))
    }

    /// How the tensor is stored and decoded: ``stored_bits``, ``scale_elements``, ``scale_type``, ``scale_last``,
    /// ``multiply`` and ``signs_before``, int8 ``[group_size]`` or None. docs/formats.md has what they mean.
    #[getter]
    fn codec<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let layout = self.info.codec.layout;
        let scales = layout.scales();
        let before = layout.signs_before();
        let before = before.map(|signs| (0..layout.group_size()).map(move |i| signs.of(i)));
        let codec = PyDict::new(py);
        codec.set_item("stored_bits", layout.stored_bits())?;
        codec.set_item("scale_elements", scales.elements)?;
        codec.set_item("scale_type", scales.stored.name())?;
        codec.set_item("scale_last", scales.scaling == Scaling::After)?;
        codec.set_item(
            "multiply",
            layout.normalisation() == Normalisation::Multiply,
        )?;
        codec.set_item(
            "signs_before",
            before.map(|signs| PyArray1::from_iter(py, signs)),
        )?;
        Ok(codec)
    }

    /// Scales, ``[N, K / elements that share one]``: float16, float32, or uint8 for E3M5.
    #[getter]
    fn scales<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tensor = self.stored(py)?;
        let array = PyArray1::from_slice(py, tensor.scales().bytes());
        let dtype = match tensor.scales().stored() {
            ScaleType::F16 => "float16",
            ScaleType::F32 => "float32",
            ScaleType::E3m5 => "uint8",
        };
        let scales = array.call_method1("view", (dtype,))?;
        shaped(scales, tensor.scales_per_row())
    }

    /// +1 or -1 for each column, int8 ``[K]``, shared by all rows.
    #[getter]
    fn signs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i8>>> {
        Ok(PyArray1::from_slice(py, self.stored(py)?.signs()))
    }

    /// The values that the tensor decodes to, ``[rows, K]``.
    ///
    /// ``dtype`` is ``"float32"``: before the last rounding; ``"bfloat16"`` or ``"float16"``: rounded to
    /// nearest, ties to even. NumPy has no bfloat16: the array has the type of ``ml_dtypes``, or is uint16 with
    /// the bits where that package is not installed. ``rows`` is a slice, a range or ``(start, stop)``, all
    /// rows when left out.
    #[pyo3(signature = (dtype = "float32", rows = None))]
    fn reference<'py>(
        &self,
        py: Python<'py>,
        dtype: &str,
        rows: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let of = values::output_type(dtype)?;
        let rows = rows::bounds(rows, self.info.shape[0])?;
        let (model, base) = (&self.model, &self.info.base);
        let decoded = py.detach(|| {
            let rows = model.rows(base, rows).map_err(raise)?;
            threads::run(|| dequantize(&rows))
        })?;
        let [_, columns] = self.info.shape;
        let rounded = || Output::rounding(decoded, of).narrowed(self.info.cols, columns);
        let array: Bound<'py, PyAny> = match py.detach(rounded) {
            Output::F32(values) => PyArray1::from_vec(py, values).into_any(),
            Output::Bf16(values) => {
                let bits: Vec<u16> = bytemuck::allocation::cast_vec(values);
                values::as_bfloat16(PyArray1::from_vec(py, bits))?
            }
            Output::F16(values) => {
                let bits: Vec<u16> = bytemuck::allocation::cast_vec(values);
                PyArray1::from_vec(py, bits).call_method1("view", ("float16",))?
            }
        };
        shaped(array, columns)
    }

    fn __repr__(&self) -> String {
        let [rows, columns] = self.info.shape;
        let layout = self.info.codec.layout;
        format!(
            "<tq4.Tensor {:?}: [{rows}, {columns}], {} bits, group size {}>",
            self.info.base,
            layout.bits(),
            layout.group_size()
        )
    }
}
