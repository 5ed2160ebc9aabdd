//! The GGUF container: tensors with their types, places and shapes, in one file or split over several.
//!
//! Files are untrusted: every count, length and offset is checked against the length of the file before
//! it is used. Headers are read in pieces and data only where it is asked for, so that a large file takes
//! the memory of a small one.
//!
//! Ids of TurboQuant's types mean different types in different programs; [`decide`] tells which.

mod block;
mod cursor;
mod dialect;
mod encoding;
mod metadata;
mod model;
mod reader;
mod scales;
mod split;
mod tensors;
mod types;
mod writer;

#[cfg(test)]
mod tests;

pub use block::BlockType;
pub use dialect::Dialect;
pub(crate) use dialect::{TensorType, decide};
pub(in crate::format) use encoding::{Encoder, planned};
pub(crate) use metadata::{MetadataValue, ValueType};
pub(in crate::format) use model::open;
pub(crate) use model::{checkpoint, is_gguf};
pub(crate) use reader::GgufFile;
pub(crate) use split::GgufModel;
pub(crate) use tensors::GgufTensorInfo;
pub(crate) use types::StockType;
pub(crate) use writer::{GgufWriter, PlannedGgufTensor, WrittenValue};

use crate::error::Result;
use std::path::Path;

/// The first four bytes of every file.
const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of data in a file that does not say another.
const ALIGNMENT: u64 = 32;
/// Metadata that says another.
const ALIGNMENT_KEY: &str = "general.alignment";
/// Longest key of metadata and longest name of a tensor, in bytes: the longest key that the format has.
const MAX_NAME: u64 = 65_535;

/// Whether data can be aligned to so many bytes.
fn is_alignment(bytes: u64) -> bool {
    bytes >= 8 && bytes.is_power_of_two()
}

/// Opens a file as a whole program would and looks at every tensor in it: what the fuzz target calls.
///
/// # Errors
/// The first that a reader of the file would meet.
pub(crate) fn look_at_all(path: &Path) -> Result<()> {
    let model = GgufModel::open(path)?;
    let names: Vec<String> = model.names().map(str::to_owned).collect();
    let mut first = Ok(());
    for name in &names {
        let (file, info) = model.find(name)?;
        for dialect in std::iter::once(None).chain(Dialect::ALL.map(Some)) {
            // One damaged tensor does not keep the next from being looked at.
            let kind = decide(file, name, dialect).map(drop);
            first = first.and(kind);
        }
        let mut some = vec![0; info.available.min(64) as usize];
        file.read_at(name, 0, &mut some)?;
    }
    model.unchanged()?;
    first
}
