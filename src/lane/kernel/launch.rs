//! What one launch of a kernel is given.

use crate::tensor::TqTensor;
use std::borrow::Cow;
use std::ops::Range;

/// Entries of the codebook as kernels get it; zeros follow the `2^bits` that there are.
pub const CENTROIDS: usize = 16;

/// A piece of memory that a kernel gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Codes, `[rows, cols * stored_bits / 8]` bytes.
    Packed,
    /// Scales as they are stored, `[rows, cols / elements that share one]`.
    Scales,
    /// Scales and codes of each group together, as files that interleave them have them: `[groups]` times the
    /// bytes of a group.
    Blocks,
    /// Signs, i8 `[cols]`.
    Signs,
    /// Signs as two BF16 values in a word have them, u32 `[cols / 2]`: bit 15 is set where the even column's
    /// is -1, bit 31 where the odd one's is.
    SignPairs,
    /// Signs of a group before the transform, u32 `[8]`: bit `i` is set where that of element `i` is -1.
    SignsBefore,
    /// The codebook, f32 `[16]`.
    Centroids,
    /// The output, `[rows, cols]`.
    Out,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Packed,
        Self::Scales,
        Self::Blocks,
        Self::Signs,
        Self::SignPairs,
        Self::SignsBefore,
        Self::Centroids,
        Self::Out,
    ];

    /// The format's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Scales => "scales",
            Self::Blocks => "blocks",
            Self::Signs => "signs",
            Self::SignPairs => "sign_pairs",
            Self::SignsBefore => "signs_before",
            Self::Centroids => "centroids",
            Self::Out => "out",
        }
    }
}

/// A scalar, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalarValue {
    /// Its bytes, from the first on.
    pub bytes: [u8; 8],
    /// How many of them count: 4 or 8.
    pub size: usize,
}

impl ScalarValue {
    /// Of 4 bytes.
    pub fn word(bytes: [u8; 4]) -> Self {
        let mut all = [0; 8];
        all[..4].copy_from_slice(&bytes);
        Self {
            bytes: all,
            size: 4,
        }
    }
}

impl From<u32> for ScalarValue {
    fn from(value: u32) -> Self {
        Self::word(value.to_le_bytes())
    }
}

/// What stands in one place of a kernel's arguments, or of its bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// The address of a piece of memory, or a storage buffer.
    Part(Part),
    /// A scalar by value.
    Value(ScalarValue),
    /// A uniform buffer of these bytes.
    Uniform(Vec<u8>),
}

/// One launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Blocks, or workgroups.
    pub grid: [u32; 3],
    /// Threads of a block; of a shader its text says them.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_memory: u32,
    /// In the order of the kernel.
    pub arguments: Vec<Argument>,
}

/// The codebook as kernels get it.
pub fn centroids(tensor: &TqTensor) -> [f32; CENTROIDS] {
    let mut centroids = [0.0; CENTROIDS];
    centroids[..tensor.layout().levels()].copy_from_slice(tensor.codebook().centroids());
    centroids
}

/// The bytes of one part of some groups of a tensor.
///
/// # Panics
/// For the output, which has none.
pub fn part_bytes(part: Part, tensor: &TqTensor, groups: Range<usize>) -> Cow<'_, [u8]> {
    let layout = tensor.layout();
    let group = layout.packed_group();
    match part {
        Part::Packed => tensor.packed()[groups.start * group..groups.end * group].into(),
        Part::Scales => {
            let bytes = layout.group_bytes() - group;
            tensor.scales().bytes()[groups.start * bytes..groups.end * bytes].into()
        }
        Part::Blocks => tensor.blocks(groups).into(),
        Part::Signs => bytemuck::cast_slice::<i8, u8>(tensor.signs()).into(),
        Part::SignPairs => {
            let half = |sign: i8| u32::from(sign.to_ne_bytes()[0] >> 7) << 15;
            let pairs = tensor.signs().chunks_exact(2);
            pairs
                .flat_map(|p| (half(p[0]) | half(p[1]) << 16).to_le_bytes())
                .collect()
        }
        Part::SignsBefore => {
            let signs = layout.signs_before().unwrap_or_default();
            signs.words().iter().flat_map(|w| w.to_le_bytes()).collect()
        }
        Part::Centroids => bytemuck::bytes_of(&centroids(tensor)).to_vec().into(),
        Part::Out => panic!("the output is written, not read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{self, Rng, ScaleDistribution};
    use crate::tensor::Layout;

    #[test]
    fn sign_pairs_turn_bf16_values_around() {
        let layout = Layout::new(4, 32).unwrap();
        let tensor =
            synthetic::tensor(&mut Rng::new(1), layout, 3, 64, ScaleDistribution::Usual).unwrap();
        let words = part_bytes(Part::SignPairs, &tensor, 2..3);
        assert_eq!(words.len(), 64 / 2 * 4);
        for (half, sign) in words.chunks_exact(2).zip(tensor.signs()) {
            let flip = u16::from_le_bytes([half[0], half[1]]);
            let one = half::bf16::from_bits(half::bf16::ONE.to_bits() ^ flip);
            assert_eq!(one.to_f32(), f32::from(*sign));
        }
    }
}
