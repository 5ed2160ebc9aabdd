//! The AVX2 rendering: the values of [`super::scalar`], bit for bit, two groups at a time. Each f32
//! operation of the scalar text is done on the same two operands; only their place differs.
//!
//! The low half of every register belongs to one group, the high half to the next. A half holds four
//! elements whose index differs in two bits, its *lanes*; the other index bits say which register. A
//! butterfly over a register bit is an addition and a subtraction of registers; a lane bit is first
//! exchanged for a register bit. The lanes are index bits 4 and 3 to begin with, so that strides 1, 2
//! and 4 need no exchange, and bits 1 and 2 at the end, so that one blend puts two registers of BF16
//! values together, consecutive.

use crate::tensor::TqTensor;
use bytemuck::Pod;
use half::f16;
use std::arch::x86_64::*;
use std::ops::Neg;

/// Elements of each of the two groups that are decoded together.
const BLOCK: usize = 32;

/// Registers of a block.
const REGISTERS: usize = 8;

/// A block in registers. Register bits 0, 1, 2 are index bits 0, 1, 2 at first, and 0, 4, 3 after
/// [`butterflies_in_block`].
type Block = [__m256; REGISTERS];

/// A register pair of a block after [`butterflies_in_block`], its first one, and the place in the block of
/// the eight elements (of each group) that it holds.
const PAIRS: [(usize, usize); REGISTERS / 2] = [(0, 0), (2, 16), (4, 8), (6, 24)];

/// The signs of a tensor's columns as bits to flip in the output.
pub(super) fn flips<T: Pod + Neg<Output = T>>(tensor: &TqTensor<'_>) -> Vec<T> {
    let zero = T::zeroed();
    let flip = |&sign: &i8| if sign < 0 { -zero } else { zero };
    tensor.signs().iter().map(flip).collect()
}

/// Decodes the groups from `first_group` on, two by two, as many as `out` holds, and returns the groups
/// decoded. `flips` is [`flips`] of `tensor`.
#[target_feature(enable = "avx2")]
pub(super) fn pairs_of_groups<T: Pod>(
    tensor: &TqTensor<'_>,
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
    tensor: &TqTensor<'_>,
    flips: &[T],
    first_group: usize,
    out: &mut [T],
) -> usize {
    let packed = &tensor.packed()[first_group * N * STORED_BITS / 8..];
    let scales = &tensor.scales()[first_group..];
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
            // 4. inverse FWHT: butterflies in blocks, then (in `finish`) butterflies across blocks,
            // division by sqrt(n), sign
            *x = table.scaled(codes::<STORED_BITS>(low, high), scale);
        }
        // A loop of its own: with shorter chains of dependent operations the CPU overlaps more of them.
        for x in &mut x {
            *x = butterflies_in_block(*x);
        }
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

/// A finite f16 as f32: its bits as those of an f32, which is then 2^112 too small; the product is exact.
#[inline]
fn f16_to_f32(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let small = f32::from_bits((bits & 0x8000) << 16 | (bits & 0x7FFF) << 13);
    small * f32::from_bits((112 + 127) << 23)
}

/// The codes of a block, those of even index and those of odd index, one a byte. In each half, bits 0
/// to 3 of a byte's place are index bits 4, 3, 1, 2.
#[target_feature(enable = "avx2")]
#[inline]
fn codes<const STORED_BITS: usize>(low: &[u8], high: &[u8]) -> [__m256i; 2] {
    if STORED_BITS == 4 {
        let order = _mm_setr_epi8(0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15);
        let bytes = _mm256_shuffle_epi8(sixteen(low, high), _mm256_broadcastsi128_si256(order));
        let mask = _mm256_set1_epi8(15);
        [
            _mm256_and_si256(bytes, mask),
            _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask),
        ]
    } else {
        // A byte holds codes of both values of index bit 1: it is taken twice, once shifted.
        let order = _mm_setr_epi8(0, 4, 2, 6, 0, 4, 2, 6, 1, 5, 3, 7, 1, 5, 3, 7);
        let shift = _mm_setr_epi32(0, 4, 0, 4);
        let bytes = _mm256_set_m128i(eight(high), eight(low));
        let bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(order));
        let bytes = _mm256_srlv_epi32(bytes, _mm256_broadcastsi128_si256(shift));
        let mask = _mm256_set1_epi8(3);
        [
            _mm256_and_si256(bytes, mask),
            _mm256_and_si256(_mm256_srli_epi16(bytes, 2), mask),
        ]
    }
}

