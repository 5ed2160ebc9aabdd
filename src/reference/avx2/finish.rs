//! The end of step 4: division by sqrt(n), sign, rounding to BF16.

use super::super::shared::REGISTERS;
use super::{BLOCK, Block, load, store};
use bytemuck::Pod;
use std::arch::x86_64::*;

/// The register pairs of a block after [`super::butterflies_in_block`]: the first of the two, and the
/// place in the block of the eight elements (of each group) that they hold.
const PAIRS: [(usize, usize); REGISTERS / 2] = [(0, 0), (4, 8), (2, 16), (6, 24)];

/// The division by `sqrt(n)`: f64 `x / sqrt(n)` rounded once to f32 in the scalar text.
pub(super) struct Divide {
    near: __m256,
    exact: __m256d,
}

impl Divide {
    #[target_feature(enable = "avx2")]
    pub(super) fn new(n: usize) -> Self {
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

/// The division and the signs, into f32; `flips` and `out` of each group.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn finish_f32<T: Pod, const N: usize, const BLOCKS: usize>(
    x: &[Block; BLOCKS],
    divide: &Divide,
    flips: [&[T]; 2],
    out: [&mut [T]; 2],
) {
    let [low, high] = out;
    assert!(flips.iter().all(|f| f.len() == N) && low.len() == N && high.len() == N);
    for (b, x) in x.iter().enumerate() {
        for (r, place) in PAIRS {
            let (even, odd) = (x[r], x[r + 1]);
            let (even, odd) = (divide.exact(even), divide.exact(odd));
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

/// The division, the rounding to BF16 (nearest, ties to even) and the signs; `flips` and `out` of each
/// group.
///
/// With `EXACT` the result is right. Without, one f32 multiplication stands for the division; it is at
/// most one f32 step off, which matters only next to the middle between two BF16 values: then the
/// function returns true, and its result must be made again with `EXACT`.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn finish_bf16<T: Pod, const N: usize, const BLOCKS: usize, const EXACT: bool>(
    x: &[Block; BLOCKS],
    divide: &Divide,
    flips: [&[T]; 2],
    out: [&mut [T]; 2],
) -> bool {
    let [low, high] = out;
    assert!(flips.iter().all(|f| f.len() == N) && low.len() == N && high.len() == N);
    let mut nearest = _mm256_set1_epi16(-1);
    for (b, x) in x.iter().enumerate() {
        for (r, place) in PAIRS {
            let (even, odd) = (x[r], x[r + 1]);
            let at = b * BLOCK + place;
            let eight = if EXACT {
                round(divide.exact(even), divide.exact(odd))
            } else {
                let (eight, steps) = round_off_middle(divide.near(even), divide.near(odd));
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
pub(super) fn again<T: Pod, const N: usize, const BLOCKS: usize>(
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
            // Where everything must run, tests/it/reference_simd.rs fails for want of AVX2.
            eprintln!("NOT RUN: division in AVX2: this CPU has no AVX2");
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
