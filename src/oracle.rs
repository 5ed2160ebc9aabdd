//! The oracle: the dense Hadamard product in f64, sharing no code with the butterflies.
//!
//! It exists to check the reference, and to say who is nearer the truth when two lanes disagree.

use crate::tensor::TqTensor;
use std::ops::Range;

/// Bound on `|reference - oracle|` in a group, as a fraction of `max|scale| * max|centroid| * sqrt(n)`,
/// the largest magnitude that an element of the group can have.
///
/// Each of the `log2(n)` f32 additions and the product and the last rounding err by at most half an
/// ulp of a value no larger than that, and the errors of the inputs add up alongside: `log2(n) + 2`
/// times 2^-24 (Higham, Accuracy and Stability, chapter 4), 10 * 2^-24 for n = 256. A normalisation by a rounded
/// factor errs by one more, in the formats that have it for n = 32 alone.
pub const REFERENCE_BOUND: f64 = 10.0 / 16_777_216.0;

/// Decodes the given rows in f64: `out[i] = sign[i] / sqrt(n) * sum_j H[i][j] * before[j] * c[code[j]] * scale[j]`,
/// with `H[i][j] = (-1)^popcount(i & j)`. Row-major, `rows.len() * cols` values.
///
/// O(n) work per element: meant for samples and small tensors.
///
/// # Panics
/// When `rows` reaches outside the tensor.
pub fn dequantize_rows(tensor: &TqTensor, rows: Range<usize>) -> Vec<f64> {
    let n = tensor.layout().group_size();
    let before = tensor.layout().signs_before();
    let mut out = Vec::with_capacity(rows.len() * tensor.cols());
    for row in rows {
        for col in 0..tensor.cols() {
            let start = col / n * n;
            let sum: f64 = (0..n)
                .map(|j| {
                    let code = tensor.code(row, start + j) as usize;
                    let scale = f64::from(tensor.scale(row, start + j));
                    let value = f64::from(tensor.codebook().centroids()[code]) * scale;
                    let negative = before.is_some_and(|signs| signs.of(j) < 0);
                    if negative != (((col - start) & j).count_ones() % 2 == 1) {
                        -value
                    } else {
                        value
                    }
                })
                .sum();
            out.push(sum / (n as f64).sqrt() * f64::from(tensor.signs()[col]));
        }
    }
    out
}
