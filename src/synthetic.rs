//! Synthetic weights and tensors from a fixed seed, for the demo, the selftest and tests.

use crate::codebook::Codebook;
use crate::codec::{Codec, ScaleType, Scales, Unit};
use crate::error::Result;
use crate::tensor::{Layout, Parts, TqTensor};
use half::f16;
use std::sync::Arc;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): small, and the same everywhere forever, which the
/// seeds in reports rely on.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / 16_777_216.0
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Near-normal, mean 0 and variance 1: the sum of twelve uniforms less six.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// +1 or -1, `n` of them.
    pub fn signs(&mut self, n: usize) -> Vec<i8> {
        (0..n)
            .map(|_| if self.next_u64() >> 63 == 1 { 1 } else { -1 })
            .collect()
    }
}

/// A weight `[rows, cols]` with the spread of a trained linear layer: standard deviation about 0.02,
/// rows and a few columns of differing size.
pub fn weight(rng: &mut Rng, rows: usize, cols: usize) -> Vec<f32> {
    let col_gain: Vec<f32> = (0..cols)
        .map(|_| if rng.below(64) == 0 { 4.0 } else { 1.0 })
        .collect();
    let mut out = Vec::with_capacity(rows * cols);
    for _ in 0..rows {
        let gain = 0.01 + 0.02 * rng.uniform();
        out.extend(col_gain.iter().map(|c| gain * c * rng.normal()));
    }
    out
}

/// How the scales of [`tensor`] are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleDistribution {
    /// As a trained layer has them, 0.05 to 1.
    Usual,
    /// Any finite f16 that is not negative: subnormals, zero and the largest included.
    Any,
}

/// A tensor of uniformly random codes and signs, with the codebook of unit vectors.
///
/// # Errors
/// When `cols` is not a multiple of the group size.
pub fn tensor(
    rng: &mut Rng,
    layout: Layout,
    rows: usize,
    cols: usize,
    scales: ScaleDistribution,
) -> Result<TqTensor> {
    let codebook = Arc::new(Codebook::lloyd_max(layout.bits(), layout.group_size()));
    of_codec(rng, &Codec { layout, codebook }, rows, cols, scales)
}

/// A tensor of uniformly random codes and signs.
///
/// # Errors
/// When `cols` is not a multiple of the group size.
pub fn of_codec(
    rng: &mut Rng,
    codec: &Codec,
    rows: usize,
    cols: usize,
    scales: ScaleDistribution,
) -> Result<TqTensor> {
    let layout = codec.layout;
    let mask = if layout.stored_bits() > layout.bits() {
        0x77
    } else {
        0xFF
    };
    let packed: Vec<u8> = (0..rows * layout.packed_len(cols))
        .map(|_| (rng.next_u64() >> 56) as u8 & mask)
        .collect();
    let count = rows * (cols / layout.scales().elements);
    let mut half = || match scales {
        ScaleDistribution::Usual => f16::from_f32(0.05 + 0.95 * rng.uniform()),
        ScaleDistribution::Any => f16::from_bits(match rng.below(8) {
            0 => 0,
            1 => f16::MAX.to_bits(),
            2 | 3 => 1 + rng.below(0x3FF) as u16,
            _ => rng.below(f16::MAX.to_bits() as usize + 1) as u16,
        }),
    };
    let scales = match layout.scales().stored {
        ScaleType::F16 => (0..count)
            .map(|i| match layout.scales().unit {
                Unit::Deviation if scales == ScaleDistribution::Any && i % 3 == 0 => -half(),
                _ => half(),
            })
            .collect(),
        // Values of which f16 has no more than the first bits.
        ScaleType::F32 => Scales::F32(
            (0..count)
                .map(|_| (half().to_f32() * 1.000_123).min(65504.0))
                .collect(),
        ),
        ScaleType::E3m5 => Scales::E3m5(
            (0..count)
                .map(|_| match scales {
                    ScaleDistribution::Usual => 0x40 + rng.below(0xC0) as u8,
                    ScaleDistribution::Any => rng.below(256) as u8,
                })
                .collect(),
        ),
    };
    let signs = rng.signs(cols);
    let parts = Parts {
        packed,
        scales,
        signs,
    };
    let codebook = Arc::clone(&codec.codebook);
    TqTensor::new("synthetic", layout, [rows, cols], parts, codebook)
}
