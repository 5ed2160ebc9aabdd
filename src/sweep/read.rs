//! Reading strips of a tensor.

use super::plan::{Plan, Tensor};
use crate::error::{Error, Result};
use crate::metrics::BLOCK;
use crate::tensor::TqTensor;
use std::ops::Range;

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
pub(super) struct Strip<'a> {
    // Index of the tensor in the plan.
    pub index: usize,
    pub first: bool,
    pub last: bool,
    pub rows: Range<usize>,
    pub tensor: TqTensor<'a>,
    pub source: Option<Vec<f32>>,
}

/// Reads some rows and the source's.
pub(super) fn read<'a>(
    plan: &Plan<'a>,
    tensor: &Tensor,
    rows: Range<usize>,
) -> Result<(TqTensor<'a>, Option<Vec<f32>>)> {
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
    // Every page is touched here, so that the later stages do not wait for the disk.
    let touched = strip.packed().iter().step_by(4096).fold(0, |a, b| a ^ b);
    std::hint::black_box(touched);
    let source = plan
        .source
        .map(|source| source.rows_f32(&format!("{}.weight", tensor.base), tensor.shape, rows));
    Ok((strip, source.transpose()?))
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
