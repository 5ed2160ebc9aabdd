//! The CPU reference: the decoder that every other lane is held to.
//!
//! Each f32 operation is done singly, with no fused multiply-add; the final division is f64
//! `x / sqrt(n)` rounded once to f32, which is what NumPy 2 does. The values are those of the
//! published Python decoder, bit for bit, on every path: the scalar one is the text to read, the
//! others are held to it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod shared;
mod simd;

use crate::tensor::TqTensor;
use half::bf16;
use rayon::prelude::*;
pub use simd::Simd;

/// The text of every rendering, whatever this machine runs.
pub(crate) const TEXT: &str = concat!(
    include_str!("scalar.rs"),
    include_str!("avx2/mod.rs"),
    include_str!("avx2/lookup.rs"),
    include_str!("avx2/finish.rs"),
    include_str!("avx512/mod.rs"),
    include_str!("avx512/finish.rs"),
    include_str!("neon.rs"),
    include_str!("shared.rs"),
);

/// Elements handed to a thread at a time, a multiple of every group size.
const TASK: usize = 64 * 1024;

/// Dequantises `tensor` to f32, row-major `[rows, cols]`.
pub fn dequantize(tensor: &TqTensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.elements()];
    dequantize_into(tensor, &mut out);
    out
}

/// Dequantises `tensor` into `out`, f32 before the rounding to BF16, on [`Simd::active`].
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_into(tensor: &TqTensor, out: &mut [f32]) {
    dequantize_into_with(Simd::active(), tensor, out);
}

/// Dequantises `tensor` into `out`, rounded to BF16 (nearest, ties to even), on [`Simd::active`].
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_bf16_into(tensor: &TqTensor, out: &mut [bf16]) {
    dequantize_bf16_into_with(Simd::active(), tensor, out);
}

/// [`dequantize_into`] on a chosen path; the result is the same on each.
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_into_with(simd: Simd, tensor: &TqTensor, out: &mut [f32]) {
    let decode = simd.decoder(tensor);
    tasks(tensor, out, |first_group, out| {
        let done = decode(first_group, out);
        let rest = &mut out[done * tensor.layout().group_size()..];
        scalar::groups(tensor, first_group + done, rest);
    });
}

/// [`dequantize_bf16_into`] on a chosen path; the result is the same on each.
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_bf16_into_with(simd: Simd, tensor: &TqTensor, out: &mut [bf16]) {
    let decode = simd.decoder(tensor);
    tasks(tensor, out, |first_group, out| {
        let done = decode(first_group, out);
        let rest = &mut out[done * tensor.layout().group_size()..];
        scalar_bf16(tensor, first_group + done, rest);
    });
}

/// Hands `out` to the threads in parts, each with the number of its first group.
fn tasks<T: Send>(tensor: &TqTensor, out: &mut [T], work: impl Fn(usize, &mut [T]) + Sync) {
    assert_eq!(out.len(), tensor.elements(), "one output per element");
    let groups = TASK / tensor.layout().group_size();
    out.par_chunks_mut(TASK)
        .enumerate()
        .for_each(|(i, out)| work(i * groups, out));
}

/// Scalar BF16, by way of f32 values that stay in the first cache.
fn scalar_bf16(tensor: &TqTensor, first_group: usize, out: &mut [bf16]) {
    let mut values = [0.0; 2048];
    let groups = values.len() / tensor.layout().group_size();
    for (i, out) in out.chunks_mut(values.len()).enumerate() {
        let values = &mut values[..out.len()];
        scalar::groups(tensor, first_group + i * groups, values);
        for (o, v) in out.iter_mut().zip(values) {
            *o = bf16::from_f32(*v);
        }
    }
}
