//! The catalogue: one table with every fault that can be named.

use super::pipeline::Pipeline;
use crate::tensor::POISON_BF16;
use crate::tensor::TqTensor;
use half::{bf16, f16};

/// A fault: all that is known of it. `{}` in a text stands for the fault's number, `{strides}` for the
/// strides in it; a number in a name stands at its end.
struct Row {
    name: &'static str,
    /// Numbers with which the fault is tried on such a tensor: none where it cannot differ from a correct
    /// kernel. A diagnosis fits others to the output. Without a number in the name it is 1.
    usual: fn(&TqTensor) -> Vec<usize>,
    /// Sets the knobs of the decoder.
    set: fn(&mut Pipeline<'_>, usize),
    /// What is wrong and where to look in a kernel.
    advice: &'static str,
}

const fn row(
    name: &'static str,
    usual: fn(&TqTensor) -> Vec<usize>,
    set: fn(&mut Pipeline<'_>, usize),
    advice: &'static str,
) -> Row {
    Row {
        name,
        usual,
        set,
        advice,
    }
}

const NAN: bf16 = bf16::from_bits(POISON_BF16);
/// Strides that a kernel of one thread an element does by shuffles; the others go through shared memory.
const SHUFFLE_STRIDES: usize = 31;
const UPPER_LANE: &str = "the upper lane of a butterfly gets upper - lower, it must be lower - upper: look at the branch on lane & stride";

/// Plainest first: of faults that are the same function on a tensor, the first is named.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    row("zeros", always, |p, _| p.zeros = true,
        "every element is zero: the kernel did not run, or its output was not copied"),
    row("fwht_upper_lane_sign", always, |p, _| p.sign_mask ^= p.n - 1, UPPER_LANE),
    row("fwht_upper_lane_sign_shuffle_part", beyond_shuffles,
        |p, _| p.sign_mask ^= (p.n - 1) & SHUFFLE_STRIDES, UPPER_LANE),
    row("fwht_upper_lane_sign_shared_memory_part", beyond_shuffles,
        |p, _| p.sign_mask ^= (p.n - 1) & !SHUFFLE_STRIDES, UPPER_LANE),
    row("fwht_upper_lane_sign_strides_{strides}", fitted, |p, mask| p.sign_mask ^= mask, UPPER_LANE),
    row("fwht_omitted", always, |p, _| p.dropped = usize::MAX,
        "the inverse transform does not happen"),
    row("norm_missing", always, |p, _| p.norm = |_| 1.0,
        "the result is not divided by sqrt(n)"),
    row("norm_by_n", always, |p, _| p.norm = |n| n,
        "the result is divided by n, it must be sqrt(n)"),
    row("group_halved", always, |p, _| p.size = p.n / 2,
        "the transform runs over half the model's group size: look at group_size"),
    row("group_doubled", pairs_of_groups, |p, _| p.size = 2 * p.n,
        "the transform runs over twice the model's group size: look at group_size"),
    // Two 4-bit codes or four 2-bit codes a byte: the halves change places.
    row("nibbles_swapped", always, |p, _| p.code_order ^= p.codes_per_byte() / 2,
        "the even element is the low nibble: look at the shift in the unpacking"),
    row("byte_high_code_first", two_bit_codes, |p, _| p.code_order ^= p.codes_per_byte() - 1,
        "four 2-bit codes share a byte, the first in the low bits: look at the shift in the unpacking"),
    row("code_bits_swapped", two_bit_codes, |p, _| p.code_bits_swapped = true,
        "the two bits of a code are exchanged: look at the mask in the unpacking"),
    row("split_halves_order", always, |p, _| p.split_halves = true,
        "neighbouring codes share a byte: it is not the first half of the group low and the second high"),
    row("signs_omitted", always, |p, _| p.signs_after = false,
        "the result is not multiplied by the signs"),
    row("signs_before_transform", always, |p, _| (p.signs_before, p.signs_after) = (true, false),
        "the signs belong after the inverse transform"),
    row("signs_of_next_group", always, |p, _| p.sign_shift += p.n as isize,
        "the signs of another group are read: look at the column offset"),
    row("signs_of_previous_group", always, |p, _| p.sign_shift -= p.n as isize,
        "the signs of another group are read: look at the column offset"),
    row("index_off_by_one_up", always, |p, _| p.code_shift += 1,
        "codes are read one element off: look at the index"),
    row("index_off_by_one_down", always, |p, _| p.code_shift -= 1,
        "codes are read one element off: look at the index"),
    row("codebook_reversed", always, |p, _| p.centroids.reverse(),
        "the codebook is in descending order"),
    row("codebook_gaussian", always, |p, _| p.centroids = gaussian(p.tensor.layout().bits(), p.n),
        "the codebook is the normal distribution's: take the model's own centroids"),
    row("codebook_unscaled", always, |p, _| unscale(&mut p.centroids, p.n),
        "the codebook is of unit variance: it must be divided by sqrt(n)"),
    row("codebook_linear", always, |p, _| space_evenly(&mut p.centroids),
        "the centroids are evenly spaced: take the model's own"),
    row("scales_transposed", always, |p, _| p.scales_transposed = true,
        "scales are row-major, [rows, groups]: look at their index"),
    row("scale_of_next_group", always, |p, _| p.scale_shift += 1,
        "the scale of a neighbouring group is read: look at its index"),
    row("scale_of_previous_group", always, |p, _| p.scale_shift -= 1,
        "the scale of a neighbouring group is read: look at its index"),
    row("scale_of_next_row", always, |p, _| p.scale_shift += p.tensor.groups_per_row() as isize,
        "the scale of a neighbouring row is read: look at its index"),
    row("scale_of_previous_row", always, |p, _| p.scale_shift -= p.tensor.groups_per_row() as isize,
        "the scale of a neighbouring row is read: look at its index"),
    row("scale_omitted", always, |p, _| p.read_scale = |_| 1.0,
        "the values are not multiplied by the scale"),
    row("scale_norm_corrected", always, |p, _| p.norm_corrected = true,
        "the scale is divided by the norm of the decoded centroids: the format has no such correction"),
    row("f16_subnormals_flushed", always, |p, _| p.read_scale = normal_or_zero,
        "f16 subnormal scales are read as zero: decode them by integers"),
    row("f16_read_as_bf16", always, |p, _| p.read_scale = |s| bf16::from_bits(s.to_bits()).to_f32(),
        "scales are f16 and are read as BF16"),
    row("bf16_truncation", always, |p, _| p.round = |v| upper_half(v.to_bits()),
        "BF16 by dropping bits: round to nearest, ties to even"),
    row("bf16_round_half_up", always, |p, _| p.round = |v| upper_half(v.to_bits().wrapping_add(0x8000)),
        "BF16 with ties away from zero: ties go to even"),
    row("output_transposed", always, |p, _| p.transposed = true, "the output is column-major"),
    // The last row and the first are neighbours.
    row("rows_shifted_by_{}", many_rows, |p, k| p.row_moves.push((0, k as isize)),
        "row r holds row r + {}: look at the row index"),
    row("rows_shifted_by_-{}", many_rows, |p, k| p.row_moves.push((0, -(k as isize))),
        "row r holds row r - {}: look at the row index"),
    // What an earlier call left in the buffer.
    row("stale_output_from_row_{}", middle_row, |p, k| p.row_moves.push((k, -(k as isize))),
        "from row {} on, row r holds row r - {}: a buffer is read before the kernel has written it"),
    row("tail_rows_unwritten_{}", many_rows, |p, k| p.unwritten.push((k * p.tensor.cols(), 0, NAN)),
        "the last rows hold NaN ({} of them): look at the grid and the bounds check"),
    row("tail_rows_zero_{}", many_rows, |p, k| p.unwritten.push((k * p.tensor.cols(), 0, bf16::ZERO)),
        "the last rows hold zeros ({} of them): look at the grid and the bounds check"),
    row("tail_groups_unwritten_{}", many_groups, |p, k| p.unwritten.push((k * p.n, 0, NAN)),
        "the last groups of the tensor hold NaN ({} of them): look at the grid and the bounds check"),
    row("row_tail_groups_unwritten_{}", many_groups, |p, k| p.unwritten.push((0, k * p.n, NAN)),
        "the last groups of each row hold NaN ({} of them): look at the grid and the bounds check"),
    row("tail_groups_zero_{}", many_groups, |p, k| p.unwritten.push((k * p.n, 0, bf16::ZERO)),
        "the last groups of the tensor hold zeros ({} of them): look at the grid and the bounds check"),
    row("row_tail_groups_zero_{}", many_groups, |p, k| p.unwritten.push((0, k * p.n, bf16::ZERO)),
        "the last groups of each row hold zeros ({} of them): look at the grid and the bounds check"),
    row("fwht_stage_dropped_stride_{strides}", strides, |p, stride| p.dropped |= stride,
        "the butterfly stage of stride {} does not happen: look at the loop's bounds and the barrier before it"),
];

