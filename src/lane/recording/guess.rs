//! Which type decimals were written from.

use crate::record::OutputType;
use half::{bf16, f16};

/// Counts of values by the types that they may have been of.
///
/// A value is likely of a type when it lies where a short decimal of such a value does; a list is of BF16 or
/// F16 when nearly all are, so that neither few digits nor a stray value hide it; else of f32.
#[derive(Debug, Default)]
pub(super) struct Tally {
    finite: u64,
    like_bf16: u64,
    like_f16: u64,
    subnormal_f16: u64,
}

/// Four digits keep a BF16 value within an eighth of a step, five an F16 value.
const NEAR: f32 = 1.0 / 6.0;
const NEARLY_ALL: f64 = 0.9;

impl Tally {
    /// Takes a value in; zeros and what is not finite tell nothing.
    pub(super) fn add(&mut self, v: f32) {
        if !v.is_finite() || v == 0.0 {
            return;
        }
        fn like(v: f32, rounded: f32, next: f32) -> bool {
            rounded != 0.0 && (v - rounded).abs() <= NEAR * (next - rounded).abs()
        }
        let (b, h) = (bf16::from_f32(v), f16::from_f32(v));
        self.finite += 1;
        self.like_bf16 += u64::from(like(v, b.into(), bf16::from_bits(b.to_bits() + 1).into()));
        self.like_f16 += u64::from(like(v, h.into(), f16::from_bits(h.to_bits() + 1).into()));
        let subnormal = v.abs() < f16::MIN_POSITIVE.to_f32() && h.to_f32() == v;
        self.subnormal_f16 += u64::from(subnormal);
    }

    /// The type that nearly all values are of.
    pub(super) fn likely(&self) -> OutputType {
        let nearly_all = |count: u64| count as f64 >= NEARLY_ALL * self.finite as f64;
        // Subnormal F16 values are BF16 values as well; the other way round it would be chance.
        if self.finite > 0 && self.subnormal_f16 == self.finite {
            OutputType::F16
        } else if nearly_all(self.like_bf16) {
            OutputType::Bf16
        } else if nearly_all(self.like_f16) {
            OutputType::F16
        } else {
            OutputType::F32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Output;
    use crate::synthetic::Rng;

    fn likely_type(values: &[f32]) -> OutputType {
        let mut tally = Tally::default();
        values.iter().for_each(|v| tally.add(*v));
        tally.likely()
    }

    fn written(values: &[f32], digits: usize) -> Vec<f32> {
        let text = |v: &f32| format!("{v:.*e}", digits - 1).parse().unwrap();
        values.iter().map(text).collect()
    }

    #[test]
    fn the_type_is_told_from_few_digits_and_beside_stray_values() {
        let mut rng = Rng::new(1);
        let f32s: Vec<f32> = (0..4096).map(|_| 0.02 * rng.normal()).collect();
        let bf16s: Vec<f32> = f32s.iter().map(|v| bf16::from_f32(*v).to_f32()).collect();
        let f16s: Vec<f32> = f32s.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
        for digits in 4..10 {
            assert_eq!(
                likely_type(&written(&bf16s, digits)),
                OutputType::Bf16,
                "{digits}"
            );
            if digits > 4 {
                assert_eq!(
                    likely_type(&written(&f16s, digits)),
                    OutputType::F16,
                    "{digits}"
                );
                assert_eq!(
                    likely_type(&written(&f32s, digits)),
                    OutputType::F32,
                    "{digits}"
                );
            }
        }
        let mut stray = bf16s.clone();
        stray[..100].copy_from_slice(&f32s[..100]);
        assert_eq!(likely_type(&stray), OutputType::Bf16);
        let tiny: Vec<f32> = f32s
            .iter()
            .map(|v| f16::from_f32(v * 1e-4).to_f32())
            .collect();
        assert_eq!(likely_type(&tiny), OutputType::F16);
        let tiny: Vec<f32> = f32s
            .iter()
            .map(|v| bf16::from_f32(v * 1e-4).to_f32())
            .collect();
        assert_eq!(likely_type(&tiny), OutputType::Bf16);
        assert_eq!(likely_type(&[0.0; 8]), OutputType::Bf16);
    }

    /// What was read is the value that was written, whatever the digits.
    #[test]
    fn few_digits_come_back_as_the_value_that_they_were_written_from() {
        let mut rng = Rng::new(2);
        let values: Vec<f32> = (0..4096)
            .map(|_| bf16::from_f32(rng.normal()).to_f32())
            .collect();
        for digits in 4..10 {
            let read = written(&values, digits);
            let of = likely_type(&read);
            assert_eq!(Output::rounding(read, of).single(), values, "{digits}");
        }
    }
}
