//! What a recording is of: two outputs may be compared when these agree.

use crate::counted::counted;
use crate::tensor::TqTensor;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Rows of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedRows {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// `[rows, cols]` of what is recorded.
    pub shape: [usize; 2],
    /// Checksum of codes, scales and signs of these rows; `None` where the file does not say.
    pub tensor_checksum: Option<String>,
}

impl RecordedRows {
    /// The recorded rows, as numbered in the whole tensor.
    pub fn rows(&self) -> Range<usize> {
        self.row_start..self.row_start + self.shape[0]
    }
}

/// The input of a recording. What a file does not say is `None` and agrees with everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Directory name of the model.
    pub model: String,
    /// The model's fingerprint, as reports have it.
    pub model_checksum: Option<String>,
    /// Bits per code.
    pub bits: Option<u32>,
    /// Elements per group.
    pub group_size: Option<usize>,
    /// The centroids.
    pub codebook: Option<Vec<f32>>,
    /// What is recorded, in name order.
    pub tensors: Vec<RecordedRows>,
}

impl Identity {
    /// The first thing in which the two differ, with both values; `None` when they are of the same
    /// input as far as both say.
    pub fn difference(&self, other: &Self) -> Option<String> {
        fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        fn show<T: std::fmt::Debug>(v: &Option<T>) -> String {
            v.as_ref()
                .map_or_else(|| "unknown".into(), |v| format!("{v:?}"))
        }
        if differ(&self.bits, &other.bits) {
            return Some(format!(
                "bits {} and {}",
                show(&self.bits),
                show(&other.bits)
            ));
        }
        if differ(&self.group_size, &other.group_size) {
            return Some(format!(
                "group_size {} and {}",
                show(&self.group_size),
                show(&other.group_size)
            ));
        }
        if differ(&self.codebook, &other.codebook) {
            return Some(format!(
                "codebook {} and {}",
                show(&self.codebook),
                show(&other.codebook)
            ));
        }
        for (a, b) in [(self, other), (other, self)] {
            if let Some(only) = a.tensors.iter().find(|t| b.entry(&t.tensor_base).is_none()) {
                return Some(format!(
                    "tensors: {} is in one of them only ({} and {})",
                    only.tensor_base,
                    self.tensors.len(),
                    counted(other.tensors.len(), "tensor")
                ));
            }
        }
        for a in &self.tensors {
            let b = other.entry(&a.tensor_base)?;
            let rows = |e: &RecordedRows| {
                let end = e.row_start + e.shape[0];
                format!("rows {}..{end} of {} columns", e.row_start, e.shape[1])
            };
            if rows(a) != rows(b) {
                return Some(format!("{}: {} and {}", a.tensor_base, rows(a), rows(b)));
            }
            if differ(&a.tensor_checksum, &b.tensor_checksum) {
                return Some(format!(
                    "checksum of tensor {}: {} and {} (codes, scales or signs are others)",
                    a.tensor_base,
                    show(&a.tensor_checksum),
                    show(&b.tensor_checksum)
                ));
            }
        }
        None
    }

    /// What is recorded of a tensor.
    pub fn entry(&self, base: &str) -> Option<&RecordedRows> {
        self.tensors.iter().find(|t| t.tensor_base == base)
    }

    /// How the layout or codebook of `tensor` differs from what was recorded.
    pub fn mismatch(&self, tensor: &TqTensor) -> Option<String> {
        let layout = tensor.layout();
        let (bits, group_size) = (layout.bits(), layout.group_size());
        let differs = self.bits.is_some_and(|b| b != bits)
            || self.group_size.is_some_and(|n| n != group_size);
        if differs {
            return Some(format!(
                "the recording is of {} bits in groups of {}, the model of {bits} in groups of {group_size}",
                self.bits.unwrap_or(bits),
                self.group_size.unwrap_or(group_size)
            ));
        }
        let here = Self {
            codebook: Some(tensor.codebook().centroids().to_vec()),
            ..Self::default()
        };
        let recorded = Self {
            tensors: Vec::new(),
            ..self.clone()
        };
        let what = recorded.difference(&here)?;
        Some(format!("the recording is not of this model: {what}"))
    }
}
