//! Rounding to BF16, and back.

/// The bits of `bf16::from_f32`, in a form that compilers make vector instructions of.
pub(crate) fn bf16_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    let even = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1))) >> 16;
    let nan = bits >> 16 | 0x40;
    (if v.is_nan() { nan } else { even }) as u16
}

/// The value of a BF16's bits, without the library's branch for NaN, which keeps loops from being vectors.
pub(crate) fn bf16_single(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounding_is_that_of_the_library(bits: u32) {
            let v = f32::from_bits(bits);
            prop_assert_eq!(bf16_bits(v), bf16::from_f32(v).to_bits());
        }
    }
}
