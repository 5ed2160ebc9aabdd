//! Writing a file by position, under a temporary name until it is whole.

use super::write::regular;
use crate::error::{Error, Result};
use crate::hash::Hashing;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

/// Length and SHA-256 of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sum {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Sum {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let read = |e: std::io::Error| Error::io("read", path, e);
        let mut file = Hashing::new(File::open(path).map_err(read)?);
        let mut pieces = BufReader::with_capacity(1 << 20, &mut file);
        let bytes = io::copy(&mut pieces, &mut io::sink()).map_err(read)?;
        Ok(Self {
            bytes,
            sha256: file.finish(),
        })
    }
}

/// A file under construction, in a temporary file beside its final path.
///
/// Dropped before [`Unfinished::commit`], it leaves nothing. A killed process leaves the temporary
/// file, whose name follows from the path: the next writer of the same path removes it.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    committed: bool,
}

impl Unfinished {
    /// Starts the file and makes it as long as it will be.
    ///
    /// # Errors
    /// When the directory cannot be written, or something other than a file is at `path`.
    pub(crate) fn create(path: &Path, len: u64) -> Result<Self> {
        let path = regular(path)?;
        let temporary = temporary(&path);
        let io = |e: io::Error| Error::io("write", &path, e);
        remove_if_there(&temporary)?;
        // Never an existing file, nor through a link: what is opened here is new.
        let file = File::create_new(&temporary).map_err(io)?;
        let unfinished = Self {
            file,
            path,
            temporary,
            committed: false,
        };
        unfinished
            .file
            .set_len(len)
            .map_err(|e| unfinished.failed(e))?;
        Ok(unfinished)
    }

    /// Writes `bytes` from byte `offset` of the file on.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_all_at(&self.file, bytes, offset).map_err(|e| self.failed(e))
    }

    /// Makes sure that all is on the disk, and sums it up. The file has its temporary name still.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub(crate) fn sync(&self) -> Result<Sum> {
        self.file.sync_all().map_err(|e| self.failed(e))?;
        Sum::of(&self.temporary)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(crate) fn commit(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.path).map_err(|e| self.failed(e))?;
        self.committed = true;
        sync_directory(&self.path);
        Ok(())
    }

    fn failed(&self, e: io::Error) -> Error {
        Error::io("write", &self.path, e)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Name of the temporary file for `path`, in the same directory.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tq4-part"))
}

/// Removes a file, or the link of that name.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Puts the names in the directory of `path` on the disk, where the system can.
pub(crate) fn sync_directory(path: &Path) {
    #[cfg(unix)]
    if let Some(dir) = path.parent() {
        // Some file systems cannot; the files themselves are synced.
        let _ = File::open(dir).and_then(|d| d.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_write(bytes, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}
