//! The codebook: Lloyd-Max centroids for one coordinate of a random unit vector.
//!
//! A coordinate of a vector drawn uniformly from the unit sphere in `d` dimensions has the density
//! `(1 - x^2)^((d - 3) / 2)` on [-1, 1], up to a constant (TurboQuant, arXiv:2504.19874).

use crate::error::{Error, Result};

/// Iterations that the published loader runs. The sequence has not converged by then (the outermost
/// centroid still moves by 4e-6 an iteration), so the count is part of the format.
const ITERATIONS: usize = 200;

/// Nodes of the Gauss-Legendre rule per cell; the integrand is smooth, 48 reach f64 precision.
const NODES: usize = 48;

/// Centroids and cell boundaries of a scalar quantiser, both ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    centroids: Vec<f32>,
    boundaries: Vec<f32>,
}

impl Codebook {
    /// Takes centroids as a model's configuration gives them.
    ///
    /// `boundaries` has one element more than `centroids`; `None` puts each interior boundary midway
    /// between its neighbours, as Lloyd-Max does.
    ///
    /// # Errors
    /// When the centroids are not 2, 4, 8 or 16 values, not finite, larger than an f16 can be, or not
    /// strictly ascending; when the boundaries do not fit them.
    pub fn new(centroids: Vec<f32>, boundaries: Option<Vec<f32>>) -> Result<Self> {
        let bad = |what: String, place: &str| {
            Err(Error::input(
                what,
                place,
                "write the codebook that the model was encoded with",
            ))
        };
        if !(2..=16).contains(&centroids.len()) || !centroids.len().is_power_of_two() {
            return bad(
                format!(
                    "{} centroids found, expected 4, 8 or 16 (2^bits)",
                    centroids.len()
                ),
                "centroids",
            );
        }
        // Larger values could overflow f32 inside the transform, where lanes need not agree.
        if let Some(c) = centroids.iter().find(|c| c.is_nan() || c.abs() > 65504.0) {
            return bad(
                format!("centroid {c} found, expected finite values"),
                "centroids",
            );
        }
        if let Some(i) = centroids.windows(2).position(|w| w[0] >= w[1]) {
            return bad(
                format!(
                    "centroids are not in ascending order: {} stands before {}",
                    centroids[i],
                    centroids[i + 1]
                ),
                "centroids",
            );
        }
        let boundaries = match boundaries {
            None => midpoints(&centroids),
            Some(b) => {
                if b.len() != centroids.len() + 1 {
                    return bad(
                        format!(
                            "{} boundaries found, expected {} (one more than centroids)",
                            b.len(),
                            centroids.len() + 1
                        ),
                        "boundaries",
                    );
                }
                if b.iter().any(|x| !x.is_finite()) || b.windows(2).any(|w| w[0] > w[1]) {
                    return bad(
                        "boundaries are not finite and ascending".into(),
                        "boundaries",
                    );
                }
                b
            }
        };
        Ok(Self {
            centroids,
            boundaries,
        })
    }

    /// Lloyd-Max for `2^bits` levels in `dim` dimensions, as the published loader computes it:
    /// uniform midpoints to start, 200 iterations, integrals in f64, centroids and boundaries kept in
    /// f32 between iterations.
    ///
    /// # Panics
    /// When `bits` is not 1 to 4 or `dim` is under 3.
    pub fn lloyd_max(bits: u32, dim: usize) -> Self {
        assert!((1..=4).contains(&bits) && dim >= 3);
        let levels = 1usize << bits;
        let exponent = (dim as f64 - 3.0) / 2.0;
        let rule = gauss_legendre(NODES);
        let mut centroids: Vec<f32> = (0..levels)
            .map(|i| (-1.0 + (2 * i + 1) as f64 / levels as f64) as f32)
            .collect();
        for _ in 0..ITERATIONS {
            let b = midpoints(&centroids);
            for (i, c) in centroids.iter_mut().enumerate() {
                *c = cell_mean(b[i].into(), b[i + 1].into(), exponent, &rule) as f32;
            }
        }
        let boundaries = midpoints(&centroids);
        Self {
            centroids,
            boundaries,
        }
    }

