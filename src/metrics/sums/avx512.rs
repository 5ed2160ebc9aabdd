//! The sums in AVX-512, sixteen elements at a time: the operations of [`ColumnSums::element`] on the same operands and in
//! the same order, so the same bits. Compilers keep to half the width when they make vectors by themselves.

use super::{ColumnSums, FloatElement, WIDTH};
use std::arch::x86_64::*;

/// Lanes of f32: two rows of columns.
const LANES: usize = 2 * WIDTH;

/// Whether this machine has the instructions, and the elements are of types that are written out here.
pub(super) fn serves<L: FloatElement, R: FloatElement>() -> bool {
    !L::F16
        && !R::F16
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
}

/// Adds as many whole rows of lanes as there are, the first element in the first column; their relative errors go to
/// `rels`. Returns the elements added.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn rows<L: FloatElement, R: FloatElement>(
    sums: &mut ColumnSums,
    lhs: &[L],
    rhs: &[R],
    rels: &mut [f32],
) -> usize {
    let (lhs, _) = lhs.as_chunks::<LANES>();
    let (rhs, _) = rhs.as_chunks::<LANES>();
    let (rels, _) = rels.as_chunks_mut::<LANES>();
    let mut of = Registers::new(sums);
    let rows = lhs.len();
    for ((l, r), rels) in lhs.iter().zip(rhs).zip(rels) {
        let (l, r) = (single(l), single(r));
        let diff = _mm512_sub_ps(l, r);
        let abs = _mm512_abs_ps(diff);
        // Of a NaN and another the instruction gives the second, as the text does here and of the largest.
        let floor = _mm512_max_ps(_mm512_abs_ps(r), _mm512_set1_ps(1e-6));
        let rel = _mm512_div_ps(abs, floor);
        // SAFETY: sixteen f32 that may be written, any alignment.
        unsafe { _mm512_storeu_ps(rels.as_mut_ptr(), rel) };
        of.counts::<L, R>(l, r, diff);
        of.max_abs = _mm512_max_ps(abs, of.max_abs);
        of.max_rel = _mm512_max_ps(rel, of.max_rel);
        of.add(halves(diff), halves(l), halves(r), halves(rel));
    }
    of.store(sums);
    rows * LANES
}

/// [`ColumnSums`] in registers: what is f64 in one, the rest with two lanes for a column.
struct Registers {
    abs: __m512d,
    square: __m512d,
    signed: __m512d,
    lhs_square: __m512d,
    rhs_square: __m512d,
    dot: __m512d,
    rel: __m512d,
    max_abs: __m512,
    max_rel: __m512,
    max_ulp: __m512i,
    bit_equal: __m512i,
    nan: __m512i,
    spoilt: __mmask16,
}

impl Registers {
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn new(sums: &ColumnSums) -> Self {
        // SAFETY: eight f64 that may be read, any alignment.
        let load = |column: &[f64; WIDTH]| unsafe { _mm512_loadu_pd(column.as_ptr()) };
        Self {
            abs: load(&sums.abs),
            square: load(&sums.square),
            signed: load(&sums.signed),
            lhs_square: load(&sums.lhs_square),
            rhs_square: load(&sums.rhs_square),
            dot: load(&sums.dot),
            rel: load(&sums.rel),
            max_abs: _mm512_setzero_ps(),
            max_rel: _mm512_setzero_ps(),
            max_ulp: _mm512_setzero_si512(),
            bit_equal: _mm512_setzero_si512(),
            nan: _mm512_setzero_si512(),
            spoilt: 0,
        }
    }