/// The centroids as four tables of 16 bytes: byte 0 of each, byte 1 of each, ...
struct Table([__m256i; 4]);

impl Table {
    #[target_feature(enable = "avx2")]
    fn new(centroids: &[f32]) -> Self {
        let mut planes = [[0u8; 16]; 4];
        for (i, c) in centroids.iter().enumerate() {
            for (plane, byte) in planes.iter_mut().zip(c.to_le_bytes()) {
                plane[i] = byte;
            }
        }
        Self([
            sixteen(&planes[0], &planes[0]),
            sixteen(&planes[1], &planes[1]),
            sixteen(&planes[2], &planes[2]),
            sixteen(&planes[3], &planes[3]),
        ])
    }

    /// Centroid lookup, scale and strides 1 and 2 of a block; register bits 0, 1, 2 are index bits 0, 1,
    /// 2. Half a block at a time: shuffles and additions go to different units, and alternate.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn scaled(&self, [even, odd]: [__m256i; 2], scale: __m256) -> Block {
        let even = self.bytes(even);
        let odd = self.bytes(odd);
        let [x0, x1, x2, x3] = scaled_half(
            [
                _mm256_unpacklo_epi8(even[0], even[1]),
                _mm256_unpacklo_epi8(even[2], even[3]),
            ],
            [
                _mm256_unpacklo_epi8(odd[0], odd[1]),
                _mm256_unpacklo_epi8(odd[2], odd[3]),
            ],
            scale,
        );
        let [x4, x5, x6, x7] = scaled_half(
            [
                _mm256_unpackhi_epi8(even[0], even[1]),
                _mm256_unpackhi_epi8(even[2], even[3]),
            ],
            [
                _mm256_unpackhi_epi8(odd[0], odd[1]),
                _mm256_unpackhi_epi8(odd[2], odd[3]),
            ],
            scale,
        );
        [x0, x1, x2, x3, x4, x5, x6, x7]
    }

    /// Byte 0 of each code's centroid, byte 1, ...
    #[target_feature(enable = "avx2")]
    #[inline]
    fn bytes(&self, codes: __m256i) -> [__m256i; 4] {
        [
            _mm256_shuffle_epi8(self.0[0], codes),
            _mm256_shuffle_epi8(self.0[1], codes),
            _mm256_shuffle_epi8(self.0[2], codes),
            _mm256_shuffle_epi8(self.0[3], codes),
        ]
    }
}

/// Puts the lower and upper 16 bits of centroids together, scales, and does strides 1 and 2.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled_half(even: [__m256i; 2], odd: [__m256i; 2], scale: __m256) -> [__m256; 4] {
    let centroid = _mm256_castsi256_ps(_mm256_unpacklo_epi16(even[0], even[1]));
    let x0 = _mm256_mul_ps(centroid, scale);
    let centroid = _mm256_castsi256_ps(_mm256_unpacklo_epi16(odd[0], odd[1]));
    let x1 = _mm256_mul_ps(centroid, scale);
    let (x0, x1) = butterfly(x0, x1);
    let centroid = _mm256_castsi256_ps(_mm256_unpackhi_epi16(even[0], even[1]));
    let x2 = _mm256_mul_ps(centroid, scale);
    let centroid = _mm256_castsi256_ps(_mm256_unpackhi_epi16(odd[0], odd[1]));
    let x3 = _mm256_mul_ps(centroid, scale);
    let (x2, x3) = butterfly(x2, x3);
    let (x0, x2) = butterfly(x0, x2);
    let (x1, x3) = butterfly(x1, x3);
    [x0, x1, x2, x3]
}

