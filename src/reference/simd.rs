//! Which instructions the reference uses, found out at run time.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use crate::tensor::TqTensor;
use bytemuck::Pod;
use std::ops::Neg;
use std::sync::OnceLock;

/// A path through the reference that this machine can run. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Scalar,
    /// Only made where the CPU has AVX2, which calls into that path rely on.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// Decodes groups from the given one on and returns how many.
pub(super) type Decoder<'a, T> = Box<dyn Fn(usize, &mut [T]) -> usize + Sync + 'a>;

impl Simd {
    /// The scalar text, as the compiler makes it for any machine of this architecture.
    pub const OFF: Self = Self(Path::Scalar);

    /// The widest path that this machine can run.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self(Path::Avx2);
        }
        Self::OFF
    }

    /// [`Self::detect`], or [`Self::OFF`] where the environment has `TQ4_SIMD=off`; asked once.
    pub fn active() -> Self {
        static ACTIVE: OnceLock<Simd> = OnceLock::new();
        *ACTIVE.get_or_init(|| match std::env::var("TQ4_SIMD") {
            Ok(value) if value == "off" => Self::OFF,
            _ => Self::detect(),
        })
    }

    /// The instruction set beyond the architecture's own, as reports name it.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            Path::Scalar => None,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Some("AVX2"),
        }
    }

    /// What decodes groups, from a first one on, into the memory it is given, and returns how many it
    /// has decoded; the rest is left to the scalar text.
    pub(super) fn decoder<'a, T: Pod + Sync + Neg<Output = T>>(
        self,
        // Only a path with instructions of its own reads it.
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))] tensor: &'a TqTensor,
    ) -> Decoder<'a, T> {
        match self.0 {
            Path::Scalar => Box::new(|_, _| 0),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => {
                let flips = avx2::flips(tensor);
                // SAFETY: this variant is made by `detect` alone, where the CPU has AVX2.
                Box::new(move |first_group, out| unsafe {
                    avx2::pairs_of_groups(tensor, &flips, first_group, out)
                })
            }
        }
    }
}
