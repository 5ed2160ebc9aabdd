//! Lloyd-Max centroids of the density of a unit vector's coordinate, as the published programs iterate.

use super::quadrature::gauss_legendre;

/// Iterations that the published loader runs. The sequence has not converged by then (the outermost
/// centroid still moves by 4e-6 an iteration), so the count is part of the format.
const ITERATIONS: usize = 200;

/// Lloyd-Max from uniform midpoints: each iteration takes the boundaries midway between the centroids,
/// then the centroids as the means of their cells, both through `round`. Returns the last of either.
///
/// The outermost cells of the uniform start hold next to no mass in high dimensions. The centroid of a
/// cell with at most `least` stays where it is: 200 iterations do not forget the start.
pub(super) fn iterate(
    bits: u32,
    dim: usize,
    least: f64,
    round: fn(f64) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    assert!((1..=4).contains(&bits) && dim >= 3);
    let levels = 1usize << bits;
    let exponent = (dim as f64 - 3.0) / 2.0;
    let rule = gauss_legendre();
    let mut centroids: Vec<f64> = (0..levels)
        .map(|i| -1.0 + (2 * i + 1) as f64 / levels as f64)
        .collect();
    let mut boundaries = vec![-1.0; levels + 1];
    boundaries[levels] = 1.0;
    for _ in 0..ITERATIONS {
        for i in 1..levels {
            boundaries[i] = round((centroids[i - 1] + centroids[i]) / 2.0);
        }
        // The density is even: one half is computed, and the middle boundary stays 0.
        for i in levels / 2..levels {
            let (mass, moment) = cell(boundaries[i], boundaries[i + 1], exponent, &rule);
            if mass > least {
                centroids[i] = round(moment / mass);
                centroids[levels - 1 - i] = -centroids[i];
            }
        }
    }
    (centroids, boundaries)
}

/// Mass and first moment of the density `(1 - x^2)^exponent` over [a, b].
fn cell(a: f64, b: f64, exponent: f64, rule: &[(f64, f64)]) -> (f64, f64) {
    let (half, centre) = ((b - a) / 2.0, (a + b) / 2.0);
    let (mut mass, mut moment) = (0.0, 0.0);
    for &(node, weight) in rule {
        let x = half * node + centre;
        let density = weight * (1.0 - x * x).max(0.0).powf(exponent);
        mass += density;
        moment += density * x;
    }
    (half * mass, half * moment)
}
