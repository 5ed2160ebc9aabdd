//! A TQ4 tensor in memory: packed codes, scales, signs and the codebook they refer to.

use crate::codebook::Codebook;
use crate::codec::{Scales, Unit};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

pub use crate::codec::{GROUP_SIZES, Layout};

/// The name of a tensor as the format has it: that of its weight without `.weight`.
pub(crate) fn base_of(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// BF16 bit pattern that every output is filled with before a kernel runs: a NaN that no lane computes, so
/// that what a kernel leaves unwritten fails the gates.
pub const POISON_BF16: u16 = 0xFFA5;

/// [`POISON_BF16`] for outputs of f32, and as a word of two BF16 values: a NaN as well.
pub const POISON_F32: u32 = 0xFFA5_FFA5;

const _: () = assert!(POISON_F32 == (POISON_BF16 as u32) << 16 | POISON_BF16 as u32);

/// The stored parts of a tensor of shape `[rows, cols]`, each row-major.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Codes, `[rows, cols * stored_bits / 8]` bytes, low bits first.
    pub packed: Vec<u8>,
    /// Scales, `[rows, cols / elements that share one]`.
    pub scales: Scales,
    /// +1 or -1 for each column after the transform, `[cols]`, shared by all rows.
    pub signs: Vec<i8>,
}

/// The names of the parts in errors, in the order in which files have their tensors.
pub(crate) const PARTS: [&str; 3] = ["packed", "scales", "signs"];

/// Where an error about a part of a weight is.
pub(crate) fn place_of(base: &str, part: &str) -> String {
    format!("{base}: {part}")
}

/// The largest scale that is read.
pub(crate) const MOST_SCALE: f32 = 65504.0;

/// A quantised weight of shape `[rows, cols]`, or some rows of one.
#[derive(Debug, Clone)]
pub struct TqTensor {
    base: String,
    layout: Layout,
    rows: usize,
    cols: usize,
    // Shared: a lane keeps the tensor that it is to decode.
    parts: Arc<Parts>,
    codebook: Arc<Codebook>,
}

impl TqTensor {
    /// Checks that the parts fit together.
    ///
    /// `shape` is `[rows, cols]`.
    ///
    /// # Errors
    /// When a length does not follow from the shape, `cols` is not a multiple of the group size, a
    /// scale is negative or not finite, a sign is not +1 or -1, a 3-bit code exceeds 7, or every
    /// packed byte of a row is 0xFF (which a broken encoder writes and a working one does not).
    pub fn new(
        base: impl Into<String>,
        layout: Layout,
        shape: [usize; 2],
        parts: Parts,
        codebook: Arc<Codebook>,
    ) -> Result<Self> {
        let tensor = Self {
            base: base.into(),
            layout,
            rows: shape[0],
            cols: shape[1],
            parts: Arc::new(parts),
            codebook,
        };
        tensor.check()?;
        Ok(tensor)
    }

    fn check(&self) -> Result<()> {
        let name = |part: &str| place_of(&self.base, part);
        let g = self.layout.group_size();
        if self.rows == 0 || self.cols == 0 {
            return Err(Error::input(
                format!("shape [{}, {}] holds no element", self.rows, self.cols),
                &self.base,
                "",
            ));
        }
        if !self.cols.is_multiple_of(g) {
            return Err(Error::input(
                format!("{} columns are not a multiple of group_size {g}", self.cols),
                &self.base,
                "check the group size in the model's configuration",
            ));
        }
        if self.parts.scales.stored() != self.layout.scales().stored {
            return Err(Error::input(
                format!(
                    "{} found, expected {}",
                    self.parts.scales.stored().name(),
                    self.layout.scales().stored.name()
                ),
                name("scales"),
                "",
            ));
        }
        let lengths = [
            (
                self.parts.packed.len(),
                self.rows.checked_mul(self.layout.packed_len(self.cols)),
            ),
            (
                self.parts.scales.len(),
                self.rows.checked_mul(self.scales_per_row()),
            ),
            (self.parts.signs.len(), Some(self.cols)),
        ];
        for (part, (found, expected)) in PARTS.into_iter().zip(lengths) {
            if Some(found) != expected {
                return Err(Error::input(
                    format!(
                        "{found} elements found, expected {} for shape [{}, {}]",
                        expected.map_or("more than memory holds".into(), |n| n.to_string()),
                        self.rows,
                        self.cols
                    ),
                    name(part),
                    "",
                ));
            }
        }
        if self.codebook.centroids().len() != self.layout.levels() {
            return Err(Error::input(
                format!(
                    "{} centroids found, expected {} (2^{} bits)",
                    self.codebook.centroids().len(),
                    self.layout.levels(),
                    self.layout.bits()
                ),
                "centroids",
                "",
            ));
        }
        if let Some(i) = self.parts.signs.iter().position(|&s| s != 1 && s != -1) {
            return Err(Error::input(
                format!(
                    "sign {} found at column {i}, expected +1 or -1",
                    self.parts.signs[i]
                ),
                name("signs"),
                "this is another project's format, or the file is damaged",
            ));
        }
        let unit = self.layout.scales().unit;
        // Larger ones could overflow f32 where lanes need not agree; f16 has none.
        let bad = |s: f32| !(s.abs() <= MOST_SCALE && (unit == Unit::Deviation || s >= 0.0));
        if let Some(i) = self.parts.scales.iter().position(bad) {
            let per_row = self.scales_per_row();
            let word = match unit {
                Unit::Norm => "finite and not negative",
                Unit::Deviation => "finite",
            };
            let most = match self.parts.scales {
                Scales::F32(_) => format!(", at most {MOST_SCALE}"),
                _ => String::new(),
            };
            return Err(Error::input(
                format!(
                    "scale {} found at row {}, group {}, expected {word}{most}",
                    self.parts.scales.get(i),
                    i / per_row,
                    i % per_row / self.layout.scales_per_group()
                ),
                name("scales"),
                "the encoder overflowed, or the file is damaged or of another format",
            ));
        }
        let row_len = self.layout.packed_len(self.cols);
        for (row, bytes) in self.parts.packed.chunks_exact(row_len).enumerate() {
            if bytes.iter().all(|&b| b == 0xFF) {
                return Err(Error::input(
                    format!(
                        "every packed byte of row {row} is 0xFF, which no working encoder writes"
                    ),
                    name("packed"),
                    "quantise this tensor again with a working encoder",
                ));
            }
            if self.layout.stored_bits() > self.layout.bits()
                && let Some(i) = bytes.iter().position(|&b| b & 0x88 != 0)
            {
                return Err(Error::input(
                    format!(
                        "packed byte {:#04x} at row {row}, byte {i} holds a code over 7, expected 3-bit codes in nibbles",
                        bytes[i]
                    ),
                    name("packed"),
                    "check bits in the model's configuration",
                ));
            }
        }
        Ok(())
    }

