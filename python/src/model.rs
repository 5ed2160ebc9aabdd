//! `tq4.Model`: a TQ4 model directory.

use crate::error::raise;
use crate::tensor::Tensor;
use numpy::PyArray1;
use pyo3::exceptions::{PyFileNotFoundError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use std::path::PathBuf;
use std::sync::Arc;
use tq4::TqModel;

/// A TQ4 model directory: its tensors by name.
///
/// A name may end in ``.weight``. What is read is checked, and nothing is read before it is asked for.
#[pyclass(frozen, module = "tq4")]
pub struct Model {
    pub(crate) inner: Arc<TqModel>,
}

/// Opens a TQ4 model directory: ``*.safetensors``, their index where there are several, and
/// ``turboquant_config.json``.
///
/// Raises ``FileNotFoundError`` where the directory is not there, and ``ValueError`` where it holds
/// something else or is damaged.
#[pyfunction]
pub fn open(py: Python<'_>, path: PathBuf) -> PyResult<Model> {
    let opened = py.detach(|| TqModel::open(&path));
    match opened {
        Ok(model) => Ok(Model {
            inner: Arc::new(model),
        }),
        Err(e) if !path.exists() => Err(PyFileNotFoundError::new_err(e.to_string())),
        Err(e) => Err(raise(e)),
    }
}

impl Model {
    /// The base name of a tensor.
    pub(crate) fn base<'a>(&self, name: &'a str) -> PyResult<&'a str> {
        let found = self.inner.base(name);
        found.map_err(|e| PyKeyError::new_err(e.problem().what.clone()))
    }
}

#[pymethods]
impl Model {
    /// Names of all TQ4 tensors, sorted, without ``.weight``.
    #[getter]
    fn names(&self) -> Vec<&str> {
        self.inner.bases().collect()
    }

    /// Bits of a code: 2, 3 or 4; None where tensors differ, see ``Tensor.bits``.
    #[getter]
    fn bits(&self) -> Option<u32> {
        self.inner.codec().map(|codec| codec.layout.bits())
    }

    /// Elements of a group: 32, 64, 128 or 256; None where tensors differ.
    #[getter]
    fn group_size(&self) -> Option<usize> {
        self.inner.codec().map(|codec| codec.layout.group_size())
    }

    /// The codebook, float32 ``[2**bits]``, ascending; None where tensors differ.
    #[getter]
    fn centroids<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<f32>>> {
        let codec = self.inner.codec();
        codec.map(|codec| PyArray1::from_slice(py, codec.codebook.centroids()))
    }

    /// The directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.inner.checkpoint().dir().to_owned()
    }

    fn __len__(&self) -> usize {
        self.inner.bases().count()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.names())?.try_iter()
    }

    fn __contains__(&self, name: &str) -> bool {
        self.inner.base(name).is_ok()
    }

    fn __getitem__(&self, name: &str) -> PyResult<Tensor> {
        let info = self.inner.info(self.base(name)?).map_err(raise)?;
        Ok(Tensor::new(Arc::clone(&self.inner), info))
    }

    fn __repr__(&self) -> String {
        format!(
            "<tq4.Model {:?}: {} tensors{}>",
            self.inner.checkpoint().dir(),
            self.__len__(),
            self.inner.codec().map_or_else(String::new, |codec| format!(
                ", {} bits, group size {}",
                codec.layout.bits(),
                codec.layout.group_size()
            ))
        )
    }
}
