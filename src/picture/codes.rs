//! How a tensor uses its codebook.

use crate::codec::Unit;
use crate::fwht;
use crate::metrics::Values;
use crate::tensor::TqTensor;
use rayon::prelude::*;
use serde::Serialize;

/// Bins of the normalised values.
const BINS: usize = 80;

/// Codes used, against the share that the density of the format predicts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodeUse {
    /// Elements with each code.
    pub counts: Vec<u64>,
    /// Share of each code for the marginal of a random unit vector, between the codebook's boundaries.
    pub expected: Vec<f64>,
    /// The codebook.
    pub centroids: Vec<f32>,
}

/// The source's values after signs, transform and division by the norm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Normalised {
    /// The bins cover [-limit, limit] evenly.
    pub limit: f64,
    /// Values in each bin.
    pub counts: Vec<u64>,
    /// Share of each bin by the density.
    pub expected: Vec<f64>,
    /// Values outside.
    pub outside: u64,
    /// Groups left out: all zero, or not finite.
    pub skipped_groups: u64,
}

/// Shares of the density `(1 - x^2)^((d-3)/2)` between ascending `edges`; with `tails` the first and the
/// last cell reach to -1 and 1. Midpoint rule.
fn shares(edges: &[f64], dim: usize, tails: bool) -> Vec<f64> {
    const STEPS: usize = 1 << 10;
    let exponent = (dim as f64 - 3.0) / 2.0;
    let mass = |low: f64, high: f64| -> f64 {
        let width = (high - low) / STEPS as f64;
        let density = |i: usize| {
            let x = low + (i as f64 + 0.5) * width;
            (1.0 - x * x).max(0.0).powf(exponent)
        };
        (0..STEPS).map(density).sum::<f64>() * width
    };
    // The density is narrow in many dimensions: eight parts keep the steps small against it.
    let total: f64 = (-4..4)
        .map(|i| mass(f64::from(i) / 4.0, f64::from(i + 1) / 4.0))
        .sum();
    let last = edges.len() - 2;
    (0..=last)
        .map(|i| {
            let low = if tails && i == 0 { -1.0 } else { edges[i] };
            let high = if tails && i == last {
                1.0
            } else {
                edges[i + 1]
            };
            mass(low, high) / total
        })
        .collect()
}

impl CodeUse {
    pub(super) fn new(tensor: &TqTensor) -> Self {
        let layout = tensor.layout();
        let (n, bytes) = (layout.group_size(), layout.packed_group());
        let codes = tensor
            .packed()
            .par_chunks_exact(bytes)
            .with_min_len(512)
            .fold(
                || vec![0u64; layout.levels()],
                |mut counts, group| {
                    (0..n).for_each(|k| counts[layout.code(group, k) as usize] += 1);
                    counts
                },
            )
            .reduce(
                || vec![0; layout.levels()],
                |mut a, b| {
                    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                    a
                },
            );
        // Boundaries in coordinates of unit vectors.
        let unit = match layout.scales().unit {
            Unit::Norm => 1.0,
            Unit::Deviation => (n as f64).sqrt(),
        };
        let edges: Vec<f64> = tensor
            .codebook()
            .boundaries()
            .iter()
            .map(|b| f64::from(*b) / unit)
            .collect();
        Self {
            counts: codes,
            expected: shares(&edges, layout.group_size(), true),
            centroids: tensor.codebook().centroids().to_vec(),
        }
    }
}

impl Normalised {
    pub(super) fn new(tensor: &TqTensor, source: Values<'_>) -> Self {
        let n = tensor.layout().group_size();
        let before = tensor.layout().signs_before();
        let limit = (5.0 / (n as f64).sqrt()).min(1.0);
        // Per task: the bins, then the values outside, then the groups left out.
        let counts = (0..tensor.groups())
            .into_par_iter()
            .with_min_len(512)
            .fold(
                || (vec![0u64; BINS + 2], vec![0f32; n]),
                |(mut counts, mut x), group| {
                    let first = group * n;
                    let signs = &tensor.signs()[first % tensor.cols()..][..n];
                    for (k, (x, sign)) in x.iter_mut().zip(signs).enumerate() {
                        *x = source.get(first + k) * f32::from(*sign);
                    }
                    fwht::forward(&mut x);
                    for (k, x) in x.iter_mut().enumerate() {
                        *x *= before.map_or(1.0, |signs| f32::from(signs.of(k)));
                    }
                    let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                    if !(norm > 0.0 && norm.is_finite()) {
                        counts[BINS + 1] += 1;
                        return (counts, x);
                    }
                    for v in &x {
                        let at = (f64::from(*v) / norm / limit + 1.0) / 2.0 * BINS as f64;
                        let inside = (0.0..BINS as f64).contains(&at);
                        counts[if inside { at as usize } else { BINS }] += 1;
                    }
                    (counts, x)
                },
            )
            .map(|(counts, _)| counts)
            .reduce(
                || vec![0; BINS + 2],
                |mut a, b| {
                    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                    a
                },
            );
        let edges: Vec<f64> = (0..=BINS)
            .map(|i| limit * (2.0 * i as f64 / BINS as f64 - 1.0))
            .collect();
        Self {
            limit,
            counts: counts[..BINS].to_vec(),
            expected: shares(&edges, n, false),
            outside: counts[BINS],
            skipped_groups: counts[BINS + 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codebook::Codebook;

    #[test]
    fn shares_of_the_density() {
        let all = shares(&[-1.0, 0.0, 1.0], 128, true);
        assert!((all[0] - 0.5).abs() < 1e-5 && (all[1] - 0.5).abs() < 1e-5);
        // In three dimensions a coordinate is uniform (Archimedes).
        for s in shares(&[-1.0, -0.5, 0.0, 0.5, 1.0], 3, true) {
            assert!((s - 0.25).abs() < 1e-9);
        }
        let book = Codebook::lloyd_max(4, 128);
        let edges: Vec<f64> = book.boundaries().iter().map(|b| f64::from(*b)).collect();
        let total: f64 = shares(&edges, 128, true).iter().sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }
}
