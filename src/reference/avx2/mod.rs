//! The AVX2 rendering: the values of [`scalar`](mod@super::scalar), bit for bit, two groups at a time. Each f32
//! operation of the scalar text is done on the same two operands; only their place differs.
//!
//! The low half of every register belongs to one group, the high half to the next. A half holds four
//! elements whose index differs in two bits, its *lanes*; the other index bits say which register. A
//! butterfly over a register bit is an addition and a subtraction of registers; a lane bit is first
//! exchanged for a register bit. The lanes are index bits 4 and 3 to begin with, so that strides 1, 2
//! and 4 need no exchange, and bits 1 and 2 at the end, so that one blend puts two registers of BF16
//! values together, consecutive.

mod finish;
mod lookup;

use super::shared::{REGISTERS, f16_to_f32, pairs};
use crate::tensor::TqTensor;
use bytemuck::Pod;
use finish::{Divide, again, finish_bf16, finish_f32};
use lookup::{Table, codes};
use std::arch::x86_64::*;

/// Elements of each of the two groups that are decoded together.
const BLOCK: usize = 32;

/// A block in registers. Register bits 0, 1, 2 are index bits 0, 1, 2 at first, and 0, 4, 3 after
/// [`butterflies_in_block`].
type Block = [__m256; REGISTERS];

/// Decodes the groups from `first_group` on, two by two, as many as `out` holds, and returns the groups
/// decoded; `T` is BF16 or f32. `flips` is [`flips`](super::shared::flips) of `tensor`, with none
/// beyond.
#[target_feature(enable = "avx2")]
pub(in crate::reference) fn pairs_of_groups<T: Pod>(
    tensor: &TqTensor,
    flips: &[T],
    first_group: usize,
    out: &mut [T],
) -> usize {
    let layout = tensor.layout();
    let decode = match (layout.stored_bits(), layout.group_size()) {
        (2, 32) => steps::<T, 2, 32, 1>,
        (2, 64) => steps::<T, 2, 64, 2>,
        (2, 128) => steps::<T, 2, 128, 4>,
        (2, 256) => steps::<T, 2, 256, 8>,
        (4, 32) => steps::<T, 4, 32, 1>,
        (4, 64) => steps::<T, 4, 64, 2>,
        (4, 128) => steps::<T, 4, 128, 4>,
        (4, 256) => steps::<T, 4, 256, 8>,
        other => unreachable!("Layout::new refuses {other:?}"),
    };
    decode(tensor, flips, first_group, out)
}

/// Two groups of `N` elements, which are `BLOCKS` blocks, in each step.
#[target_feature(enable = "avx2")]
fn steps<T: Pod, const STORED_BITS: usize, const N: usize, const BLOCKS: usize>(
    tensor: &TqTensor,
    flips: &[T],
    first_group: usize,
    out: &mut [T],
) -> usize {
    const { assert!(size_of::<T>() == 2 || size_of::<T>() == 4) };
    let packed = &tensor.packed()[first_group * N * STORED_BITS / 8..];
    let scales = &tensor.scales().f16()[first_group..];
    let table = Table::new(tensor.codebook().centroids());
    let divide = Divide::new(N);
    let mut column = first_group % tensor.groups_per_row() * N;
    let mut next_flips = || {
        let group = &flips[column..][..N];
        column += N;
        if column == flips.len() {
            column = 0;
        }
        group
    };
    let mut x = [[_mm256_setzero_ps(); REGISTERS]; BLOCKS];
    let mut groups = 0;

    for ((out, packed), scales) in out
        .chunks_exact_mut(2 * N)
        .zip(packed.chunks_exact(2 * N * STORED_BITS / 8))
        .zip(scales.chunks_exact(2))
    {
        // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
        let scale = _mm256_set_m128(
            _mm_set1_ps(f16_to_f32(scales[1])),
            _mm_set1_ps(f16_to_f32(scales[0])),
        );
        let (low, high) = packed.split_at(N * STORED_BITS / 8);
        let block_bytes = BLOCK * STORED_BITS / 8;
        for ((x, low), high) in x
            .iter_mut()
            .zip(low.chunks_exact(block_bytes))
            .zip(high.chunks_exact(block_bytes))
        {
            *x = table.scaled(codes::<STORED_BITS>(low, high), scale);
        }
        // 4. inverse FWHT: butterflies, division by sqrt(n), sign. Loops of their own: in short chains of
        // dependent operations the CPU overlaps more of them.
        for x in &mut x {
            *x = butterflies_in_block(*x);
        }
        butterflies_across(&mut x);
        let flips = [next_flips(), next_flips()];
        let (low, high) = out.split_at_mut(N);
        if size_of::<T>() == 4 {
            finish_f32::<T, N, BLOCKS>(&x, &divide, flips, [low, high]);
        } else if finish_bf16::<T, N, BLOCKS, false>(&x, &divide, flips, [low, high]) {
            again::<T, N, BLOCKS>(&x, &divide, flips, [low, high]);
        }
        groups += 2;
    }
    groups
}

