//! Writing a GGUF file piece by piece: the header first, then each tensor's bytes where they belong, so
//! that no tensor need be in memory whole.

use super::tensors::matrix;
use super::{ALIGNMENT, ALIGNMENT_KEY, MAGIC, MAX_NAME, ValueType, is_alignment};
use crate::checkpoint::{Sum, Unfinished};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// The version that is written.
const VERSION: u32 = 3;

/// A value of metadata that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WrittenValue {
    /// A text.
    String(String),
    /// A 32-bit number.
    U32(u32),
    /// A 64-bit number.
    U64(u64),
    /// A number of single precision.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// Texts.
    Strings(Vec<String>),
    /// A value as another file has it, after the id of its type.
    Raw(Vec<u8>),
}

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedGgufTensor {
    /// Its name.
    pub(crate) name: String,
    /// Its dimensions, that along which elements are contiguous first.
    pub(crate) dims: Vec<u64>,
    /// Id of its type.
    pub(crate) type_id: u32,
    /// Its length in bytes.
    pub(crate) bytes: u64,
}

/// A GGUF file under construction, in a temporary file beside its final path.
///
/// Dropped before [`GgufWriter::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct GgufWriter {
    file: Unfinished,
    /// Start and end of each tensor in the file.
    places: HashMap<String, (u64, u64)>,
}

impl GgufWriter {
    /// Starts the file: makes it as long as it will be and writes its header. Tensors lie in the order
    /// given, aligned as the metadata `general.alignment` says, else to 32 bytes; so does the file's end.
    ///
    /// # Errors
    /// When the directory cannot be written, or a name, a shape, a size or the alignment is not possible.
    pub(crate) fn create(
        path: &Path,
        metadata: &[(String, WrittenValue)],
        tensors: &[PlannedGgufTensor],
    ) -> Result<Self> {
        let bad = |what: String| Error::input(what, path.display().to_string(), "");
        check_names(metadata, tensors).map_err(bad)?;
        let alignment = alignment(metadata).map_err(bad)?;
        let mut header = head(metadata, tensors.len());
        let mut end = 0u64;
        let mut spans = Vec::with_capacity(tensors.len());
        for t in tensors {
            put_string(&mut header, &t.name);
            header.extend((t.dims.len() as u32).to_le_bytes());
            header.extend(t.dims.iter().flat_map(|d| d.to_le_bytes()));
            header.extend(t.type_id.to_le_bytes());
            header.extend(end.to_le_bytes());
            let start = end;
            end = start
                .checked_add(t.bytes)
                .and_then(|end| end.checked_next_multiple_of(alignment))
                .filter(|end| i64::try_from(*end).is_ok())
                .ok_or_else(|| bad(format!("the {} bytes of {:?} overflow", t.bytes, t.name)))?;
            spans.push((start, start + t.bytes));
        }
        let data_start = (header.len() as u64).next_multiple_of(alignment);
        let len = data_start
            .checked_add(end)
            .ok_or_else(|| bad(format!("{end} bytes of data overflow")))?;
        let file = Unfinished::create(path, len)?;
        file.write_at(&header, 0)?;
        let places = tensors
            .iter()
            .zip(spans)
            .map(|(t, (start, end))| (t.name.clone(), (data_start + start, data_start + end)))
            .collect();
        Ok(Self { file, places })
    }

    /// Writes a piece of a tensor, `offset` bytes from its start.
    ///
    /// # Errors
    /// When the disk is full or fails.
    ///
    /// # Panics
    /// When there is no such tensor or the piece reaches outside it.
    pub(crate) fn write_at(&self, tensor: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let (start, end) = self.places[tensor];
        assert!(
            start + offset + bytes.len() as u64 <= end,
            "the piece lies in the tensor"
        );
        self.file.write_at(bytes, start + offset)
    }

    /// Makes sure that all is on the disk, and sums it up. The file has its temporary name still.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub(crate) fn sync(&self) -> Result<Sum> {
        self.file.sync()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(crate) fn commit(self) -> Result<()> {
        self.file.commit()
    }
}

/// Checks names and shapes as a reader will.
fn check_names(
    metadata: &[(String, WrittenValue)],
    tensors: &[PlannedGgufTensor],
) -> Result<(), String> {
    let keys = metadata.iter().map(|(key, _)| key);
    let names = tensors.iter().map(|t| &t.name);
    for list in [keys.collect::<Vec<_>>(), names.collect()] {
        let mut seen = BTreeSet::new();
        for name in list {
            if name.len() as u64 > MAX_NAME {
                return Err(format!(
                    "a name of {} bytes, at most {MAX_NAME} expected",
                    name.len()
                ));
            }
            if !seen.insert(name) {
                return Err(format!("{name:?} is there twice"));
            }
        }
    }
    let bad = |t: &&PlannedGgufTensor| t.dims.len() > 4 || matrix(&t.dims).is_none();
    match tensors.iter().find(bad) {
        Some(t) => Err(format!(
            "the shape {:?} of {:?} is not possible",
            t.dims, t.name
        )),
        None => Ok(()),
    }
}

fn alignment(metadata: &[(String, WrittenValue)]) -> Result<u64, String> {
    match metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
        None => Ok(ALIGNMENT),
        Some((_, WrittenValue::U32(n))) if is_alignment((*n).into()) => Ok((*n).into()),
        Some((_, found)) => Err(format!(
            "{ALIGNMENT_KEY} is {found:?}, expected a u32 that is a power of two from 8 on"
        )),
    }
}

/// The header up to its tensors.
fn head(metadata: &[(String, WrittenValue)], tensors: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_string(&mut out, key);
        put_value(&mut out, value);
    }
    out
}

fn put_value(out: &mut Vec<u8>, value: &WrittenValue) {
    // The position of a type in the list of all is its id.
    let id = |of: ValueType| (of as u32).to_le_bytes();
    match value {
        WrittenValue::String(text) => {
            out.extend(id(ValueType::String));
            put_string(out, text);
        }
        WrittenValue::U32(n) => {
            out.extend(id(ValueType::U32));
            out.extend(n.to_le_bytes());
        }
        WrittenValue::U64(n) => {
            out.extend(id(ValueType::U64));
            out.extend(n.to_le_bytes());
        }
        WrittenValue::F32(n) => {
            out.extend(id(ValueType::F32));
            out.extend(n.to_le_bytes());
        }
        WrittenValue::Bool(b) => {
            out.extend(id(ValueType::Bool));
            out.push(u8::from(*b));
        }
        WrittenValue::Raw(bytes) => out.extend(bytes),
        WrittenValue::Strings(texts) => {
            out.extend(id(ValueType::Array));
            out.extend(id(ValueType::String));
            out.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_string(out, text));
        }
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
