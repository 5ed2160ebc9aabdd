//! What the SIMD renderings have in common.

use crate::tensor::TqTensor;
use bytemuck::Pod;
use half::f16;
use std::ops::Neg;

/// Registers of a block.
pub(super) const REGISTERS: usize = 8;

/// The signs of a tensor's columns as bits to flip in the output, and of the first `beyond` columns after
/// the last ones, as the next row has them.
pub(super) fn flips<T: Pod + Neg<Output = T>>(tensor: &TqTensor, beyond: usize) -> Vec<T> {
    let zero = T::zeroed();
    let flip = |&sign: &i8| if sign < 0 { -zero } else { zero };
    let mut flips: Vec<T> = tensor.signs().iter().map(flip).collect();
    while flips.len() < tensor.signs().len() + beyond {
        flips.push(flips[flips.len() - tensor.signs().len()]);
    }
    flips
}

/// A finite f16 as f32: its bits as those of an f32, which is then 2^112 too small; the product is exact.
#[inline]
pub(super) fn f16_to_f32(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let small = f32::from_bits((bits & 0x8000) << 16 | (bits & 0x7FFF) << 13);
    small * f32::from_bits((112 + 127) << 23)
}

/// Registers `i` and `i | bit` for every `i` without `bit`.
pub(super) const fn pairs(bit: usize) -> [(usize, usize); REGISTERS / 2] {
    let mut pairs = [(0, 0); REGISTERS / 2];
    let (mut i, mut k) = (0, 0);
    while i < REGISTERS {
        if i & bit == 0 {
            pairs[k] = (i, i | bit);
            k += 1;
        }
        i += 1;
    }
    pairs
}
