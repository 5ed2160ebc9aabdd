//! Files made for tests.

mod damaged;
mod dialects;
mod round_trip;
mod splits;

use super::*;
use crate::error::Error;
use std::path::PathBuf;

/// A directory that goes away with the test.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A tensor with its bytes.
type Given<'a> = (&'a str, &'a [u64], u32, Vec<u8>);

/// Writes a file as the writer does.
fn write(path: PathBuf, metadata: &[(String, WrittenValue)], tensors: &[Given<'_>]) -> PathBuf {
    let planned: Vec<PlannedGgufTensor> = tensors
        .iter()
        .map(|(name, dims, type_id, bytes)| PlannedGgufTensor {
            name: (*name).to_owned(),
            dims: dims.to_vec(),
            type_id: *type_id,
            bytes: bytes.len() as u64,
        })
        .collect();
    let writer = GgufWriter::create(&path, metadata, &planned).unwrap();
    for (name, _, _, bytes) in tensors {
        writer.write_at(name, 0, bytes).unwrap();
    }
    writer.sync().unwrap();
    writer.commit().unwrap();
    path
}

/// What an error says: that of bad input, in its three parts.
fn words(e: Error) -> String {
    assert!(matches!(e, Error::Input(_)), "{e:?}");
    assert!(!e.problem().what.is_empty() && !e.problem().place.is_empty());
    e.to_string()
}

/// A header put together by hand.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn start(version: u32, tensors: u64, keys: u64) -> Self {
        let start = Self(b"GGUF".to_vec());
        start.u32(version).u64(tensors).u64(keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key with the id of its value's type.
    fn key(self, key: &str, id: u32) -> Self {
        self.text(key).u32(id)
    }

    fn tensor(self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        let start = self.text(name).u32(dims.len() as u32);
        let dims = dims.iter().fold(start, |raw, d| raw.u64(*d));
        dims.u32(type_id).u64(offset)
    }

    /// Pads the header to 32 bytes and adds so many of data.
    fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + len, 0);
        self
    }

    fn open(&self) -> Result<GgufFile> {
        let dir = dir();
        let path = dir.path().join("a.gguf");
        std::fs::write(&path, &self.0).unwrap();
        GgufFile::open(&path)
    }
}
