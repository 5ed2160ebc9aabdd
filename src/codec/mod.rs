//! The codec: one plain description of every format's arithmetic and storage.
//!
//! A format is a function from its files to a [`Codec`] and the bytes that it describes; reference, oracle,
//! faults and kernels take the description and never ask which format it came from.

mod scales;

pub(crate) use scales::e3m5_to_f32;
pub use scales::{ScaleType, Scales, e3m5_from_f32};

use crate::codebook::Codebook;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// The group sizes that every lane implements.
pub const GROUP_SIZES: [usize; 4] = [32, 64, 128, 256];

/// The largest of them.
pub(crate) const MAX_GROUP: usize = GROUP_SIZES[GROUP_SIZES.len() - 1];

/// Fewest elements that share a scale.
pub(crate) const MIN_SCALED: usize = 8;

/// A layout with the codebook that its codes refer to.
#[derive(Debug, Clone, PartialEq)]
pub struct Codec {
    /// Storage and arithmetic.
    pub layout: Layout,
    /// `2^bits` centroids.
    pub codebook: Arc<Codebook>,
}

/// How codes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Low bits first, whole codes to a byte: codes of 3 bits take a nibble each.
    Bytes,
    /// Low bits first, without gaps: eight codes of 3 bits are a little-endian integer of 24.
    Dense,
}

/// Where the scale is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scaling {
    /// To each centroid, before the transform.
    Before,
    /// To each element, after transform, normalisation and sign.
    After,
}

/// How the transform is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Normalisation {
    /// `x / sqrt(n)`, as if by f64 and rounded once.
    Divide,
    /// `x * f32(1 / sqrt(n))`.
    Multiply,
}

/// What a scale is, and what one unit of the codebook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The norm of a group, never negative; the codebook is for coordinates of unit vectors, variance `1/n`.
    Norm,
    /// A fitted multiplier, which may be negative; the codebook is for unit variance.
    Deviation,
}

/// Elements that share a scale, and how it is stored and used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScaleGrid {
    /// Elements that share one, in succession: a power of two, 8 to the group size.
    pub elements: usize,
    /// Type.
    pub stored: ScaleType,
    /// Where it is applied; after the transform only where a group has one scale.
    pub scaling: Scaling,
    /// What it is.
    pub unit: Unit,
}

/// Signs that a group's centroids get before the transform, the same for every group: bit `i` is set where
/// that of element `i` is -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SignsBefore([u32; MAX_GROUP / 32]);

impl SignsBefore {
    /// From +1 and -1, at most 256 of them.
    pub fn new(signs: &[i8]) -> Self {
        let mut words = [0; MAX_GROUP / 32];
        for (i, _) in signs.iter().enumerate().filter(|(_, s)| **s < 0) {
            words[i / 32] |= 1 << (i % 32);
        }
        Self(words)
    }

    /// That of element `i` of a group, +1 or -1.
    pub fn of(&self, i: usize) -> i8 {
        1 - 2 * (self.0[i / 32] >> (i % 32) & 1) as i8
    }

    /// As words, low bits first.
    pub fn words(&self) -> [u32; MAX_GROUP / 32] {
        self.0
    }
}

/// How codes and scales are stored, and the arithmetic that decodes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    bits: u32,
    group_size: usize,
    packing: Packing,
    scales: ScaleGrid,
    signs_before: Option<SignsBefore>,
    normalisation: Normalisation,
    interleaved: bool,
}

impl Layout {
    /// Codes in whole bytes, an f16 norm a group applied before the transform, a division by `sqrt(n)`, signs
    /// after it alone.
    ///
    /// # Errors
    /// When `bits` is not 2, 3 or 4, or `group_size` not 32, 64, 128 or 256.
    pub fn new(bits: u32, group_size: usize) -> Result<Self> {
        if !(2..=4).contains(&bits) {
            return Err(Error::input(
                format!("bits = {bits} found, expected 2, 3 or 4"),
                "bits",
                "",
            ));
        }
        if !GROUP_SIZES.contains(&group_size) {
            return Err(Error::input(
                format!("group_size = {group_size} found, expected 32, 64, 128 or 256"),
                "group_size",
                "",
            ));
        }
        Ok(Self {
            bits,
            group_size,
            packing: Packing::Bytes,
            scales: ScaleGrid {
                elements: group_size,
                stored: ScaleType::F16,
                scaling: Scaling::Before,
                unit: Unit::Norm,
            },
            signs_before: None,
            normalisation: Normalisation::Divide,
            interleaved: false,
        })
    }

    /// The same with codes of 3 bits without gaps.
    #[must_use]
    pub fn dense(self) -> Self {
        Self {
            packing: Packing::Dense,
            ..self
        }
    }

    /// The same with other scales.
    ///
    /// # Panics
    /// When the elements that share one are not a power of two from 8 to the group size, or a scale after the
    /// transform is not a group's only one.
    #[must_use]
    pub fn scaled(self, scales: ScaleGrid) -> Self {
        let shared = scales.elements;
        let fits = shared.is_power_of_two() && (MIN_SCALED..=self.group_size).contains(&shared);
        let one = shared == self.group_size;
        assert!(
            fits && (one || scales.scaling == Scaling::Before),
            "{scales:?}"
        );
        Self { scales, ..self }
    }

    /// The same with signs before the transform.
    #[must_use]
    pub fn signed_before(self, signs: SignsBefore) -> Self {
        Self {
            signs_before: Some(signs),
            ..self
        }
    }

    /// The same with another normalisation.
    #[must_use]
    pub fn normalised(self, normalisation: Normalisation) -> Self {
        Self {
            normalisation,
            ..self
        }
    }

