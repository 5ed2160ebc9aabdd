//! The encoder of every codec but the plain one, a group at a time.
//!
//! Forward: `x = w * signs after`, Walsh-Hadamard transform, division by `sqrt(n)`, `* signs before`, in f32. Sums
//! are f64, each in the order of the elements: the bytes are the same on every machine.
//!
//! [`Unit::Norm`]: codes of `x / |x|` by the codebook's boundaries; the scale is `|x| / |c|`, `c` being the
//! centroids of the codes, so that the decoded group has the norm of the source's. A group of zeros has the
//! scale 0.
//!
//! [`Unit::Deviation`]: for the elements that share a scale, codes and scale are fitted in turns, from the root of
//! the mean square on: the codes nearest to `x / s`, then `s = <x, c> / <c, c>`, the best for these codes. Of at
//! most [`ROUNDS`] rounds the one with the least error counts. Its scale is rounded to the stored type, and the
//! codes are taken again under the rounded one.

use super::{nearest_codes, transform};
use crate::codebook::Codebook;
use crate::codec::{Codec, ScaleType, Scales, Unit, e3m5_from_f32, e3m5_to_f32};
use crate::tensor::MOST_SCALE;
use half::f16;

/// Most rounds of fitting; the error hardly falls after the first few.
const ROUNDS: usize = 8;

/// Largest scale of E3M5, and half the distance from the one below it: more is not rounded to it.
const MOST_E3M5: f32 = 0.492_187_5;
const HALF_STEP_E3M5: f32 = 0.003_906_25;

/// Largest scale of a type that readers take.
pub(super) fn most(stored: ScaleType) -> f32 {
    match stored {
        ScaleType::F16 | ScaleType::F32 => MOST_SCALE,
        ScaleType::E3m5 => MOST_E3M5,
    }
}

/// A value rounded to the type of a scale; infinite where it is beyond it, NaN where it is NaN.
fn rounded(stored: ScaleType, value: f32) -> f32 {
    match stored {
        ScaleType::F16 => f16::from_f32(value).to_f32(),
        ScaleType::F32 if value > MOST_SCALE => f32::INFINITY,
        ScaleType::F32 => value,
        ScaleType::E3m5 if value < MOST_E3M5 + HALF_STEP_E3M5 => e3m5_to_f32(e3m5_from_f32(value)),
        ScaleType::E3m5 if value.is_nan() => value,
        ScaleType::E3m5 => f32::INFINITY,
    }
}

/// Finite scales as they are stored; each is one of the type already.
pub(super) fn stored(stored: ScaleType, scales: &[f32]) -> Scales {
    match stored {
        ScaleType::F16 => scales.iter().map(|s| f16::from_f32(*s)).collect(),
        ScaleType::F32 => Scales::F32(scales.to_vec()),
        ScaleType::E3m5 => Scales::E3m5(scales.iter().map(|s| e3m5_from_f32(*s)).collect()),
    }
}

/// Encodes whole groups: `weight` into `packed` and `scales`, of which those beyond their type are infinite. The
/// first group starts in column `first_col` of its row; `signs` holds the sign of each column of the whole row.
pub(super) fn encode(
    weight: &[f32],
    first_col: usize,
    codec: &Codec,
    signs: &[i8],
    packed: &mut [u8],
    scales: &mut [f32],
) {
    let Codec { layout, codebook } = codec;
    let n = layout.group_size();
    let grid = layout.scales();
    let mut x = vec![0.0; n];
    let mut codes = vec![0; n];
    let mut col = first_col;
    for ((packed, scales), weight) in packed
        .chunks_exact_mut(layout.packed_group())
        .zip(scales.chunks_exact_mut(layout.scales_per_group()))
        .zip(weight.chunks_exact(n))
    {
        transform(weight, &signs[col..], *layout, &mut x);
        col = (col + n) % signs.len();
        match grid.unit {
            Unit::Norm => {
                let scale = of_norm(codebook, &x, &mut codes);
                scales.fill(rounded(grid.stored, scale));
            }
            Unit::Deviation => {
                let parts = x
                    .chunks_exact(grid.elements)
                    .zip(codes.chunks_exact_mut(grid.elements));
                for (scale, (x, codes)) in scales.iter_mut().zip(parts) {
                    *scale = rounded(grid.stored, fitted(codebook, x, codes));
                    nearest_codes(codebook, x, *scale, codes);
                }
            }
        }
        packed.copy_from_slice(&layout.pack(&codes));
    }
}

/// Codes of a group by its norm; returns the norm over that of the coded unit vector.
fn of_norm(codebook: &Codebook, x: &[f32], codes: &mut [u8]) -> f32 {
    let norm = product(x, x).sqrt();
    nearest_codes(codebook, x, norm as f32, codes);
    let centroids = codes
        .iter()
        .map(|c| f64::from(codebook.centroids()[usize::from(*c)]));
    let of_codes = centroids.map(|c| c * c).sum::<f64>().sqrt();
    (norm / of_codes) as f32
}