fn one_if(applies: bool) -> Vec<usize> {
    if applies { vec![1] } else { Vec::new() }
}

fn always(_: &TqTensor) -> Vec<usize> {
    one_if(true)
}

fn fitted(_: &TqTensor) -> Vec<usize> {
    one_if(false)
}

fn beyond_shuffles(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().group_size() - 1 > SHUFFLE_STRIDES)
}

fn pairs_of_groups(t: &TqTensor) -> Vec<usize> {
    one_if(t.groups_per_row().is_multiple_of(2))
}

fn two_bit_codes(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().stored_bits() == 2)
}

fn many_rows(t: &TqTensor) -> Vec<usize> {
    one_if(t.rows() > 1)
}

fn many_groups(t: &TqTensor) -> Vec<usize> {
    one_if(t.groups_per_row() > 1)
}

fn middle_row(t: &TqTensor) -> Vec<usize> {
    many_rows(t).iter().map(|_| t.rows().div_ceil(2)).collect()
}

fn strides(t: &TqTensor) -> Vec<usize> {
    let stages = t.layout().group_size().trailing_zeros();
    (0..stages).map(|s| 1 << s).collect()
}

/// Lloyd-Max centroids of the normal distribution (Max, 1960, table I), divided by sqrt(n).
fn gaussian(bits: u32, n: usize) -> Vec<f32> {
    const HALF: [&[f32]; 3] = [
        &[0.4528, 1.510],
        &[0.2451, 0.7560, 1.344, 2.152],
        &[0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733],
    ];
    let half = HALF[bits as usize - 2];
    let all = half.iter().rev().map(|c| -c).chain(half.iter().copied());
    all.map(|c| c / (n as f32).sqrt()).collect()
}

