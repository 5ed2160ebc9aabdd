//! Strips: whole rows of one tensor, the unit that flows through the program.

use crate::error::{Error, Result};
use crate::hash::short;
use crate::tensor::TqTensor;
use blake3::Hasher;
use std::ops::Range;

/// Whole rows of one tensor.
#[derive(Debug, Clone)]
pub struct Strip {
    /// The tensor, without `.weight`.
    pub base: String,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// Elements of a row of the weight; lanes decode whole groups, which may be more.
    pub cols: usize,
    /// Codes, scales and signs of these rows; `None` where recordings are compared without their model.
    pub tensor: Option<TqTensor>,
    /// The original weights of these rows, row-major.
    pub source: Option<Vec<f32>>,
}

impl Strip {
    /// A tensor in memory as one strip.
    pub fn of(tensor: TqTensor) -> Self {
        Self {
            base: tensor.base().to_owned(),
            rows: 0..tensor.rows(),
            cols: tensor.cols(),
            tensor: Some(tensor),
            source: None,
        }
    }

    /// Rows times columns.
    pub fn elements(&self) -> usize {
        self.rows.len() * self.cols
    }

    /// Elements of a row as lanes decode it: whole groups.
    pub fn stored_cols(&self) -> usize {
        self.tensor.as_ref().map_or(self.cols, TqTensor::cols)
    }

    /// Codes, scales and signs, which every lane but a recording needs.
    ///
    /// # Errors
    /// When there are none.
    pub fn tensor(&self) -> Result<&TqTensor> {
        self.tensor.as_ref().ok_or_else(|| {
            Error::input(
                "no codes to decode: the TQ4 model was not given",
                &self.base,
                "name the TQ4 model",
            )
        })
    }
}

/// Copies the columns that rows of both widths have.
pub(crate) fn copy_rows<T: Copy>(from: &[T], from_cols: usize, to: &mut [T], to_cols: usize) {
    let both = from_cols.min(to_cols);
    let rows = from
        .chunks_exact(from_cols)
        .zip(to.chunks_exact_mut(to_cols));
    rows.for_each(|(from, to)| to[..both].copy_from_slice(&from[..both]));
}

/// Checksum of a tensor's stored parts, fed strip by strip: 32 hex digits of BLAKE3.
#[derive(Debug, Clone, Default)]
pub struct TensorSum {
    packed: Hasher,
    scales: Hasher,
    rows: usize,
}

impl TensorSum {
    /// Takes the next rows.
    pub fn add(&mut self, rows: &TqTensor) {
        self.packed.update(rows.packed());
        self.scales.update(rows.scales().bytes());
        self.rows += rows.rows();
    }

    /// The checksum over layout, codes, scales and signs of all rows so far; `last` is any strip of them.
    pub fn finish(&self, last: &TqTensor) -> String {
        let layout = last.layout();
        let mut all = Hasher::new();
        let mut shape = format!(
            "{} {} {} {} ",
            layout.bits(),
            layout.group_size(),
            self.rows,
            last.cols()
        );
        if !layout.is_plain() {
            shape += &format!("{layout:?} ");
        }
        all.update(shape.as_bytes());
        all.update(self.packed.finalize().as_bytes());
        all.update(self.scales.finalize().as_bytes());
        all.update(bytemuck::cast_slice::<i8, u8>(last.signs()));
        short(&all)
    }
}
