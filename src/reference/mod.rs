//! The CPU reference: the decoder that every other lane is held to.
//!
//! Each f32 operation is done singly, with no fused multiply-add; the final division is f64
//! `x / sqrt(n)` rounded once to f32, which is what NumPy 2 does. The values are those of the
//! published Python decoder, bit for bit.

mod scalar;

use crate::tensor::TqTensor;
use half::bf16;
use rayon::prelude::*;

/// Groups handed to a thread at a time: 64 Ki elements at group size 128.
const GROUPS_PER_TASK: usize = 512;

/// Dequantises `tensor` to f32, row-major `[rows, cols]`.
pub fn dequantize(tensor: &TqTensor<'_>) -> Vec<f32> {
    let mut out = vec![0.0; tensor.elements()];
    dequantize_into(tensor, &mut out);
    out
}

/// Dequantises `tensor` into `out`, f32 before the rounding to BF16.
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_into(tensor: &TqTensor<'_>, out: &mut [f32]) {
    let task = GROUPS_PER_TASK * tensor.layout().group_size();
    assert_eq!(out.len(), tensor.elements(), "one output per element");
    out.par_chunks_mut(task).enumerate().for_each(|(i, out)| {
        scalar::groups(tensor, i * GROUPS_PER_TASK, out);
    });
}

/// Dequantises `tensor` into `out`, rounded to BF16 (nearest, ties to even).
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_bf16_into(tensor: &TqTensor<'_>, out: &mut [bf16]) {
    let task = GROUPS_PER_TASK * tensor.layout().group_size();
    assert_eq!(out.len(), tensor.elements(), "one output per element");
    out.par_chunks_mut(task).enumerate().for_each_init(
        || vec![0.0; task],
        |values, (i, out)| {
            let values = &mut values[..out.len()];
            scalar::groups(tensor, i * GROUPS_PER_TASK, values);
            for (o, v) in out.iter_mut().zip(values) {
                *o = bf16::from_f32(*v);
            }
        },
    );
}