fn unscale(centroids: &mut [f32], n: usize) {
    let root = (n as f32).sqrt();
    centroids.iter_mut().for_each(|c| *c *= root);
}

fn space_evenly(centroids: &mut [f32]) {
    let last = centroids.len() - 1;
    let (low, high) = (centroids[0], centroids[last]);
    for (i, c) in centroids.iter_mut().enumerate() {
        *c = low + (high - low) * i as f32 / last as f32;
    }
}

fn normal_or_zero(scale: f16) -> f32 {
    if scale.is_normal() {
        scale.to_f32()
    } else {
        0.0
    }
}

fn upper_half(bits: u32) -> bf16 {
    bf16::from_bits((bits >> 16) as u16)
}

/// A way in which a kernel is wrong: a row of the catalogue, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    row: usize,
    number: usize,
}

impl Fault {
    /// Every fault that can differ from a correct kernel on a tensor of this layout, plainest first.
    ///
    /// Faults with a number in them stand here with a usual one; a diagnosis fits others to the output.
    pub fn catalogue(tensor: &TqTensor) -> Vec<Self> {
        let rows = TABLE.iter().enumerate();
        rows.flat_map(|(row, r)| {
            (r.usual)(tensor)
                .into_iter()
                .map(move |number| Self { row, number })
        })
        .collect()
    }

    /// The names in the whole catalogue, with braces where a number stands.
    pub fn patterns() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|r| r.name)
    }

    /// The one of [`Fault::patterns`] that this is.
    pub fn pattern(self) -> &'static str {
        TABLE[self.row].name
    }

    /// The fault's name, in snake case.
    pub fn name(self) -> String {
        self.spell(self.pattern())
    }

    /// What is wrong and where to look in a kernel.
    pub fn advice(self) -> String {
        self.spell(TABLE[self.row].advice)
    }

    /// The fault with this name on tensors of this layout: the inverse of [`Fault::name`].
    pub fn named(name: &str, tensor: &TqTensor) -> Option<Self> {
        let numbered = TABLE.iter().enumerate().filter_map(|(row, r)| {
            let (before, _) = r.name.split_once('{')?;
            let parts = name.strip_prefix(before)?.split('_');
            let number = parts.map(str::parse::<usize>).sum::<Result<_, _>>().ok()?;
            Some(Self { row, number })
        });
        Self::catalogue(tensor)
            .into_iter()
            .chain(numbered)
            .find(|f| f.name() == name)
    }

    pub(super) fn set(self, pipeline: &mut Pipeline<'_>) {
        (TABLE[self.row].set)(pipeline, self.number);
    }

    fn spell(self, text: &str) -> String {
        let strides: Vec<String> = (0..usize::BITS)
            .filter(|s| self.number >> s & 1 == 1)
            .map(|s| (1usize << s).to_string())
            .collect();
        text.replace("{strides}", &strides.join("_"))
            .replace("{}", &self.number.to_string())
    }
}
