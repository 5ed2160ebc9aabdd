//! The last rounding of a kernel, right and wrong. Each keeps order: of two values, the larger is never
//! rounded to the smaller result.

use crate::allowed;
use crate::record::OutputType;
use half::{bf16, f16};

/// How a kernel rounds its values to the output's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To the nearest, ties to even, once.
    Nearest,
    /// BF16 by dropping bits.
    Truncate,
    /// BF16 by dropping bits at odd places, to the nearest at even ones.
    TruncateOdd,
    /// BF16 with ties away from zero.
    HalfAway,
    /// To F16 first.
    ViaF16,
    /// To BF16 first.
    ViaBf16,
    /// To F16, whose bits are then taken for BF16.
    F16Bits,
    /// To BF16, whose bits are then taken for F16.
    Bf16Bits,
}

/// To the nearest value of a type, as f32.
pub(super) fn nearest(to: OutputType, v: f64) -> f32 {
    allowed::round(to, v) as f32
}

/// The BF16 value next to `v` toward zero.
fn toward_zero(v: f64) -> f64 {
    let near = v as f32;
    let beyond = f64::from(near).abs() > v.abs();
    let inside = near.to_bits() - u32::from(beyond);
    f32::from_bits(inside & 0xFFFF_0000).into()
}

impl Rounding {
    /// Whether a kernel with such outputs can round like this and be wrong.
    pub(super) fn suits(self, output: OutputType) -> bool {
        match self {
            Self::Nearest => true,
            Self::ViaBf16 => output != OutputType::Bf16,
            Self::ViaF16 => output != OutputType::F16,
            Self::Bf16Bits => output == OutputType::F16,
            Self::Truncate | Self::TruncateOdd | Self::HalfAway | Self::F16Bits => {
                output == OutputType::Bf16
            }
        }
    }

    /// Rounds a value at place `at` of its row.
    pub(super) fn round(self, to: OutputType, v: f64, at: usize) -> f32 {
        match self {
            _ if !v.is_finite() => v as f32,
            Self::Nearest => nearest(to, v),
            Self::TruncateOdd if at.is_multiple_of(2) => nearest(to, v),
            Self::Truncate | Self::TruncateOdd => toward_zero(v) as f32,
            Self::HalfAway => {
                let inside = toward_zero(v);
                let bits = (inside as f32).to_bits() | (v as f32).to_bits() & 0x8000_0000;
                let beyond = f32::from_bits(bits + 0x1_0000);
                let middle = (inside + f64::from(beyond)) / 2.0;
                if v.abs() >= middle.abs() {
                    beyond
                } else {
                    inside as f32
                }
            }
            Self::ViaF16 => nearest(to, nearest(OutputType::F16, v).into()),
            Self::ViaBf16 => nearest(to, nearest(OutputType::Bf16, v).into()),
            Self::F16Bits => {
                let half = f16::from_f32(nearest(OutputType::F16, v));
                bf16::from_bits(half.to_bits()).to_f32()
            }
            Self::Bf16Bits => {
                let single = bf16::from_f32(nearest(OutputType::Bf16, v));
                f16::from_bits(single.to_bits()).to_f32()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_an_f32_it_is_what_bits_say(bits: u32) {
            let v = f32::from_bits(bits);
            prop_assume!(v.is_finite() && v.abs() < 1e38);
            let upper = |b: u32| f32::from_bits(b & 0xFFFF_0000);
            let round = |r: Rounding| r.round(OutputType::Bf16, v.into(), 1);
            prop_assert_eq!(round(Rounding::Truncate), upper(bits));
            prop_assert_eq!(round(Rounding::HalfAway), upper(bits + 0x8000));
            prop_assert_eq!(round(Rounding::Nearest), bf16::from_f32(v).to_f32());
        }

        #[test]
        fn order_is_kept(a in -1e4f64..1e4, b in -1e4f64..1e4, small: bool) {
            let k = if small { 1e-9 } else { 1.0 };
            let (a, b) = (a.min(b) * k, a.max(b) * k);
            use Rounding::*;
            for r in [Nearest, Truncate, HalfAway, ViaF16, ViaBf16, F16Bits, Bf16Bits] {
                for to in [OutputType::Bf16, OutputType::F16, OutputType::F32] {
                    if r.suits(to) {
                        prop_assert!(r.round(to, a, 1) <= r.round(to, b, 1), "{r:?} {to:?} {a} {b}");
                    }
                }
            }
        }
    }
}
