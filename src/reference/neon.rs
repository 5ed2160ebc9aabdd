//! The NEON rendering: the values of [`scalar`](mod@super::scalar), bit for bit. Each f32 operation of the
//! scalar text is done on the same two operands, up to the division; only their place differs.
//!
//! A block is 32 elements of a group in eight registers. Bits of an element's index say which register and
//! which lane: the lanes are bits 1 and 2 to begin with, since a byte of the codes is the even elements and
//! then the odd ones. A butterfly over a register bit is an addition and a subtraction of registers; a lane
//! bit is first exchanged for a register bit. At the end the lanes are bits 0 and 1: a register is four
//! consecutive elements, and the registers are in order.
//!
//! For codebooks with [`Codebook::exact_division`](crate::codebook::Codebook::exact_division) alone.

use super::shared::{REGISTERS, f16_to_f32, pairs};
use crate::tensor::TqTensor;
use bytemuck::Pod;
use std::arch::aarch64::*;

/// Elements of a block.
const BLOCK: usize = LANES * REGISTERS;

/// Lanes of a register.
const LANES: usize = 4;

type Block = [float32x4_t; REGISTERS];

/// Decodes the groups from `first_group` on, all that `out` holds, and returns how many; `T` is BF16 or
/// f32. `flips` is [`flips`](super::shared::flips) of `tensor`, with none beyond.
#[target_feature(enable = "neon")]
pub(super) fn groups<T: Pod>(
    tensor: &TqTensor,
    flips: &[T],
    first_group: usize,
    out: &mut [T],
) -> usize {
    let layout = tensor.layout();
    let decode = match (layout.stored_bits(), layout.group_size()) {
        (2, 32) => steps::<T, 2, 32, 1>,
        (2, 64) => steps::<T, 2, 64, 2>,
        (2, 128) => steps::<T, 2, 128, 4>,
        (2, 256) => steps::<T, 2, 256, 8>,
        (4, 32) => steps::<T, 4, 32, 1>,
        (4, 64) => steps::<T, 4, 64, 2>,
        (4, 128) => steps::<T, 4, 128, 4>,
        (4, 256) => steps::<T, 4, 256, 8>,
        other => unreachable!("Layout::new refuses {other:?}"),
    };
    decode(tensor, flips, first_group, out)
}

/// A group of `N` elements, which are `BLOCKS` blocks, in each step.
#[target_feature(enable = "neon")]
fn steps<T: Pod, const STORED_BITS: usize, const N: usize, const BLOCKS: usize>(
    tensor: &TqTensor,
    flips: &[T],
    first_group: usize,
    out: &mut [T],
) -> usize {
    const { assert!(size_of::<T>() == 2 || size_of::<T>() == 4) };
    let packed = &tensor.packed()[first_group * N * STORED_BITS / 8..];
    let table = Table::new(tensor.codebook().centroids());
    let divide = Divide::<N>::new();
    let mut x = [[vdupq_n_f32(0.0); REGISTERS]; BLOCKS];
    let signs = flips.chunks_exact(N).cycle();

    for (((out, packed), scale), flips) in out
        .chunks_exact_mut(N)
        .zip(packed.chunks_exact(N * STORED_BITS / 8))
        .zip(&tensor.scales().f16()[first_group..])
        .zip(signs.skip(first_group % tensor.groups_per_row()))
    {
        // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
        let scale = vdupq_n_f32(f16_to_f32(*scale));
        let bytes = packed.chunks_exact(BLOCK * STORED_BITS / 8);
        for (x, packed) in x.iter_mut().zip(bytes) {
            *x = table.scaled(codes::<STORED_BITS>(packed), scale);
        }
        // 4. inverse FWHT: butterflies, division by sqrt(n), sign
        for x in &mut x {
            *x = butterflies_in_block(*x);
        }
        butterflies_across(&mut x);
        // What a register holds of the output: 4 f32, or 8 BF16.
        let width = 16 / size_of::<T>();
        for ((x, flips), out) in x
            .as_flattened()
            .chunks_exact(width / LANES)
            .zip(flips.chunks_exact(width))
            .zip(out.chunks_exact_mut(width))
        {
            let value = if let [a, b] = x {
                round(divide.by_root(*a), divide.by_root(*b))
            } else {
                vreinterpretq_u8_f32(divide.by_root(x[0]))
            };
            store_flipped(value, flips, out);
        }
    }
    out.len() / N
}

