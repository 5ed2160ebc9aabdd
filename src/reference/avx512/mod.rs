//! The AVX-512 rendering: the values of [`scalar`](mod@super::scalar), bit for bit. Each f32 operation of the
//! scalar text is done on the same two operands, up to the division; only their place differs.
//!
//! A block is 128 elements in eight registers: one group of 128, half a group of 256, two groups of 64 or
//! four of 32. Bits of an element's index say which register and which lane: bits 0, 1, 2 and 3, 4, 5, 6 to begin
//! with, since a lane of the codes holds eight consecutive ones. A butterfly over a register bit is an addition
//! and a subtraction of registers; a lane bit is first exchanged for a register bit. At the end the lanes are
//! bits 0, 1, 2, 3: a register is 16 consecutive elements.
//!
//! For codebooks with [`Codebook::exact_division`](crate::codebook::Codebook::exact_division) alone.

mod finish;

use super::shared::{REGISTERS, f16_to_f32, pairs};
use crate::tensor::TqTensor;
use bytemuck::Pod;
use finish::{Divide, round_by_instruction, round_by_integers, store_flipped};
use std::arch::x86_64::*;
use std::hint::black_box;

/// Elements of a block.
pub(in crate::reference) const BLOCK: usize = 128;

/// Lanes of a register.
const LANES: usize = 16;

type Block = [__m512; REGISTERS];

