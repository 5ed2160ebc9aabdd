//! Small tensors that hold what kernels get wrong, so that one can be tested without a checkpoint.

use crate::codec::{Codec, ScaleType, Scales, Unit};
use crate::error::Result;
use crate::synthetic::Rng;
use crate::tensor::{Parts, TqTensor};
use half::f16;
use std::sync::Arc;

/// A scale of each class: both zeros, the ends of the subnormals, the ends of the normal values, one.
const SCALES: [u16; 8] = [
    0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x7BFF, 0x2E66,
];

/// The same of f32, which has no class of its own below what BF16 holds, and none above what readers take.
const SINGLE: [f32; 8] = [0.0, 1e-30, 6e-8, 6.1e-5, 0.1, 1.0, 1.000_000_1, 65504.0];

/// The same of E3M5: 0, the ends of every second exponent.
const E3M5: [u8; 8] = [0, 1, 31, 32, 96, 159, 224, 255];

/// Name, rows and groups a row.
const SHAPES: [(&str, usize, usize); 6] = [
    // As many rows as levels, so that each code stands at each position of a group.
    ("every_code", 0, 3),
    ("every_scale", SCALES.len(), 3),
    ("odd_groups", 7, 5),
    // No multiple of any tile of rows, and more than one of 64.
    ("tail_rows", 67, 2),
    ("one_row", 1, 9),
    ("one_group", 1, 1),
];

/// The tensors of one codec: `fixture.every_code`, `fixture.every_scale`, `fixture.odd_groups`,
/// `fixture.tail_rows`, `fixture.one_row` and `fixture.one_group`, the same on every machine. Signs after the
/// transform are `signs` of so many columns, drawn where that is `None`.
///
/// # Errors
/// When the codebook has another number of centroids than the layout has levels.
pub fn tensors(codec: &Codec, signs: Option<&dyn Fn(usize) -> Vec<i8>>) -> Result<Vec<TqTensor>> {
    let mut rng = Rng::new(0xF1C5);
    SHAPES
        .iter()
        .map(|(name, rows, groups)| tensor(&mut rng, codec, signs, name, *rows, *groups))
        .collect()
}

fn tensor(
    rng: &mut Rng,
    codec: &Codec,
    signs: Option<&dyn Fn(usize) -> Vec<i8>>,
    name: &str,
    rows: usize,
    groups: usize,
) -> Result<TqTensor> {
    let Codec { layout, codebook } = codec;
    let (levels, cols) = (layout.levels(), groups * layout.group_size());
    let rows = if rows == 0 { levels } else { rows };
    let mut codes = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        for col in 0..cols {
            let code = match name {
                "every_code" => (row + col) % levels,
                _ => rng.below(levels),
            };
            codes.push(code as u8);
        }
    }
    let per_row = groups * layout.scales_per_group();
    let count = 0..rows * per_row;
    // One class a row, and of a group with several another for each; every tensor but this one has usual scales.
    let within = |i: usize| i % layout.scales_per_group();
    let class =
        |i: usize| (name == "every_scale").then_some((i / per_row + within(i)) % SCALES.len());
    // A deviation may be negative.
    let sign = |i: usize| match layout.scales().unit {
        Unit::Deviation if i % 5 == 1 => -1.0,
        _ => 1.0,
    };
    let usual = |rng: &mut Rng| 0.05 + 0.95 * rng.uniform();
    let scales = match layout.scales().stored {
        ScaleType::F16 => count
            .map(|i| match class(i) {
                Some(class) => f16::from_bits(SCALES[class]),
                None => f16::from_f32(sign(i) * usual(rng)),
            })
            .collect(),
        ScaleType::F32 => Scales::F32(
            count
                .map(|i| class(i).map_or_else(|| usual(rng), |class| SINGLE[class]))
                .collect(),
        ),
        ScaleType::E3m5 => Scales::E3m5(
            count
                .map(|i| class(i).map_or_else(|| 0x40 + rng.below(0xC0) as u8, |c| E3M5[c]))
                .collect(),
        ),
    };
    let parts = Parts {
        packed: layout.pack(&codes),
        scales,
        signs: match signs {
            Some(signs) => signs(cols),
            None => rng.signs(cols),
        },
    };
    let base = format!("fixture.{name}");
    TqTensor::new(base, *layout, [rows, cols], parts, Arc::clone(codebook))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::every_codec;
    use std::collections::BTreeSet;

    #[test]
    fn every_codec_has_every_code_at_every_position_and_every_scale() {
        for (codec_name, codec) in every_codec() {
            let layout = codec.layout;
            let all = tensors(&codec, None).unwrap();
            let codes = &all[0];
            for k in 0..layout.group_size() {
                let at = (0..codes.rows()).map(|row| codes.code(row, k));
                assert_eq!(at.collect::<BTreeSet<_>>().len(), layout.levels());
            }
            let scales: BTreeSet<u32> = all[1].scales().iter().map(f32::to_bits).collect();
            assert_eq!(scales.len(), SCALES.len(), "{codec_name}");
            assert!(
                all.iter()
                    .any(|t| t.groups_per_row() % 2 == 1 && t.rows() % 2 == 1)
            );
            assert_eq!(all.last().unwrap().groups(), 1);
        }
    }
}