/// Strides 4, 8 and 16.
#[target_feature(enable = "avx2")]
#[inline]
fn butterflies_in_block(mut x: Block) -> Block {
    for (i, j) in pairs(4) {
        (x[i], x[j]) = butterfly(x[i], x[j]);
    }
    // Lanes 4, 3 become 2, 4; register bit 2 becomes index bit 3. (A shuffle that puts even lanes
    // against odd ones would be compiled to horizontal additions, which are slow.)
    for (i, j) in pairs(4) {
        let lower = _mm256_unpacklo_ps(x[i], x[j]);
        let upper = _mm256_unpackhi_ps(x[i], x[j]);
        (x[i], x[j]) = butterfly(lower, upper);
    }
    // Lanes 2, 4 become 1, 2; register bit 1 becomes index bit 4.
    for (i, j) in pairs(2) {
        let lower = _mm256_unpacklo_ps(x[i], x[j]);
        let upper = _mm256_unpackhi_ps(x[i], x[j]);
        (x[i], x[j]) = butterfly(lower, upper);
    }
    x
}

/// Registers `i` and `i | bit` for every `i` without `bit`.
const fn pairs(bit: usize) -> [(usize, usize); REGISTERS / 2] {
    let mut pairs = [(0, 0); REGISTERS / 2];
    let (mut i, mut k) = (0, 0);
    while i < REGISTERS {
        if i & bit == 0 {
            pairs[k] = (i, i | bit);
            k += 1;
        }
        i += 1;
    }
    pairs
}

/// Register `r` of every block after strides 32, 64 and 128, as far as the group has them.
#[target_feature(enable = "avx2")]
#[inline]
fn butterflies_across<const BLOCKS: usize>(x: &[Block; BLOCKS], r: usize) -> [__m256; BLOCKS] {
    let mut y = [_mm256_setzero_ps(); BLOCKS];
    for (y, x) in y.iter_mut().zip(x) {
        *y = x[r];
    }
    let mut bit = 1;
    while bit < BLOCKS {
        for i in 0..BLOCKS {
            if i & bit == 0 {
                (y[i], y[i | bit]) = butterfly(y[i], y[i | bit]);
            }
        }
        bit *= 2;
    }
    y
}

/// Lower lane `a + b`, upper lane `a - b`.
#[target_feature(enable = "avx2")]
#[inline]
fn butterfly(a: __m256, b: __m256) -> (__m256, __m256) {
    (_mm256_add_ps(a, b), _mm256_sub_ps(a, b))
}

/// The division by `sqrt(n)`: f64 `x / sqrt(n)` rounded once to f32 in the scalar text.
struct Divide {
    near: __m256,
    exact: __m256d,
}

impl Divide {
    #[target_feature(enable = "avx2")]
    fn new(n: usize) -> Self {
        let inverse = 1.0 / (n as f64).sqrt();
        Self {
            near: _mm256_set1_ps(inverse as f32),
            exact: _mm256_set1_pd(inverse),
        }
    }

    /// At most one f32 step from the quotient. A test goes through every significand.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn near(&self, x: __m256) -> __m256 {
        _mm256_mul_ps(x, self.near)
    }

    /// The quotient, by an f64 multiplication that after rounding to f32 gives what the f64 division
    /// gives. A test goes through every significand.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn exact(&self, x: __m256) -> __m256 {
        let low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
        let high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
        _mm256_set_m128(
            _mm256_cvtpd_ps(_mm256_mul_pd(high, self.exact)),
            _mm256_cvtpd_ps(_mm256_mul_pd(low, self.exact)),
        )
    }
}

/// The last butterflies, the division and the signs, into f32; `flips` and `out` of each group.
#[target_feature(enable = "avx2")]
#[inline]
fn finish_f32<T: Pod, const N: usize, const BLOCKS: usize>(
    x: &[Block; BLOCKS],
    divide: &Divide,
    flips: [&[T]; 2],
    out: [&mut [T]; 2],
) {
    let [low, high] = out;
    assert!(flips.iter().all(|f| f.len() == N) && low.len() == N && high.len() == N);
    for (r, place) in PAIRS {
        let even = butterflies_across(x, r);
        let odd = butterflies_across(x, r + 1);
        for b in 0..BLOCKS {
            let (even, odd) = (divide.exact(even[b]), divide.exact(odd[b]));
            let four = [_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd)];
            for (j, four) in four.into_iter().enumerate() {
                let at = b * BLOCK + place + 4 * j;
                // SAFETY: `at` is at most N - 4, and four f32 are 16 bytes.
                let flips = unsafe { load(flips[0], flips[1], at) };
                let four = _mm256_xor_si256(_mm256_castps_si256(four), flips);
                // SAFETY: as above.
                unsafe { store(low, high, at, four) };
            }
        }
    }
}

