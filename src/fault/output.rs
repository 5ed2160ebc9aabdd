//! A lane's output as f32, which holds every value of every type, and what is in it that is no value.

use super::rounding::nearest;
use crate::lane::Output;
use crate::record::OutputType;
use crate::tensor::{POISON_BF16, POISON_F32};

/// What an element holds that the kernel has not written.
pub(super) const UNWRITTEN: f32 = f32::from_bits(POISON_F32);

/// Whether an element was not written.
pub(super) fn unwritten(v: f32) -> bool {
    v.to_bits() == POISON_F32
}

/// Whether an element is a NaN that was written.
pub(super) fn nan(v: f32) -> bool {
    v.is_nan() && !unwritten(v)
}

/// Whether an element is +0: a kernel that computes a zero gives -0 as well.
pub(super) fn plain_zero(v: f32) -> bool {
    v.to_bits() == 0
}

/// An output whose NaN are of two kinds: [`UNWRITTEN`] and `f32::NAN`.
#[derive(Clone, Copy)]
pub(super) struct Got<'a> {
    output: &'a Output,
    launched: bool,
    cols: usize,
    /// Columns of a row that count; those after them pad it to whole groups.
    width: usize,
}

impl<'a> Got<'a> {
    /// `launched`: the output was poisoned before the kernel ran, so that poison is what it left.
    pub(super) fn new(output: &'a Output, launched: bool, cols: usize, width: usize) -> Self {
        Self {
            output,
            launched,
            cols,
            width,
        }
    }

    /// Type of the values.
    pub(super) fn of(&self) -> OutputType {
        self.output.of()
    }

    /// Elements in all.
    pub(super) fn len(&self) -> usize {
        self.output.bytes().len() / self.of().size()
    }

    /// One element.
    pub(super) fn get(&self, at: usize) -> f32 {
        let (value, poison) = match self.output {
            Output::Bf16(v) => (v[at].to_f32(), v[at].to_bits() == POISON_BF16),
            Output::F16(v) => (v[at].to_f32(), v[at].to_bits() == POISON_BF16),
            Output::F32(v) => (v[at], v[at].to_bits() == POISON_F32),
        };
        match value {
            _ if poison && self.launched => UNWRITTEN,
            v if v.is_nan() => f32::NAN,
            v => v,
        }
    }

    /// Columns of a row that count.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The elements of one row.
    pub(super) fn row(&self, row: usize) -> Vec<f32> {
        let first = row * self.cols;
        (first..first + self.cols).map(|at| self.get(at)).collect()
    }

    /// The rounded reference, from the reference before rounding.
    pub(super) fn round(&self, reference: f32) -> f32 {
        nearest(self.of(), reference.into())
    }
}
