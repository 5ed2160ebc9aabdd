//! One process at a time writes a file.

use crate::checkpoint::remove_if_there;
use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Held while a file is written; the lock file beside it goes when it is dropped.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of the file `out`.
    ///
    /// # Errors
    /// When another process has it, or the directory cannot be written.
    pub fn new(out: &Path) -> Result<Self> {
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let path = out.with_file_name(format!(".{name}.tq4-lock"));
        let io = |e| Error::io("write", &path, e);
        if std::fs::symlink_metadata(&path).is_ok_and(|m| !m.is_file()) {
            let place = path.display().to_string();
            return Err(Error::input("not a regular file", place, "remove it"));
        }
        let mut options = File::options();
        let file = options.append(true).create(true).open(&path).map_err(io)?;
        take(&file, &path, || {
            let (what, place) = ("another process is writing it", out.display().to_string());
            Error::input(what, place, "wait for it, or name another file")
        })?;
        Ok(Self { path, _file: file })
    }
}

/// Locks an open file at `path`; `held` is the error where another process has it.
pub(super) fn take(file: &File, path: &Path, held: impl FnOnce() -> Error) -> Result<()> {
    match file.try_lock() {
        Ok(()) if path.exists() => Ok(()),
        // Held, or just removed by one that finished.
        Ok(()) | Err(TryLockError::WouldBlock) => Err(held()),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", path, e)),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file itself is what counts; this one is empty.
        let _ = remove_if_there(&self.path);
    }
}
