//! Metrics of one lane against another.
//!
//! Differences and relative errors are f32, as NumPy has them in the published report; sums are f64.
//! The result does not depend on the number of threads: sums are taken over fixed blocks and added in
//! order, and the quantiles are exact.

mod quantile;

use half::bf16;
use quantile::RelCounts;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements per block of the parallel sums. Part of the result: another size adds in another order.
const BLOCK: usize = 1 << 16;

/// A lane's values, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// BF16, as kernel lanes return them.
    Bf16(&'a [bf16]),
    /// f32, as the reference and the source have them.
    F32(&'a [f32]),
}

impl Values<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bf16(v) => v.len(),
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
            Self::F32(v) => v[i],
        }
    }

    /// Element `i` rounded to BF16.
    pub fn bf16(&self, i: usize) -> bf16 {
        match self {
            Self::Bf16(v) => v[i],
            Self::F32(v) => bf16::from_f32(v[i]),
        }
    }
}

/// The comparison of `lhs` with `rhs`; keys and definitions are those of the published report, then
/// this project's own. Figures that a NaN spoils are NaN, which JSON writes as null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Name of the compared lane.
    pub lhs: String,
    /// Name of the lane it is held to.
    pub rhs: String,
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
    /// Elements whose BF16 values are equal; +0 equals -0.
    pub bit_equal: u64,
    /// Largest distance in BF16 steps, both sides rounded to BF16; a NaN on one side is 65535.
    pub max_ulp: u32,
    /// Mean of `lhs - rhs`, over `max(rhs_rms, 1e-12)`.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean_signed: f64,
    /// Cosine of the angle between the two.
    #[serde(deserialize_with = "null_is_nan")]
    pub cosine: f64,
    /// Elements that are NaN in `lhs` and not in `rhs`.
    pub nan: u64,
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
    let ordered = |v: bf16| {
        let magnitude = i32::from(v.to_bits() & 0x7FFF);
        if v.is_sign_negative() {
            -magnitude
        } else {
            magnitude
        }
    };
    match (a.is_nan(), b.is_nan()) {
        (false, false) => ordered(a).abs_diff(ordered(b)),
        (true, true) => 0,
        _ => 65535,
    }
}

/// `|lhs - rhs| / max(|rhs|, 1e-6)`, in f32.
pub fn rel(lhs: f32, rhs: f32) -> f32 {
    (lhs - rhs).abs() / rhs.abs().max(1e-6)
}

#[derive(Default, Clone, Copy)]
struct Sums {
    abs: f64,
    square: f64,
    signed: f64,
    lhs_square: f64,
    rhs_square: f64,
    dot: f64,
    max_abs: f32,
    max_ulp: u32,
    bit_equal: u64,
    nan: u64,
    spoilt: bool,
}

impl Sums {
    fn of(lhs: Values<'_>, rhs: Values<'_>, range: std::ops::Range<usize>) -> Self {
        let mut s = Self::default();
        for i in range {
            let (l, r) = (lhs.get(i), rhs.get(i));
            let diff = l - r;
            let steps = bf16_steps(lhs.bf16(i), rhs.bf16(i));
            s.bit_equal += u64::from(steps == 0);
            s.max_ulp = s.max_ulp.max(steps);
            s.nan += u64::from(l.is_nan() && !r.is_nan());
            s.spoilt |= diff.is_nan();
            s.max_abs = s.max_abs.max(diff.abs());
            let (d, l, r) = (f64::from(diff), f64::from(l), f64::from(r));
            s.abs += d.abs();
            s.square += d * d;
            s.signed += d;
            s.lhs_square += l * l;
            s.rhs_square += r * r;
            s.dot += l * r;
        }
        s
    }

    fn add(self, b: Self) -> Self {
        Self {
            abs: self.abs + b.abs,
            square: self.square + b.square,
            signed: self.signed + b.signed,
            lhs_square: self.lhs_square + b.lhs_square,
            rhs_square: self.rhs_square + b.rhs_square,
            dot: self.dot + b.dot,
            max_abs: self.max_abs.max(b.max_abs),
            max_ulp: self.max_ulp.max(b.max_ulp),
            bit_equal: self.bit_equal + b.bit_equal,
            nan: self.nan + b.nan,
            spoilt: self.spoilt | b.spoilt,
        }
    }
}

/// Compares `lhs` with `rhs`.
///
/// # Panics
/// When the two differ in length or hold no element.
pub fn compare(lhs_name: &str, lhs: Values<'_>, rhs_name: &str, rhs: Values<'_>) -> Metrics {
    assert_eq!(lhs.len(), rhs.len(), "compared lanes have the same shape");
    assert!(!lhs.is_empty(), "there is something to compare");
    let n = lhs.len();
    let blocks = n.div_ceil(BLOCK);
    let range = |b: usize| b * BLOCK..((b + 1) * BLOCK).min(n);
    // Collected, then added in order: the same sum whatever the number of threads.
    let sums: Vec<Sums> = (0..blocks)
        .into_par_iter()
        .map(|b| Sums::of(lhs, rhs, range(b)))
        .collect();
    let s = sums.into_iter().fold(Sums::default(), Sums::add);
    let rels = RelCounts::of(lhs, rhs);

    let count = n as f64;
    let rmse = (s.square / count).sqrt();
    let rhs_rms = (s.rhs_square / count).sqrt();
    let [p50, p90, p95, p99, p999] = rels.quantiles([0.5, 0.9, 0.95, 0.99, 0.999], lhs, rhs);
    Metrics {
        lhs: lhs_name.into(),
        rhs: rhs_name.into(),
        elements: n as u64,
        max_abs: if s.spoilt { f64::NAN } else { s.max_abs.into() },
        mean_abs: s.abs / count,
        rmse,
        rhs_rms,
        rmse_over_rhs_rms: rmse / rhs_rms.max(1e-12),
        max_rel: rels.max(),
        mean_rel: rels.mean(),
        rel_p50: p50,
        rel_p90: p90,
        rel_p95: p95,
        rel_p99: p99,
        rel_p999: p999,
        top1pct_rel_mean: rels.mean_from(p99, lhs, rhs),
        top1pct_rel_max: rels.max(),
        bit_equal: s.bit_equal,
        max_ulp: s.max_ulp,
        mean_signed: s.signed / count / rhs_rms.max(1e-12),
        cosine: s.dot / (s.lhs_square.sqrt() * s.rhs_square.sqrt()),
        nan: s.nan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            let m = compare("a", Values::F32(&lhs), "b", Values::F32(&rhs));
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

    #[test]
    fn one_nan_spoils_the_figures_and_is_counted() {
        let m = compare(
            "a",
            Values::F32(&[1.0, f32::NAN, 3.0]),
            "b",
            Values::F32(&[1.0, 2.0, 3.0]),
        );
        assert_eq!((m.nan, m.bit_equal, m.max_ulp), (1, 2, 65535));
        for figure in [
            m.max_abs, m.rmse, m.max_rel, m.mean_rel, m.rel_p50, m.cosine,
        ] {
            assert!(figure.is_nan());
        }
    }

    #[test]
    fn zeros_are_equal_whatever_their_sign() {
        assert_eq!(bf16_steps(bf16::NEG_ZERO, bf16::ZERO), 0);
        let tiny = bf16::from_bits(1);
        assert_eq!(bf16_steps(-tiny, tiny), 2);
    }
}