/// The last butterflies, the division, the rounding to BF16 (nearest, ties to even) and the signs;
/// `flips` and `out` of each group.
///
/// With `EXACT` the result is right. Without, one f32 multiplication stands for the division; it is at
/// most one f32 step off, which matters only next to the middle between two BF16 values: then the
/// function returns true, and its result must be made again with `EXACT`.
#[target_feature(enable = "avx2")]
#[inline]
fn finish_bf16<T: Pod, const N: usize, const BLOCKS: usize, const EXACT: bool>(
    x: &[Block; BLOCKS],
    divide: &Divide,
    flips: [&[T]; 2],
    out: [&mut [T]; 2],
) -> bool {
    let [low, high] = out;
    assert!(flips.iter().all(|f| f.len() == N) && low.len() == N && high.len() == N);
    let mut nearest = _mm256_set1_epi16(-1);
    for (r, place) in PAIRS {
        let even = butterflies_across(x, r);
        let odd = butterflies_across(x, r + 1);
        for b in 0..BLOCKS {
            let at = b * BLOCK + place;
            let eight = if EXACT {
                round(divide.exact(even[b]), divide.exact(odd[b]))
            } else {
                let (eight, steps) = round_off_middle(divide.near(even[b]), divide.near(odd[b]));
                nearest = _mm256_min_epu16(nearest, steps);
                eight
            };
            // SAFETY: `at` is at most N - 8, and eight BF16 are 16 bytes.
            let flips = unsafe { load(flips[0], flips[1], at) };
            let eight = _mm256_xor_si256(eight, flips);
            // SAFETY: as above.
            unsafe { store(low, high, at, eight) };
        }
    }
    !EXACT && at_a_middle(nearest)
}

/// [`finish_bf16`] with `EXACT`: about one pair of groups of 128 in 85.
#[target_feature(enable = "avx2")]
#[cold]
#[inline(never)]
fn again<T: Pod, const N: usize, const BLOCKS: usize>(
    x: &[Block; BLOCKS],
    divide: &Divide,
    flips: [&[T]; 2],
    out: [&mut [T]; 2],
) {
    finish_bf16::<T, N, BLOCKS, true>(x, divide, flips, out);
}

/// Rounds to BF16, nearest, ties to even; `even` and `odd` interleaved.
#[target_feature(enable = "avx2")]
#[inline]
fn round(even: __m256, odd: __m256) -> __m256i {
    upper_halves(carry(even), carry(odd))
}

/// Adds what carries into the upper 16 bits when the value rounds away from zero.
#[target_feature(enable = "avx2")]
#[inline]
fn carry(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), last)
}

/// Rounds to BF16 what is more than one f32 step from the middle between two BF16 values. The second
/// result is, as unsigned 16 bits, the steps by which a value is above one step under a middle: 0, 1, 2
/// say that it is not so.
#[target_feature(enable = "avx2")]
#[inline]
fn round_off_middle(even: __m256, odd: __m256) -> (__m256i, __m256i) {
    let carry = _mm256_set1_epi32(0x8001);
    let even = _mm256_add_epi32(_mm256_castps_si256(even), carry);
    let odd = _mm256_add_epi32(_mm256_castps_si256(odd), carry);
    let steps = _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0b1010_1010);
    (upper_halves(even, odd), steps)
}

/// The upper 16 bits of each, interleaved.
#[target_feature(enable = "avx2")]
#[inline]
fn upper_halves(even: __m256i, odd: __m256i) -> __m256i {
    _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0b1010_1010)
}