/// The same text for CPUs with and without the BF16 instructions: a function is made part of its caller, and
/// its values stay in registers, only where the caller may use all the instructions that it may use.
macro_rules! rendering {
    ($(#[$doc:meta])* $name:ident, $features:literal, $round:path) => {
        $(#[$doc])*
        ///
        /// Decodes the groups from `first_group` on, as many whole steps as `out` holds, and returns the
        /// groups decoded; `T` is BF16 or f32. `flips` is [`flips`](super::shared::flips) of `tensor`, with
        /// [`BLOCK`] beyond.
        #[target_feature(enable = $features)]
        pub(in crate::reference) fn $name<T: Pod>(
            tensor: &TqTensor,
            flips: &[T],
            first_group: usize,
            out: &mut [T],
        ) -> usize {
            let layout = tensor.layout();
            let decode = match (layout.stored_bits(), layout.group_size()) {
                (2, 32) => steps::<T, 2, 32, 1>,
                (2, 64) => steps::<T, 2, 64, 1>,
                (2, 128) => steps::<T, 2, 128, 1>,
                (2, 256) => steps::<T, 2, 256, 2>,
                (4, 32) => steps::<T, 4, 32, 1>,
                (4, 64) => steps::<T, 4, 64, 1>,
                (4, 128) => steps::<T, 4, 128, 1>,
                (4, 256) => steps::<T, 4, 256, 2>,
                other => unreachable!("Layout::new refuses {other:?}"),
            };
            return decode(tensor, flips, first_group, out);

            /// A block, or the `BLOCKS` blocks of a group, in each step.
            #[target_feature(enable = $features)]
            fn steps<T: Pod, const STORED_BITS: usize, const N: usize, const BLOCKS: usize>(
                tensor: &TqTensor,
                flips: &[T],
                first_group: usize,
                out: &mut [T],
            ) -> usize {
                const { assert!(size_of::<T>() == 2 || size_of::<T>() == 4) };
                const { assert!(BLOCKS * BLOCK % N == 0) };
                let step = BLOCKS * BLOCK;
                let packed = &tensor.packed()[first_group * N * STORED_BITS / 8..];
                // All at once: a scale then comes from memory into every lane by one load.
                let scales = &tensor.scales()[first_group..][..out.len() / N];
                let scales: Vec<f32> = scales.iter().map(|scale| f16_to_f32(*scale)).collect();
                let table = table(tensor.codebook().centroids());
                let divide = Divide::<N>::new();
                // Not known to the compiler, which would make plain additions of the sums.
                let one = _mm512_set1_ps(black_box(1.0));
                let cols = tensor.signs().len();
                let (mut column, turn) = (first_group * N % cols, step % cols);
                let mut groups = 0;

                for ((out, packed), scales) in out
                    .chunks_exact_mut(step)
                    .zip(packed.chunks_exact(step * STORED_BITS / 8))
                    .zip(scales.chunks_exact(step / N))
                {
                    // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
                    let mut x = [[_mm512_setzero_ps(); REGISTERS]; BLOCKS];
                    let bytes = packed.chunks_exact(BLOCK * STORED_BITS / 8);
                    for (x, packed) in x.iter_mut().zip(bytes) {
                        *x = scaled::<STORED_BITS, N>(packed, table, scales);
                    }
                    // 4. inverse FWHT: butterflies, division by sqrt(n), sign
                    for x in &mut x {
                        *x = butterflies_in_block::<N>(*x, one);
                    }
                    butterflies_across(&mut x, one);
                    let flips = &flips[column..][..step];
                    // What a register holds of the output: 16 f32, or 32 BF16.
                    let width = 64 / size_of::<T>();
                    for ((x, flips), out) in x
                        .as_flattened()
                        .chunks_exact(width / LANES)
                        .zip(flips.chunks_exact(width))
                        .zip(out.chunks_exact_mut(width))
                    {
                        let value = if let [a, b] = x {
                            $round(divide.by_root(*a), divide.by_root(*b))
                        } else {
                            _mm512_castps_si512(divide.by_root(x[0]))
                        };
                        store_flipped(value, flips, out);
                    }
                    column += turn;
                    if column >= cols {
                        column -= cols;
                    }
                    groups += step / N;
                }
                groups
            }
        }
    };
}

rendering! {
    /// For CPUs that round to BF16 by integer operations.
    groups, "avx512f,avx512bw", round_by_integers
}

rendering! {
    /// For CPUs with an instruction that rounds to BF16.
    groups_bf16, "avx512f,avx512bw,avx512bf16", round_by_instruction
}

/// The centroids, repeated where there are fewer than lanes, so that a lookup need not mask the bits above
/// a code of 2 bits.
#[target_feature(enable = "avx512f")]
fn table(centroids: &[f32]) -> __m512 {
    let mut all = [0.0; LANES];
    for (place, c) in all.iter_mut().zip(centroids.iter().cycle()) {
        *place = *c;
    }
    // SAFETY: 16 readable f32, any alignment.
    unsafe { _mm512_loadu_ps(all.as_ptr()) }
}

/// Steps 1 to 3 of a block.
#[target_feature(enable = "avx512f")]
#[inline]
fn scaled<const STORED_BITS: usize, const N: usize>(
    packed: &[u8],
    table: __m512,
    scales: &[f32],
) -> Block {
    let codes = codes::<STORED_BITS>(packed);
    let scale = scale::<N>(scales);
    // One group in the block: its 16 products serve all its elements.
    let table = if N < BLOCK {
        table
    } else {
        _mm512_mul_ps(table, scale)
    };
    let mut x = [_mm512_setzero_ps(); REGISTERS];
    for (k, x) in x.iter_mut().enumerate() {
        // A permute takes the lowest 4 bits of a lane.
        let code = _mm512_srlv_epi32(codes, _mm512_set1_epi32((k * STORED_BITS) as i32));
        *x = _mm512_permutexvar_ps(code, table);
        if N < BLOCK {
            *x = _mm512_mul_ps(*x, scale);
        }
    }
    x
}

/// The codes of a block, eight consecutive ones a lane, the first lowest.
#[target_feature(enable = "avx512f")]
#[inline]
fn codes<const STORED_BITS: usize>(packed: &[u8]) -> __m512i {
    assert!(packed.len() == BLOCK * STORED_BITS / 8);
    // SAFETY: as many readable bytes, any alignment: 64 for 4 bits, 32 for 2.
    unsafe {
        if STORED_BITS == 4 {
            _mm512_loadu_si512(packed.as_ptr().cast())
        } else {
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(packed.as_ptr().cast()))
        }
    }
}

/// The scale of each lane's group, of which a block has 4, 2 or 1.
#[target_feature(enable = "avx512f")]
#[inline]
fn scale<const N: usize>(scales: &[f32]) -> __m512 {
    if N >= BLOCK {
        return _mm512_set1_ps(scales[0]);
    }
    assert!(scales.len() == BLOCK / N && scales.len() <= 4);
    let each = |i: usize| scales[i % scales.len()];
    let four = _mm_setr_ps(each(0), each(1), each(2), each(3));
    let mut group = [0; LANES];
    for (lane, group) in group.iter_mut().enumerate() {
        *group = (lane * REGISTERS / N) as i32;
    }
    _mm512_permutexvar_ps(lanes(group), _mm512_castps128_ps512(four))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn lanes(of: [i32; LANES]) -> __m512i {
    // SAFETY: 64 readable bytes, any alignment.
    unsafe { _mm512_loadu_si512(of.as_ptr().cast()) }
}

/// Strides 1 to 64, as far as the group has them, and the elements into their order.
#[target_feature(enable = "avx512f")]
#[inline]
fn butterflies_in_block<const N: usize>(mut x: Block, one: __m512) -> Block {
    for (i, j) in const { pairs(1) } {
        (x[i], x[j]) = butterfly(x[i], x[j], one);
    }
    for (i, j) in const { pairs(2) } {
        (x[i], x[j]) = butterfly(x[i], x[j], one);
    }
    for (i, j) in const { pairs(4) } {
        (x[i], x[j]) = butterfly(x[i], x[j], one);
    }
    // Lanes 3, 4, 5, 6 become 4, 0, 5, 6; register bit 0 becomes index bit 3.
    for (i, j) in const { pairs(1) } {
        let (lower, upper) = exchange(x[i], x[j]);
        (x[i], x[j]) = butterfly(lower, upper, one);
    }
    // Lanes 4, 0, 5, 6 become 0, 1, 5, 6; register bit 1 becomes index bit 4.
    for (i, j) in const { pairs(2) } {
        let (lower, upper) = exchange(x[i], x[j]);
        (x[i], x[j]) = butterfly(lower, upper, one);
    }
    // Lanes 0, 1, 5, 6 become 0, 1, 6, 2; register bit 2 becomes index bit 5.
    for (i, j) in const { pairs(4) } {
        (x[i], x[j]) = exchange_fours(x[i], x[j]);
        if N > 32 {
            (x[i], x[j]) = butterfly(x[i], x[j], one);
        }
    }
    // Lanes 0, 1, 6, 2 become 0, 1, 2, 3; register bit 0 becomes index bit 6.
    for (i, j) in const { pairs(1) } {
        (x[i], x[j]) = exchange_fours(x[i], x[j]);
        if N > 64 {
            (x[i], x[j]) = butterfly(x[i], x[j], one);
        }
    }
    // The registers are bits 6, 4, 5.
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
    [x0, x2, x4, x6, x1, x3, x5, x7]
}

/// Exchanges bit 0 of the lane for the register, which becomes bit 1 of the lane, and that bit 0.
#[target_feature(enable = "avx512f")]
#[inline]
fn exchange(a: __m512, b: __m512) -> (__m512, __m512) {
    (
        _mm512_shuffle_ps::<0b10_00_10_00>(a, b),
        _mm512_shuffle_ps::<0b11_01_11_01>(a, b),
    )
}

/// Exchanges bit 2 of the lane for the register, which becomes bit 3 of the lane, and that bit 2.
#[target_feature(enable = "avx512f")]
#[inline]
fn exchange_fours(a: __m512, b: __m512) -> (__m512, __m512) {
    (
        _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
    )
}

/// Stride 128, where the group has it.
#[target_feature(enable = "avx512f")]
#[inline]
fn butterflies_across<const BLOCKS: usize>(x: &mut [Block; BLOCKS], one: __m512) {
    if let [first, second] = x.as_mut_slice() {
        for (a, b) in first.iter_mut().zip(second) {
            (*a, *b) = butterfly(*a, *b, one);
        }
    }
}

/// Lower lane `a + b`, upper lane `a - b`. The sum is made as `a * 1 + b`, which is the same: CPUs have units for
/// additions and others for products, and both are busy that way.
#[target_feature(enable = "avx512f")]
#[inline]
fn butterfly(a: __m512, b: __m512, one: __m512) -> (__m512, __m512) {
    (_mm512_fmadd_ps(a, one, b), _mm512_sub_ps(a, b))
}