/// The codes of a block, those of even index and those of odd index, one a byte.
#[target_feature(enable = "neon")]
#[inline]
fn codes<const STORED_BITS: usize>(packed: &[u8]) -> [uint8x16_t; 2] {
    assert!(packed.len() == BLOCK * STORED_BITS / 8);
    if STORED_BITS == 4 {
        // SAFETY: 16 readable bytes.
        let bytes = unsafe { vld1q_u8(packed.as_ptr()) };
        return [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)];
    }
    // SAFETY: eight readable bytes.
    let bytes = unsafe { vld1_u8(packed.as_ptr()) };
    // A byte has two codes of either kind: it is taken twice, once shifted.
    let twice = vcombine_u8(
        vzip1_u8(bytes, vshr_n_u8::<4>(bytes)),
        vzip2_u8(bytes, vshr_n_u8::<4>(bytes)),
    );
    let mask = vdupq_n_u8(3);
    [
        vandq_u8(twice, mask),
        vandq_u8(vshrq_n_u8::<2>(twice), mask),
    ]
}

/// The centroids as four tables of 16 bytes: byte 0 of each, byte 1 of each, ...
struct Table([uint8x16_t; 4]);

impl Table {
    #[target_feature(enable = "neon")]
    fn new(centroids: &[f32]) -> Self {
        let mut planes = [[0u8; 16]; 4];
        for (i, c) in centroids.iter().enumerate() {
            for (plane, byte) in planes.iter_mut().zip(c.to_le_bytes()) {
                plane[i] = byte;
            }
        }
        // SAFETY: 16 readable bytes.
        Self(planes.map(|plane| unsafe { vld1q_u8(plane.as_ptr()) }))
    }

    /// Centroid lookup and scale of a block; register bits 0, 1, 2 are index bits 0, 3, 4.
    #[target_feature(enable = "neon")]
    #[inline]
    fn scaled(&self, [even, odd]: [uint8x16_t; 2], scale: float32x4_t) -> Block {
        let [e0, e1, e2, e3] = self.centroids(even);
        let [o0, o1, o2, o3] = self.centroids(odd);
        [e0, o0, e1, o1, e2, o2, e3, o3].map(|x| vmulq_f32(x, scale))
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn centroids(&self, codes: uint8x16_t) -> [float32x4_t; 4] {
        let bytes = self.0.map(|plane| vqtbl1q_u8(plane, codes));
        let [low, high] = [(bytes[0], bytes[1]), (bytes[2], bytes[3])].map(|(a, b)| {
            [vzip1q_u8(a, b), vzip2q_u8(a, b)].map(|halves| vreinterpretq_u16_u8(halves))
        });
        [
            vzip1q_u16(low[0], high[0]),
            vzip2q_u16(low[0], high[0]),
            vzip1q_u16(low[1], high[1]),
            vzip2q_u16(low[1], high[1]),
        ]
        .map(|x| vreinterpretq_f32_u16(x))
    }
}

/// Strides 1 to 16; register bits 0, 1, 2 are index bits 2, 3, 4 after it.
#[target_feature(enable = "neon")]
#[inline]
fn butterflies_in_block(mut x: Block) -> Block {
    for (i, j) in const { pairs(1) } {
        let (lower, upper) = butterfly(x[i], x[j]);
        // Lanes 1, 2 become 0, 2; the register bit becomes index bit 1.
        let (lower, upper) = (vtrn1q_f32(lower, upper), vtrn2q_f32(lower, upper));
        let (lower, upper) = butterfly(lower, upper);
        // Lanes 0, 2 become 0, 1; the register bit becomes index bit 2.
        let (lower, upper) = exchange_halves(lower, upper);
        (x[i], x[j]) = butterfly(lower, upper);
    }
    for (i, j) in const { pairs(2) } {
        (x[i], x[j]) = butterfly(x[i], x[j]);
    }
    for (i, j) in const { pairs(4) } {
        (x[i], x[j]) = butterfly(x[i], x[j]);
    }
    x
}

/// The lower halves of both, and the upper halves.
#[target_feature(enable = "neon")]
#[inline]
fn exchange_halves(a: float32x4_t, b: float32x4_t) -> (float32x4_t, float32x4_t) {
    let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
    (
        vreinterpretq_f32_f64(vtrn1q_f64(a, b)),
        vreinterpretq_f32_f64(vtrn2q_f64(a, b)),
    )
}

/// Strides 32, 64 and 128, as far as the group has them.
#[target_feature(enable = "neon")]
#[inline]
#[allow(clippy::needless_range_loop)] // register by register, so that each is loaded and stored once
fn butterflies_across<const BLOCKS: usize>(x: &mut [Block; BLOCKS]) {
    for r in 0..REGISTERS {
        let mut bit = 1;
        while bit < BLOCKS {
            for i in 0..BLOCKS {
                if i & bit == 0 {
                    (x[i][r], x[i | bit][r]) = butterfly(x[i][r], x[i | bit][r]);
                }
            }
            bit *= 2;
        }
    }
}

/// Lower lane `a + b`, upper lane `a - b`.
#[target_feature(enable = "neon")]
#[inline]
fn butterfly(a: float32x4_t, b: float32x4_t) -> (float32x4_t, float32x4_t) {
    (vaddq_f32(a, b), vsubq_f32(a, b))
}

/// The division by `sqrt(N)`, which in the scalar text is f64 `x / sqrt(N)` rounded once to f32: `1 / sqrt(N)`
/// as the sum of two f32.
struct Divide<const N: usize> {
    high: float32x4_t,
    low: float32x4_t,
}

impl<const N: usize> Divide<N> {
    #[target_feature(enable = "neon")]
    fn new() -> Self {
        let inverse = 1.0 / (N as f64).sqrt();
        let high = inverse as f32;
        Self {
            high: vdupq_n_f32(high),
            low: vdupq_n_f32((inverse - f64::from(high)) as f32),
        }
    }

