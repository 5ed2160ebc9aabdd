//! Codebooks for the normal distribution N(0, 1 / group), which readers recompute.
//!
//! Source: turboquant-vllm 9311d91, `torch_ops.py`, `optimal_centroids`: f64 throughout, centroids cast to f32 at
//! the end.

use super::Codebook;
use crate::error::Result;
use crate::tensor::Layout;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Lloyd updates that the source makes. 16 levels have not converged by then, so the count is part of the
/// format.
const UPDATES: usize = 100;

/// Lloyd updates after which no centroid moves by an f32 step, whatever the number of levels.
const ALL: usize = 2000;

impl Codebook {
    /// The codebook of the normal distribution as published: of 2 bits written out, of others after a fixed
    /// number of updates.
    ///
    /// # Errors
    /// When `bits` is not 2, 3 or 4, or `group` not 32, 64, 128 or 256.
    pub fn normal(bits: u32, group: usize) -> Result<Self> {
        let layout = Layout::new(bits, group)?;
        if bits == 2 {
            // Written out in the source, not computed.
            return of_half(&[0.453, 1.51], group);
        }
        of_half(&lloyd(layout.levels(), UPDATES), group)
    }

    /// The codebook that the same updates converge to: a kernel that has it in place of [`Codebook::normal`] is
    /// wrong.
    ///
    /// # Errors
    /// As [`Codebook::normal`].
    pub fn normal_converged(bits: u32, group: usize) -> Result<Self> {
        of_half(&lloyd(Layout::new(bits, group)?.levels(), ALL), group)
    }
}

/// The codebook of these positive centroids and their negatives, given in standard deviations.
fn of_half(half: &[f64], group: usize) -> Result<Codebook> {
    let root = (group as f64).sqrt();
    let positive = half.iter().map(|c| (c / root) as f32);
    let negative = positive.clone().rev().map(|c| -c);
    Codebook::new(negative.chain(positive).collect(), None)
}

/// The positive centroids of N(0, 1) after `updates` rounds: each takes the centroids as the means of their
/// cells, then the boundaries midway between them. The first boundaries are the quantiles `i / levels`.
///
/// The source goes over both halves; the density is even and one is enough.
fn lloyd(levels: usize, updates: usize) -> Vec<f64> {
    let half = levels / 2;
    let mut boundaries: Vec<f64> = (0..half)
        .map(|i| upper_quantile((half - i) as f64 / levels as f64))
        .chain([f64::INFINITY])
        .collect();
    let mut centroids = vec![0.0; half];
    for _ in 0..updates {
        for (centroid, cell) in centroids.iter_mut().zip(boundaries.windows(2)) {
            *centroid = (density(cell[0]) - density(cell[1])) / (upper(cell[0]) - upper(cell[1]));
        }
        for (boundary, pair) in boundaries[1..half].iter_mut().zip(centroids.windows(2)) {
            *boundary = (pair[0] + pair[1]) / 2.0;
        }
    }
    centroids
}

/// The density of N(0, 1) at `x`. The library's functions, not the system's: the same on every machine.
fn density(x: f64) -> f64 {
    libm::exp(-x * x / 2.0) / (2.0 * PI).sqrt()
}

/// The probability that a normal variable exceeds `x`.
fn upper(x: f64) -> f64 {
    libm::erfc(x * FRAC_1_SQRT_2) / 2.0
}

