//! Faults of the inverse transform.

use super::{FaultEntry, always, fitted, one_if, row, strides};
use crate::fault::pipeline::Pipeline;
use crate::tensor::TqTensor;
use half::{bf16, f16};

/// Strides that a kernel of one thread an element does by shuffles; the others go through shared memory.
const SHUFFLE_STRIDES: usize = 31;
const UPPER_LANE: &str = "the upper lane of a butterfly gets upper - lower, it must be lower - upper: look at the branch on \
    lane & stride, and at the order of codes in the unpacking";

#[rustfmt::skip]
pub(super) static TABLE: &[FaultEntry] = &[
    row("fwht_upper_lane_sign", always, |p, _| p.sign_mask ^= p.n - 1, UPPER_LANE),
    row("fwht_upper_lane_sign_shuffle_part", beyond_shuffles,
        |p, _| p.sign_mask ^= (p.n - 1) & SHUFFLE_STRIDES, UPPER_LANE),
    row("fwht_upper_lane_sign_shared_memory_part", beyond_shuffles,
        |p, _| p.sign_mask ^= (p.n - 1) & !SHUFFLE_STRIDES, UPPER_LANE),
    row("fwht_upper_lane_sign_strides_{strides}", fitted, |p, mask| p.sign_mask ^= mask, UPPER_LANE),
    row("fwht_omitted", always, |p, _| p.dropped = usize::MAX,
        "the inverse transform does not happen"),
    row("fwht_and_norm_omitted", always, |p, _| (p.dropped, p.norm) = (usize::MAX, |_| 1.0),
        "neither the inverse transform nor its division by sqrt(n) happens"),
    row("fwht_twice", always, |p, _| p.passes = 2,
        "the inverse transform happens twice, its division by sqrt(n) too: it undoes itself"),
    row("norm_missing", always, |p, _| p.norm = |_| 1.0,
        "the result is not divided by sqrt(n)"),
    row("norm_by_n", always, |p, _| p.norm = |n| n,
        "the result is divided by n, it must be sqrt(n)"),
    row("group_halved", always, |p, _| p.size = p.n / 2,
        "the transform runs over half the model's group size: look at group_size"),
    row("group_doubled", pairs_of_groups, |p, _| p.size = 2 * p.n,
        "the transform runs over twice the model's group size: look at group_size"),
    row("fwht_over_whole_row", rows_of_a_power, |p, _| p.size = p.tensor.cols(),
        "the transform runs over the whole row, it must go group by group: look at group_size"),
    row("fwht_inputs_f16", always, |p, _| p.inputs = Some(to_f16),
        "what goes into the transform is rounded to F16: keep it in f32"),
    row("fwht_inputs_bf16", always, |p, _| p.inputs = Some(to_bf16),
        "what goes into the transform is rounded to BF16: keep it in f32"),
    row("fwht_inputs_tf32", always, |p, _| p.inputs = Some(to_tf32),
        "what goes into the transform is rounded to TF32, as by a matrix unit: keep it in f32"),
    row("fwht_inputs_tf32_truncated", always, |p, _| p.inputs = Some(cut_to_tf32),
        "what goes into the transform loses its last 13 bits, as in a matrix unit: keep it in f32"),
    row("fwht_in_f16", always, |p, _| inside(p, to_f16),
        "the transform is done in F16: do it in f32"),
    row("fwht_in_bf16", always, |p, _| inside(p, to_bf16),
        "the transform is done in BF16: do it in f32"),
    row("fwht_in_tf32", always, |p, _| inside(p, to_tf32),
        "the transform is done in TF32: do it in f32"),
    row("fwht_stage_dropped_stride_{strides}", strides, |p, stride| p.dropped |= stride,
        "the butterfly stage of stride {} does not happen: look at the loop's bounds and the barrier before it"),
    row("fwht_stage_repeated_stride_{strides}", strides, |p, stride| p.repeated |= stride,
        "the butterfly stage of stride {} happens twice: look at the loop's bounds and at what is unrolled"),
];

fn beyond_shuffles(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().group_size() - 1 > SHUFFLE_STRIDES)
}

/// Longest row that is transformed as a whole.
const MOST_TRANSFORMED: usize = 8192;

fn rows_of_a_power(t: &TqTensor) -> Vec<usize> {
    let (cols, n) = (t.cols(), t.layout().group_size());
    one_if(cols.is_power_of_two() && (2 * n + 1..=MOST_TRANSFORMED).contains(&cols))
}

fn pairs_of_groups(t: &TqTensor) -> Vec<usize> {
    one_if(t.groups_per_row().is_multiple_of(2))
}

fn inside(p: &mut Pipeline<'_>, round: fn(f32) -> f32) {
    p.inputs = Some(round);
    p.sums = Some(round);
}

fn to_f16(v: f32) -> f32 {
    f16::from_f32(v).to_f32()
}

fn to_bf16(v: f32) -> f32 {
    bf16::from_f32(v).to_f32()
}

/// Ten bits of mantissa, nearest, ties away from zero, as the hardware converts.
fn to_tf32(v: f32) -> f32 {
    f32::from_bits(v.to_bits().wrapping_add(0x1000) & !0x1FFF)
}

/// Ten bits of mantissa, the others dropped, as a matrix unit reads an f32.
fn cut_to_tf32(v: f32) -> f32 {
    f32::from_bits(v.to_bits() & !0x1FFF)
}
