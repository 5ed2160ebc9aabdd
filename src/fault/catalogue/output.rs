//! Faults of what is written: everything one constant, rounding, rows, ends.

use super::{FaultEntry, always, many_groups, many_rows, row};
use crate::fault::output::UNWRITTEN;
use crate::fault::pipeline::{ConstantTail, Of, Pipeline};
use crate::fault::rounding::Rounding;
use crate::tensor::TqTensor;

#[rustfmt::skip]
pub(super) static FILLED: &[FaultEntry] = &[
    row("everything_unwritten", always, |p, _| p.filling = Some(UNWRITTEN),
        "no element was written: the kernel did not run, or wrote elsewhere"),
    row("everything_nan", always, |p, _| p.filling = Some(f32::NAN),
        "every element is NaN, and not what the output was filled with: look for a NaN in what every element depends on"),
    row("zeros", always, |p, _| p.filling = Some(0.0),
        "every element is +0, which a kernel that computes zeros does not give: it did not run, or its output was not copied"),
    row("scales_zero", always, |p, _| p.read_scale = |_, _| 0.0,
        "every element is zero and some are -0: the kernel ran, and read its scales or its centroids as zero"),
];

#[rustfmt::skip]
pub(super) static TABLE: &[FaultEntry] = &[
    row("bf16_truncation", always, |p, _| p.rounding = Rounding::Truncate,
        "BF16 by dropping bits: round to nearest, ties to even"),
    row("bf16_round_half_up", always, |p, _| p.rounding = Rounding::HalfAway,
        "BF16 with ties away from zero: ties go to even"),
    row("pair_upper_truncated", always, |p, _| p.rounding = Rounding::TruncateOdd,
        "of two BF16 values in a word, the upper is rounded by dropping bits: look at how pairs are packed"),
    row("output_via_f16", always, |p, _| p.rounding = Rounding::ViaF16,
        "the output is rounded to F16 first: round once, from f32"),
    row("output_via_bf16", always, |p, _| p.rounding = Rounding::ViaBf16,
        "the output is rounded to BF16 first: keep it in f32 until it is written"),
    row("output_f16_bits", always, |p, _| p.rounding = Rounding::F16Bits,
        "the output is F16 and is read as BF16"),
    row("output_bf16_bits", always, |p, _| p.rounding = Rounding::Bf16Bits,
        "the output is BF16 and is read as F16"),
    row("output_pairs_swapped", always, |p, _| p.output_order ^= 1,
        "each two neighbouring elements change places: look at how pairs are packed"),
    row("output_transposed", always, |p, _| p.transposed = true, "the output is column-major"),
    // The last row and the first are neighbours.
    row("rows_shifted_by_{}", many_rows, |p, k| p.row_moves.push((0, k as isize)),
        "row r holds row r + {}: look at the row index"),
    row("rows_shifted_by_-{}", many_rows, |p, k| p.row_moves.push((0, -(k as isize))),
        "row r holds row r - {}: look at the row index"),
    row("row_index_modulo_{}", middle_row, |p, k| p.row_modulo = k.max(1),
        "row r holds row r modulo {}: look at how the row index is computed"),
    row("stale_output_from_row_{}", middle_row, |p, k| p.row_moves.push((k, -(k as isize))),
        "from row {} on, row r holds row r - {}: a buffer of that many rows may be read again before it is written"),
    row("tail_rows_unwritten_{}", many_rows, |p, k| tail(p, Of::Tensor, k * p.tensor.cols(), UNWRITTEN),
        "the last rows hold what they held before the kernel ran ({} of them): look at the grid and the bounds check"),
    row("tail_groups_unwritten_{}", many_groups, |p, k| tail(p, Of::Tensor, k * p.n, UNWRITTEN),
        "the last groups of the tensor hold what they held before the kernel ran ({} of them): look at the grid and the bounds check"),
    row("tail_elements_unwritten_{}", quarter, |p, k| tail(p, Of::Tensor, k, UNWRITTEN),
        "the last elements of the tensor hold what they held before the kernel ran ({} of them): look at the grid and the bounds check"),
    row("row_tail_groups_unwritten_{}", many_groups, |p, k| tail(p, Of::Row, k * p.n, UNWRITTEN),
        "the last groups of each row hold what they held before the kernel ran ({} of them): look at the grid and the bounds check"),
    row("row_tail_elements_unwritten_{}", quarter, |p, k| tail(p, Of::Row, k, UNWRITTEN),
        "the last elements of each row hold what they held before the kernel ran ({} of them): look at the grid and the bounds check"),
    row("group_tail_elements_unwritten_{}", quarter, |p, k| tail(p, Of::Group, k, UNWRITTEN),
        "the last elements of each group hold what they held before the kernel ran ({} of them): look at the grid and the bounds check"),
    row("tail_rows_nan_{}", many_rows, |p, k| tail(p, Of::Tensor, k * p.tensor.cols(), f32::NAN),
        "the last rows hold NaN ({} of them): look for scales or signs read behind their end, and at memory that nothing has written"),
    row("tail_groups_nan_{}", many_groups, |p, k| tail(p, Of::Tensor, k * p.n, f32::NAN),
        "the last groups of the tensor hold NaN ({} of them): look for scales or signs read behind their end, and at memory that nothing has written"),
    row("tail_elements_nan_{}", quarter, |p, k| tail(p, Of::Tensor, k, f32::NAN),
        "the last elements of the tensor hold NaN ({} of them): look for scales or signs read behind their end, and at memory that nothing has written"),
    row("row_tail_groups_nan_{}", many_groups, |p, k| tail(p, Of::Row, k * p.n, f32::NAN),
        "the last groups of each row hold NaN ({} of them): look for scales or signs read behind their end, and at memory that nothing has written"),
    row("row_tail_elements_nan_{}", quarter, |p, k| tail(p, Of::Row, k, f32::NAN),
        "the last elements of each row hold NaN ({} of them): look for scales or signs read behind their end, and at memory that nothing has written"),
    row("group_tail_elements_nan_{}", quarter, |p, k| tail(p, Of::Group, k, f32::NAN),
        "the last elements of each group hold NaN ({} of them): look for scales or signs read behind their end, and at memory that nothing has written"),
    row("tail_rows_zero_{}", many_rows, |p, k| tail(p, Of::Tensor, k * p.tensor.cols(), 0.0),
        "the last rows hold zeros ({} of them): look at the grid and the bounds check"),
    row("tail_groups_zero_{}", many_groups, |p, k| tail(p, Of::Tensor, k * p.n, 0.0),
        "the last groups of the tensor hold zeros ({} of them): look at the grid and the bounds check"),
    row("tail_elements_zero_{}", quarter, |p, k| tail(p, Of::Tensor, k, 0.0),
        "the last elements of the tensor hold zeros ({} of them): look at the grid and the bounds check"),
    row("row_tail_groups_zero_{}", many_groups, |p, k| tail(p, Of::Row, k * p.n, 0.0),
        "the last groups of each row hold zeros ({} of them): look at the grid and the bounds check"),
    row("row_tail_elements_zero_{}", quarter, |p, k| tail(p, Of::Row, k, 0.0),
        "the last elements of each row hold zeros ({} of them): look at the grid and the bounds check"),
    row("group_tail_elements_zero_{}", quarter, |p, k| tail(p, Of::Group, k, 0.0),
        "the last elements of each group hold zeros ({} of them): look at the grid and the bounds check"),
];

fn tail(p: &mut Pipeline<'_>, of: Of, elements: usize, value: f32) {
    p.tails.push(ConstantTail {
        of,
        elements,
        value,
    });
}

fn middle_row(t: &TqTensor) -> Vec<usize> {
    many_rows(t).iter().map(|_| t.rows().div_ceil(2)).collect()
}

/// A quarter of a group.
fn quarter(t: &TqTensor) -> Vec<usize> {
    vec![t.layout().group_size() / 4]
}
