//! What a format makes of plain weights: the way back of what [`super::TqModel`] reads.

use super::gguf::{self, GgufWriter};
use super::tq3_native;
use super::turboquant::{self, SignSeed};
use crate::checkpoint::{Checkpoint, Dtype, PlannedTensor, StreamWriter, Sum};
use crate::codec::{Codec, GROUP_SIZES};
use crate::error::{Error, Result};
use crate::tensor::TqTensor;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// The names under which a user asks for a format to be written; the last is another name of the first.
pub const ENCODINGS: [&str; 6] = [
    turboquant::NAME,
    gguf::BlockType::Tq4_1s.encoding(),
    gguf::BlockType::Tq3_1s.encoding(),
    gguf::BlockType::Tq3_4s.encoding(),
    tq3_native::NAME,
    "arle",
];

/// What a user chose where a format leaves it open.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Bits per code.
    pub bits: Option<u32>,
    /// Elements per group.
    pub group_size: Option<usize>,
    /// Where signs come from.
    pub sign_seed: Option<SignSeed>,
    /// Bits of layers that have others than the rest.
    pub sensitive_bits: Option<u32>,
    /// Parts of their names; the format's own where none are given.
    pub sensitive: Vec<String>,
}

/// Bits per code where the user did not choose.
pub(super) const BITS: u32 = 4;
/// Elements per group where the user did not choose.
pub(super) const GROUP_SIZE: usize = 128;

/// A format that is written, with all that was chosen for it.
#[derive(Debug, Clone)]
pub struct Encoding(Arc<dyn Encodes>);

impl Encoding {
    /// The format of this name.
    ///
    /// # Errors
    /// When there is none, or it does not leave open what was chosen.
    pub fn new(name: &str, choices: &Choices) -> Result<Self> {
        let block = gguf::BlockType::ALL
            .into_iter()
            .find(|b| b.encoding() == name);
        Ok(Self(match (name, block) {
            (turboquant::NAME | "arle", _) => Arc::new(turboquant::Encoder::new(choices)?),
            (tq3_native::NAME, _) => Arc::new(tq3_native::Encoder::new(choices)?),
            (_, Some(block)) => Arc::new(gguf::Encoder::new(block, choices)?),
            (_, None) => {
                let help = format!("name one of {}", ENCODINGS.join(", "));
                return Err(Error::input(format!("no format {name:?}"), "", help));
            }
        }))
    }

    /// What it does.
    pub(crate) fn format(&self) -> &dyn Encodes {
        &*self.0
    }
}

/// Refuses a choice that a format does not leave open.
pub(super) fn fixed(chosen: Option<String>, what: &str, format: &str, has: &str) -> Result<()> {
    match chosen.filter(|c| c != has) {
        None => Ok(()),
        Some(chosen) => Err(Error::input(
            format!("{what} {chosen} asked for, but {format} has {has}"),
            what,
            "leave the option out, or choose another format",
        )),
    }
}

/// A plain weight as rows and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matrix {
    /// Full name in the source.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// All dimensions but the last: of experts, one after the other.
    pub rows: usize,
    /// The last one.
    pub cols: usize,
    /// Columns with what pads them to whole groups.
    pub stored: usize,
}

/// A tensor of the files that are written.
#[derive(Debug, Clone)]
pub(crate) struct OutputTensor {
    /// Name, type and shape.
    pub planned: PlannedTensor,
    /// Its length.
    pub bytes: u64,
}

impl OutputTensor {
    /// One whose length follows from type and shape.
    pub fn new(name: String, dtype: Dtype, shape: Vec<usize>) -> Self {
        let bytes = (shape.iter().product::<usize>() * dtype.bits() / 8) as u64;
        let planned = PlannedTensor { name, dtype, shape };
        Self { planned, bytes }
    }
}

/// Bytes of a part from an offset on.
pub(crate) type TensorSlice<'t> = (String, u64, Cow<'t, [u8]>);

/// How a format's files are made.
pub(crate) trait Encodes: Debug + Send + Sync {
    /// The name by which it was asked for.
    fn name(&self) -> &'static str;

    /// All that the files depend on besides the source.
    fn identity(&self) -> serde_json::Value;

    /// The codec of the weight with this full name.
    fn codec(&self, name: &str) -> Codec;

    /// Its signs after the transform, of so many columns.
    fn signs(&self, name: &str, cols: usize) -> Vec<i8>;

    /// Whether columns are padded with zeros to whole groups.
    fn pads(&self) -> bool {
        false
    }

    /// Whether experts of three dimensions are taken, as one weight of all their rows.
    fn takes_experts(&self) -> bool {
        true
    }

