//! How far an element is off, as a multiple of how far a correct one may be.

use crate::allowed::{Bound, round};
use crate::arithmetic::UnpackedGroup;
use crate::metrics::Values;
use crate::record::{OutputType, Tolerance};
use crate::tensor::TqTensor;
use half::{bf16, f16};

/// The least share of a wrong element: what is wrong lies above the limit, however little.
const ABOVE: f32 = 1.0 + f32::EPSILON;

/// What the elements of a tensor are held to.
pub(super) struct ElementLimit<'a> {
    tensor: &'a TqTensor,
    bound: Bound,
    /// A limit for each element that the user gave in place of the bound.
    tolerance: Option<Tolerance>,
    of: OutputType,
}

/// The same for one group.
pub(super) struct GroupLimit<'a> {
    limit: &'a ElementLimit<'a>,
    group: UnpackedGroup<'a>,
    /// The bound of the group, and that of the reference.
    bounds: [f64; 2],
}

impl<'a> ElementLimit<'a> {
    /// For values of a type.
    pub(super) fn new(tensor: &'a TqTensor, of: OutputType, tolerance: Option<Tolerance>) -> Self {
        Self {
            tensor,
            bound: Bound::for_layout(tensor.layout()),
            tolerance: tolerance.filter(Tolerance::by_element),
            of,
        }
    }

    /// Whether a value is the rounded reference; a NaN never is.
    pub(super) fn same(&self, got: f32, reference: f32) -> bool {
        let rounded = match self.of {
            OutputType::Bf16 => bf16::from_f32(reference).to_f32(),
            OutputType::F16 => f16::from_f32(reference).to_f32(),
            OutputType::F32 => reference,
        };
        got == rounded
    }

    /// Of group `index`, counted row by row.
    pub(super) fn group(&'a self, index: usize) -> GroupLimit<'a> {
        let group = UnpackedGroup::new(self.tensor, index);
        let magnitudes = group.magnitudes(self.tensor.codebook().centroids());
        GroupLimit {
            bounds: [
                self.bound.of(magnitudes),
                self.bound.of_reference(magnitudes),
            ],
            limit: self,
            group,
        }
    }
}

impl GroupLimit<'_> {
    /// The share of the limit that a finite value uses which is not the rounded reference: over 1 exactly
    /// where the gates call it wrong.
    pub(super) fn share(&self, element: usize, got: f32, reference: f32) -> f32 {
        let (of, [bound, _]) = (self.limit.of, self.bounds);
        let (wide, r) = (f64::from(got), f64::from(reference));
        let (share, inside) = if let Some(t) = &self.limit.tolerance {
            let distance = (wide - round(of, r)).abs();
            let limit = t.atol.unwrap_or(0.0) + t.rtol.unwrap_or(0.0) * r.abs();
            (distance / limit, t.holds(distance, r))
        } else {
            let centroids = self.limit.tensor.codebook().centroids();
            let exact = || self.group.exact(centroids, element);
            let limit = bound + half_step(of, wide);
            let inside = Bound::allows(of, wide, r, self.bounds, exact);
            ((wide - r).abs() / limit, inside)
        };
        let share = share as f32;
        if inside {
            share.min(1.0)
        } else {
            // A limit of zero makes quotients that f32 does not hold.
            share.clamp(ABOVE, f32::MAX)
        }
    }
}

/// Half the distance of a value from the next of its type.
fn half_step(of: OutputType, v: f64) -> f64 {
    let (mantissa, least) = match of {
        OutputType::Bf16 => (7, -126),
        OutputType::F16 => (10, -14),
        OutputType::F32 => (23, -126),
    };
    let exponent = (v.to_bits() >> 52 & 0x7FF) as i32 - 1023;
    2f64.powi(exponent.max(least) - mantissa - 1)
}

/// The type of a lane's values.
pub(super) fn type_of(values: Values<'_>) -> OutputType {
    match values {
        Values::Bf16(_) => OutputType::Bf16,
        Values::F16(_) => OutputType::F16,
        Values::F32(_) => OutputType::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{self, Rng, ScaleDistribution};
    use crate::tensor::Layout;

    #[test]
    fn the_limit_lies_between_the_last_allowed_value_and_the_first_wrong_one() {
        let layout = Layout::new(4, 128).unwrap();
        let tensor =
            synthetic::tensor(&mut Rng::new(3), layout, 2, 256, ScaleDistribution::Usual).unwrap();
        let reference = crate::reference::dequantize(&tensor);
        let limit = ElementLimit::new(&tensor, OutputType::Bf16, None);
        let mut wrong = 0;
        for (i, r) in reference.iter().enumerate() {
            let group = limit.group(i / 128);
            let nearest = bf16::from_f32(*r);
            assert!(limit.same(nearest.to_f32(), *r));
            for (away, least) in [(1u16, 0.0f32), (2, 1.0), (40, 10.0)] {
                let got = bf16::from_bits(nearest.to_bits() + away).to_f32();
                let share = group.share(i % 128, got, *r);
                // Near zero a step is smaller than what f32 arithmetic may be off.
                let near_zero = r.abs() < 1e-3;
                assert!(share > least || near_zero, "{i}: {away} steps, {share}");
                wrong += usize::from(share > 1.0);
            }
        }
        assert!(wrong > 2 * reference.len(), "{wrong}");
    }

    #[test]
    fn a_tolerance_is_the_limit_where_the_user_gave_one() {
        let layout = Layout::new(4, 32).unwrap();
        let tensor =
            synthetic::tensor(&mut Rng::new(3), layout, 1, 32, ScaleDistribution::Usual).unwrap();
        let tolerance = "atol=0.5".parse().unwrap();
        let limit = ElementLimit::new(&tensor, OutputType::F32, Some(tolerance));
        let group = limit.group(0);
        assert_eq!(group.share(0, 1.25, 1.0), 0.5);
        assert_eq!(group.share(0, 1.5, 1.0), 1.0);
        assert_eq!(group.share(0, 3.0, 1.0), 4.0);
        let none = ElementLimit::new(&tensor, OutputType::F32, Some("atol=0".parse().unwrap()));
        assert_eq!(none.group(0).share(0, 3.0, 1.0), f32::MAX);
    }
}
