//! One safetensors file, mapped.

use crate::error::{Error, Result};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A mapped safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
    metadata: Metadata,
}

impl Shard {
    /// Maps `path` and checks its header: sizes, offsets, overlaps and dtypes.
    ///
    /// # Errors
    /// When it is not a regular file, is empty or truncated, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |what: String, help: &str| Error::input(what, path.display().to_string(), help);
        // Asked before opening: opening a FIFO would wait for a writer.
        let meta = std::fs::metadata(path).map_err(|e| Error::io("open", path, &e))?;
        if !meta.is_file() {
            return Err(bad("not a regular file".into(), "name a safetensors file"));
        }
        if meta.len() == 0 {
            return Err(bad("the file is empty".into(), "copy it again"));
        }
        let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
        // SAFETY: the map is read only. A file that another process shrinks while it is mapped
        // raises SIGBUS, as with every mapped checkpoint; contents that change give other numbers,
        // never an invalid value, since all views are of plain bytes.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, &e))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| {
            bad(
                format!("not a whole safetensors file of {} bytes: {e}", map.len()),
                "copy the file again; it is truncated, damaged or of another format",
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            data_start: header + 8,
            map,
            metadata,
        })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors in it, in file order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.metadata.offset_keys().into_iter()
    }

    /// Dtype, shape and place of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// A tensor's bytes, little-endian.
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        let (start, end) = self.info(name)?.data_offsets;
        self.map.get(self.data_start + start..self.data_start + end)
    }

    /// The file's free-form metadata.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default()
    }
}
