//! Strips: whole rows of one tensor, the unit that flows through the program.

use crate::error::{Error, Result};
use crate::tensor::TqTensor;
use std::ops::Range;

/// Whole rows of one tensor.
#[derive(Debug, Clone)]
pub struct Strip {
    /// The tensor, without `.weight`.
    pub base: String,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// Elements a row.
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
