//! An open file that is read by position.

use crate::error::{Error, Result};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A regular file with something in it, as it was when it was opened.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    path: PathBuf,
    file: Arc<File>,
    as_opened: Metadata,
}

impl OpenedFile {
    /// Opens `path`; `help` says which file to name instead of what is no file.
    ///
    /// # Errors
    /// When it is not a regular file, is empty, or cannot be opened.
    pub(crate) fn open(path: &Path, help: &str) -> Result<Self> {
        let bad = |what: &str, help: &str| Error::input(what, path.display().to_string(), help);
        // Asked before opening: opening a FIFO would wait for a writer.
        let meta = std::fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        if !meta.is_file() {
            return Err(bad("not a regular file", help));
        }
        if meta.len() == 0 {
            return Err(bad("the file is empty", "copy it again"));
        }
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        Self::of(path, file)
    }

    /// An open file; `path` is what errors call it.
    ///
    /// # Errors
    /// When the system does not say how long it is.
    pub(crate) fn of(path: &Path, file: File) -> Result<Self> {
        // The file that was opened, which may be another than the one asked about before.
        let as_opened = file.metadata().map_err(|e| Error::io("open", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            as_opened,
        })
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its length in bytes when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.as_opened.len()
    }

    /// Fills `out` from byte `offset` of the file on, which the length at opening allows.
    ///
    /// # Errors
    /// When the file became shorter or the system fails.
    pub(crate) fn read_exact_at(&self, out: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(&self.file, out, offset).map_err(|e| failed(&self.path, e))
    }

    /// Checks that the file is still the one that was opened, as far as its length and time tell. One
    /// that was deleted or replaced is: it stays open.
    ///
    /// # Errors
    /// When it was written to.
    pub(crate) fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata();
        let now = now.map_err(|e| Error::io("look at", &self.path, e))?;
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
}

/// What a failed read means: the length was checked when the file was opened.
pub(crate) fn failed(path: &Path, e: std::io::Error) -> Error {
    if e.kind() != std::io::ErrorKind::UnexpectedEof {
        return Error::io("read", path, e);
    }
    Error::input(
        "the file became shorter while it was read",
        path.display().to_string(),
        "leave a model alone while it is read, and run again",
    )
}

/// Fills `out` from byte `offset` of the file on.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

/// Fills `out` from byte `offset` of the file on.
#[cfg(windows)]
pub(crate) fn read_exact_at(
    file: &File,
    mut out: &mut [u8],
    mut offset: u64,
) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        let n = file.seek_read(out, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        out = &mut out[n..];
        offset += n as u64;
    }
    Ok(())
}
