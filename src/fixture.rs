//! Small tensors that hold what kernels get wrong, so that one can be tested without a checkpoint.

use crate::codebook::Codebook;
use crate::error::Result;
use crate::synthetic::Rng;
use crate::tensor::{Layout, Parts, TqTensor};
use half::f16;
use std::sync::Arc;

/// A scale of each class: both zeros, the ends of the subnormals, the ends of the normal values, one.
const SCALES: [u16; 8] = [
    0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x7BFF, 0x2E66,
];

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

/// The tensors of one layout: `fixture.every_code`, `fixture.every_scale`, `fixture.odd_groups`,
/// `fixture.tail_rows`, `fixture.one_row` and `fixture.one_group`, the same on every machine.
///
/// # Errors
/// When the codebook has another number of centroids than the layout has levels.
pub fn tensors(layout: Layout, codebook: &Arc<Codebook>) -> Result<Vec<TqTensor>> {
    let mut rng = Rng::new(0xF1C5);
    SHAPES
        .iter()
        .map(|(name, rows, groups)| tensor(&mut rng, layout, codebook, name, *rows, *groups))
        .collect()
}

fn tensor(
    rng: &mut Rng,
    layout: Layout,
    codebook: &Arc<Codebook>,
    name: &str,
    rows: usize,
    groups: usize,
) -> Result<TqTensor> {
    let (levels, cols) = (layout.levels(), groups * layout.group_size());
    let rows = if rows == 0 { levels } else { rows };
    let code = |rng: &mut Rng, row: usize, col: usize| match name {
        "every_code" => (row + col) % levels,
        _ => rng.below(levels),
    };
    let bits = layout.stored_bits() as usize;
    let mut packed = vec![0u8; rows * layout.packed_len(cols)];
    for row in 0..rows {
        for col in 0..cols {
            let at = row * cols + col;
            packed[at * bits / 8] |= (code(rng, row, col) as u8) << (at * bits % 8);
        }
    }
    let scale = |rng: &mut Rng, row: usize| match name {
        "every_scale" => f16::from_bits(SCALES[row]),
        _ => f16::from_f32(0.05 + 0.95 * rng.uniform()),
    };
    let scales = (0..rows * groups).map(|i| scale(rng, i / groups)).collect();
    let parts = Parts {
        packed,
        scales,
        signs: rng.signs(cols),
    };
    let base = format!("fixture.{name}");
    TqTensor::new(base, layout, [rows, cols], parts, Arc::clone(codebook))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::GROUP_SIZES;
    use std::collections::BTreeSet;

    #[test]
    fn every_layout_has_every_code_at_every_position_and_every_scale() {
        for bits in 2..=4 {
            for n in GROUP_SIZES {
                let layout = Layout::new(bits, n).unwrap();
                let book = Arc::new(Codebook::encoder(bits, n));
                let all = tensors(layout, &book).unwrap();
                let codes = &all[0];
                for k in 0..n {
                    let at = (0..codes.rows()).map(|row| codes.code(row, k));
                    assert_eq!(at.collect::<BTreeSet<_>>().len(), layout.levels());
                }
                let scales: BTreeSet<u16> =
                    all[1].scales().f16().iter().map(|s| s.to_bits()).collect();
                assert_eq!(scales, SCALES.into());
                assert!(
                    all.iter()
                        .any(|t| t.groups_per_row() % 2 == 1 && t.rows() % 2 == 1)
                );
                assert_eq!(all.last().unwrap().groups(), 1);
            }
        }
    }
}