    /// The name before `.weight`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// How codes are stored.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows, the output dimension N.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, the input dimension K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `rows * cols`.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// Groups in one row.
    pub fn groups_per_row(&self) -> usize {
        self.cols / self.layout.group_size()
    }

    /// Groups in the whole tensor.
    pub fn groups(&self) -> usize {
        self.rows * self.groups_per_row()
    }

    /// Scales in one row.
    pub fn scales_per_row(&self) -> usize {
        self.cols / self.layout.scales().elements
    }

    /// Bytes of codes, scales and signs.
    pub fn bytes(&self) -> usize {
        self.parts.packed.len() + self.parts.scales.bytes().len() + self.parts.signs.len()
    }

    /// Packed codes, row-major.
    pub fn packed(&self) -> &[u8] {
        &self.parts.packed
    }

    /// Scales, `[rows, cols / elements that share one]` row-major.
    pub fn scales(&self) -> &Scales {
        &self.parts.scales
    }

    /// The scale of the element at (row, col).
    pub fn scale(&self, row: usize, col: usize) -> f32 {
        let at = row * self.scales_per_row() + col / self.layout.scales().elements;
        self.parts.scales.get(at)
    }

    /// Signs after the transform, one per column.
    pub fn signs(&self) -> &[i8] {
        &self.parts.signs
    }

    /// The codebook that the codes refer to.
    pub fn codebook(&self) -> &Arc<Codebook> {
        &self.codebook
    }

    /// The code at (row, col).
    pub fn code(&self, row: usize, col: usize) -> u8 {
        self.layout.code(&self.parts.packed, row * self.cols + col)
    }

    /// Some groups as files that interleave them have them: each group's scales, then its codes.
    pub fn blocks(&self, groups: Range<usize>) -> Vec<u8> {
        let layout = self.layout;
        let codes = layout.packed_group();
        let scales = layout.group_bytes() - codes;
        let mut blocks = Vec::with_capacity(groups.len() * layout.group_bytes());
        for group in groups {
            blocks.extend_from_slice(&self.parts.scales.bytes()[group * scales..][..scales]);
            blocks.extend_from_slice(&self.parts.packed[group * codes..][..codes]);
        }
        blocks
    }

    /// The same codes, scales and signs with another codebook.
    ///
    /// # Errors
    /// When it has another number of centroids.
    pub fn with_codebook(mut self, codebook: Arc<Codebook>) -> Result<Self> {
        self.codebook = codebook;
        self.check()?;
        Ok(self)
    }

    /// A copy of some rows.
    ///
    /// # Errors
    /// When the range is empty or reaches outside the tensor.
    pub fn slice_rows(&self, range: Range<usize>) -> Result<TqTensor> {
        if range.start >= range.end || range.end > self.rows {
            return Err(Error::input(
                format!(
                    "rows {}..{} asked for, the tensor has rows 0..{}",
                    range.start, range.end, self.rows
                ),
                &self.base,
                "choose rows inside the tensor",
            ));
        }
        let row_len = self.layout.packed_len(self.cols);
        let per_row = self.scales_per_row();
        Ok(TqTensor {
            base: self.base.clone(),
            layout: self.layout,
            rows: range.len(),
            cols: self.cols,
            parts: Arc::new(Parts {
                packed: self.parts.packed[range.start * row_len..range.end * row_len].to_vec(),
                scales: self
                    .parts
                    .scales
                    .slice(range.start * per_row..range.end * per_row),
                signs: self.parts.signs.clone(),
            }),
            codebook: Arc::clone(&self.codebook),
        })
    }
}
