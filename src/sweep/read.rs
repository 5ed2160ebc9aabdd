//! Reading strips of a tensor, and a sample of it.

use super::plan::{Plan, Tensor};
use crate::error::{Error, Result};
use crate::metrics::{Accumulator, BLOCK, Values};
use crate::reference;
use crate::tensor::TqTensor;
use half::bf16;
use std::ops::Range;

/// Elements of the sample that foretells a tensor's quantiles, and the pieces that it is taken in.
const SAMPLE: usize = 1 << 20;
const SAMPLE_PIECES: usize = 64;

/// Elements of a strip; a row that is longer is a strip by itself.
const STRIP: usize = 1 << 22;

/// Strips of whole rows that cover `rows`; of whole blocks of the sums where a strip holds enough rows,
/// which leaves no block to be summed in two goes.
pub(super) fn strips(rows: Range<usize>, cols: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (STRIP / cols).max(1);
    let align = BLOCK >> cols.trailing_zeros().min(BLOCK.trailing_zeros());
    let step = if most >= align {
        most - most % align
    } else {
        most
    };
    let end = rows.end;
    rows.step_by(step).map(move |at| at..(at + step).min(end))
}

/// Some rows of a tensor, read.
pub(super) struct Strip {
    // Index of the tensor in the plan.
    pub index: usize,
    pub first: bool,
    pub last: bool,
    pub rows: Range<usize>,
    pub tensor: TqTensor,
    pub source: Option<Vec<f32>>,
    pub sample: Option<Sample>,
}

/// A sample of a tensor that foretells where its quantiles lie.
pub(super) struct Sample {
    /// The reference against the source.
    pub source: Option<Accumulator>,
    /// The rounded reference against the reference.
    pub rounding: Accumulator,
}

/// Reads some rows and the source's.
pub(super) fn read(
    plan: &Plan<'_>,
    tensor: &Tensor,
    rows: Range<usize>,
) -> Result<(TqTensor, Option<Vec<f32>>)> {
    let model = plan.model;
    let strip = model.rows(&tensor.base, rows.clone()).map_err(|e| {
        let p = e.problem();
        let counted = if rows.start > 0 {
            format!("{} (rows counted from row {})", p.place, rows.start)
        } else {
            p.place.clone()
        };
        Error::input(&p.what, counted, &p.help)
    })?;
    let source = plan
        .source
        .map(|source| source.rows_f32(&format!("{}.weight", tensor.base), tensor.shape, rows));
    Ok((strip, source.transpose()?))
}

/// Some rows from all over a tensor; `None` when one of them is bad input, which reading the strip it is
/// in will say.
pub(super) fn sample(plan: &Plan<'_>, tensor: &Tensor) -> Option<Sample> {
    let (n, cols) = (tensor.rows.len(), tensor.shape[1]);
    let each = (SAMPLE / SAMPLE_PIECES / cols).clamp(1, n);
    let pieces = (SAMPLE / (each * cols)).clamp(2, SAMPLE_PIECES);
    let mut sample = Sample {
        source: plan.source.map(|_| Accumulator::new("", "")),
        rounding: Accumulator::new("", ""),
    };
    for piece in 0..pieces {
        let at = tensor.rows.start + piece * (n - each) / (pieces - 1);
        let (strip, source) = read(plan, tensor, at..at + each).ok()?;
        let values = reference::dequantize(&strip);
        let rounded: Vec<bf16> = values.iter().map(|v| bf16::from_f32(*v)).collect();
        let values = Values::F32(&values);
        sample.rounding.push(Values::Bf16(&rounded), values);
        if let (Some(acc), Some(source)) = (&mut sample.source, &source) {
            acc.push(values, Values::F32(source));
        }
    }
    Some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strips_cover_the_rows_in_bounded_pieces(
            start in 0usize..5000, count in 1usize..300_000, groups in 1usize..2000,
        ) {
            let (cols, rows) = (groups * 32, start..start + count);
            let mut next = rows.start;
            for strip in strips(rows.clone(), cols) {
                prop_assert_eq!(strip.start, next);
                prop_assert!(!strip.is_empty() && strip.len() * cols <= STRIP.max(cols));
                next = strip.end;
            }
            prop_assert_eq!(next, rows.end);
        }
    }
}
