//! Faults of the scales.

use super::{Row, always, many_groups, many_rows, row};
use half::{bf16, f16};

#[rustfmt::skip]
pub(super) static TABLE: &[Row] = &[
    row("scales_transposed", always, |p, _| p.scale_place = |row, group, [rows, _]| group * rows + row,
        "scales are row-major, [rows, groups]: look at their index"),
    row("scale_of_first_row", many_rows, |p, _| p.scale_place = |_, group, _| group,
        "every row has the scales of row 0: look at their index"),
    row("scale_of_first_group", many_groups, |p, _| p.scale_place = |row, _, [_, per_row]| row * per_row,
        "every group has the scale of the first group of its row: look at its index"),
    row("scale_index_halved", always,
        |p, _| p.scale_place = |row, group, [_, per_row]| (row * per_row + group) / 2,
        "two neighbouring groups have one scale: look at group_size in its index"),
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
    row("f16_big_endian", always, |p, _| p.read_scale = |s| f16::from_bits(s.to_bits().swap_bytes()).to_f32(),
        "the two bytes of a scale are exchanged: scales are little-endian"),
];

fn normal_or_zero(scale: f16) -> f32 {
    if scale.is_normal() {
        scale.to_f32()
    } else {
        0.0
    }
}
