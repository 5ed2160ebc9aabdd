//! The encoder: from a plain weight to TQ4 codes, scales and signs.
//!
//! Steps and rounding follow the published Python encoder, so that files come out byte for byte as
//! its do: f32 throughout, the transform ends with a division by f32 `sqrt(n)`, and the norm is the
//! square root of NumPy's sum of squares.

use crate::codebook::Codebook;
use crate::error::{Error, Result};
use crate::fwht;
use crate::tensor::{Layout, Parts, TqTensor};
use half::f16;
use rayon::prelude::*;
use std::sync::Arc;

/// Smallest group norm the encoder divides by.
const MIN_NORM: f32 = 1e-10;

/// Quantises `weight`, `[rows, cols]` row-major, with one sign (+1 or -1) per column.
///
/// # Errors
/// When the shape does not fit, a value is not finite, or a group's norm is beyond f16.
pub fn quantize(
    base: &str,
    weight: &[f32],
    cols: usize,
    layout: Layout,
    signs: &[i8],
    codebook: &Arc<Codebook>,
) -> Result<TqTensor<'static>> {
    let n = layout.group_size();
    if cols == 0 || !cols.is_multiple_of(n) || !weight.len().is_multiple_of(cols) {
        return Err(Error::input(
            format!(
                "{} values in rows of {cols} cannot be cut into groups of {n}",
                weight.len()
            ),
            base,
            "quantise only weights whose input dimension is a multiple of the group size",
        ));
    }
    if let Some(i) = weight.iter().position(|v| !v.is_finite()) {
        return Err(Error::input(
            format!(
                "value {} at row {}, column {}",
                weight[i],
                i / cols,
                i % cols
            ),
            base,
            "a weight with NaN or infinity cannot be quantised",
        ));
    }
    let mut packed = vec![0u8; layout.packed_len(weight.len())];
    let mut scales = vec![f16::ZERO; weight.len() / n];
    packed
        .par_chunks_mut(layout.packed_group())
        .zip(scales.par_iter_mut())
        .zip(weight.par_chunks(n))
        .enumerate()
        .for_each_init(
            || vec![0.0; n],
            |x, (group, ((packed, scale), weight))| {
                let start = group * n % cols;
                for ((x, w), s) in x.iter_mut().zip(weight).zip(&signs[start..]) {
                    *x = w * f32::from(*s);
                }
                fwht::forward(x);
                let norm = sum_of_squares(x).sqrt().max(MIN_NORM);
                *scale = f16::from_f32(norm);
                for (byte, x) in packed
                    .iter_mut()
                    .zip(x.chunks_exact(8 / layout.stored_bits() as usize))
                {
                    *byte = x.iter().rev().fold(0, |byte, v| {
                        byte << layout.stored_bits() | codebook.encode(v / norm)
                    });
                }
            },
        );
    TqTensor::new(
        base,
        layout,
        [weight.len() / cols, cols],
        Parts {
            packed: packed.into(),
            scales: scales.into(),
            signs: signs.to_vec().into(),
        },
        Arc::clone(codebook),
    )
}

/// NumPy's pairwise sum of squares: blocks of up to 128 values in eight running sums over stride 8,
/// larger arrays halved.
fn sum_of_squares(x: &[f32]) -> f32 {
    if x.len() > 128 {
        let (low, high) = x.split_at(x.len() / 2);
        return sum_of_squares(low) + sum_of_squares(high);
    }
    let mut r = [0.0f32; 8];
    for eight in x.chunks_exact(8) {
        for (r, v) in r.iter_mut().zip(eight) {
            *r += v * v;
        }
    }
    ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
}
