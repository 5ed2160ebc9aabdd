//! Integrals over a cell.

/// Nodes of the Gauss-Legendre rule per cell; the integrand is smooth, 48 reach f64 precision.
const NODES: usize = 48;

/// Nodes and weights of the Gauss-Legendre rule on [-1, 1], by Newton's method on the Legendre
/// polynomial (Abramowitz and Stegun, 25.4.29).
pub(super) fn gauss_legendre() -> Vec<(f64, f64)> {
    let n = NODES;
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