/// Whether some steps of [`round_off_middle`] say that a value is within one step of a middle.
#[target_feature(enable = "avx2")]
#[inline]
fn at_a_middle(steps: __m256i) -> bool {
    let within = _mm256_min_epu16(steps, _mm256_set1_epi16(2));
    _mm256_movemask_epi8(_mm256_cmpeq_epi16(within, steps)) != 0
}

/// Eight bytes, for 2-bit codes.
#[target_feature(enable = "avx2")]
#[inline]
fn eight(bytes: &[u8]) -> __m128i {
    let bytes = &bytes[..8];
    // SAFETY: eight readable bytes, any alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Simd;
    use crate::tensor::GROUP_SIZES;
    use half::bf16;
    use rayon::prelude::*;

    /// Every positive f32 of the exponent field `exponent`, eight at a time; 0 is zero and subnormals.
    fn significands(exponent: u32) -> impl ParallelIterator<Item = [f32; 8]> {
        (0..1u32 << 20).into_par_iter().map(move |i| {
            std::array::from_fn(|k| f32::from_bits(exponent << 23 | i << 3 | k as u32))
        })
    }

    /// Exponents to go through: all whose quotient can be subnormal; two in the middle, which are 2^24
    /// significands, since sqrt(32) and sqrt(128) are odd powers of sqrt(2); the largest that centroids
    /// and scales can give, 2^40, and the largest there is. Elsewhere only the result's exponent differs.
    fn exponents() -> impl Iterator<Item = u32> {
        (0..=5).chain([126, 127, 167, 254])
    }

    #[test]
    fn division_and_rounding_are_right_for_every_significand() {
        if Simd::detect() == Simd::OFF {
            eprintln!("NOT RUN: division in AVX2: this CPU has no AVX2");
            let required = std::env::var_os("TQ4_REQUIRE").is_some_and(|v| !v.is_empty());
            assert!(!required, "AVX2 is required by TQ4_REQUIRE");
            return;
        }
        for n in GROUP_SIZES {
            for exponent in exponents() {
                significands(exponent).for_each(|x| {
                    // SAFETY: the CPU has AVX2, as just asked.
                    let got = unsafe { divide_and_round(x, n) };
                    for (i, x) in x.into_iter().enumerate() {
                        let want = (f64::from(x) / (n as f64).sqrt()) as f32;
                        let want_bf16 = bf16::from_f32(want).to_bits();
                        assert_eq!(got.exact[i].to_bits(), want.to_bits(), "{x:e}, {n}");
                        let off = got.near[i].to_bits().abs_diff(want.to_bits());
                        assert!(off <= 1, "{x:e}, {n}: {off} steps");
                        assert_eq!(got.exact_bf16[i], want_bf16, "{x:e}, {n}");
                        assert!(
                            got.again || got.near_bf16[i] == want_bf16,
                            "{x:e}, {n}: {:x} and not made again",
                            got.near_bf16[i]
                        );
                    }
                });
            }
        }
    }

    /// Eight values over `sqrt(n)`.
    struct Quotients {
        exact: [f32; 8],
        near: [f32; 8],
        exact_bf16: [u16; 8],
        near_bf16: [u16; 8],
        /// Whether `near_bf16` must be made again.
        again: bool,
    }

    #[target_feature(enable = "avx2")]
    fn divide_and_round(x: [f32; 8], n: usize) -> Quotients {
        let divide = Divide::new(n);
        let (exact, near) = (
            divide.exact(bytemuck::cast(x)),
            divide.near(bytemuck::cast(x)),
        );
        let (near_bf16, steps) = round_off_middle(near, near);
        Quotients {
            exact: bytemuck::cast(exact),
            near: bytemuck::cast(near),
            exact_bf16: once(round(exact, exact)),
            near_bf16: once(near_bf16),
            again: at_a_middle(steps),
        }
    }

    /// One of each pair of equal values.
    fn once(pairs: __m256i) -> [u16; 8] {
        bytemuck::cast::<_, [[u16; 2]; 8]>(pairs).map(|[even, odd]| {
            assert_eq!(even, odd);
            even
        })
    }
}
