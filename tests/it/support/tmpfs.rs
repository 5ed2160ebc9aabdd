//! A disk that can be filled.

use super::cli::stderr;
use super::not_run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, gone with the value.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts it; `None` with a notice where that is not allowed.
    pub fn mount(dir: &Path, kib: usize) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let options = format!("size={kib}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir)
            .output();
        match mounted {
            Ok(o) if o.status.success() => Some(Self(dir.to_owned())),
            Ok(o) => {
                not_run("full disk", stderr(&o).trim_end());
                None
            }
            Err(e) => {
                not_run("full disk", &format!("mount: {e}"));
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes room.
    pub fn grow(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,size=256m"])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