/// The scale with the least error of those that the rounds come to; not rounded.
fn fitted(codebook: &Codebook, x: &[f32], codes: &mut [u8]) -> f32 {
    let mut scale = (product(x, x) / x.len() as f64).sqrt() as f32;
    let mut best = (f64::INFINITY, scale);
    for _ in 0..ROUNDS {
        nearest_codes(codebook, x, scale, codes);
        let (mut xc, mut cc) = (0.0, 0.0);
        for (x, c) in x.iter().zip(&*codes) {
            let c = f64::from(codebook.centroids()[usize::from(*c)]);
            xc += f64::from(*x) * c;
            cc += c * c;
        }
        // Not below 0, which not every type has, and not `max`, which would hide a NaN; no centroid is 0.
        let next = if xc < 0.0 { 0.0 } else { (xc / cc) as f32 };
        // The error is `<x, x> - 2 s <x, c> + s^2 <c, c>`, the first the same for all.
        let s = f64::from(next);
        let error = s * (s * cc - 2.0 * xc);
        if error >= best.0 {
            break;
        }
        best = (error, next);
        scale = next;
    }
    best.1
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{quantize, quantize_rows};
    use super::*;
    use crate::format::every_codec;
    use crate::reference::dequantize;
    use crate::synthetic::Rng;
    use proptest::prelude::*;

    /// Codecs that this encoder takes.
    fn codecs() -> Vec<(String, Codec)> {
        let mut all = every_codec();
        all.retain(|(_, codec)| !codec.layout.is_plain());
        all
    }

    fn ratio(decoded: &[f32], weight: &[f32]) -> f64 {
        let difference: Vec<f32> = decoded.iter().zip(weight).map(|(d, w)| d - w).collect();
        (product(&difference, &difference) / product(weight, weight)).sqrt()
    }

    #[test]
    fn errors_are_what_the_codebooks_predict() {
        let mut rng = Rng::new(5);
        for (name, codec) in codecs() {
            let cols = 512;
            let weight: Vec<f32> = (0..16 * cols).map(|_| 0.02 * rng.normal()).collect();
            let signs = rng.signs(cols);
            let Codec { layout, codebook } = &codec;
            let tensor = quantize("w", &weight, cols, *layout, &signs, codebook).unwrap();
            let found = ratio(&dequantize(&tensor), &weight);
            let n = layout.group_size();
            let expected = match layout.scales().unit {
                Unit::Norm => codebook.distortion(n).sqrt(),
                Unit::Deviation => codebook.normal_distortion().sqrt(),
            };
            // A scale that is fitted to 8 or 16 elements takes part of the error away.
            let least = match layout.scales().unit {
                Unit::Norm => 0.95,
                Unit::Deviation => 0.7,
            };
            let share = found / expected;
            assert!((least..1.05).contains(&share), "{name}: {found} {expected}");
        }
    }

    #[test]
    fn zeros_have_the_scale_0_and_large_values_a_place() {
        for (name, codec) in codecs() {
            let Codec { layout, codebook } = &codec;
            let n = layout.group_size();
            let signs = vec![1; 2 * n];
            let of =
                |weight: &[f32]| quantize_rows("w", 7, weight, 2 * n, *layout, &signs, codebook);
            let zeros = of(&vec![0.0; 2 * n]).unwrap();
            assert!(zeros.scales().iter().all(|s| s == 0.0), "{name}");
            let mut large = vec![0.0; 4 * n];
            large[3 * n + 1] = 1e9;
            let e = of(&large).unwrap_err().to_string();
            let (stored, most) = match layout.scales().stored {
                ScaleType::E3m5 => ("e3m5", "0.4921875"),
                ScaleType::F16 => ("f16", "65504"),
                ScaleType::F32 => ("f32", "65504"),
            };
            assert!(
                e.contains(&format!("at row 8, column {n} is beyond {stored}")),
                "{name}: {e}"
            );
            assert!(e.contains(most), "{name}: {e}");
            large[3 * n + 1] = f32::NAN;
            let e = of(&large).unwrap_err().to_string();
            assert!(
                e.contains(&format!("value NaN at row 8, column {}", n + 1)),
                "{name}: {e}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn whatever_the_values_the_error_is_bounded_and_the_bytes_are_the_same_again(
            which in any::<prop::sample::Index>(),
            rows in 1usize..4,
            groups in 4usize..8,
            exponent in -4i32..0,
            seed in any::<u64>(),
        ) {
            let all = codecs();
            let (name, codec) = &all[which.index(all.len())];
            let Codec { layout, codebook } = codec;
            let (cols, mut rng) = (groups * layout.group_size(), Rng::new(seed));
            let signs = rng.signs(cols);
            let weight: Vec<f32> = (0..rows * cols).map(|_| rng.normal() * 2f32.powi(exponent)).collect();
            // What E3M5 has no scale for is another test's.
            prop_assume!(layout.scales().stored != ScaleType::E3m5 || exponent < -2);
            let tensor = quantize("w", &weight, cols, *layout, &signs, codebook).unwrap();
            let found = ratio(&dequantize(&tensor), &weight);
            let most = [0.45, 0.26, 0.15][layout.bits() as usize - 2];
            prop_assert!(found < most, "{}: {}", name, found);
            // Any rows of it come out as in the whole.
            let last = quantize_rows("w", rows - 1, &weight[(rows - 1) * cols..], cols, *layout, &signs, codebook);
            let (last, slice) = (last.unwrap(), tensor.slice_rows(rows - 1..rows).unwrap());
            prop_assert_eq!(last.packed(), slice.packed());
            prop_assert_eq!(last.scales(), slice.scales());
        }
    }
}
