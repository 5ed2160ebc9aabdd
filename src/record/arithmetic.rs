//! Arithmetics: orders of operations that are correct and round differently.

use serde::{Deserialize, Serialize};

/// A named order of operations. Each is correct: its every result is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// The reference's.
    Identical,
    /// `x * f32(1/sqrt n)` in place of `x / sqrt(n)`, or by another rounding of the factor.
    Multiply,
    /// `x / f32(sqrt n)` in f32, or in f64 where the reference multiplies.
    Divide,
    /// One product of the first butterfly is fused with its addition: `fma(a, s, b * s)`.
    Contracted,
    /// The first butterflies are done before the scale: `(a + b) * s`.
    Factored,
    /// All butterflies are done before the scale.
    ScaleAfter,
    /// The scale comes before the transform where the reference has it at the end.
    ScaleBefore,
    /// `1/sqrt(n)` is a part of the scale or of the codebook.
    ScaleFolded,
    /// Strides n/2, ..., 2, 1.
    StridesDescending,
    /// Every operation in f64, rounded at the end.
    F64,
    /// The reference's or [`Arithmetic::Multiply`]'s, with the codebook that the published loader
    /// recomputes.
    LoaderCodebook,
}

impl Arithmetic {
    /// All, plainest first.
    pub const ALL: [Self; 11] = [
        Self::Identical,
        Self::Multiply,
        Self::Divide,
        Self::Contracted,
        Self::Factored,
        Self::ScaleAfter,
        Self::ScaleBefore,
        Self::ScaleFolded,
        Self::StridesDescending,
        Self::F64,
        Self::LoaderCodebook,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
            Self::Contracted => "contracted",
            Self::Factored => "factored",
            Self::ScaleAfter => "scale_after",
            Self::ScaleBefore => "scale_before",
            Self::ScaleFolded => "scale_folded",
            Self::StridesDescending => "strides_descending",
            Self::F64 => "f64",
            Self::LoaderCodebook => "loader_codebook",
        }
    }

    /// What the kernel does, and that it is no fault.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Identical => "the reference's own operations in its own order",
            Self::Multiply => {
                "it multiplies by f32 1/sqrt(n) where the reference divides by sqrt(n); this is no fault"
            }
            Self::Divide => {
                "it divides by sqrt(n) in another precision than the reference, or where that multiplies; this is no fault"
            }
            Self::Contracted => {
                "its compiler fuses a*b+c in the first butterfly (nvcc: -fmad=false, clang: \
                 -ffp-contract=off keep it from it); this is no fault"
            }
            Self::Factored => {
                "its compiler takes the scale out of the first butterflies, (a+b)*s for a*s + b*s; this is no \
                 fault"
            }
            Self::ScaleAfter => "it multiplies by the scale after the transform; this is no fault",
            Self::ScaleBefore => {
                "it multiplies by the scale before the transform; this is no fault"
            }
            Self::ScaleFolded => {
                "it has 1/sqrt(n) in the scale or in the codebook; this is no fault"
            }
            Self::StridesDescending => {
                "its butterflies go from the largest stride to the smallest; this is no fault"
            }
            Self::F64 => "it computes in f64 and rounds at the end; this is no fault",
            Self::LoaderCodebook => {
                "it recomputes the codebook, as the published loader does, a few f32 steps from the \
                 model's; this is no fault"
            }
        }
    }
}
