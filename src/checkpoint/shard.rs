//! One safetensors file, mapped.

use super::shrunk::Watch;
use crate::error::{Error, Result};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata as Header, TensorInfo};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

/// A mapped safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    file: File,
    as_opened: Metadata,
    _watch: Watch,
    map: Mmap,
    data_start: usize,
    header: Header,
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
        // The file that was opened, which may be another than the one asked about above.
        let meta = file.metadata().map_err(|e| Error::io("open", path, &e))?;
        // SAFETY: the map is read only. A file that another process shrinks while it is mapped
        // raises SIGBUS (see `shrunk`); contents that change give other numbers, never an invalid
        // value, since all views are of plain bytes.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, &e))?;
        let (header_len, header) = SafeTensors::read_metadata(&map).map_err(|e| {
            bad(
                format!("not a whole safetensors file of {} bytes: {e}", map.len()),
                "copy the file again; it is truncated, damaged or of another format",
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            _watch: Watch::new(&map, path),
            file,
            as_opened: meta,
            data_start: header_len + 8,
            map,
            header,
        })
    }

    /// Checks that the file is still the one that was opened, as far as its length and time tell. One
    /// that was deleted or replaced is: its bytes stay mapped.
    ///
    /// # Errors
    /// When it was written to.
    pub fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata();
        let now = now.map_err(|e| Error::io("look at", &self.path, &e))?;
        let then = &self.as_opened;
        if now.len() == then.len() && now.modified().ok() == then.modified().ok() {
            return Ok(());
        }
        Err(Error::input(
            "the file was changed while it was read",
            self.path.display().to_string(),
            "leave a model alone while it is read, and run again",
        ))
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors in it, in file order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.header.offset_keys().into_iter()
    }

    /// Dtype, shape and place of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// A tensor's bytes, little-endian.
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        let (start, end) = self.info(name)?.data_offsets;
        self.map.get(self.data_start + start..self.data_start + end)
    }

    /// The file's free-form metadata.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.header.metadata().clone().unwrap_or_default()
    }
}
