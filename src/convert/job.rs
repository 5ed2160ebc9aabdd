//! The directory that a conversion writes to: never its input, never half a file, and resumable.
//!
//! While it is under way the directory holds a journal: who is at work on what, then one line for each
//! finished shard with its length and SHA-256. The line is on the disk before the shard gets its name,
//! so a shard that is there and matches its line is whole. The journal is removed last.

use crate::checkpoint::{
    JOURNAL, StreamWriter, Sum, keep_apart, remove_if_there, sync_directory, temporary,
};
use crate::error::{Error, Result};
use fs4::{FileExt, TryLockError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<T> {
    /// The first: what the conversion is.
    Job(serde_json::Value),
    /// A shard is whole.
    Shard(Done<T>),
}

/// A finished shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Done<T> {
    /// Path below the directory.
    pub file: String,
    /// What it must be when it is read again.
    pub sum: Sum,
    /// What is to be said about it.
    pub of: T,
}

/// A conversion under way.
pub(super) struct Job<T> {
    dir: PathBuf,
    journal: File,
    done: Vec<Done<T>>,
    /// Files written besides the shards.
    others: Vec<PathBuf>,
    made_dir: bool,
    finished: bool,
}

impl<T: Serialize + DeserializeOwned + Clone> Job<T> {
    /// Starts the conversion `identity` into `dir`, or goes on with it where it was stopped.
    ///
    /// # Errors
    /// When `dir` is one of `inputs` (by whatever path), holds other files or another conversion, or
    /// another process is at work in it.
    pub fn open(dir: &Path, inputs: &[&Path], identity: serde_json::Value) -> Result<Self> {
        let place = dir.display().to_string();
        keep_apart(dir, inputs)?;
        let there = dir.exists();
        if there && !dir.is_dir() {
            return Err(Error::input(
                "not a directory",
                place,
                "name a new directory",
            ));
        }
        let path = dir.join(JOURNAL);
        if there && !path.exists() {
            let mut entries =
                std::fs::read_dir(dir).map_err(|e| Error::io("list the directory", dir, &e))?;
            if entries.next().is_some() {
                return Err(Error::input(
                    "the directory holds files, and no conversion that was stopped",
                    place,
                    "name a new or empty directory",
                ));
            }
        }
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, &e))?;
        // Again, now that every part of the path exists: `new/../model` could not be judged before.
        keep_apart(dir, inputs)?;
        if std::fs::symlink_metadata(&path).is_ok_and(|m| !m.is_file()) {
            return Err(Error::input(
                "not a regular file",
                path.display().to_string(),
                "remove it",
            ));
        }
        let io = |e: std::io::Error| Error::io("write", &path, &e);
        let mut journal = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io)?;
        match FileExt::try_lock(&journal) {
            Ok(()) if path.exists() => {}
            // Held, or just removed by one that finished.
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(Error::input(
                    "another process is writing here",
                    place,
                    "wait for it, or name another directory",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, &e)),
        }
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(io)?;
        let (lines, whole) = parse::<T>(&text);
        let mut job = Self {
            dir: dir.to_owned(),
            journal,
            done: Vec::new(),
            others: Vec::new(),
            made_dir: !there,
            finished: false,
        };
        let mut lines = lines.into_iter();
        match lines.next() {
            None => {
                job.truncate(0)?;
                job.append(&Line::Job(identity))?;
                sync_directory(&path);
            }
            Some(Line::Job(found)) if found == identity => {
                job.truncate(whole)?;
                for line in lines {
                    if let Line::Shard(done) = line {
                        job.done.retain(|d| d.file != done.file);
                        job.done.push(done);
                    }
                }
                job.keep_whole();
            }
            Some(_) => {
                // What is there is not this job's to remove.
                job.finished = true;
                return Err(Error::input(
                    "the directory holds another conversion, which was stopped",
                    place,
                    "give the command that began it to go on, or remove the directory",
                ));
            }
        }
        Ok(job)
    }

    /// Forgets shards that are not there or are not as their line says.
    fn keep_whole(&mut self) {
        let dir = &self.dir;
        self.done.retain(|d| {
            let path = dir.join(&d.file);
            std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == d.sum.bytes)
                && Sum::of(&path).is_ok_and(|sum| sum == d.sum)
        });
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        self.journal
            .set_len(len)
            .and_then(|()| self.journal.seek(SeekFrom::End(0)))
            .map_err(|e| Error::io("write", &self.dir.join(JOURNAL), &e))?;
        Ok(())
    }

    fn append(&mut self, line: &Line<T>) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("plain data");
        text.push(b'\n');
        self.journal
            .write_all(&text)
            .and_then(|()| self.journal.sync_data())
            .map_err(|e| Error::io("write", &self.dir.join(JOURNAL), &e))
    }

    /// Shards that are whole, this run's and those before.
    pub fn done(&self) -> &[Done<T>] {
        &self.done
    }

    /// Path of a file below the directory, whose own directory is made.
    pub fn place(&self, file: &str) -> Result<PathBuf> {
        let path = self.dir.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|e| Error::io("make the directory", parent, &e))?;
        }
        Ok(path)
    }

    /// Records that a shard is whole, then gives it its name.
    pub fn shard(&mut self, file: &str, writer: StreamWriter, of: T) -> Result<()> {
        let done = Done {
            file: file.to_owned(),
            sum: writer.sync()?,
            of,
        };
        self.append(&Line::Shard(done.clone()))?;
        writer.commit()?;
        self.done.push(done);
        Ok(())
    }

    /// Writes a small file of the model.
    pub fn write(&mut self, file: &str, bytes: &[u8]) -> Result<()> {
        self.copy_from(file, &mut &bytes[..])
    }

    /// Writes a file of the model from a reader.
    pub fn copy_from(&mut self, file: &str, from: &mut dyn Read) -> Result<()> {
        let path = self.place(file)?;
        let temporary = temporary(&path);
        remove_if_there(&temporary)?;
        let io = |e: std::io::Error| Error::io("write", &path, &e);
        let written = File::create_new(&temporary)
            .and_then(|mut to| {
                std::io::copy(from, &mut to)?;
                to.sync_all()
            })
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(io);
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        self.others.push(path);
        written
    }

    /// The model is whole: removes the journal.
    pub fn finish(mut self) -> Result<()> {
        let path = self.dir.join(JOURNAL);
        sync_directory(&path);
        remove_if_there(&path)?;
        sync_directory(&path);
        self.finished = true;
        Ok(())
    }

    /// Takes away everything that the conversion wrote, in this run and before.
    pub fn discard(mut self) {
        for done in std::mem::take(&mut self.done) {
            self.others.push(self.dir.join(done.file));
        }
        // Dropped with no shard done, it removes everything.
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        // Nothing worth going on from: leave nothing. The error that led here is the one to report.
        if !self.finished && self.done.is_empty() {
            for path in &self.others {
                let _ = std::fs::remove_file(path);
                for parent in path.ancestors().skip(1).take_while(|p| *p != self.dir) {
                    let _ = std::fs::remove_dir(parent);
                }
            }
            let _ = std::fs::remove_file(self.dir.join(JOURNAL));
            if self.made_dir {
                let _ = std::fs::remove_dir(&self.dir);
            }
        }
    }
}

/// The whole lines of a journal, and where the last of them ends: a process that is killed may leave
/// part of a line.
fn parse<T: DeserializeOwned>(text: &[u8]) -> (Vec<Line<T>>, u64) {
    let (mut lines, mut end) = (Vec::new(), 0);
    for line in text.split_inclusive(|b| *b == b'\n') {
        match serde_json::from_slice(line) {
            Ok(parsed) if line.ends_with(b"\n") => lines.push(parsed),
            _ => break,
        }
        end += line.len();
    }
    (lines, end as u64)
}