    /// Steps, equal elements and NaN.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn counts<L: FloatElement, R: FloatElement>(&mut self, l: __m512, r: __m512, diff: __m512) {
        let is_nan = |v| _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let (l_nan, r_nan) = (is_nan(l), is_nan(r));
        let apart = _mm512_sub_epi32(ordered::<L>(l), ordered::<R>(r));
        let steps = _mm512_abs_epi32(apart);
        let steps = _mm512_mask_mov_epi32(steps, l_nan ^ r_nan, _mm512_set1_epi32(65535));
        let steps = _mm512_maskz_mov_epi32(!(l_nan & r_nan), steps);
        self.max_ulp = _mm512_max_epu32(self.max_ulp, steps);
        let one = _mm512_set1_epi32(1);
        let equal = _mm512_testn_epi32_mask(steps, steps);
        self.bit_equal = _mm512_mask_add_epi32(self.bit_equal, equal, self.bit_equal, one);
        self.nan = _mm512_mask_add_epi32(self.nan, l_nan & !r_nan, self.nan, one);
        self.spoilt |= is_nan(diff);
    }

    /// The f64 sums of both rows of columns, one after the other.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn add(&mut self, diff: [__m512d; 2], l: [__m512d; 2], r: [__m512d; 2], rel: [__m512d; 2]) {
        for half in 0..2 {
            let (d, l, r) = (diff[half], l[half], r[half]);
            self.abs = _mm512_add_pd(self.abs, _mm512_abs_pd(d));
            self.square = _mm512_add_pd(self.square, _mm512_mul_pd(d, d));
            self.signed = _mm512_add_pd(self.signed, d);
            self.lhs_square = _mm512_add_pd(self.lhs_square, _mm512_mul_pd(l, l));
            self.rhs_square = _mm512_add_pd(self.rhs_square, _mm512_mul_pd(r, r));
            self.dot = _mm512_add_pd(self.dot, _mm512_mul_pd(l, r));
            self.rel = _mm512_add_pd(self.rel, rel[half]);
        }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn store(self, sums: &mut ColumnSums) {
        // SAFETY: eight f64 that may be written, any alignment.
        let store =
            |column: &mut [f64; WIDTH], v| unsafe { _mm512_storeu_pd(column.as_mut_ptr(), v) };
        store(&mut sums.abs, self.abs);
        store(&mut sums.square, self.square);
        store(&mut sums.signed, self.signed);
        store(&mut sums.lhs_square, self.lhs_square);
        store(&mut sums.rhs_square, self.rhs_square);
        store(&mut sums.dot, self.dot);
        store(&mut sums.rel, self.rel);
        let (mut singles, mut counts) = ([[0.0; LANES]; 2], [[0; LANES]; 3]);
        for (to, from) in singles.iter_mut().zip([self.max_abs, self.max_rel]) {
            // SAFETY: sixteen f32 that may be written, any alignment.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), from) };
        }
        for (to, from) in counts
            .iter_mut()
            .zip([self.max_ulp, self.bit_equal, self.nan])
        {
            // SAFETY: sixteen u32 that may be written, any alignment.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), from) };
        }
        for lane in 0..LANES {
            let k = lane % WIDTH;
            sums.max_abs[k] = sums.max_abs[k].max(singles[0][lane]);
            sums.max_rel[k] = sums.max_rel[k].max(singles[1][lane]);
            sums.max_ulp[k] = sums.max_ulp[k].max(counts[0][lane]);
            sums.bit_equal[k] += counts[1][lane];
            sums.nan[k] += counts[2][lane];
            sums.spoilt[k] |= u32::from(self.spoilt >> lane & 1);
        }
    }
}

/// The elements as f32.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn single<T: FloatElement>(elements: &[T; LANES]) -> __m512 {
    let from = elements.as_ptr();
    if T::BF16 {
        // SAFETY: sixteen BF16 that may be read, any alignment.
        let bits = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
    } else {
        const { assert!(T::BF16 || T::F16 || size_of::<T>() == size_of::<f32>()) };
        // SAFETY: sixteen f32 that may be read, any alignment; F16 is not served.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
}

/// The values rounded to BF16 as integers in their order, of what is not NaN.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn ordered<T: FloatElement>(v: __m512) -> __m512i {
    let mut bits = _mm512_castps_si512(v);
    if !T::BF16 {
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), last);
    }
    let magnitude = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(0x7FFF));
    let sign = _mm512_srai_epi32::<31>(bits);
    _mm512_sub_epi32(_mm512_xor_si512(magnitude, sign), sign)
}

/// As f64: the first row of columns and the second.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn halves(v: __m512) -> [__m512d; 2] {
    [
        _mm512_cvtps_pd(_mm512_castps512_ps256(v)),
        _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v)),
    ]
}
