//! Allowed values: what some correct evaluation in f32 could give.
//!
//! Let `e` be the exact value of an element and `u = 2^-24`. Every correct kernel takes, in some order: a
//! centroid at most one f32 step off, `c (1 + 2u)`; its product with the scale, `(1 + u)`; `log2 n` additions
//! on the way through the butterflies, `(1 + u)` each, or fewer roundings where a product is fused into one;
//! and the normalisation, a rounded constant and one rounded operation, `(1 + u)^2`. Signs are exact, and a
//! scale that comes after the transform is the same product at another place. Its result before the
//! last rounding is so within
//!
//! `B = ((1 + u)^(log2 n + 5) - 1) * sum|c_i s_i| / sqrt(n)`
//!
//! of `e` (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1 and problem 24.1); to first
//! order the factor is `(log2 n + 5) u`. Rounding to the output type keeps order, so a correct output lies
//! between `round(e - B)` and `round(e + B)`. [`Bound`] also holds what f32 underflow and the f64 arithmetic
//! of this module add, so that the statement is of the figures computed, not of ideal ones.

use crate::codec::{Normalisation, Scaling};
use crate::record::OutputType;
use crate::tensor::{Layout, MOST_SCALE};
use half::{bf16, f16};

/// Unit roundoff of f32.
const UNIT: f64 = 1.0 / 16_777_216.0;
/// Half the least f32 subnormal: what one underflowing operation may err by.
const UNDERFLOW: f64 = 7.006_492_321_624_085e-46;

/// The bound `B` for groups of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bound {
    root: f64,
    factor: f64,
    reference: f64,
    underflow: f64,
}

impl Bound {
    /// For groups of a layout.
    pub(crate) fn for_layout(layout: Layout) -> Self {
        let n = layout.group_size();
        let mut bound = Self::new(n);
        if layout.normalisation() == Normalisation::Multiply {
            bound.reference = after(n.ilog2() + 3) + oracle(n);
        }
        if layout.scales().scaling == Scaling::After {
            bound.underflow += f64::from(MOST_SCALE) * UNDERFLOW;
        }
        bound
    }

    /// For groups of `n` elements whose reference divides, and whose scale comes before the transform.
    pub(crate) fn new(n: usize) -> Self {
        let root = (n as f64).sqrt();
        Self {
            root,
            factor: after(n.ilog2() + 5) + oracle(n),
            reference: after(n.ilog2() + 2) + oracle(n),
            underflow: (root + 1.0) * UNDERFLOW,
        }
    }

    /// `B` of a group whose scaled magnitudes `|c_i s_i|` have this sum.
    pub(crate) fn of(&self, magnitudes: f64) -> f64 {
        self.factor * magnitudes / self.root + self.underflow
    }

    /// The same for the reference, which takes the codebook as it is and normalises with one rounding, or two.
    pub(crate) fn of_reference(&self, magnitudes: f64) -> f64 {
        self.reference * magnitudes / self.root + self.underflow
    }

    /// Whether a correct kernel may return `got`. `bounds` are the group's and that of its reference; the exact
    /// value, which is known to be near the reference, is asked for where that does not tell.
    pub(crate) fn allows(
        of: OutputType,
        got: f64,
        reference: f64,
        [bound, of_reference]: [f64; 2],
        exact: impl FnOnce() -> f64,
    ) -> bool {
        let within = |at: f64, bound: f64| Allowed::new(of, at, bound).contains(got);
        within(reference, bound - of_reference)
            || (within(reference, bound + of_reference) && within(exact(), bound))
    }
}

/// What so many roundings may do to a value, as a part of it.
fn after(roundings: u32) -> f64 {
    (f64::from(roundings) * UNIT.ln_1p()).exp_m1()
}

/// What the oracle's own n additions in f64 may add.
fn oracle(n: usize) -> f64 {
    n as f64 * f64::EPSILON
}

