//! Rounding to BF16.

/// The bits of `bf16::from_f32`, in a form that compilers make vector instructions of.
pub(crate) fn bf16_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    let even = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1))) >> 16;
    let nan = bits >> 16 | 0x40;
    (if v.is_nan() { nan } else { even }) as u16
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
