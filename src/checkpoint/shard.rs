//! One safetensors file, read by position.

use super::{Dtype, opened::OpenedFile};
use crate::error::{Error, Result};
use bytemuck::Pod;
use safetensors::tensor::Metadata as Header;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Longest header that is read, in bytes: the safetensors library's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// What a header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it starts in the data.
    start: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct Shard {
    opened: OpenedFile,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: HashMap<String, String>,
}

impl TensorInfo {
    /// A tensor that starts so far in the data.
    pub(crate) fn new(dtype: Dtype, shape: Vec<usize>, start: u64, bytes: u64) -> Self {
        Self {
            dtype,
            shape,
            start,
            bytes,
        }
    }

    /// The tensor as a matrix: all dimensions but the last are rows.
    pub(crate) fn matrix(&self) -> [usize; 2] {
        match self.shape.split_last() {
            None => [1, 1],
            Some((cols, rows)) => [rows.iter().product(), *cols],
        }
    }
}

impl Shard {
    /// A file of another container, whose header was checked against its length.
    pub(crate) fn of_container(
        opened: OpenedFile,
        data_start: u64,
        tensors: BTreeMap<String, TensorInfo>,
    ) -> Self {
        Self {
            opened,
            data_start,
            tensors,
            metadata: HashMap::new(),
        }
    }

    /// Opens `path` and checks its header: sizes, offsets, overlaps and dtypes.
    ///
    /// # Errors
    /// When it is not a regular file, is empty or truncated, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read_header(OpenedFile::open(path, "name a safetensors file")?)
    }

    /// An open file; `path` is what errors call it.
    ///
    /// # Errors
    /// As those of [`Shard::open`].
    pub(crate) fn of(path: &Path, file: File) -> Result<Self> {
        Self::read_header(OpenedFile::of(path, file)?)
    }

    fn read_header(opened: OpenedFile) -> Result<Self> {
        let len = opened.len();
        let damaged = |e: &str| {
            Error::input(
                format!("not a whole safetensors file of {len} bytes: {e}"),
                opened.path().display().to_string(),
                "copy the file again; it is truncated, damaged or of another format",
            )
        };
        if len < 8 {
            return Err(damaged("header too small"));
        }
        let mut size = [0; 8];
        opened.read_exact_at(&mut size, 0)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(damaged("header too large"));
        }
        let data_start = 8 + size;
        if data_start > len {
            return Err(damaged("invalid header length"));
        }
        let mut text = vec![0; size as usize];
        opened.read_exact_at(&mut text, 8)?;
        // An error without a place in the text is about what the header says.
        let header: Header = serde_json::from_slice(&text).map_err(|e| match e.line() {
            0 => damaged(&e.to_string()),
            _ => damaged(&format!("invalid JSON in header: {e}")),
        })?;
        if header.data_len() as u64 != len - data_start {
            return Err(damaged("incomplete metadata, file not fully covered"));
        }
        let tensors = header.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let info = TensorInfo {
                dtype: Dtype::of(info.dtype),
                shape: info.shape.clone(),
                start: start as u64,
                bytes: (end - start) as u64,
            };
            (name, info)
        });
        Ok(Self {
            data_start,
            tensors: tensors.collect(),
            metadata: header.metadata().clone().unwrap_or_default(),
            opened,
        })
    }

    /// Checks that the file is still the one that was opened, as far as its length and time tell. One
    /// that was deleted or replaced is: it stays open.
    ///
    /// # Errors
    /// When it was written to.
    pub fn unchanged(&self) -> Result<()> {
        self.opened.unchanged()
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        self.opened.path()
    }

    /// Names of the tensors in it, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Dtype, shape and length of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// A whole tensor's bytes, little-endian.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub fn data(&self, name: &str) -> Result<Vec<u8>> {
        self.read(name, 0..self.known(name)?.bytes as usize)
    }

    /// The file, and where in it a tensor's bytes start.
    pub(crate) fn place(&self, name: &str) -> Option<(Arc<File>, u64)> {
        let info = self.info(name)?;
        Some((Arc::clone(self.opened.file()), self.data_start + info.start))
    }

    pub(super) fn known(&self, name: &str) -> Result<&TensorInfo> {
        self.info(name).ok_or_else(|| {
            Error::input(
                format!("no tensor {name:?}"),
                self.path().display().to_string(),
                "",
            )
        })
    }

    /// Some of a tensor's elements, each a `T`. Memory is little-endian on every machine that a lane
    /// runs on, as the file is.
    pub(crate) fn read<T: Pod>(&self, name: &str, elements: Range<usize>) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); elements.len()];
        let offset = elements.start * size_of::<T>();
        self.read_into(name, offset, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// Fills `out` with a tensor's bytes from byte `offset` on.
    ///
    /// # Panics
    /// When they reach outside the tensor.
    pub(crate) fn read_into(&self, name: &str, offset: usize, out: &mut [u8]) -> Result<()> {
        let info = self.known(name)?;
        assert!(
            (offset + out.len()) as u64 <= info.bytes,
            "the bytes lie in the tensor"
        );
        let at = self.data_start + info.start + offset as u64;
        self.opened.read_exact_at(out, at)
    }

    /// The file's free-form metadata.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }
}