/// Strides 4, 8 and 16.
#[target_feature(enable = "avx2")]
#[inline]
fn butterflies_in_block(mut x: Block) -> Block {
    for (i, j) in const { pairs(4) } {
        (x[i], x[j]) = butterfly(x[i], x[j]);
    }
    // Lanes 4, 3 become 2, 4; register bit 2 becomes index bit 3. (A shuffle that puts even lanes
    // against odd ones would be compiled to horizontal additions, which are slow.)
    for (i, j) in const { pairs(4) } {
        let lower = _mm256_unpacklo_ps(x[i], x[j]);
        let upper = _mm256_unpackhi_ps(x[i], x[j]);
        (x[i], x[j]) = butterfly(lower, upper);
    }
    // Lanes 2, 4 become 1, 2; register bit 1 becomes index bit 4.
    for (i, j) in const { pairs(2) } {
        let lower = _mm256_unpacklo_ps(x[i], x[j]);
        let upper = _mm256_unpackhi_ps(x[i], x[j]);
        (x[i], x[j]) = butterfly(lower, upper);
    }
    x
}

/// Strides 32, 64 and 128, as far as the group has them.
#[target_feature(enable = "avx2")]
#[inline]
#[allow(clippy::needless_range_loop)] // register by register, so that each is loaded and stored once
fn butterflies_across<const BLOCKS: usize>(x: &mut [Block; BLOCKS]) {
    for r in 0..REGISTERS {
        let mut bit = 1;
        while bit < BLOCKS {
            for i in 0..BLOCKS {
                if i & bit == 0 {
                    (x[i][r], x[i | bit][r]) = butterfly(x[i][r], x[i | bit][r]);
                }
            }
            bit *= 2;
        }
    }
}

/// Lower lane `a + b`, upper lane `a - b`.
#[target_feature(enable = "avx2")]
#[inline]
fn butterfly(a: __m256, b: __m256) -> (__m256, __m256) {
    (_mm256_add_ps(a, b), _mm256_sub_ps(a, b))
}

/// 16 bytes into each half.
#[target_feature(enable = "avx2")]
#[inline]
fn sixteen(low: &[u8], high: &[u8]) -> __m256i {
    assert!(low.len() >= 16 && high.len() >= 16);
    // SAFETY: 16 readable bytes each, as just checked.
    unsafe { load(low, high, 0) }
}

/// 16 bytes from `at` on into each half.
///
/// # Safety
/// Both slices have 16 bytes there.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load<T: Pod>(low: &[T], high: &[T], at: usize) -> __m256i {
    debug_assert!(at * size_of::<T>() + 16 <= size_of_val(low).min(size_of_val(high)));
    // SAFETY: 16 readable bytes each, any alignment.
    unsafe { _mm256_loadu2_m128i(high.as_ptr().add(at).cast(), low.as_ptr().add(at).cast()) }
}

/// 16 bytes out of each half, to `at` on.
///
/// # Safety
/// Both slices have 16 bytes there.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store<T: Pod>(low: &mut [T], high: &mut [T], at: usize, x: __m256i) {
    debug_assert!(at * size_of::<T>() + 16 <= size_of_val(low).min(size_of_val(high)));
    let (low, high) = (low.as_mut_ptr(), high.as_mut_ptr());
    // SAFETY: 16 writable bytes each, any alignment, and `Pod` takes any bytes.
    unsafe { _mm256_storeu2_m128i(high.add(at).cast(), low.add(at).cast(), x) }
}
