//! The AVX-512 rendering: the values of [`scalar`](mod@super::scalar), bit for bit. Each f32 operation of the
//! scalar text is done on the same two operands, up to the division; only their place differs.
//!
//! A block is 128 elements in eight registers: one group of 128, half a group of 256, two groups of 64 or
//! four of 32. Bits of an element's index say which register and which lane: bits 0, 1, 2 and 3, 4, 5, 6 to begin
//! with, since a lane of the codes holds eight consecutive ones. A butterfly over a register bit is an addition
//! and a subtraction of registers; a lane bit is first exchanged for a register bit. At the end the lanes are
//! bits 0, 1, 2, 3: a register is 16 consecutive elements.
//!
//! What a block goes through hangs on latencies: each butterfly waits for the one before. So up to three blocks
//! are under way at once, and a part of one is followed by a part of another.
//!
//! For codebooks with [`Codebook::exact_division`](crate::codebook::Codebook::exact_division) alone.

mod finish;

use super::LINE;
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

/// Parts of what is done to a block at a time, each to two registers.
const PARTS: usize = REGISTERS / 2;

type Block = [__m512; REGISTERS];

/// The same text for CPUs with and without the BF16 instructions: a function is made part of its caller, and
/// its values stay in registers, only where the caller may use all the instructions that it may use.
macro_rules! rendering {
    ($(#[$doc:meta])* $name:ident, $features:literal, $round:path) => {
        $(#[$doc])*
        ///
        /// Decodes the groups from `first_group` on, as many whole blocks as `out` holds, and returns the
        /// groups decoded; `T` is BF16 or f32. `flips` is [`flips`](super::shared::flips) of `tensor`, with
        /// [`BLOCK`] beyond. If `STREAM`, values go past the caches, as [`is_streamed`] says.
        ///
        /// # Panics
        /// If `STREAM` and `out` does not begin at a multiple of [`LINE`] bytes.
        #[target_feature(enable = $features)]
        pub(in crate::reference) fn $name<T: Pod, const STREAM: bool>(
            tensor: &TqTensor,
            flips: &[T],
            first_group: usize,
            out: &mut [T],
        ) -> usize {
            let layout = tensor.layout();
            let decode = match (layout.stored_bits(), layout.group_size()) {
                (2, 32) => blocks::<T, STREAM, 2, 32>,
                (2, 64) => blocks::<T, STREAM, 2, 64>,
                (2, 128) => blocks::<T, STREAM, 2, 128>,
                (2, 256) => pairs_of_blocks::<T, STREAM, 2>,
                (4, 32) => blocks::<T, STREAM, 4, 32>,
                (4, 64) => blocks::<T, STREAM, 4, 64>,
                (4, 128) => blocks::<T, STREAM, 4, 128>,
                (4, 256) => pairs_of_blocks::<T, STREAM, 4>,
                other => unreachable!("Layout::new refuses {other:?}"),
            };
            assert!(!STREAM || out.as_ptr().addr().is_multiple_of(LINE));
            let groups = decode(tensor, flips, first_group, out);
            if STREAM {
                // Before another thread is told that the values are there.
                _mm_sfence();
            }
            return groups;

            /// Groups of up to a block. In each turn a block begins, the one before it is halfway, and the one
            /// before that ends.
            #[target_feature(enable = $features)]
            fn blocks<T: Pod, const STREAM: bool, const STORED_BITS: usize, const N: usize>(
                tensor: &TqTensor,
                flips: &[T],
                first_group: usize,
                out: &mut [T],
            ) -> usize {
                let blocks = out.len() / BLOCK;
                let input = Input::<STORED_BITS, N>::new(tensor, first_group, out.len());
                let divide = Divide::<N>::new();
                // Not known to the compiler, which would make plain additions of the sums.
                let one = _mm512_set1_ps(black_box(1.0));
                let cols = tensor.signs().len();
                let (mut column, step) = (first_group * N % cols, BLOCK % cols);
                let [mut first, mut second, mut third] = [[_mm512_setzero_ps(); REGISTERS]; 3];

                for turn in 0..if blocks == 0 { 0 } else { blocks + 2 } {
                    if turn > 2 {
                        column += step;
                        if column >= cols {
                            column -= cols;
                        }
                    }
                    // The last block begins thrice, and only the first of these ends.
                    let codes = input.block(turn.min(blocks - 1));
                    // In the first two turns there is nothing to end: the third writes over it.
                    let ending = turn.saturating_sub(2);
                    let out = &mut out[ending * BLOCK..][..BLOCK];
                    let flips = &flips[column..][..BLOCK];
                    // No branch from here on: the compiler would sink what the next turn takes to behind it.
                    for part in 0..PARTS {
                        stage::<6, N>(&mut third, part, one);
                        codes.look_up(&mut first, part);
                        stage::<2, N>(&mut second, part, one);
                    }
                    for part in 0..PARTS {
                        stage::<3, N>(&mut second, part, one);
                        stage::<0, N>(&mut first, part, one);
                    }
                    for part in 0..PARTS {
                        stage::<4, N>(&mut second, part, one);
                        finish::<T, STREAM, N>(&third, part, &divide, flips, out);
                    }
                    for part in 0..PARTS {
                        stage::<5, N>(&mut second, part, one);
                        stage::<1, N>(&mut first, part, one);
                    }
                    (third, second) = (second, first);
                }
                blocks * BLOCK / N
            }

            /// Groups of 256.
            #[target_feature(enable = $features)]
            fn pairs_of_blocks<T: Pod, const STREAM: bool, const STORED_BITS: usize>(
                tensor: &TqTensor,
                flips: &[T],
                first_group: usize,
                out: &mut [T],
            ) -> usize {
                let input = Input::<STORED_BITS, 256>::new(tensor, first_group, out.len());
                let divide = Divide::<256>::new();
                let one = _mm512_set1_ps(black_box(1.0));
                let cols = tensor.signs().len();
                let mut column = first_group * 256 % cols;
                let groups = out.len() / 256;

                for (group, out) in out.chunks_exact_mut(256).enumerate() {
                    let mut x = [[_mm512_setzero_ps(); REGISTERS]; 2];
                    for (i, x) in x.iter_mut().enumerate() {
                        let codes = input.block(2 * group + i);
                        for part in 0..PARTS {
                            codes.look_up(x, part);
                        }
                    }
                    both::<0>(&mut x, one);
                    both::<1>(&mut x, one);
                    both::<2>(&mut x, one);
                    both::<3>(&mut x, one);
                    both::<4>(&mut x, one);
                    both::<5>(&mut x, one);
                    both::<6>(&mut x, one);
                    let [first, second] = &mut x;
                    for (a, b) in first.iter_mut().zip(second) {
                        (*a, *b) = butterfly(*a, *b, one);
                    }
                    let flips = flips[column..][..256].chunks_exact(BLOCK);
                    for ((x, flips), out) in x.iter().zip(flips).zip(out.chunks_exact_mut(BLOCK)) {
                        for part in 0..PARTS {
                            finish::<T, STREAM, 256>(x, part, &divide, flips, out);
                        }
                    }
                    column = (column + 256) % cols;
                }
                groups
            }

            /// Divides, rounds, flips and stores a part of a block.
            #[target_feature(enable = $features)]
            #[inline]
            fn finish<T: Pod, const STREAM: bool, const N: usize>(
                x: &Block,
                part: usize,
                divide: &Divide<N>,
                flips: &[T],
                out: &mut [T],
            ) {
                const { assert!(size_of::<T>() == 2 || size_of::<T>() == 4) };
                const { assert!(BLOCK / PARTS == 2 * LANES) };
                let (i, j) = [(0, 2), (4, 6), (1, 3), (5, 7)][part];
                let (a, b) = (divide.by_root(x[i]), divide.by_root(x[j]));
                let flips = &flips[part * 2 * LANES..][..2 * LANES];
                let out = &mut out[part * 2 * LANES..][..2 * LANES];
                // SAFETY: parts of a block are multiples of a line after the first, whose place was checked; the
                // stores are fenced at the end.
                unsafe {
                    if size_of::<T>() == 2 {
                        let stream = STREAM && is_streamed(part);
                        store_flipped($round(a, b), flips, out, stream);
                    } else {
                        let stream = [2 * part, 2 * part + 1].map(|line| STREAM && is_streamed(line));
                        let (flips, out) = (flips.split_at(LANES), out.split_at_mut(LANES));
                        store_flipped(_mm512_castps_si512(a), flips.0, out.0, stream[0]);
                        store_flipped(_mm512_castps_si512(b), flips.1, out.1, stream[1]);
                    }
                }
            }
        }
    };
}

/// Whether a line of a block's output goes past the caches, where lines do: three of four, which was fast whatever else
/// the memory did (measured: `docs/kernels.md`).
const fn is_streamed(line: usize) -> bool {
    line % 4 != 3
}

rendering! {
    /// For CPUs that round to BF16 by integer operations.
    groups, "avx512f,avx512bw", round_by_integers
}

rendering! {
    /// For CPUs with an instruction that rounds to BF16.
    groups_bf16, "avx512f,avx512bw,avx512bf16", round_by_instruction
}

/// What is decoded.
struct Input<'a, const STORED_BITS: usize, const N: usize> {
    packed: &'a [u8],
    /// All as f32 at once: a scale then comes from memory into every lane by one load.
    scales: Vec<f32>,
    /// The centroids, repeated where there are fewer than lanes, so that a lookup need not mask the bits above
    /// a code of 2 bits.
    table: __m512,
}

/// A block to decode.
struct Codes<const STORED_BITS: usize, const N: usize> {
    codes: __m512i,
    table: __m512,
    scale: __m512,
}

impl<'a, const STORED_BITS: usize, const N: usize> Input<'a, STORED_BITS, N> {
    #[target_feature(enable = "avx512f")]
    fn new(tensor: &'a TqTensor, first_group: usize, elements: usize) -> Self {
        let scales = &tensor.scales().f16()[first_group..][..elements / N];
        let mut all = [0.0; LANES];
        let centroids = tensor.codebook().centroids();
        for (place, c) in all.iter_mut().zip(centroids.iter().cycle()) {
            *place = *c;
        }
        Self {
            packed: &tensor.packed()[first_group * N * STORED_BITS / 8..],
            scales: scales.iter().map(|scale| f16_to_f32(*scale)).collect(),
            // SAFETY: 16 readable f32, any alignment.
            table: unsafe { _mm512_loadu_ps(all.as_ptr()) },
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn block(&self, block: usize) -> Codes<STORED_BITS, N> {
        let bytes = BLOCK * STORED_BITS / 8;
        let scale = scale::<N>(&self.scales[block * BLOCK / N..]);
        Codes {
            codes: codes::<STORED_BITS>(&self.packed[block * bytes..][..bytes]),
            // One group in the block: its 16 products serve all its elements.
            table: if N < BLOCK {
                self.table
            } else {
                _mm512_mul_ps(self.table, scale)
            },
            scale,
        }
    }
}

impl<const STORED_BITS: usize, const N: usize> Codes<STORED_BITS, N> {
    /// Steps 1 to 3 of a part of the block: unpack, centroid lookup, scale (one f32 rounding).
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn look_up(&self, x: &mut Block, part: usize) {
        for k in [2 * part, 2 * part + 1] {
            // A permute takes the lowest 4 bits of a lane.
            let shift = _mm512_set1_epi32((k * STORED_BITS) as i32);
            x[k] = _mm512_permutexvar_ps(_mm512_srlv_epi32(self.codes, shift), self.table);
            if N < BLOCK {
                x[k] = _mm512_mul_ps(x[k], self.scale);
            }
        }
    }
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
    let scales = &scales[..BLOCK / N];
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

/// A part of the butterflies of stride `1 << STAGE`, where the group has them, and of the way of the elements into
/// their order, in which the registers are bits 6, 4, 5 at the end:
///
/// | stage | exchanged | lanes, then | registers, then |
/// |---|---|---|---|
/// | 0, 1, 2 | | 3, 4, 5, 6 | 0, 1, 2 |
/// | 3 | lane bit 0, register bit 0 | 4, 0, 5, 6 | 3, 1, 2 |
/// | 4 | lane bit 0, register bit 1 | 0, 1, 5, 6 | 3, 4, 2 |
/// | 5 | lane bit 2, register bit 2 | 0, 1, 6, 2 | 3, 4, 5 |
/// | 6 | lane bit 2, register bit 0 | 0, 1, 2, 3 | 6, 4, 5 |
#[target_feature(enable = "avx512f")]
#[inline]
fn stage<const STAGE: usize, const N: usize>(x: &mut Block, part: usize, one: __m512) {
    let (i, j) = const { pairs([1, 2, 4, 1, 2, 4, 1][STAGE]) }[part];
    let (a, b) = match STAGE {
        0..3 => (x[i], x[j]),
        3 | 4 => exchange(x[i], x[j]),
        _ => exchange_fours(x[i], x[j]),
    };
    (x[i], x[j]) = if 1 << STAGE < N {
        butterfly(a, b, one)
    } else {
        (a, b)
    };
}

/// A stage of both blocks of a group of 256.
#[target_feature(enable = "avx512f")]
#[inline]
fn both<const STAGE: usize>(x: &mut [Block; 2], one: __m512) {
    for part in 0..PARTS {
        for x in &mut *x {
            stage::<STAGE, 256>(x, part, one);
        }
    }
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

/// Lower lane `a + b`, upper lane `a - b`. The sum is made as `a * 1 + b`, which is the same: CPUs have units for
/// additions and others for products, and both are busy that way.
#[target_feature(enable = "avx512f")]
#[inline]
fn butterfly(a: __m512, b: __m512, one: __m512) -> (__m512, __m512) {
    (_mm512_fmadd_ps(a, one, b), _mm512_sub_ps(a, b))
}