    /// The centroids, ascending; `2^bits` of them.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// The boundaries, ascending; one more than there are centroids.
    pub fn boundaries(&self) -> &[f32] {
        &self.boundaries
    }

    /// The code of a normalised value: the number of interior boundaries below it.
    pub fn encode(&self, value: f32) -> u8 {
        let interior = &self.boundaries[1..self.centroids.len()];
        interior.iter().filter(|&&b| b < value).count() as u8
    }
}

fn midpoints(centroids: &[f32]) -> Vec<f32> {
    let mut b = Vec::with_capacity(centroids.len() + 1);
    b.push(-1.0);
    b.extend(
        centroids
            .windows(2)
            .map(|w| ((f64::from(w[0]) + f64::from(w[1])) / 2.0) as f32),
    );
    b.push(1.0);
    b
}

/// Mean of the density `(1 - x^2)^exponent` over [a, b].
fn cell_mean(a: f64, b: f64, exponent: f64, rule: &[(f64, f64)]) -> f64 {
    let (half, centre) = ((b - a) / 2.0, (a + b) / 2.0);
    let (mut mass, mut moment) = (0.0, 0.0);
    for &(node, weight) in rule {
        let x = half * node + centre;
        let density = weight * (1.0 - x * x).max(0.0).powf(exponent);
        mass += density;
        moment += density * x;
    }
    // The outermost cells of the uniform start hold next to no mass in high dimensions.
    if mass > 1e-300 { moment / mass } else { centre }
}

/// Nodes and weights of the Gauss-Legendre rule on [-1, 1], by Newton's method on the Legendre
/// polynomial (Abramowitz and Stegun, 25.4.29).
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|i| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 0.0;
            for _ in 0..20 {
                let (mut p0, mut p1) = (1.0, x);
                for k in 2..=n {
                    let k = k as f64;
                    (p0, p1) = (p1, ((2.0 * k - 1.0) * x * p1 - (k - 1.0) * p0) / k);
                }
                slope = n as f64 * (x * p1 - p0) / (x * x - 1.0);
                x -= p1 / slope;
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_loader_codebook_for_128_dimensions() {
        let half = [
            0.011320936493575573_f64,
            0.03420550003647804,
            0.057857658714056015,
            0.08293882012367249,
            0.11041539162397385,
            0.14193911850452423,
            0.18096588551998138,
            0.23777654767036438,
        ];
        let book = Codebook::lloyd_max(4, 128);
        for (i, want) in half.iter().enumerate() {
            assert_eq!(f64::from(book.centroids()[8 + i]), *want, "centroid {i}");
            assert_eq!(f64::from(book.centroids()[7 - i]), -*want, "centroid -{i}");
        }
    }

    #[test]
    fn every_size_is_symmetric_and_ascending() {
        for bits in 2..=4 {
            for dim in [32, 64, 128, 256] {
                let book = Codebook::lloyd_max(bits, dim);
                let c = book.centroids().to_vec();
                assert!(Codebook::new(c.clone(), None).is_ok(), "{bits} {dim}");
                for (a, b) in c.iter().zip(c.iter().rev()) {
                    assert!((a + b).abs() <= 1e-6 * a.abs(), "{bits} {dim}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn a_value_on_a_boundary_belongs_to_the_cell_below() {
        let book = Codebook::lloyd_max(4, 128);
        for code in 1..16u8 {
            let b = book.boundaries()[code as usize];
            assert_eq!(book.encode(b), code - 1);
            assert_eq!(book.encode(b.next_up()), code);
        }
        assert_eq!(book.encode(-2.0), 0);
        assert_eq!(book.encode(2.0), 15);
    }

    #[test]
    fn foreign_codebooks_are_refused() {
        for c in [
            vec![],
            vec![0.0; 16],
            vec![1.0, 0.0, 2.0, 3.0],
            vec![0.0, 1.0, 2.0],
            vec![0.0, f32::NAN, 1.0, 2.0],
        ] {
            assert!(Codebook::new(c, None).is_err());
        }
        assert!(Codebook::new(vec![0., 1., 2., 3.], Some(vec![0.0; 3])).is_err());
    }
}