    /// The quotient, of zeros and of values from 2^-100 on: `docs/kernels.md`.
    #[target_feature(enable = "neon")]
    #[inline]
    fn by_root(&self, x: float32x4_t) -> float32x4_t {
        // The root is a power of two: `low` is 0.
        if N.ilog2().is_multiple_of(2) {
            return vmulq_f32(x, self.high);
        }
        vfmaq_f32(vmulq_f32(x, self.low), x, self.high)
    }
}

/// Rounds to BF16, nearest, ties to even; the values of `a`, then those of `b`.
#[target_feature(enable = "neon")]
#[inline]
fn round(a: float32x4_t, b: float32x4_t) -> uint8x16_t {
    let (a, b) = (vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b));
    // The upper 16 bits of the sums.
    vreinterpretq_u8_u16(vaddhn_high_u32(vaddhn_u32(a, carry(a)), b, carry(b)))
}

/// What, added, carries into the upper 16 bits when the value rounds away from zero.
#[target_feature(enable = "neon")]
#[inline]
fn carry(bits: uint32x4_t) -> uint32x4_t {
    let last = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    vaddq_u32(vdupq_n_u32(0x7FFF), last)
}

/// Flips the signs of a register and stores it.
#[target_feature(enable = "neon")]
#[inline]
fn store_flipped<T: Pod>(x: uint8x16_t, flips: &[T], out: &mut [T]) {
    assert!(size_of_val(flips) == 16 && size_of_val(out) == 16);
    // SAFETY: 16 readable and 16 writable bytes, and `Pod` takes any bytes.
    unsafe {
        let flips = vld1q_u8(flips.as_ptr().cast());
        vst1q_u8(out.as_mut_ptr().cast(), veorq_u8(x, flips));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Exponent fields to go through: the first that the division is right for; the least that sums can have,
    /// 2^-97; one in the middle; the largest that centroids and scales can give, 2^40.
    const EXPONENTS: [u32; 4] = [27, 30, 127, 167];

    /// Between the significands gone through: `tests/it/division.rs` takes each, and where this runs in an
    /// emulator that would be long.
    const STEP: usize = 7;

    #[test]
    fn division_and_rounding_are_right() {
        of_groups_of::<32>();
        of_groups_of::<64>();
        of_groups_of::<128>();
        of_groups_of::<256>();
    }

    fn of_groups_of<const N: usize>() {
        check::<N>([0.0, -0.0, 1.0, -1.0]);
        for exponent in EXPONENTS {
            for i in (0..1 << 23).step_by(STEP) {
                let bits = exponent << 23 | i;
                check::<N>(
                    [bits, bits ^ 0xFFFF, bits ^ 1 << 31, bits ^ 0x8000_7FFF].map(f32::from_bits),
                );
            }
        }
    }

    fn check<const N: usize>(x: [f32; LANES]) {
        // SAFETY: NEON is part of the architecture.
        let (got, got_bf16) = unsafe { divide_and_round::<N>(x) };
        let want = x.map(|x| (f64::from(x) / (N as f64).sqrt()) as f32);
        assert_eq!(got.map(f32::to_bits), want.map(f32::to_bits), "{x:?}, {N}");
        let want = want.map(|want| bf16::from_f32(want).to_bits());
        assert_eq!(got_bf16, [want, want], "{x:?}, {N}");
    }

    /// Values over `sqrt(N)`, and as BF16, twice.
    #[target_feature(enable = "neon")]
    fn divide_and_round<const N: usize>(x: [f32; LANES]) -> ([f32; LANES], [[u16; LANES]; 2]) {
        // SAFETY: 16 readable bytes.
        let x = unsafe { vld1q_f32(x.as_ptr()) };
        let quotient = Divide::<N>::new().by_root(x);
        let (mut single, mut half) = ([0.0; LANES], [[0; LANES]; 2]);
        store_flipped(
            vreinterpretq_u8_f32(quotient),
            &[0.0f32; LANES],
            &mut single,
        );
        store_flipped(
            round(quotient, quotient),
            &[0u16; 2 * LANES],
            half.as_flattened_mut(),
        );
        (single, half)
    }
}
