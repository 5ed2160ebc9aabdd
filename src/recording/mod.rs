//! Recordings: a lane's output saved to a file, to be compared later or on another machine.
//!
//! Two forms are read: the JSON that the published dump tool writes, and this project's own, a
//! safetensors file whose metadata say what was computed, from what, by whom and with what.

mod compare;
mod file;
mod header;
mod identity;
mod record;

pub use compare::{Comparison, compare_pair};
pub use file::RecordingFile;
pub use identity::{Entry, Identity, model_checksum, tensor_checksum};
pub use record::{Selected, check_model, record, write};

use crate::backend::Device;
use crate::error::{Error, Result};
use crate::metrics::Values;
use crate::tensor::TqTensor;
use half::bf16;
use serde::Deserialize;
use std::path::Path;

/// What a recording holds.
#[derive(Debug, Clone, PartialEq)]
enum Data {
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
}

/// A lane's output for some rows of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Name under which it is compared; a lane's name makes it a stand-in for that lane.
    pub name: String,
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// `[rows, cols]` of the recorded values.
    pub shape: [usize; 2],
    /// Who computed it, as far as the file says.
    pub device: Device,
    data: Data,
}

/// The form of the published dump tool.
#[derive(Deserialize)]
struct Dump {
    tensor_base: String,
    #[serde(default)]
    row_start: usize,
    shape: Vec<usize>,
    bits: Option<u32>,
    group_size: Option<usize>,
    // Python writes a NaN as `NaN`, which is not JSON; other writers write null.
    values: Vec<Option<f32>>,
}

impl Recording {
    /// Reads a recording of one tensor in either form and calls it `name`.
    ///
    /// # Errors
    /// When the file is neither form, its shape does not fit its values or it holds several tensors.
    pub fn read(name: &str, path: &Path) -> Result<Self> {
        let file = RecordingFile::open(path)?;
        let tensors = &file.identity().tensors;
        match tensors.as_slice() {
            [one] => file.recording(name, &one.tensor_base),
            _ => Err(Error::input(
                format!(
                    "the recording holds {} tensors, expected one",
                    tensors.len()
                ),
                path.display().to_string(),
                "tq4 compare takes it",
            )),
        }
    }

    fn check(&self, path: &Path) -> Result<()> {
        let expected = self.shape[0].checked_mul(self.shape[1]);
        let end = self.row_start.checked_add(self.shape[0]);
        if expected != Some(self.values().len()) || expected == Some(0) || end.is_none() {
            return Err(Error::input(
                format!(
                    "{} values found for shape {:?}",
                    self.values().len(),
                    self.shape
                ),
                path.display().to_string(),
                "the recording is damaged; record it again",
            ));
        }
        Ok(())
    }

    fn from_dump(name: &str, dump: Dump) -> Result<Self> {
        let [rows, cols] = dump.shape[..] else {
            return Err(Error::input(
                format!("shape {:?} found, expected [rows, cols]", dump.shape),
                "",
                "",
            ));
        };
        let values: Vec<f32> = dump
            .values
            .into_iter()
            .map(|v| v.unwrap_or(f32::NAN))
            .collect();
        // BF16 written as decimals comes back exactly; anything else stays f32.
        let is_bf16 = values.iter().all(|v| v.to_bits() & 0xFFFF == 0);
        Ok(Self {
            name: name.to_owned(),
            tensor_base: dump.tensor_base,
            row_start: dump.row_start,
            shape: [rows, cols],
            device: Device {
                lane: name.to_owned(),
                device: "recorded".into(),
                driver: String::new(),
                api: String::new(),
                software: false,
                kernel_variant: String::new(),
                kernel_checksum: String::new(),
            },
            data: if is_bf16 {
                Data::Bf16(values.into_iter().map(bf16::from_f32).collect())
            } else {
                Data::F32(values)
            },
        })
    }

    /// The recorded values.
    pub fn values(&self) -> Values<'_> {
        match &self.data {
            Data::Bf16(v) => Values::Bf16(v),
            Data::F32(v) => Values::F32(v),
        }
    }

    /// The recorded values, rounded to BF16.
    fn rounded(&self) -> Vec<bf16> {
        let values = self.values();
        (0..values.len()).map(|i| values.bf16(i)).collect()
    }

    /// Why this recording cannot be compared with `tensor` from `row_start`, or `None` when it can.
    pub fn mismatch(&self, tensor: &TqTensor<'_>, row_start: usize) -> Option<String> {
        if self.tensor_base != tensor.base() {
            return Some(format!("the recording is of tensor {}", self.tensor_base));
        }
        let asked = [tensor.rows(), tensor.cols()];
        if self.row_start != row_start || self.shape != asked {
            return Some(format!(
                "the recording holds rows {}..{} of {} columns, asked for are rows {row_start}..{} of {}",
                self.row_start,
                self.row_start + self.shape[0],
                self.shape[1],
                row_start + asked[0],
                asked[1]
            ));
        }
        None
    }
}