/// Rounds to the nearest value of a type, ties to even, once.
pub(crate) fn round(to: OutputType, v: f64) -> f64 {
    match to {
        OutputType::F32 => (v as f32).into(),
        OutputType::Bf16 => bf16::from_f32(odd(v)).into(),
        OutputType::F16 => f16::from_f32(odd(v)).into(),
    }
}

/// Rounds to f32 so that another rounding, to a type of at most 22 bits, is as if it were the only one:
/// where f32 does not hold `v`, toward zero with the last bit set (Boldo and Melquiond, 2008).
pub(crate) fn odd(v: f64) -> f32 {
    let near = v as f32;
    let wide = f64::from(near);
    if wide == v || v.is_nan() {
        return near;
    }
    let toward_zero = near.to_bits() - u32::from(wide.abs() > v.abs());
    f32::from_bits(toward_zero | 1)
}

/// The values of one type that an element may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allowed {
    /// Least and largest.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Allowed {
    /// Of an element whose exact value is within `bound` of `value`.
    pub(crate) fn new(of: OutputType, value: f64, bound: f64) -> Self {
        Self {
            low: round(of, value - bound),
            high: round(of, value + bound),
        }
    }

    /// Whether `got` is one; a NaN never is.
    pub(crate) fn contains(self, got: f64) -> bool {
        (self.low..=self.high).contains(&got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values of a type by magnitude: the nearest by search, the even one at a tie.
    fn nearest(v: f64, finite: u16, value: impl Fn(u16) -> f64) -> f64 {
        let (mut low, mut high) = (0, finite + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if value(middle) <= v.abs() {
                low = middle;
            } else {
                high = middle;
            }
        }
        // Infinity stands where the next value would.
        let next = if low == finite {
            2.0 * value(finite) - value(finite - 1)
        } else {
            value(low + 1)
        };
        let (below, above) = (v.abs() - value(low), next - v.abs());
        let up = above < below || (above == below && low % 2 == 1);
        value(low + u16::from(up)).copysign(v)
    }

    proptest! {
        #[test]
        fn one_rounding_to_a_half_type(
            mantissa in prop_oneof![any::<u64>(), any::<u64>().prop_map(|m| m & !0 << 41), Just(1 << 44), Just((1 << 44) + 1)],
            exponent in prop_oneof![-160i32..130, -30i32..18],
            negative: bool,
        ) {
            let bits = ((exponent + 1023) as u64) << 52 | (mantissa & ((1 << 52) - 1));
            let v = f64::from_bits(bits | u64::from(negative) << 63);
            let b = nearest(v, 0x7F7F, |b| bf16::from_bits(b).into());
            let h = nearest(v, 0x7BFF, |b| f16::from_bits(b).into());
            prop_assert_eq!(round(OutputType::Bf16, v), b, "bf16 of {:e}", v);
            prop_assert_eq!(round(OutputType::F16, v), h, "f16 of {:e}", v);
        }
    }

    #[test]
    fn a_double_rounding_is_seen() {
        // Just above the middle of two BF16 values, by less than f32 shows.
        let v = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        assert_eq!(bf16::from_f32(v as f32).to_f64(), 1.0);
        assert_eq!(round(OutputType::Bf16, v), 1.0 + 2f64.powi(-7));
    }

    #[test]
    fn the_bound_is_the_designs_to_first_order() {
        for n in [32usize, 64, 128, 256] {
            let first = (n.ilog2() as f64 + 5.0) * UNIT * 3.0 / (n as f64).sqrt();
            let got = Bound::new(n).of(3.0);
            assert!(
                got >= first && got < first * (1.0 + 2e-6),
                "{n}: {got} {first}"
            );
        }
    }

    #[test]
    fn nothing_is_allowed_a_nan() {
        assert!(!Allowed::new(OutputType::F32, 0.0, 1.0).contains(f64::NAN));
    }
}