/// The `x >= 0` that a normal variable exceeds with probability `p`, at most 1/2. `upper` is convex there:
/// Newton's method from 0 comes from below and never passes it.
fn upper_quantile(p: f64) -> f64 {
    /// More than 1/16 takes, the least that is asked for.
    const STEPS: usize = 20;
    (0..STEPS).fold(0.0, |x, _| x + (upper(x) - p) / density(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(book: &Codebook) -> &[f32] {
        &book.centroids()[book.centroids().len() / 2..]
    }

    // The source's loop over SciPy 1.17's norm.ppf, norm.cdf, norm.sf and norm.pdf, cast to f32.
    const THREE: [(usize, [u32; 4]); 4] = [
        (32, [0x3d31778c, 0x3e08d9fa, 0x3e7345ff, 0x3ec2c596]),
        (64, [0x3cfaf9e9, 0x3dc18986, 0x3e2c0531, 0x3e89b977]),
        (128, [0x3cb1778c, 0x3d88d9fa, 0x3df345ff, 0x3e42c596]),
        (256, [0x3c7af9e9, 0x3d418986, 0x3dac0531, 0x3e09b977]),
    ];
    #[rustfmt::skip]
    const FOUR: [(usize, [u32; 8]); 4] = [
        (32, [0x3cb669ec, 0x3d89e98b, 0x3de9b0e4, 0x3e27f06a, 0x3e6059fc, 0x3e90d520, 0x3eb9af1a, 0x3ef5ed5a]),
        (64, [0x3c80fc6b, 0x3d430993, 0x3da53e96, 0x3ded8074, 0x3e1ea3f6, 0x3e4cd2f9, 0x3e834c65, 0x3eade592]),
        (128, [0x3c3669ec, 0x3d09e98b, 0x3d69b0e4, 0x3da7f06a, 0x3de059fc, 0x3e10d520, 0x3e39af1a, 0x3e75ed5a]),
        (256, [0x3c00fc6b, 0x3cc30993, 0x3d253e96, 0x3d6d8074, 0x3d9ea3f6, 0x3dccd2f9, 0x3e034c65, 0x3e2de592]),
    ];

    #[test]
    fn every_codebook_is_the_sources_bit_for_bit() {
        let of = |bits, group| {
            let book = Codebook::normal(bits, group).unwrap();
            positive(&book)
                .iter()
                .map(|c| c.to_bits())
                .collect::<Vec<_>>()
        };
        for (group, want) in THREE {
            assert_eq!(of(3, group), want, "{group}");
        }
        for (group, want) in FOUR {
            assert_eq!(of(4, group), want, "{group}");
        }
    }

    /// The figures of the format's page, before they are cast to f32.
    #[test]
    fn published_figures_for_groups_of_128() {
        let figures = |levels, digits| -> Vec<String> {
            let half = lloyd(levels, UPDATES);
            let scaled = half.iter().map(|c| c / 128f64.sqrt());
            scaled.map(|c| format!("{c:.digits$}")).collect()
        };
        assert_eq!(
            figures(16, 9).join(" "),
            "0.011133652 0.033669988 0.057053462 0.082001522 \
             0.109546631 0.141438002 0.181332022 0.240163242"
        );
        assert_eq!(
            figures(8, 8).join(" "),
            "0.02166345 0.06682200 0.11878585 0.19020685"
        );
    }

    #[test]
    fn two_bits_are_fixed() {
        for group in [32, 64, 128, 256] {
            let root = (group as f64).sqrt();
            let want = [(0.453 / root) as f32, (1.51 / root) as f32];
            assert_eq!(positive(&Codebook::normal(2, group).unwrap()), want);
        }
    }

    #[test]
    fn every_codebook_is_symmetric() {
        for bits in 2..=4 {
            for group in [32, 64, 128, 256] {
                for book in [
                    Codebook::normal(bits, group),
                    Codebook::normal_converged(bits, group),
                ] {
                    let c = book.unwrap().centroids().to_vec();
                    let mirrored: Vec<f32> = c.iter().rev().map(|v| -v).collect();
                    assert_eq!(c, mirrored, "{bits} {group}");
                }
            }
        }
    }

    /// Lloyd-Max levels of a normal variable (Max, 1960, table I).
    #[test]
    fn converged_codebooks_are_the_optimal_ones() {
        for (bits, want) in [
            (2, &[0.4528, 1.510][..]),
            (3, &[0.2451, 0.7560, 1.344, 2.152]),
            (
                4,
                &[0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733],
            ),
        ] {
            let book = Codebook::normal_converged(bits, 64).unwrap();
            for (found, want) in positive(&book).iter().zip(want) {
                assert!((found * 8.0 - want).abs() < 6e-4, "{bits}: {found} {want}");
            }
            assert_eq!(book, of_half(&lloyd(1 << bits, 2 * ALL), 64).unwrap());
        }
    }

    /// What tells the fault: 3 bits are there after 100 updates to a step or so, 4 bits 2 % away.
    #[test]
    fn only_4_bits_are_far_from_converged() {
        let apart = |bits| {
            let (a, b) = (
                Codebook::normal(bits, 128).unwrap(),
                Codebook::normal_converged(bits, 128).unwrap(),
            );
            let of = |(a, b): (&f32, &f32)| (a / b - 1.0).abs();
            let pairs = positive(&a).iter().zip(positive(&b));
            pairs.map(of).fold(0.0, f32::max)
        };
        assert!(apart(3) < 1e-5, "{}", apart(3));
        assert!(apart(4) > 0.018, "{}", apart(4));
    }

    #[test]
    fn other_layouts_are_refused() {
        for (bits, group) in [(0, 128), (1, 128), (5, 128), (64, 128), (4, 0), (4, 96)] {
            assert!(Codebook::normal(bits, group).is_err(), "{bits} {group}");
            assert!(
                Codebook::normal_converged(bits, group).is_err(),
                "{bits} {group}"
            );
        }
    }
}
