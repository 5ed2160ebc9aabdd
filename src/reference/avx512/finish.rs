//! The end of step 4: division by sqrt(n), sign, rounding to BF16.

use super::LANES;
use bytemuck::Pod;
use std::arch::x86_64::*;

/// The division by `sqrt(N)`, which in the scalar text is f64 `x / sqrt(N)` rounded once to f32: `1 / sqrt(N)`
/// as the sum of two f32.
pub(super) struct Divide<const N: usize> {
    high: __m512,
    low: __m512,
}

impl<const N: usize> Divide<N> {
    #[target_feature(enable = "avx512f")]
    pub(super) fn new() -> Self {
        let inverse = 1.0 / (N as f64).sqrt();
        let high = inverse as f32;
        Self {
            high: _mm512_set1_ps(high),
            low: _mm512_set1_ps((inverse - f64::from(high)) as f32),
        }
    }

    /// The quotient, of zeros and of values from 2^-100 on: `docs/kernels.md`. A test goes through every
    /// significand.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn by_root(&self, x: __m512) -> __m512 {
        // The root is a power of two: `low` is 0.
        if N.ilog2().is_multiple_of(2) {
            return _mm512_mul_ps(x, self.high);
        }
        _mm512_fmadd_ps(x, self.high, _mm512_mul_ps(x, self.low))
    }
}

/// Flips the signs of a register and stores it, `past_caches` or not.
///
/// # Safety
/// If `past_caches`, `out` begins at a multiple of 64 bytes, and the thread fences its stores before another reads them.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn store_flipped<T: Pod>(
    x: __m512i,
    flips: &[T],
    out: &mut [T],
    past_caches: bool,
) {
    assert!(size_of_val(flips) == 64 && size_of_val(out) == 64);
    // SAFETY: 64 readable and 64 writable bytes, and `Pod` takes any bytes; any alignment, or that of `out` as
    // promised.
    unsafe {
        let flips = _mm512_loadu_si512(flips.as_ptr().cast());
        let flipped = _mm512_xor_si512(x, flips);
        if past_caches {
            _mm512_stream_si512(out.as_mut_ptr().cast(), flipped);
        } else {
            _mm512_storeu_si512(out.as_mut_ptr().cast(), flipped);
        }
    }
}

/// Rounds to BF16, nearest, ties to even; the values of `a`, then those of `b`.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn round_by_integers(a: __m512, b: __m512) -> __m512i {
    let mut upper_halves = [0i16; 2 * LANES];
    for (i, half) in upper_halves.iter_mut().enumerate() {
        *half = 2 * i as i16 + 1;
    }
    // SAFETY: 64 readable bytes, any alignment.
    let upper_halves = unsafe { _mm512_loadu_si512(upper_halves.as_ptr().cast()) };
    _mm512_permutex2var_epi16(carry(a), upper_halves, carry(b))
}

/// Adds what carries into the upper 16 bits when the value rounds away from zero.
#[target_feature(enable = "avx512f")]
#[inline]
fn carry(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), last)
}

/// [`round_by_integers`] by the one instruction. It takes subnormal values for zeros, and there are none.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
pub(super) fn round_by_instruction(a: __m512, b: __m512) -> __m512i {
    // SAFETY: both are 64 bytes of any value.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use rayon::prelude::*;
    use std::arch::is_x86_feature_detected;

    /// Exponent fields to go through: the first that the division is right for and those after it; the least
    /// that sums can have, 2^-97; one in the middle; the largest that centroids and scales can give, 2^40.
    const EXPONENTS: [u32; 7] = [27, 28, 29, 30, 31, 127, 167];

    #[test]
    fn division_and_rounding_are_right_for_every_significand() {
        if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx512bw") {
            eprintln!("NOT RUN: division in AVX-512: this CPU has no AVX-512");
            return;
        }
        of_groups_of::<32>();
        of_groups_of::<64>();
        of_groups_of::<128>();
        of_groups_of::<256>();
    }

    fn of_groups_of<const N: usize>() {
        let bf16_instruction = is_x86_feature_detected!("avx512bf16");
        for exponent in EXPONENTS {
            (0..1u32 << 19).into_par_iter().for_each(|i| {
                let x: [f32; LANES] = std::array::from_fn(|k| {
                    let sign = (k as u32 & 1) << 31;
                    f32::from_bits(sign | exponent << 23 | i << 4 | k as u32)
                });
                check::<N>(x, bf16_instruction);
            });
        }
        check::<N>([0.0; LANES], bf16_instruction);
        check::<N>([-0.0; LANES], bf16_instruction);
    }

    fn check<const N: usize>(x: [f32; LANES], bf16_instruction: bool) {
        // SAFETY: the CPU has AVX-512 F and BW, as the test has asked.
        let (got, mut got_bf16) = unsafe { divide_and_round::<N>(x) };
        let want = x.map(|x| (f64::from(x) / (N as f64).sqrt()) as f32);
        assert_eq!(got.map(f32::to_bits), want.map(f32::to_bits), "{x:?}, {N}");
        let want = want.map(|want| bf16::from_f32(want).to_bits());
        assert_eq!(got_bf16, [want, want], "{x:?}, {N}");
        if bf16_instruction {
            // SAFETY: it has the BF16 instructions too.
            got_bf16 = unsafe { round_once(got) };
            assert_eq!(got_bf16, [want, want], "{x:?}, {N}");
        }
    }

    /// Values over `sqrt(N)`, and as BF16, twice.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn divide_and_round<const N: usize>(x: [f32; LANES]) -> ([f32; LANES], [[u16; LANES]; 2]) {
        // SAFETY: 64 readable bytes, any alignment.
        let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
        let quotient = Divide::<N>::new().by_root(x);
        let (mut single, mut half) = ([0.0; LANES], [0; 2 * LANES]);
        let rounded = round_by_integers(quotient, quotient);
        // SAFETY: nothing is streamed.
        unsafe {
            let quotient = _mm512_castps_si512(quotient);
            store_flipped(quotient, &[0.0f32; LANES], &mut single, false);
            store_flipped(rounded, &[0u16; 2 * LANES], &mut half, false);
        }
        (
            single,
            [
                half[..LANES].try_into().unwrap(),
                half[LANES..].try_into().unwrap(),
            ],
        )
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn round_once(x: [f32; LANES]) -> [[u16; LANES]; 2] {
        // SAFETY: 64 readable bytes, any alignment.
        let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
        let mut half = [0; 2 * LANES];
        // SAFETY: nothing is streamed.
        unsafe {
            store_flipped(
                round_by_instruction(x, x),
                &[0u16; 2 * LANES],
                &mut half,
                false,
            );
        }
        [
            half[..LANES].try_into().unwrap(),
            half[LANES..].try_into().unwrap(),
        ]
    }
}
