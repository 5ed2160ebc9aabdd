//! Rounding to BF16, and back.

use crate::widest::widest;

/// The bits of `bf16::from_f32`, in a form that compilers make vector instructions of.
pub(crate) fn bf16_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    let even = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1))) >> 16;
    let nan = bits >> 16 | 0x40;
    (if v.is_nan() { nan } else { even }) as u16
}

widest! {
    /// [`bf16_bits`] of as many values as there is room for.
    pub(crate) fn round_all(values: &[f32], rounded: &mut [u16]) {
        for (r, v) in rounded.iter_mut().zip(values) {
            *r = bf16_bits(*v);
        }
    }
}

widest! {
    /// Values of stored BF16, little-endian.
    pub(crate) fn widen_bf16(stored: &[u8], values: &mut [f32]) {
        for (v, b) in values.iter_mut().zip(stored.chunks_exact(2)) {
            *v = bf16_single(u16::from_le_bytes([b[0], b[1]]));
        }
    }
}

widest! {
    /// Values of stored F16, little-endian.
    pub(crate) fn widen_f16(stored: &[u8], values: &mut [f32]) {
        for (v, b) in values.iter_mut().zip(stored.chunks_exact(2)) {
            *v = f16_single(u16::from_le_bytes([b[0], b[1]]));
        }
    }
}

/// The value of an F16's bits, in a form that compilers make vector instructions of: as the bits of an f32 they are
/// 2^112 too small, which is exact, and infinity and NaN have the largest exponent.
fn f16_single(bits: u16) -> f32 {
    let small = f32::from_bits(u32::from(bits & 0x7FFF) << 13);
    let finite = (small * f32::from_bits((112 + 127) << 23)).to_bits();
    let quiet = if bits & 0x3FF == 0 { 0 } else { 0x40_0000 };
    let beyond = if bits & 0x7C00 == 0x7C00 {
        0x7F80_0000 | quiet
    } else {
        0
    };
    f32::from_bits(finite | beyond | u32::from(bits & 0x8000) << 16)
}

/// The value of a BF16's bits, without the library's branch for NaN, which keeps loops from being vectors.
pub(crate) fn bf16_single(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    #[test]
    fn every_f16_is_that_of_the_library() {
        let stored: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![0.0; stored.len() / 2];
        widen_f16(&stored, &mut values);
        for (bits, v) in (0..).zip(values) {
            assert_eq!(
                v.to_bits(),
                f16::from_bits(bits).to_f32().to_bits(),
                "{bits:#x}"
            );
        }
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_library(bits: u32) {
            let v = f32::from_bits(bits);
            prop_assert_eq!(bf16_bits(v), bf16::from_f32(v).to_bits());
        }
    }
}
