//! Faults of the scales.

use super::{FaultEntry, always, many_groups, many_rows, one_if, row};
use crate::codec::{ScaleType, Scales, Unit, e3m5_to_f32};
use crate::tensor::TqTensor;
use half::{bf16, f16};

#[rustfmt::skip]
pub(super) static TABLE: &[FaultEntry] = &[
    row("scales_transposed", always, |p, _| p.scale_place = |row, at, [rows, _]| at * rows + row,
        "scales are row-major, [rows, groups]: look at their index"),
    row("scale_of_first_row", many_rows, |p, _| p.scale_place = |_, group, _| group,
        "every row has the scales of row 0: look at their index"),
    row("scale_of_first_group", many_groups, |p, _| p.scale_place = |row, _, [_, per_row]| row * per_row,
        "every group has the scale of the first group of its row: look at its index"),
    row("scale_index_halved", always,
        |p, _| p.scale_place = |row, group, [_, per_row]| (row * per_row + group) / 2,
        "two neighbouring groups have one scale: look at group_size in its index"),
    row("scales_swapped_in_pairs", many_groups,
        |p, _| p.scale_order ^= p.scales_per_group(),
        "each two neighbouring groups have each other's scale, group g that of g ^ 1: look at the order of scales in a word"),
    row("scale_of_next_group", always, |p, _| p.scale_shift += p.scales_per_group() as isize,
        "the scale of a neighbouring group is read: look at its index"),
    row("scale_of_previous_group", always, |p, _| p.scale_shift -= p.scales_per_group() as isize,
        "the scale of a neighbouring group is read: look at its index"),
    row("scale_of_next_row", always, |p, _| p.scale_shift += p.tensor.scales_per_row() as isize,
        "the scale of a neighbouring row is read: look at its index"),
    row("scale_of_previous_row", always, |p, _| p.scale_shift -= p.tensor.scales_per_row() as isize,
        "the scale of a neighbouring row is read: look at its index"),
    row("scale_omitted", always, |p, _| p.read_scale = |_, _| 1.0,
        "the values are not multiplied by the scale"),
    row("scale_norm_corrected", always, |p, _| p.norm_corrected = true,
        "the scale is divided by the norm of the decoded centroids: the format has no such correction"),
    row("f16_subnormals_flushed", of_f16, |p, _| p.read_scale = normal_or_zero,
        "f16 subnormal scales are read as zero: decode them by integers"),
    row("f16_read_as_bf16", of_f16, |p, _| p.read_scale = |s, i| bf16::from_bits(s.f16()[i].to_bits()).to_f32(),
        "scales are f16 and are read as BF16"),
    row("f16_big_endian", of_f16,
        |p, _| p.read_scale = |s, i| f16::from_bits(s.f16()[i].to_bits().swap_bytes()).to_f32(),
        "the two bytes of a scale are exchanged: scales are little-endian"),
    row("scales_order_xor_{}", of_parts, |p, mask| p.scale_order ^= mask & (p.scales_per_group() - 1),
        "the scales of a group change places: each is read at its index XOR {}"),
    row("first_scale_of_group_only", many_scales, |p, _| p.first_scale_only = true,
        "the whole group has its first scale: it has one for each part"),
    row("scales_in_turns", many_scales, |p, _| p.scales_in_turns = true,
        "neighbouring elements have the scales of a group in turns: each scale is of elements in succession"),
    row("scale_sign_ignored", of_deviations, |p, _| p.read_scale = |s, i| s.get(i).abs(),
        "the sign of a scale is not read: a scale is a fitted multiplier and may be negative"),
    row("norms_as_f16", of_f32, |p, _| p.read_scale = |s, i| f16::from_f32(s.get(i)).to_f32(),
        "the f32 scales are rounded to F16: keep them in f32"),
    row("norms_as_bf16", of_f32, |p, _| p.read_scale = |s, i| bf16::from_f32(s.get(i)).to_f32(),
        "the f32 scales are rounded to BF16: keep them in f32"),
    row("e3m5_zero_as_others", of_e3m5, |p, _| p.read_scale = |s, i| s.get(i).max(1.0 / 512.0),
        "the scale byte 0 is read as 2^-9: it is 0"),
    row("e3m5_read_as_e4m3_without_nan", of_e3m5,
        |p, _| p.read_scale = |s, i| if s.bytes()[i] & 0x7F == 0x7F { 480f32.copysign(f32::from(s.bytes()[i] as i8)) } else { e4m3(s.bytes()[i]) },
        "scales are E3M5 (three bits of exponent, bias 9, five of mantissa) and are read as E4M3"),
    row("e3m5_read_as_e4m3", of_e3m5, |p, _| p.read_scale = |s, i| e4m3(s.bytes()[i]),
        "scales are E3M5 (three bits of exponent, bias 9, five of mantissa) and are read as E4M3"),
    row("scales_of_f16_read_as_e3m5", four_bytes_f16,
        |p, _| (p.shared, p.read_scale) = (8, bytes_as_e3m5),
        "each block has two f16 scales, and they are read as four of E3M5: another type of block with as many bytes"),
    row("scales_of_e3m5_read_as_f16", four_bytes_e3m5,
        |p, _| (p.shared, p.read_scale) = (16, pair_as_f16),
        "each block has four scales of E3M5, and they are read as two of f16: another type of block with as many bytes"),
];

fn of_f16(t: &TqTensor) -> Vec<usize> {
    one_if(t.scales().stored() == ScaleType::F16)
}

fn of_f32(t: &TqTensor) -> Vec<usize> {
    one_if(t.scales().stored() == ScaleType::F32)
}

/// Of a type that has a sign.
fn of_deviations(t: &TqTensor) -> Vec<usize> {
    let scales = t.layout().scales();
    one_if(scales.unit == Unit::Deviation && scales.stored != ScaleType::E3m5)
}

fn of_e3m5(t: &TqTensor) -> Vec<usize> {
    one_if(t.scales().stored() == ScaleType::E3m5)
}

fn many_scales(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().scales_per_group() > 1)
}

/// Bits of a scale's number in its group, all of them last.
fn of_parts(t: &TqTensor) -> Vec<usize> {
    (1..t.layout().scales_per_group()).collect()
}

/// Blocks of 32 codes of 3 bits that may be of either type.
fn four_bytes(t: &TqTensor, stored: ScaleType) -> Vec<usize> {
    let layout = t.layout();
    let (scales, codes) = (layout.scales(), layout.stored_bits());
    let bytes = layout.scales_per_group() * stored.size();
    one_if(scales.stored == stored && codes == 3 && layout.group_size() == 32 && bytes == 4)
}

fn four_bytes_f16(t: &TqTensor) -> Vec<usize> {
    four_bytes(t, ScaleType::F16)
}

fn four_bytes_e3m5(t: &TqTensor) -> Vec<usize> {
    four_bytes(t, ScaleType::E3m5)
}

fn normal_or_zero(scales: &Scales, i: usize) -> f32 {
    let scale = scales.f16()[i];
    if scale.is_normal() {
        scale.to_f32()
    } else {
        0.0
    }
}

/// The 8-bit type with four bits of exponent, bias 7, and no infinity (OCP 8-bit floating point, E4M3).
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let value = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { value } else { -value }
}

fn bytes_as_e3m5(scales: &Scales, i: usize) -> f32 {
    e3m5_to_f32(scales.bytes()[i])
}

fn pair_as_f16(scales: &Scales, i: usize) -> f32 {
    let bytes = scales.bytes();
    f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32()
}
