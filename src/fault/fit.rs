//! Faults with a number in them, fitted to the output.

use super::survey::{Survey, correct};
use super::{Fault, Fill};
use crate::tensor::TqTensor;
use half::bf16;

/// Every fitted fault that the output suggests; emulation confirms or refutes it.
pub(super) fn fit(tensor: &TqTensor, got: &[bf16], survey: &Survey, rows: &[usize]) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(sign_mask(tensor, got, rows));
    faults.extend(moved_rows(survey));
    for fill in [Fill::Nan, Fill::Zero] {
        faults.extend(tail(tensor, got, fill));
    }
    faults
}

/// The stages whose upper lane has the other sign: flipping stage s flips every element with bit s set
/// in its index and nothing else, so the elements at 1, 2, 4, ... tell each stage by itself.
fn sign_mask(tensor: &TqTensor, got: &[bf16], rows: &[usize]) -> Option<Fault> {
    let (cols, n) = (tensor.cols(), tensor.layout().group_size());
    let mut votes = vec![0i64; n.trailing_zeros() as usize];
    for row in rows {
        let expected = correct(tensor, *row, 1);
        let got = &got[row * cols..(row + 1) * cols];
        for (g, e) in got.chunks_exact(n).zip(expected.chunks_exact(n)) {
            for (s, votes) in votes.iter_mut().enumerate() {
                let (g, e) = (g[1 << s].to_f32(), e[1 << s].to_f32());
                if g != 0.0 && e != 0.0 {
                    *votes += if (g < 0.0) == (e < 0.0) { -1 } else { 1 };
                }
            }
        }
    }
    let mask = votes
        .iter()
        .enumerate()
        .filter(|(_, v)| **v > 0)
        .fold(0, |m, (s, _)| m | 1u32 << s);
    (mask != 0).then_some(Fault::UpperLaneSign(mask))
}

/// Rows that hold other rows: all of them by one distance, or the later ones from the top again.
fn moved_rows(survey: &Survey) -> Vec<Fault> {
    let rows = survey.row_signs.len();
    let mut distances = std::collections::BTreeMap::new();
    let mut stale = None;
    for (row, from) in survey.row_map().enumerate() {
        let Some(from) = from else { continue };
        *distances
            .entry((from + rows - row) % rows)
            .or_insert(0usize) += 1;
        if from == 0 && stale.is_none() {
            stale = Some(Fault::Stale(row));
        }
    }
    let shifted = distances
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .filter(|(_, count)| *count > rows / 2)
        .map(|(distance, _)| {
            // The shorter way round.
            Fault::RowsShifted(if 2 * distance > rows {
                distance as isize - rows as isize
            } else {
                distance as isize
            })
        });
    stale.into_iter().chain(shifted).collect()
}

/// How much at the end, of the tensor and of each row, holds nothing but NaN or nothing but zeros.
fn tail(tensor: &TqTensor, got: &[bf16], fill: Fill) -> Vec<Fault> {
    let (rows, cols, n) = (tensor.rows(), tensor.cols(), tensor.layout().group_size());
    let empty = |v: &bf16| match fill {
        Fill::Nan => v.is_nan(),
        Fill::Zero => *v == bf16::ZERO,
    };
    let trailing = |values: &[bf16]| values.iter().rev().take_while(|v| empty(v)).count();
    let at_end = trailing(got);
    let mut faults = Vec::new();
    let groups = at_end / n;
    if groups > 0 && at_end < got.len() {
        faults.push(if groups.is_multiple_of(cols / n) {
            Fault::TailRows(groups * n / cols, fill)
        } else {
            Fault::TailGroups(groups, fill)
        });
    }
    let in_each_row = (0..rows)
        .map(|r| trailing(&got[r * cols..(r + 1) * cols]))
        .min()
        .unwrap_or(0);
    if in_each_row >= n && in_each_row < cols {
        faults.push(Fault::RowTailGroups(in_each_row / n, fill));
    }
    faults
}
