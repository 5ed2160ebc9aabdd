//! Which instructions the reference uses, found out at run time.

#[cfg(target_arch = "aarch64")]
use super::{neon, shared::flips};
use crate::error::{Error, Result};
use crate::tensor::TqTensor;
use bytemuck::Pod;
use std::ops::Neg;
use std::sync::OnceLock;
#[cfg(target_arch = "x86_64")]
use {
    super::{avx2, avx512, shared::flips},
    std::arch::is_x86_feature_detected,
};

/// The variable that names a path.
const VARIABLE: &str = "TQ4_SIMD";

/// A path through the reference that this machine can run. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Scalar,
    /// Only made where the CPU has AVX2, which calls into that path rely on. So with those below, which
    /// are only made where it has AVX2 as well.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Decodes groups from the given one on and returns how many.
pub(super) type Decoder<'a, T> = Box<dyn Fn(usize, &mut [T]) -> usize + Sync + 'a>;

impl Simd {
    /// The scalar text, as the compiler makes it for any machine of this architecture.
    pub const OFF: Self = Self(Path::Scalar);

    /// Every path that this machine can run: the scalar text, then each faster than the one before.
    /// NEON's speed has not been measured.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut)
        )]
        let mut paths = vec![Self::OFF];
        // Every CPU of the architecture has it.
        #[cfg(target_arch = "aarch64")]
        paths.push(Self(Path::Neon));
        #[cfg(target_arch = "x86_64")]
        for (path, there) in [
            (Path::Avx2, is_x86_feature_detected!("avx2")),
            (
                Path::Avx512,
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            ),
            (Path::Avx512Bf16, is_x86_feature_detected!("avx512bf16")),
        ] {
            if !there {
                break;
            }
            paths.push(Self(path));
        }
        paths
    }

    /// The fastest path that this machine can run.
    pub fn detect() -> Self {
        *Self::available().last().expect("the scalar text is there")
    }

    /// The path that the environment names: `TQ4_SIMD` is one of `off`, `avx2`, `avx512`, `avx512_bf16`
    /// and `neon`; [`Self::detect`] where it is empty or not set.
    ///
    /// # Errors
    /// When it names none that this machine can run.
    pub(crate) fn from_environment() -> Result<Self> {
        let asked = std::env::var_os(VARIABLE).unwrap_or_default();
        if asked.is_empty() {
            return Ok(Self::detect());
        }
        let available = Self::available();
        let found = available.iter().find(|path| *path.key() == *asked);
        found.copied().ok_or_else(|| {
            let keys: Vec<&str> = available.iter().map(|path| path.key()).collect();
            Error::input(
                format!("{asked:?} found, expected a path that this CPU has"),
                VARIABLE,
                format!("give one of {}, or nothing", keys.join(", ")),
            )
        })
    }

    /// The path that `TQ4_SIMD` names, or [`Self::detect`] where it names none that is there; asked once.
    pub fn active() -> Self {
        static ACTIVE: OnceLock<Simd> = OnceLock::new();
        *ACTIVE.get_or_init(|| Self::from_environment().unwrap_or_else(|_| Self::detect()))
    }

    /// What `TQ4_SIMD` calls it.
    pub fn key(self) -> &'static str {
        match self.0 {
            Path::Scalar => "off",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 => "avx512_bf16",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
        }
    }

    /// The instruction set beyond the scalar text's, as reports name it.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            Path::Scalar => None,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Some("AVX2"),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => Some("AVX-512"),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 => Some("AVX-512 BF16"),
            #[cfg(target_arch = "aarch64")]
            Path::Neon => Some("NEON"),
        }
    }

    /// What decodes groups, from a first one on, into the memory it is given, and returns how many it
    /// has decoded; the rest is left to the scalar text. If `stream`, it writes past the caches where it can, to memory
    /// that begins at a multiple of [`LINE`] bytes.
    pub(super) fn decoder<'a, T: Pod + Sync + Neg<Output = T>>(
        self,
        // Only a path with instructions of its own reads it.
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_variables)
        )]
        tensor: &'a TqTensor,
        stream: bool,
    ) -> Decoder<'a, T> {
        match self.0 {
            Path::Scalar => Box::new(|_, _| 0),
            // The paths are of the layouts of one kind; the text is for all.
            _ if !tensor.layout().is_plain() => Self(Path::Scalar).decoder(tensor, stream),
            #[cfg(target_arch = "x86_64")]
            // The division of the AVX-512 paths is not exact for every codebook, AVX2's is.
            Path::Avx512 | Path::Avx512Bf16 if !tensor.codebook().exact_division() => {
                Self(Path::Avx2).decoder(tensor, stream)
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => {
                let flips = flips(tensor, 0);
                // SAFETY: this variant is made by `available` alone, where the CPU has AVX2.
                Box::new(move |first_group, out| unsafe {
                    avx2::pairs_of_groups(tensor, &flips, first_group, out)
                })
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => {
                let flips = flips(tensor, avx512::BLOCK);
                // SAFETY: this variant is made by `available` alone, where the CPU has AVX-512 F and BW.
                Box::new(move |first_group, out| unsafe {
                    let decode = if stream {
                        avx512::groups::<T, true>
                    } else {
                        avx512::groups::<T, false>
                    };
                    decode(tensor, &flips, first_group, out)
                })
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 => {
                let flips = flips(tensor, avx512::BLOCK);
                // SAFETY: this variant is made by `available` alone, where the CPU has AVX-512 F, BW and BF16.
                Box::new(move |first_group, out| unsafe {
                    let decode = if stream {
                        avx512::groups_bf16::<T, true>
                    } else {
                        avx512::groups_bf16::<T, false>
                    };
                    decode(tensor, &flips, first_group, out)
                })
            }
            #[cfg(target_arch = "aarch64")]
            // The division is not exact for every codebook.
            Path::Neon if !tensor.codebook().exact_division() => Self::OFF.decoder(tensor, stream),
            #[cfg(target_arch = "aarch64")]
            Path::Neon => {
                let flips = flips(tensor, 0);
                // SAFETY: NEON is part of the architecture.
                Box::new(move |first_group, out| unsafe {
                    neon::groups(tensor, &flips, first_group, out)
                })
            }
        }
    }
}
