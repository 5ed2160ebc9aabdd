//! Steps 1 to 3: unpack, centroid lookup, scale; and the first butterflies.

use super::{Block, butterfly, sixteen};
use std::arch::x86_64::*;

/// The codes of a block, those of even index and those of odd index, one a byte. In each half, bits 0
/// to 3 of a byte's place are index bits 4, 3, 1, 2.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn codes<const STORED_BITS: usize>(low: &[u8], high: &[u8]) -> [__m256i; 2] {
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
pub(super) struct Table([__m256i; 4]);

impl Table {
    #[target_feature(enable = "avx2")]
    pub(super) fn new(centroids: &[f32]) -> Self {
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

    /// Centroid lookup, scale, and strides 1 and 2 of a block; register bits 0, 1, 2 are index bits 0, 1,
    /// 2. Half a block at a time: shuffles and additions go to different units, and alternate.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn scaled(&self, [even, odd]: [__m256i; 2], scale: __m256) -> Block {
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

/// Eight bytes, for 2-bit codes.
#[target_feature(enable = "avx2")]
#[inline]
fn eight(bytes: &[u8]) -> __m128i {
    let bytes = &bytes[..8];
    // SAFETY: eight readable bytes, any alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}
