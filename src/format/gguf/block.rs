//! The blocks of 32 weights: their codecs.
//!
//! Scales are fitted multipliers, the codebooks are for unit variance and are not divided by `sqrt(n)`. The
//! transform of a block is normalised by a product, and its signs are the same for every block
//! (llama-cpp-turboquant, `ggml-turbo-quant.c`; llama.cpp-tq3, `ggml-quants.c`).

use crate::codebook::Codebook;
use crate::codec::{Codec, Layout, Normalisation, ScaleGrid, ScaleType, Scaling, Unit};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Weights of a block, the unit of the transform.
pub const BLOCK_WEIGHTS: usize = 32;

/// Positive half of the codebook of 4 bits, which is symmetric.
const HALF_OF_4_BITS: [f32; 8] = [
    0.128395, 0.388048, 0.656759, 0.942340, 1.256231, 1.618046, 2.069017, 2.73259,
];

/// The codebook of 3 bits, which is not.
const OF_3_BITS: [f32; 8] = [
    -1.996684, -1.291398, -0.740341, -0.247508, 0.230106, 0.725222, 1.277503, 1.988943,
];

/// A type of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockType {
    /// `TQ4_1S`: 20 bytes, two f16 scales and 32 codes of 4 bits.
    Tq4_1s,
    /// `TQ3_1S`: 16 bytes, two f16 scales and 32 codes of 3 bits.
    Tq3_1s,
    /// `TQ3_4S`: 16 bytes, four E3M5 scales and 32 codes of 3 bits.
    Tq3_4s,
}

impl BlockType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tq4_1s, Self::Tq3_1s, Self::Tq3_4s];

    /// The type's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tq4_1s => "TQ4_1S",
            Self::Tq3_1s => "TQ3_1S",
            Self::Tq3_4s => "TQ3_4S",
        }
    }

    /// Bytes of one.
    pub(super) fn block_bytes(self) -> u64 {
        match self {
            Self::Tq4_1s => 20,
            Self::Tq3_1s | Self::Tq3_4s => 16,
        }
    }

    /// Its codec.
    pub fn codec(self) -> Codec {
        static BOOKS: LazyLock<[Arc<Codebook>; 2]> = LazyLock::new(|| {
            let negative = HALF_OF_4_BITS.iter().rev().map(|c| -c);
            let of_4_bits = negative.chain(HALF_OF_4_BITS).collect();
            [of_4_bits, OF_3_BITS.to_vec()]
                .map(|c| Arc::new(Codebook::new(c, None).expect("ascending and finite")))
        });
        let (bits, book) = match self {
            Self::Tq4_1s => (4, &BOOKS[0]),
            Self::Tq3_1s | Self::Tq3_4s => (3, &BOOKS[1]),
        };
        let (elements, stored) = match self {
            Self::Tq4_1s | Self::Tq3_1s => (16, ScaleType::F16),
            Self::Tq3_4s => (8, ScaleType::E3m5),
        };
        let layout = Layout::new(bits, BLOCK_WEIGHTS).expect("a size that there is");
        let scales = ScaleGrid {
            elements,
            stored,
            scaling: Scaling::Before,
            unit: Unit::Deviation,
        };
        Codec {
            layout: layout
                .dense()
                .scaled(scales)
                .normalised(Normalisation::Multiply)
                .interleaved(),
            codebook: Arc::clone(book),
        }
    }

    /// The signs of so many columns, whole blocks: element `i` of a block has -1 where the top bit of the u32
    /// `i * 0x9E3779B9` is set.
    pub fn signs(cols: usize) -> Vec<i8> {
        let sign = |col: usize| match (col % BLOCK_WEIGHTS) as u32 {
            i if i.wrapping_mul(0x9E37_79B9) >> 31 == 1 => -1,
            _ => 1,
        };
        (0..cols).map(sign).collect()
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Scales;
    use crate::reference::dequantize;
    use crate::tensor::{Parts, TqTensor};
    use half::f16;

    #[test]
    fn the_mask_of_signs_is_the_published_one() {
        let mask = BlockType::signs(BLOCK_WEIGHTS).into_iter().enumerate();
        let mask = mask.fold(0u32, |mask, (i, s)| mask | u32::from(s < 0) << i);
        assert_eq!(mask, 0x696B_4B4A);
    }

    /// Elements 0 to 5 of one block, as the format's description has them.
    #[test]
    fn published_values_come_out() {
        let halves = || Scales::F16([1.0, 0.5].map(f16::from_f32).to_vec());
        let cases = [
            (
                BlockType::Tq4_1s,
                halves(),
                [0.0f64, 0.8329481, -1.5962861, -0.0, -2.9488168, 0.0],
            ),
            (
                BlockType::Tq3_1s,
                halves(),
                [
                    -0.0287212, 1.2752715, -2.4455380, -0.0020530, -4.5065889, 0.0044744,
                ],
            ),
            (
                BlockType::Tq3_4s,
                Scales::E3m5(vec![0x40, 0x5F, 0x00, 0xFF]),
                [
                    -0.0049341, 0.2190835, -0.4201278, -0.0003527, -0.7742032, 0.0007687,
                ],
            ),
        ];
        for (block, scales, values) in cases {
            let Codec { layout, codebook } = block.codec();
            let codes: Vec<u8> = (0..32).map(|j| j % (1 << layout.bits())).collect();
            let parts = Parts {
                packed: layout.pack(&codes),
                scales,
                signs: BlockType::signs(BLOCK_WEIGHTS),
            };
            let tensor =
                TqTensor::new("block", layout, [1, BLOCK_WEIGHTS], parts, codebook).unwrap();
            for (i, (got, want)) in dequantize(&tensor).iter().zip(values).enumerate() {
                let name = block.name();
                assert!(
                    (f64::from(*got) - want).abs() < 1e-7,
                    "{name} {i}: {got} {want}"
                );
            }
            assert_eq!(block.block_bytes(), layout.group_bytes() as u64);
        }
    }
}
