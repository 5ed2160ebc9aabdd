//! Sums over the elements of a group.

use crate::widest::widest;

widest! {
    /// `sum(a * b)`.
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
        sum(a, b, |a, b| a * b)
    }
}

widest! {
    /// `sum((a - b)^2)`.
    pub(super) fn squared_error(a: &[f32], b: &[f32]) -> f64 {
        sum(a, b, |a, b| (a - b) * (a - b))
    }
}

/// The sum of the terms in eight columns, which vector instructions add side by side: those of the caller, of which it
/// must become part.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let term = |(a, b): (&f32, &f32)| term(f64::from(*a), f64::from(*b));
    let mut columns = [0.0; 8];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for (sum, pair) in columns.iter_mut().zip(a.iter().zip(b)) {
            *sum += term(pair);
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(term).sum();
    columns.iter().sum::<f64>() + rest
}
