//! What the scales of a tensor would be if it were of a type: the way to see that it is not.

use super::dialect::BLOCK_ELEMENTS;
use super::{BlockType, GgufFile};
use crate::codec::e3m5_to_f32;
use crate::error::Result;
use half::f16;
use std::fmt;

/// Most blocks that are read, spread over the tensor.
const BLOCKS: u64 = 256;

/// The range of some scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScaleRange {
    least: f32,
    largest: f32,
    /// Those that are neither infinite nor NaN.
    finite: usize,
    /// All that were read.
    count: usize,
}

/// `has scales from 0.01 to 0.02`, in the words of an error.
impl fmt::Display for ScaleRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, largest, .. } = self;
        if self.finite == 0 {
            return write!(f, "it has no finite scale");
        }
        write!(f, "it has scales from {least:.3e} to {largest:.3e}")?;
        match self.count - self.finite {
            0 => Ok(()),
            others => write!(f, ", and {others} of {} infinite or NaN", self.count),
        }
    }
}

/// Reads scales of some blocks as `kind` has them.
///
/// # Errors
/// When the file cannot be read.
///
/// # Panics
/// When a tensor of this type does not fit where this one lies.
pub(super) fn sample(file: &GgufFile, name: &str, kind: BlockType) -> Result<ScaleRange> {
    let blocks = file.known(name)?.elements() / BLOCK_ELEMENTS;
    let read = blocks.min(BLOCKS);
    let mut scales = ScaleRange {
        least: f32::INFINITY,
        largest: f32::NEG_INFINITY,
        finite: 0,
        count: 0,
    };
    for i in 0..read {
        // Blocks are few enough for the product: a tensor has less than 2^63 elements.
        let block = blocks / read * i;
        let mut bytes = [0; 4];
        file.read_at(name, block * kind.block_bytes(), &mut bytes)?;
        let [a, b, c, d] = bytes;
        match kind {
            BlockType::Tq4_1s | BlockType::Tq3_1s => {
                scales.add(f16::from_le_bytes([a, b]).to_f32());
                scales.add(f16::from_le_bytes([c, d]).to_f32());
            }
            BlockType::Tq3_4s => bytes
                .map(e3m5_to_f32)
                .into_iter()
                .for_each(|s| scales.add(s)),
        }
    }
    Ok(scales)
}

impl ScaleRange {
    fn add(&mut self, scale: f32) {
        self.count += 1;
        if scale.is_finite() {
            self.finite += 1;
            self.least = self.least.min(scale);
            self.largest = self.largest.max(scale);
        }
    }
}