    /// The group sizes that a user may choose.
    fn group_sizes(&self) -> &'static [usize] {
        &GROUP_SIZES
    }

    /// Whether other tensors may have this type.
    fn holds(&self, dtype: Dtype) -> bool {
        dtype.safetensors().is_some()
    }

    /// The type that a tensor of this one gets that is not quantised.
    fn rest(&self, dtype: Dtype) -> Dtype {
        dtype
    }

    /// Whether a model is one file, not a directory.
    fn is_one_file(&self) -> bool {
        false
    }

    /// The tensors that a weight becomes.
    fn parts(&self, weight: &Matrix) -> Vec<OutputTensor>;

    /// The bytes of rows from `first_row` on; with row 0, those that are of all rows.
    fn pieces<'t>(
        &self,
        weight: &Matrix,
        first_row: usize,
        rows: &'t TqTensor,
    ) -> Vec<TensorSlice<'t>>;

    /// Starts a file of these tensors; `metadata` is that of the source's.
    ///
    /// # Errors
    /// When it cannot be written, or cannot hold them.
    fn create(
        &self,
        path: &Path,
        _source: &Checkpoint,
        metadata: &HashMap<String, String>,
        parts: &[OutputTensor],
    ) -> Result<ModelWriter> {
        let metadata = match metadata {
            given if given.is_empty() => HashMap::from([("format".into(), "pt".into())]),
            given => given.clone(),
        };
        let planned = parts.iter().map(|p| p.planned.clone()).collect();
        let writer = StreamWriter::create(path, planned, Some(metadata))?;
        Ok(ModelWriter::Safetensors(writer))
    }

    /// The file by which a reader knows the format: its name and text.
    fn configuration(&self, _source: &Path, _weights: usize) -> Option<(&'static str, String)> {
        None
    }

    /// What a user should know of the files, a sentence each.
    ///
    /// # Errors
    /// When a file of the source that tells is damaged.
    fn notes(&self, _source: &Path, _weights: &[&Matrix]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl dyn Encodes + '_ {
    /// A weight as this format holds it, or why it cannot.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<Matrix, String> {
        let (rows, cols) = match *shape {
            [rows, cols] if rows > 0 && cols > 0 => (rows, cols),
            [experts, rows, cols] if self.takes_experts() && experts * rows * cols > 0 => {
                (experts * rows, cols)
            }
            _ => return Err(format!("shape {shape:?}")),
        };
        let n = self.codec(name).layout.group_size();
        let stored = cols.next_multiple_of(n);
        if stored != cols && !self.pads() {
            let what = format!("{cols} columns, not a multiple of {n}");
            let sizes = self.group_sizes().iter().rev();
            let fits = sizes.copied().find(|n| cols.is_multiple_of(*n));
            return Err(match fits {
                Some(fits) => format!("{what}; group size {fits} would do"),
                None if self.group_sizes().len() == 1 => {
                    format!("{what}, the only group size of this format")
                }
                None => format!("{what}, nor of any other group size"),
            });
        }
        Ok(Matrix {
            name: name.to_owned(),
            shape: shape.to_vec(),
            rows,
            cols,
            stored,
        })
    }

    /// Whether a tensor of this name and shape may be a weight: plain models call one `BASE.weight`, but for
    /// experts that are one tensor.
    pub fn is_weight(&self, name: &str, shape: &[usize]) -> bool {
        let fused = shape.len() == 3 && name.contains(".experts.");
        name.ends_with(".weight") || fused && self.takes_experts()
    }
}

/// A file of a model under construction, whatever its container. Dropped before [`ModelWriter::commit`], it
/// leaves nothing.
#[derive(Debug)]
pub(crate) enum ModelWriter {
    /// One of safetensors.
    Safetensors(StreamWriter),
    /// A GGUF file.
    Gguf(GgufWriter),
}

impl ModelWriter {
    /// Writes a piece of a tensor, `offset` bytes from its start.
    ///
    /// # Errors
    /// When the disk is full or fails.
    ///
    /// # Panics
    /// When there is no such tensor or the piece reaches outside it.
    pub fn write_at(&self, tensor: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Safetensors(writer) => writer.write_at(tensor, offset, bytes),
            Self::Gguf(writer) => writer.write_at(tensor, offset, bytes),
        }
    }

    /// Makes sure that all is on the disk, and sums it up. The file has its temporary name still.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn sync(&self) -> Result<Sum> {
        match self {
            Self::Safetensors(writer) => writer.sync(),
            Self::Gguf(writer) => writer.sync(),
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn commit(self) -> Result<()> {
        match self {
            Self::Safetensors(writer) => writer.commit(),
            Self::Gguf(writer) => writer.commit(),
        }
    }
}
