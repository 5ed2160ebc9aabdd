//! Plain weights as blocks, in one file.

use super::{
    ALIGNMENT_KEY, BlockType, Dialect, GgufModel, GgufWriter, PlannedGgufTensor, WrittenValue,
    is_gguf,
};
use crate::checkpoint::{self, Checkpoint, Dtype, dir_name};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::format::encoding::{
    Choices, Encodes, Matrix, ModelWriter, OutputTensor, TensorSlice, fixed,
};
use crate::tensor::TqTensor;
use std::collections::HashMap;
use std::path::Path;

/// `general.architecture` of a file that was made from a directory of safetensors: none that llama.cpp knows,
/// since its names of tensors are others.
const ARCHITECTURE: &str = "tq4";

impl BlockType {
    /// The name under which a user asks for it to be written.
    pub(in crate::format) const fn encoding(self) -> &'static str {
        match self {
            Self::Tq4_1s => "gguf-tq4_1s",
            Self::Tq3_1s => "gguf-tq3_1s",
            Self::Tq3_4s => "gguf-tq3_4s",
        }
    }

    /// Its id in files that are written, and the program that has it.
    pub(super) fn written_id(self) -> (u32, Dialect) {
        match self {
            Self::Tq4_1s => (46, Dialect::TheTom),
            Self::Tq3_1s => (45, Dialect::TheTom),
            Self::Tq3_4s => (46, Dialect::TurboTan),
        }
    }
}

/// A GGUF file with weights of one type.
#[derive(Debug)]
pub(in crate::format) struct Encoder {
    block: BlockType,
    codec: Codec,
}

impl Encoder {
    /// # Errors
    /// When something was chosen that the type does not leave open.
    pub(in crate::format) fn new(block: BlockType, choices: &Choices) -> Result<Self> {
        let (codec, name) = (block.codec(), block.encoding());
        let number = |n: u32| Some(n.to_string());
        let (bits, n) = (codec.layout.bits(), codec.layout.group_size());
        fixed(
            choices.bits.and_then(number),
            "bits",
            name,
            &bits.to_string(),
        )?;
        let group_size = choices.group_size.map(|n| n.to_string());
        fixed(group_size, "group size", name, &n.to_string())?;
        let seed = choices.sign_seed.map(|s| format!("{s:?}"));
        fixed(seed, "sign seed", name, "the same signs for every block")?;
        fixed(
            choices.sensitive_bits.and_then(number),
            "sensitive bits",
            name,
            "none",
        )?;
        Ok(Self { block, codec })
    }
}

impl Encodes for Encoder {
    fn name(&self) -> &'static str {
        self.block.encoding()
    }

    fn identity(&self) -> serde_json::Value {
        serde_json::json!({"format": self.name()})
    }

    fn codec(&self, _: &str) -> Codec {
        self.codec.clone()
    }

    fn signs(&self, _: &str, cols: usize) -> Vec<i8> {
        BlockType::signs(cols)
    }

    fn group_sizes(&self) -> &'static [usize] {
        &[super::block::BLOCK_WEIGHTS]
    }

    fn holds(&self, dtype: Dtype) -> bool {
        dtype.ggml().is_some()
    }

    fn is_one_file(&self) -> bool {
        true
    }

    fn parts(&self, weight: &Matrix) -> Vec<OutputTensor> {
        let (id, _) = self.block.written_id();
        vec![OutputTensor {
            planned: checkpoint::PlannedTensor {
                name: weight.name.clone(),
                dtype: Dtype::of_ggml(id, self.block.name()),
                shape: weight.shape.clone(),
            },
            bytes: (weight.rows * self.row_bytes(weight.cols)) as u64,
        }]
    }

    fn pieces<'t>(
        &self,
        weight: &Matrix,
        first_row: usize,
        rows: &'t TqTensor,
    ) -> Vec<TensorSlice<'t>> {
        let at = first_row * self.row_bytes(weight.cols);
        vec![(
            weight.name.clone(),
            at as u64,
            rows.blocks(0..rows.groups()).into(),
        )]
    }

    fn create(
        &self,
        path: &Path,
        source: &Checkpoint,
        _: &HashMap<String, String>,
        parts: &[OutputTensor],
    ) -> Result<ModelWriter> {
        let planned: Vec<PlannedGgufTensor> = parts.iter().map(planned).collect::<Result<_>>()?;
        let writer = GgufWriter::create(path, &entries(source.dir())?, &planned)?;
        Ok(ModelWriter::Gguf(writer))
    }

    fn notes(&self, source: &Path, _: &[&Matrix]) -> Result<Vec<String>> {
        let (id, dialect) = self.block.written_id();
        let mut notes = vec![format!(
            "{} has the type number {id}, as {dialect} has it",
            self.block
        )];
        if !is_gguf(source) {
            notes.push(
                "tensors keep the names of the source, and llama.cpp wants names of its own: for a file that it loads, \
                 give a GGUF file of F16 or BF16 as the source"
                    .into(),
            );
        }
        Ok(notes)
    }
}

impl Encoder {
    fn row_bytes(&self, cols: usize) -> usize {
        let layout = self.codec.layout;
        cols / layout.group_size() * layout.group_bytes()
    }
}

/// A tensor as the header of a file has it.
///
/// # Errors
/// When GGUF does not have its type.
pub(in crate::format) fn planned(part: &OutputTensor) -> Result<PlannedGgufTensor> {
    let checkpoint::PlannedTensor { name, dtype, shape } = &part.planned;
    let id = dtype.ggml().ok_or_else(|| {
        Error::input(
            format!("{name} is of type {dtype:?}, which GGUF does not have"),
            name,
            "leave it out of the source",
        )
    })?;
    Ok(PlannedGgufTensor {
        name: name.clone(),
        dims: shape.iter().rev().map(|d| *d as u64).collect(),
        type_id: id,
        bytes: part.bytes,
    })
}

/// The metadata of a file that is made from `source`: that of a GGUF file as it is, but for what it says of its
/// parts.
fn entries(source: &Path) -> Result<Vec<(String, WrittenValue)>> {
    if !is_gguf(source) {
        let text = |key: &str, value: String| (key.to_owned(), WrittenValue::String(value));
        return Ok(vec![
            text("general.architecture", ARCHITECTURE.into()),
            text("general.name", dir_name(source)),
        ]);
    }
    let parts = GgufModel::open(source)?.into_parts();
    let first = parts.first().expect("a model has a file");
    let mut entries = first.entries()?;
    entries.retain(|(key, _)| !key.starts_with("split."));
    if let Some((_, value)) = entries.iter_mut().find(|(key, _)| key == ALIGNMENT_KEY) {
        let alignment = u32::try_from(first.alignment()).ok();
        *value = WrittenValue::U32(alignment.ok_or_else(|| {
            let what = format!("{ALIGNMENT_KEY} is {}", first.alignment());
            Error::input(
                what,
                source.display().to_string(),
                "no such file is written",
            )
        })?);
    }
    Ok(entries)
}
