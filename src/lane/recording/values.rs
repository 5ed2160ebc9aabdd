//! Values somewhere in a file, row-major and little-endian, read by position.

use crate::checkpoint::{Dtype, failed, read_exact_at};
use crate::error::Result;
use crate::lane::Output;
use crate::record::OutputType;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Where values are, and of which type.
#[derive(Debug, Clone)]
pub(super) struct StoredValues {
    pub(super) file: Arc<File>,
    /// Byte of the file at which they start.
    pub(super) start: u64,
    /// How they are stored.
    pub(super) stored: OutputType,
    /// The type that they are of: decimals are stored as f32, whatever they were written from.
    pub(super) of: OutputType,
    /// How many there are.
    pub(super) elements: usize,
}

impl StoredValues {
    /// Some of the values; `path` is what errors call the file.
    pub(super) fn read(&self, path: &Path, elements: Range<usize>) -> Result<Output> {
        assert!(elements.end <= self.elements, "the values are in the file");
        let mut out = Output::zeroed(self.stored, elements.len());
        let at = self.start + (elements.start * self.stored.size()) as u64;
        read_exact_at(&self.file, out.bytes_mut(), at).map_err(|e| failed(path, e))?;
        Ok(match out {
            Output::F32(values) => Output::rounding(values, self.of),
            same => same,
        })
    }
}

/// The type of values that safetensors calls `dtype`; `told` is the user's word for 16 bits without a type.
pub(super) fn type_of(dtype: Dtype, told: Option<OutputType>) -> Option<OutputType> {
    let of = match dtype {
        Dtype::BF16 => OutputType::Bf16,
        Dtype::F16 => OutputType::F16,
        Dtype::F32 => OutputType::F32,
        Dtype::U16 | Dtype::I16 => return told.filter(|of| of.size() == 2),
        _ => return None,
    };
    told.is_none_or(|told| told == of).then_some(of)
}
