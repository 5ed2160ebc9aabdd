//! What a recording is of: two outputs may be compared when these agree.

use crate::checkpoint::{TqModel, hex};
use crate::tensor::{Layout, TqTensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Hex digits of a checksum that are kept.
const DIGITS: usize = 32;

/// Rows of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// `[rows, cols]` of what is recorded.
    pub shape: [usize; 2],
    /// Checksum of codes, scales and signs of these rows; `None` where the file does not say.
    pub tensor_checksum: Option<String>,
}

/// The input of a recording. What a file does not say is `None` and agrees with everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Directory name of the model.
    pub model: String,
    /// Checksum of names, types and shapes of all tensors and of the configuration.
    pub model_checksum: Option<String>,
    /// Bits per code.
    pub bits: Option<u32>,
    /// Elements per group.
    pub group_size: Option<usize>,
    /// The centroids.
    pub codebook: Option<Vec<f32>>,
    /// What is recorded, in name order.
    pub tensors: Vec<Entry>,
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
                    "tensors: {} is in one of them only ({} and {} tensors)",
                    only.tensor_base,
                    self.tensors.len(),
                    other.tensors.len()
                ));
            }
        }
        for a in &self.tensors {
            let b = other.entry(&a.tensor_base)?;
            let rows = |e: &Entry| {
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
    pub fn entry(&self, base: &str) -> Option<&Entry> {
        self.tensors.iter().find(|t| t.tensor_base == base)
    }
}

/// Checksum of a tensor's stored parts, fed strip by strip.
pub struct TensorSum {
    packed: Sha256,
    scales: Sha256,
    rows: usize,
}

impl TensorSum {
    /// Of no rows yet.
    pub fn new() -> Self {
        Self {
            packed: Sha256::new(),
            scales: Sha256::new(),
            rows: 0,
        }
    }

    /// Takes the next rows.
    pub fn add(&mut self, rows: &TqTensor) {
        self.packed.update(rows.packed());
        for s in rows.scales() {
            self.scales.update(s.to_le_bytes());
        }
        self.rows += rows.rows();
    }

    /// The checksum, 32 hex digits.
    pub fn finish(self, layout: Layout, signs: &[i8]) -> String {
        let mut all = Sha256::new();
        all.update(format!(
            "{} {} {} {} ",
            layout.bits(),
            layout.group_size(),
            self.rows,
            signs.len()
        ));
        all.update(self.packed.finalize());
        all.update(self.scales.finalize());
        all.update(bytemuck::cast_slice::<i8, u8>(signs));
        let mut sum = hex(&all.finalize());
        sum.truncate(DIGITS);
        sum
    }
}

/// Checksum of the rows in `tensor`.
pub fn tensor_checksum(tensor: &TqTensor) -> String {
    let mut sum = TensorSum::new();
    sum.add(tensor);
    sum.finish(tensor.layout(), tensor.signs())
}

/// Checksum of names, types and shapes of all tensors of a model and of its configuration. It does not
/// depend on how the tensors are spread over shards, and reads headers only.
pub fn model_checksum(model: &TqModel) -> String {
    let mut hash = Sha256::new();
    hash.update(model.config().to_json());
    let checkpoint = model.checkpoint();
    for name in checkpoint.names() {
        let info = checkpoint.shard_of(name).and_then(|s| s.info(name));
        if let Some(info) = info {
            hash.update(format!("{name:?} {:?} {:?}\n", info.dtype, info.shape));
        }
    }
    let mut sum = hex(&hash.finalize());
    sum.truncate(DIGITS);
    sum
}
