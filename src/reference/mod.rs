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

/// Elements handed to a thread at a time: as many as let each thread have some [`TURNS`] of them, since each begins
/// with codes and scales that no cache has yet. Multiples of every group size.
const LEAST_TASK: usize = 16 * 1024;
const LARGEST_TASK: usize = 16 * LEAST_TASK;
const TURNS: usize = 16;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes of output that no cache holds until it is read, on most machines.
const LARGE: usize = 32 << 20;

/// Dequantises `tensor` to f32, row-major `[rows, cols]`.
pub fn dequantize(tensor: &TqTensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.elements()];
    dequantize_into(tensor, &mut out);
    out
}

/// Dequantises `tensor` into `out`, f32 before the rounding to BF16, on [`Simd::active`].
///
/// A large output is written fastest where it begins at a multiple of 64 bytes: past the caches, with AVX-512.
///
/// # Panics
/// When `out` does not hold `rows * cols` elements.
pub fn dequantize_into(tensor: &TqTensor, out: &mut [f32]) {
    dequantize_into_with(Simd::active(), tensor, out);
}

/// Dequantises `tensor` into `out`, rounded to BF16 (nearest, ties to even), on [`Simd::active`]; fastest where
/// [`dequantize_into`] is.
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
    let decode = simd.decoder(tensor, past_caches(out));
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
    let decode = simd.decoder(tensor, past_caches(out));
    tasks(tensor, out, |first_group, out| {
        let done = decode(first_group, out);
        let rest = &mut out[done * tensor.layout().group_size()..];
        scalar_bf16(tensor, first_group + done, rest);
    });
}

/// Whether `out` may go past the caches, which spares the memory the reads of lines that are written over.
fn past_caches<T>(out: &[T]) -> bool {
    size_of_val(out) >= LARGE && out.as_ptr().addr().is_multiple_of(LINE)
}

/// Hands `out` to the threads in parts, each with the number of its first group.
fn tasks<T: Send>(tensor: &TqTensor, out: &mut [T], work: impl Fn(usize, &mut [T]) + Sync) {
    assert_eq!(out.len(), tensor.elements(), "one output per element");
    let even = out.len() / (TURNS * rayon::current_num_threads());
    let task = (even / LEAST_TASK * LEAST_TASK).clamp(LEAST_TASK, LARGEST_TASK);
    let groups = task / tensor.layout().group_size();
    out.par_chunks_mut(task)
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
