//! One GGUF file, read by position.

use super::cursor::{Cursor, damaged};
use super::{
    ALIGNMENT, ALIGNMENT_KEY, GgufTensorInfo, MAGIC, MetadataValue, WrittenValue, is_alignment,
    metadata, tensors,
};
use crate::checkpoint::OpenedFile;
use crate::error::{Error, Result, printable};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// An open GGUF file whose header has been checked against its length.
#[derive(Debug)]
pub(crate) struct GgufFile {
    opened: OpenedFile,
    data_start: u64,
    alignment: u64,
    tensors: BTreeMap<String, GgufTensorInfo>,
    metadata: BTreeMap<String, MetadataValue>,
    places: metadata::Places,
}

impl GgufFile {
    /// Opens `path` and checks its header: version, counts, lengths, types of values, offsets, overlaps.
    ///
    /// # Errors
    /// When it is not a regular file, is empty or truncated, of another version or byte order, or its
    /// header is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let opened = OpenedFile::open(path, "name a GGUF file")?;
        let mut cursor = Cursor::new(&opened);
        check_kind(&opened, &mut cursor)?;
        let tensor_count = cursor.u64(&"the number of tensors")?;
        let key_count = cursor.u64(&"the number of keys")?;
        // Both before either is read: a damaged number is named as what it is.
        tensors::check_count(&cursor, tensor_count)?;
        metadata::check_count(&cursor, key_count)?;
        let (metadata, places) = metadata::read(&mut cursor, key_count)?;
        let alignment = alignment(&opened, &metadata)?;
        let mut tensors = tensors::read(&mut cursor, tensor_count)?;
        let data_start = cursor.position().checked_next_multiple_of(alignment);
        // A header without tensors may end without padding.
        let data_start = data_start.filter(|start| *start <= opened.len() || tensors.is_empty());
        let data_start = data_start.ok_or_else(|| damaged(&opened, "it ends before its data"))?;
        let len = opened.len().saturating_sub(data_start);
        tensors::lay_out(&opened, &mut tensors, len, alignment)?;
        Ok(Self {
            opened,
            data_start,
            alignment,
            tensors,
            metadata,
            places,
        })
    }

    /// Checks that the file is still the one that was opened, as far as its length and time tell. One
    /// that was deleted or replaced is: it stays open.
    ///
    /// # Errors
    /// When it was written to.
    pub(crate) fn unchanged(&self) -> Result<()> {
        self.opened.unchanged()
    }

    /// The open file, and where its data start.
    pub(super) fn into_opened(self) -> (OpenedFile, u64) {
        (self.opened, self.data_start)
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        self.opened.path()
    }

    /// Bytes whose multiples offsets of tensors are.
    pub(crate) fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Names of the tensors in it, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What the header says of a tensor.
    pub(crate) fn info(&self, name: &str) -> Option<&GgufTensorInfo> {
        self.tensors.get(name)
    }

    /// The same, of one that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn known(&self, name: &str) -> Result<&GgufTensorInfo> {
        self.info(name).ok_or_else(|| {
            Error::input(
                format!("no tensor {name:?}"),
                self.path().display().to_string(),
                "",
            )
        })
    }

    /// Value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&MetadataValue> {
        self.metadata.get(key)
    }

    /// All keys with their values.
    #[cfg(test)]
    pub(crate) fn metadata(&self) -> &BTreeMap<String, MetadataValue> {
        &self.metadata
    }

    /// All keys with their values as they are written, in the file's order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn entries(&self) -> Result<Vec<(String, WrittenValue)>> {
        let entry = |(key, place): &(String, Range<u64>)| {
            // The places were checked against the length of the file, and a header has a limit.
            let mut bytes = vec![0; (place.end - place.start) as usize];
            self.opened.read_exact_at(&mut bytes, place.start)?;
            Ok((key.clone(), WrittenValue::Raw(bytes)))
        };
        self.places.iter().map(entry).collect()
    }

    /// Fills `out` with a tensor's bytes from byte `offset` on.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    ///
    /// # Panics
    /// When they reach outside the bytes that are there for the tensor.
    pub(crate) fn read_at(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let info = self.known(name)?;
        let end = offset.checked_add(out.len() as u64);
        assert!(
            end.is_some_and(|end| end <= info.available),
            "the bytes lie in the tensor"
        );
        // The offset was checked against the length of the file.
        let at = self.data_start + info.offset + offset;
        self.opened.read_exact_at(out, at)
    }
}

/// Checks that it is a GGUF file of a version and a byte order that are read.
fn check_kind(opened: &OpenedFile, cursor: &mut Cursor<'_>) -> Result<()> {
    let refused =
        |what: String, help: &str| Error::input(what, opened.path().display().to_string(), help);
    let magic: [u8; 4] = cursor.take(&"the magic number")?;
    if magic != MAGIC {
        let found = printable(&String::from_utf8_lossy(&magic));
        return Err(refused(
            format!("not a GGUF file: it begins with {found:?}, expected \"GGUF\""),
            "name a GGUF file",
        ));
    }
    let version = cursor.u32(&"the version")?;
    match version {
        2 | 3 => Ok(()),
        1 => Err(refused(
            "GGUF version 1 found, expected 2 or 3".into(),
            "convert the model again with a current program",
        )),
        // No version is that large: it is a small one, read backwards.
        _ if version & 0xffff == 0 && version != 0 => Err(refused(
            format!(
                "a big-endian GGUF file of version {}, expected little-endian",
                version.swap_bytes()
            ),
            "convert it with gguf_convert_endian.py, which llama.cpp has",
        )),
        _ => Err(refused(
            format!("GGUF version {version} found, expected 2 or 3"),
            "the file is damaged, or newer than this program",
        )),
    }
}

/// The alignment that the metadata says, or the usual one.
fn alignment(opened: &OpenedFile, metadata: &BTreeMap<String, MetadataValue>) -> Result<u64> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else {
        return Ok(ALIGNMENT);
    };
    let bytes = value.as_u64().filter(|n| is_alignment(*n));
    bytes.ok_or_else(|| {
        let found = match value {
            MetadataValue::Unsigned(n) => n.to_string(),
            MetadataValue::Signed(n) => n.to_string(),
            _ => "no integer".into(),
        };
        let what = format!("{ALIGNMENT_KEY} is {found}, expected a power of two from 8 on");
        damaged(opened, what)
    })
}
