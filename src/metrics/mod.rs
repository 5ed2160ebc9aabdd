//! Metrics of one lane against another.
//!
//! Differences and relative errors are f32, as NumPy has them in the published report; sums are f64.
//! The result does not depend on the number of threads: sums are taken over fixed blocks and added in
//! order, and the quantiles are exact or come from counts. [`Quantiles`] says which.

mod counts;
mod quantile;
mod ranks;
mod stream;
mod sums;

use crate::name::LaneName;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub use quantile::Quantiles;
pub use stream::Accumulator;
pub use sums::BlockSums;

/// Elements per block of the parallel sums. Part of the result: another size adds in another order.
pub(crate) const SUM_BLOCK: usize = 1 << 16;

/// A lane's values, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// BF16, as kernel lanes return them.
    Bf16(&'a [bf16]),
    /// F16.
    F16(&'a [f16]),
    /// f32, as the reference and the source have them.
    F32(&'a [f32]),
}

impl<'a> Values<'a> {
    /// Some elements.
    ///
    /// # Panics
    /// When the range reaches outside.
    pub fn slice(&self, range: Range<usize>) -> Values<'a> {
        match self {
            Self::Bf16(v) => Self::Bf16(&v[range]),
            Self::F16(v) => Self::F16(&v[range]),
            Self::F32(v) => Self::F32(&v[range]),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bf16(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as f32.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::Bf16(v) => v[i].to_f32(),
            Self::F16(v) => v[i].to_f32(),
            Self::F32(v) => v[i],
        }
    }

    /// Element `i` rounded to BF16.
    pub fn bf16(&self, i: usize) -> bf16 {
        match self {
            Self::Bf16(v) => v[i],
            Self::F16(v) => bf16::from_f32(v[i].to_f32()),
            Self::F32(v) => bf16::from_f32(v[i]),
        }
    }
}

/// The comparison of `lhs` with `rhs`; keys and definitions are those of the published report, then
/// this project's own. Figures that a NaN spoils are NaN, which JSON writes as null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The compared lane.
    #[serde(with = "crate::name::published")]
    pub lhs: LaneName,
    /// The lane it is held to.
    #[serde(with = "crate::name::published")]
    pub rhs: LaneName,
    /// Elements compared.
    pub elements: u64,
    /// Largest `|lhs - rhs|`.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_abs: f64,
    /// Mean `|lhs - rhs|`.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean_abs: f64,
    /// Root mean square of `lhs - rhs`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rmse: f64,
    /// Root mean square of `rhs`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rhs_rms: f64,
    /// `rmse / max(rhs_rms, 1e-12)`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rmse_over_rhs_rms: f64,
    /// Largest `rel = |lhs - rhs| / max(|rhs|, 1e-6)`.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_rel: f64,
    /// Mean of `rel`.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean_rel: f64,
    /// Quantile 0.5 of `rel`, linear interpolation at `q * (n - 1)`; the others likewise.
    #[serde(deserialize_with = "null_is_nan")]
    pub rel_p50: f64,
    /// Quantile 0.9 of `rel`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rel_p90: f64,
    /// Quantile 0.95 of `rel`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rel_p95: f64,
    /// Quantile 0.99 of `rel`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rel_p99: f64,
    /// Quantile 0.999 of `rel`.
    #[serde(deserialize_with = "null_is_nan")]
    pub rel_p999: f64,
    /// Mean of the elements with `rel >= rel_p99`.
    #[serde(deserialize_with = "null_is_nan")]
    pub top1pct_rel_mean: f64,
    /// Largest of the elements with `rel >= rel_p99`.
    #[serde(deserialize_with = "null_is_nan")]
    pub top1pct_rel_max: f64,
    /// Elements that are equal, both sides rounded to BF16, or to F16 where one side is F16 and the other
    /// is not BF16; +0 equals -0.
    pub bit_equal: u64,
    /// Largest distance in steps of that type; a NaN on one side is 65535.
    pub max_ulp: u32,
    /// Mean of `lhs - rhs`, over `max(rhs_rms, 1e-12)`.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean_signed: f64,
    /// Cosine of the angle between the two.
    #[serde(deserialize_with = "null_is_nan")]
    pub cosine: f64,
    /// Elements that are NaN in `lhs` and not in `rhs`.
    pub nan: u64,
    /// How the quantiles and `top1pct_rel_mean` were found.
    pub quantiles: Quantiles,
}

/// Reads a figure that JSON has as null, because it is not finite, as NaN.
pub(crate) fn null_is_nan<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + From<f32>,
{
    Ok(Option::deserialize(from)?.unwrap_or_else(|| T::from(f32::NAN)))
}

/// Distance in BF16 steps: 0 for equal values (+0 and -0 are equal), 65535 where one side is NaN.
pub fn bf16_steps(a: bf16, b: bf16) -> u32 {
    distance([a.to_bits(), b.to_bits()], [a.is_nan(), b.is_nan()])
}

/// Distance in F16 steps, likewise.
fn f16_steps(a: f16, b: f16) -> u32 {
    distance([a.to_bits(), b.to_bits()], [a.is_nan(), b.is_nan()])
}

/// Distance of two values of 16 bits whose magnitudes are ordered as their bits are.
fn distance(bits: [u16; 2], nan: [bool; 2]) -> u32 {
    // Without branches, which keep loops from being vectors.
    let [a, b] = bits.map(|b| {
        let (magnitude, sign) = (i32::from(b & 0x7FFF), -i32::from(b >> 15));
        (magnitude ^ sign) - sign
    });
    let far = 65535 * u32::from(nan[0] ^ nan[1]);
    if nan[0] | nan[1] { far } else { a.abs_diff(b) }
}

/// Distance in steps of the type that kernels return: F16 where one side is F16 and none is BF16, else
/// BF16.
fn steps<L: FloatElement, R: FloatElement>(l: L, r: R) -> u32 {
    if (L::F16 && !R::BF16) || (R::F16 && !L::BF16) {
        f16_steps(f16::from_f32(l.single()), f16::from_f32(r.single()))
    } else {
        bf16_steps(l.rounded(), r.rounded())
    }
}

/// `|lhs - rhs| / max(|rhs|, 1e-6)`, in f32.
pub fn rel(lhs: f32, rhs: f32) -> f32 {
    (lhs - rhs).abs() / rhs.abs().max(1e-6)
}

/// An element of either form.
trait FloatElement: Copy + Sync {
    const F16: bool = false;
    const BF16: bool = false;
    fn single(self) -> f32;
    fn rounded(self) -> bf16;
}

impl FloatElement for f32 {
    fn single(self) -> f32 {
        self
    }
    fn rounded(self) -> bf16 {
        bf16::from_bits(crate::rounding::bf16_bits(self))
    }
}

impl FloatElement for f16 {
    const F16: bool = true;
    fn single(self) -> f32 {
        self.to_f32()
    }
    fn rounded(self) -> bf16 {
        bf16::from_f32(self.to_f32())
    }
}

impl FloatElement for bf16 {
    const BF16: bool = true;
    fn single(self) -> f32 {
        crate::rounding::bf16_single(self.to_bits())
    }
    fn rounded(self) -> bf16 {
        self
    }
}

/// Calls a function of two slices with the slices that two [`Values`] hold, whatever their forms.
macro_rules! typed {
    ($lhs:expr, $rhs:expr, |$l:ident, $r:ident| $body:expr) => {
        match ($lhs, $rhs) {
            (Values::Bf16($l), Values::Bf16($r)) => $body,
            (Values::Bf16($l), Values::F16($r)) => $body,
            (Values::Bf16($l), Values::F32($r)) => $body,
            (Values::F16($l), Values::Bf16($r)) => $body,
            (Values::F16($l), Values::F16($r)) => $body,
            (Values::F16($l), Values::F32($r)) => $body,
            (Values::F32($l), Values::Bf16($r)) => $body,
            (Values::F32($l), Values::F16($r)) => $body,
            (Values::F32($l), Values::F32($r)) => $body,
        }
    };
}
use typed;

/// Compares `lhs` with `rhs`.
///
/// # Panics
/// When the two differ in length or hold no element.
pub fn compare(
    lhs_name: LaneName,
    lhs: Values<'_>,
    rhs_name: LaneName,
    rhs: Values<'_>,
) -> Metrics {
    let mut all = Accumulator::new(lhs_name, rhs_name);
    all.push(lhs, rhs);
    all.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: LaneName = LaneName::Cuda;
    const B: LaneName = LaneName::Reference;

    fn naive_quantile(sorted: &[f32], q: f64) -> f64 {
        let at = q * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        f64::from(low) + (f64::from(high) - f64::from(low)) * at.fract()
    }

    proptest! {
        #[test]
        fn quantiles_and_means_are_those_of_the_sorted_values(
            pairs in prop::collection::vec((-2f32..2.0, -1e-3f32..1e-3), 1..500),
            scale in prop::sample::select(vec![0.0f32, 1e-6, 1.0, 1e4]),
        ) {
            let rhs: Vec<f32> = pairs.iter().map(|p| p.0).collect();
            let lhs: Vec<f32> = pairs.iter().map(|p| p.0 + p.1 * scale).collect();
            let m = compare(A, Values::F32(&lhs), B, Values::F32(&rhs));
            let mut r: Vec<f32> = lhs.iter().zip(&rhs).map(|(l, r)| rel(*l, *r)).collect();
            r.sort_by(f32::total_cmp);
            for (q, got) in [(0.5, m.rel_p50), (0.9, m.rel_p90), (0.99, m.rel_p99), (0.999, m.rel_p999)] {
                prop_assert_eq!(got, naive_quantile(&r, q));
            }
            let top: Vec<f64> = r.iter().map(|v| f64::from(*v)).filter(|v| *v >= m.rel_p99).collect();
            let mean = top.iter().sum::<f64>() / top.len() as f64;
            prop_assert!((m.top1pct_rel_mean - mean).abs() <= 1e-12 * mean);
            let mean = r.iter().map(|v| f64::from(*v)).sum::<f64>() / r.len() as f64;
            prop_assert!((m.mean_rel - mean).abs() <= 1e-9 * mean);
            prop_assert_eq!(m.max_rel, f64::from(r[r.len() - 1]));
        }
    }

    /// Values with every kind of relative error: rounding, scale-free noise, zeros, a few far off.
    fn noisy(n: usize, spread: f32) -> (Vec<bf16>, Vec<f32>) {
        let mut rng = crate::synthetic::Rng::new(n as u64);
        (0..n)
            .map(|i| {
                let r = rng.normal() * 0.02;
                let l = match i % 1000 {
                    0 => -r,
                    1 => 0.0,
                    _ => r * (1.0 + spread * rng.normal()),
                };
                (bf16::from_f32(l), if i % 777 == 0 { 0.0 } else { r })
            })
            .unzip()
    }

    /// The figures from pieces of some size.
    fn in_pieces(lhs: Values<'_>, rhs: Values<'_>, piece: usize) -> Metrics {
        let mut acc = Accumulator::new(A, B);
        for at in (0..lhs.len()).step_by(piece) {
            let p = at..(at + piece).min(lhs.len());
            acc.push(lhs.slice(p.clone()), rhs.slice(p));
        }
        acc.finish()
    }

    /// Asserts that the figures of pieces are those of the whole, the quantiles within 0.4 percent.
    fn assert_sketched(pieces: &Metrics, whole: &Metrics) {
        assert_eq!(
            (pieces.quantiles, whole.quantiles),
            (Quantiles::Sketch, Quantiles::Exact)
        );
        let mut same = pieces.clone();
        same.quantiles = Quantiles::Exact;
        type Key = fn(&mut Metrics) -> &mut f64;
        let sketched: [Key; 6] = [
            |m| &mut m.rel_p50,
            |m| &mut m.rel_p90,
            |m| &mut m.rel_p95,
            |m| &mut m.rel_p99,
            |m| &mut m.rel_p999,
            |m| &mut m.top1pct_rel_mean,
        ];
        for key in sketched {
            let (got, exact) = (*key(&mut same), *key(&mut whole.clone()));
            let near = (got - exact).abs() <= 0.004 * exact + f64::from(f32::MIN_POSITIVE);
            assert!(near || got == exact, "{got} for {exact}");
            *key(&mut same) = exact;
        }
        // As text, in which a NaN equals itself.
        assert_eq!(format!("{same:?}"), format!("{whole:?}"));
    }

    #[test]
    fn pieces_give_the_figures_of_the_whole() {
        for spread in [0.0, 1e-3, 0.1] {
            let (l, r) = noisy(5 * SUM_BLOCK + 4321, spread);
            let (lhs, rhs) = (Values::Bf16(&l), Values::F32(&r));
            let whole = compare(A, lhs, B, rhs);
            let sketched = in_pieces(lhs, rhs, SUM_BLOCK);
            assert_sketched(&sketched, &whole);
            for piece in [SUM_BLOCK + 32, 3 * SUM_BLOCK - 96, 7777] {
                assert_eq!(in_pieces(lhs, rhs, piece), sketched, "{piece}");
            }
            assert_eq!(in_pieces(lhs, rhs, l.len()), whole);
        }
    }

    proptest! {
        #[test]
        fn counts_are_near_the_exact_quantiles(
            lhs in prop::collection::vec(prop_oneof![
                6 => (-44i32..38).prop_map(|e| 1.7f32 * 10f32.powi(e)),
                6 => 1e-3f32..1e-2,
                2 => Just(0.0),
                1 => prop::sample::select(vec![f32::from_bits(1), f32::MAX, f32::INFINITY]),
            ], 2..1000),
            piece in 1usize..500,
        ) {
            let rhs = vec![0.0f32; lhs.len()];
            let mut rels: Vec<f32> = lhs.iter().map(|l| rel(*l, 0.0)).collect();
            rels.sort_by(f32::total_cmp);
            let (lhs, rhs) = (Values::F32(&lhs), Values::F32(&rhs));
            let mut whole = compare(A, lhs, B, rhs);
            if whole.rel_p99 > 0.0 {
                // Elements equal to the quantile may lie below its rank; counts go by the rank.
                let first = (0.99 * (rels.len() - 1) as f64).ceil() as usize;
                let top = &rels[first..];
                let sum: f64 = top.iter().map(|r| f64::from(*r)).sum();
                whole.top1pct_rel_mean = sum / top.len() as f64;
            }
            assert_sketched(&in_pieces(lhs, rhs, piece.min(rels.len() - 1)), &whole);
        }
    }

    #[test]
    fn one_element_is_its_own_quantiles() {
        let m = compare(A, Values::F32(&[3.0]), B, Values::F32(&[2.0]));
        assert_eq!((m.rel_p50, m.rel_p999, m.top1pct_rel_mean), (0.5, 0.5, 0.5));
    }

    #[test]
    fn one_nan_spoils_the_figures_and_is_counted() {
        let m = compare(
            A,
            Values::F32(&[1.0, f32::NAN, 3.0]),
            B,
            Values::F32(&[1.0, 2.0, 3.0]),
        );
        let (l, r) = ([1.0, f32::NAN, 3.0], [1.0, 2.0, 3.0]);
        let pieces = in_pieces(Values::F32(&l), Values::F32(&r), 1);
        for m in [m, pieces] {
            assert_eq!((m.nan, m.bit_equal, m.max_ulp), (1, 2, 65535));
            for figure in [
                m.max_abs,
                m.rmse,
                m.max_rel,
                m.mean_rel,
                m.rel_p50,
                m.top1pct_rel_mean,
                m.cosine,
            ] {
                assert!(figure.is_nan());
            }
        }
    }

    #[test]
    fn zeros_are_equal_whatever_their_sign() {
        assert_eq!(bf16_steps(bf16::NEG_ZERO, bf16::ZERO), 0);
        let tiny = bf16::from_bits(1);
        assert_eq!(bf16_steps(-tiny, tiny), 2);
    }
}