    /// The same, of files in which each group's scales stand before its codes.
    #[must_use]
    pub fn interleaved(self) -> Self {
        Self {
            interleaved: true,
            ..self
        }
    }

    /// Bits of information per code: 2, 3 or 4.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Elements per group, the unit of the transform, a power of two.
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// How codes are packed.
    pub fn packing(self) -> Packing {
        self.packing
    }

    /// The scales.
    pub fn scales(self) -> ScaleGrid {
        self.scales
    }

    /// Signs before the transform, where there are any.
    pub fn signs_before(self) -> Option<SignsBefore> {
        self.signs_before
    }

    /// How the transform is normalised.
    pub fn normalisation(self) -> Normalisation {
        self.normalisation
    }

    /// Whether files hold groups one by one, scales before codes.
    pub fn is_interleaved(self) -> bool {
        self.interleaved
    }

    /// Whether the arithmetic is that of [`Layout::new`], whatever the size of codes and groups.
    pub fn is_plain(self) -> bool {
        Self::new(self.bits, self.group_size).is_ok_and(|plain| {
            Self {
                interleaved: false,
                ..self
            } == plain
        })
    }

    /// Bits per code as stored: of codes in bytes those of 3 bits take a nibble each.
    pub fn stored_bits(self) -> u32 {
        match (self.bits, self.packing) {
            (3, Packing::Bytes) => 4,
            (bits, _) => bits,
        }
    }

    /// Number of centroids, `2^bits`.
    pub fn levels(self) -> usize {
        1 << self.bits
    }

    /// Bytes of packed codes per `cols` elements, whole groups.
    pub fn packed_len(self, cols: usize) -> usize {
        cols / 8 * self.stored_bits() as usize
    }

    /// Bytes of packed codes per group.
    pub fn packed_group(self) -> usize {
        self.packed_len(self.group_size)
    }

    /// Scales of a group.
    pub fn scales_per_group(self) -> usize {
        self.group_size / self.scales.elements
    }

    /// Bytes of a group: codes and scales.
    pub fn group_bytes(self) -> usize {
        self.packed_group() + self.scales_per_group() * self.scales.stored.size()
    }

    /// Element `at` of packed codes, whatever the groups.
    pub(crate) fn code(self, packed: &[u8], at: usize) -> u8 {
        let bits = self.stored_bits() as usize;
        let first = at * bits;
        let low = u16::from(packed[first / 8]);
        // A code of 3 bits may end in the next byte.
        let high = if first % 8 + bits > 8 {
            u16::from(packed[first / 8 + 1])
        } else {
            0
        };
        ((low | high << 8) >> (first % 8)) as u8 & ((1 << bits) - 1)
    }

    /// Packs codes, whole groups of them: the inverse of [`Layout::code`].
    pub fn pack(self, codes: &[u8]) -> Vec<u8> {
        let bits = self.stored_bits() as usize;
        let mut packed = vec![0; self.packed_len(codes.len())];
        for (i, code) in codes.iter().enumerate() {
            let wide = u16::from(*code) << (i * bits % 8);
            packed[i * bits / 8] |= wide as u8;
            if wide > 0xFF {
                packed[i * bits / 8 + 1] |= (wide >> 8) as u8;
            }
        }
        packed
    }
}

/// `4 bits, group 128`, and how it differs from [`Layout::new`].
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits, group {}", self.bits, self.group_size)?;
        if self.is_plain() {
            return Ok(());
        }
        let ScaleGrid {
            elements,
            stored,
            scaling,
            ..
        } = self.scales;
        let place = match scaling {
            Scaling::Before => "before",
            Scaling::After => "after",
        };
        write!(f, ", {} scale of {elements} {place}", stored.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_bits_without_gaps_are_integers_of_24() {
        let layout = Layout::new(3, 32).unwrap().dense();
        let packed = layout.pack(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(packed, [0x88, 0xC6, 0xFA]);
        assert_eq!(layout.packed_group(), 12);
    }

    #[test]
    fn the_nearest_scale_of_a_byte_is_found() {
        for b in 0..=u8::MAX {
            let scale = e3m5_to_f32(b);
            assert_eq!(e3m5_from_f32(scale), b);
            if b < u8::MAX {
                let middle = f32::midpoint(scale, e3m5_to_f32(b + 1));
                assert_eq!(e3m5_from_f32(middle.next_down()), b);
                assert_eq!(e3m5_from_f32(middle.next_up()), b + 1);
            }
        }
        assert_eq!(e3m5_from_f32(-1.0), 0);
        assert_eq!(e3m5_from_f32(f32::INFINITY), u8::MAX);
    }

    proptest! {
        #[test]
        fn codes_go_there_and_back(
            bits in 2u32..=4,
            dense: bool,
            seed in prop::collection::vec(any::<u8>(), 64),
        ) {
            let layout = Layout::new(bits, 64).unwrap();
            let layout = if dense { layout.dense() } else { layout };
            let codes: Vec<u8> = seed.iter().map(|c| c & ((1 << bits) - 1)).collect();
            let packed = layout.pack(&codes);
            prop_assert_eq!(packed.len(), layout.packed_group());
            for (i, code) in codes.iter().enumerate() {
                prop_assert_eq!(layout.code(&packed, i), *code);
            }
        }

        #[test]
        fn signs_before_go_there_and_back(negative in prop::collection::vec(any::<bool>(), 256)) {
            let signs: Vec<i8> = negative.iter().map(|n| if *n { -1 } else { 1 }).collect();
            let packed = SignsBefore::new(&signs);
            for (i, sign) in signs.iter().enumerate() {
                prop_assert_eq!(packed.of(i), *sign);
            }
        }
    }
}
