//! The directory that a conversion writes to: never its input, never half a file, and resumable.
//!
//! While it is under way the directory holds a journal: who is at work on what, then one line for each
//! finished shard with its length and SHA-256. The line is on the disk before the shard gets its name,
//! so a shard that is there and matches its line is whole. The journal is removed last; what stays is a
//! record of the whole: the same conversion, asked for again, is known to be done.

use super::RunEvent;
use crate::checkpoint::{JOURNAL, Sum, keep_apart, remove_if_there, sync_directory, temporary};
use crate::error::{Error, Result};
use crate::format::ModelWriter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JournalLine<T> {
    /// The first: what the conversion is.
    Job(serde_json::Value),
    /// A shard is whole.
    Shard(Done<T>),
    /// In the record of a whole model: a file beside the shards.
    File(Done<()>),
}

/// File name of the record of a whole model.
const FINISHED: &str = ".tq4-finished.jsonl";

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

impl<T> Done<T> {
    /// Whether the file below `dir` is there and as its line says.
    fn is_whole(&self, dir: &Path, on: &mut dyn FnMut(RunEvent<'_>)) -> bool {
        on(RunEvent::Checking(&self.file));
        // A journal is a file like any other: it may not lead out of the directory.
        let mut parts = Path::new(&self.file).components();
        if !parts.all(|c| matches!(c, Component::Normal(_))) {
            return false;
        }
        let path = dir.join(&self.file);
        std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == self.sum.bytes)
            && Sum::of(&path).is_ok_and(|sum| sum == self.sum)
    }
}

/// A conversion under way.
pub(super) struct Conversion<T> {
    dir: PathBuf,
    identity: serde_json::Value,
    journal: File,
    done: Vec<Done<T>>,
    /// Files written besides the shards, by their paths below the directory.
    others: Vec<String>,
    made_dir: bool,
    finished: bool,
}

impl<T: Serialize + DeserializeOwned + Clone> Conversion<T> {
    /// Starts the conversion `identity` into `dir`, or resumes it where it was stopped. Where it is
    /// done already, [`Conversion::finished`] says so.
    ///
    /// # Errors
    /// When `dir` is one of `inputs` (by whatever path), holds other files, another conversion or what
    /// is no longer as the conversion left it, or another process is at work in it.
    pub fn open(
        dir: &Path,
        inputs: &[&Path],
        identity: serde_json::Value,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Self> {
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
            if dir.join(FINISHED).is_file() {
                return Self::open_finished(dir, identity, on);
            }
            let mut entries =
                std::fs::read_dir(dir).map_err(|e| Error::io("list the directory", dir, e))?;
            if entries.next().is_some() {
                return Err(Error::input(
                    "the directory holds files, and no conversion that was stopped",
                    place,
                    "name a new or empty directory",
                ));
            }
        }
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, e))?;
        // Again, now that every part of the path exists: `new/../model` could not be judged before.
        keep_apart(dir, inputs)?;
        if std::fs::symlink_metadata(&path).is_ok_and(|m| !m.is_file()) {
            return Err(Error::input(
                "not a regular file",
                path.display().to_string(),
                "remove it",
            ));
        }
        let io = |e: std::io::Error| Error::io("write", &path, e);
        let mut journal = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io)?;
        super::lock::take(&journal, &path, || {
            let what = "another process is writing here";
            Error::input(what, &place, "wait for it, or name another directory")
        })?;
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(io)?;
        let (lines, whole) = parse::<T>(&text);
        let mut job = Self {
            dir: dir.to_owned(),
            identity: identity.clone(),
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
                job.append(&JournalLine::Job(identity))?;
                sync_directory(&path);
            }
            Some(JournalLine::Job(found)) if found == identity => {
                job.truncate(whole)?;
                for line in lines {
                    if let JournalLine::Shard(done) = line {
                        job.done.retain(|d| d.file != done.file);
                        job.done.push(done);
                    }
                }
                // Shards that are not there or not as their line says are forgotten.
                job.done.retain(|d| d.is_whole(dir, on));
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

    /// The conversion as an earlier run finished it.
    fn open_finished(
        dir: &Path,
        identity: serde_json::Value,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Self> {
        let path = dir.join(FINISHED);
        let refused = |what: String| {
            Err(Error::input(
                what,
                dir.display().to_string(),
                "name a new directory, or remove this one",
            ))
        };
        let io = |e: std::io::Error| Error::io("read", &path, e);
        let (mut text, mut journal) = (Vec::new(), File::open(&path).map_err(io)?);
        journal.read_to_end(&mut text).map_err(io)?;
        let mut lines = parse::<T>(&text).0.into_iter();
        if !matches!(lines.next(), Some(JournalLine::Job(found)) if found == identity) {
            return refused("the directory holds another conversion, which is finished".into());
        }
        let mut done = Vec::new();
        for line in lines {
            let (file, whole) = match &line {
                JournalLine::Job(_) => continue,
                JournalLine::Shard(d) => (&d.file, d.is_whole(dir, on)),
                JournalLine::File(d) => (&d.file, d.is_whole(dir, on)),
            };
            if !whole {
                let what = format!("the conversion is finished, and {file} was changed since");
                return refused(what);
            }
            if let JournalLine::Shard(shard) = line {
                done.push(shard);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            identity,
            journal,
            done,
            others: Vec::new(),
            made_dir: false,
            finished: true,
        })
    }

    /// Whether the model was whole before this run.
    pub fn finished(&self) -> bool {
        self.finished
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        self.journal
            .set_len(len)
            .and_then(|()| self.journal.seek(SeekFrom::End(0)))
            .map_err(|e| Error::io("write", &self.dir.join(JOURNAL), e))?;
        Ok(())
    }

    fn append(&mut self, line: &JournalLine<T>) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("plain data");
        text.push(b'\n');
        self.journal
            .write_all(&text)
            .and_then(|()| self.journal.sync_data())
            .map_err(|e| Error::io("write", &self.dir.join(JOURNAL), e))
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
                .map_err(|e| Error::io("make the directory", parent, e))?;
        }
        Ok(path)
    }

    /// Records that a shard is whole, then gives it its name.
    pub fn shard(&mut self, file: &str, writer: ModelWriter, of: T) -> Result<()> {
        let done = Done {
            file: file.to_owned(),
            sum: writer.sync()?,
            of,
        };
        self.append(&JournalLine::Shard(done.clone()))?;
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
        let io = |e: std::io::Error| Error::io("write", &path, e);
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
        self.others.push(file.to_owned());
        written
    }

    /// The model is whole: puts its record in the place of the journal.
    pub fn finish(mut self) -> Result<()> {
        let path = self.dir.join(JOURNAL);
        self.done.sort_by(|a, b| a.file.cmp(&b.file));
        let mut lines = vec![JournalLine::Job(self.identity.clone())];
        lines.extend(self.done.iter().cloned().map(JournalLine::Shard));
        for file in &self.others {
            let (file, sum) = (file.clone(), Sum::of(&self.dir.join(file))?);
            lines.push(JournalLine::File(Done { file, sum, of: () }));
        }
        let text: Vec<String> = lines
            .iter()
            .map(|line| serde_json::to_string(line).expect("plain data") + "\n")
            .collect();
        self.write(FINISHED, text.concat().as_bytes())?;
        sync_directory(&path);
        remove_if_there(&path)?;
        sync_directory(&path);
        self.finished = true;
        Ok(())
    }

    /// Takes away everything that the conversion wrote, in this run and before.
    pub fn discard(mut self) {
        for done in std::mem::take(&mut self.done) {
            self.others.push(done.file);
        }
        // Dropped with no shard done, it removes everything.
    }
}

impl<T> Drop for Conversion<T> {
    fn drop(&mut self) {
        // Nothing worth going on from: leave nothing. The error that led here is the one to report.
        if !self.finished && self.done.is_empty() {
            for file in &self.others {
                let path = self.dir.join(file);
                let _ = std::fs::remove_file(&path);
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
fn parse<T: DeserializeOwned>(text: &[u8]) -> (Vec<JournalLine<T>>, u64) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_torn_journal_gives_its_whole_lines(
            files in prop::collection::vec(".*", 0..5),
            keep in 0.0f64..=1.0,
        ) {
            let mut text = serde_json::to_vec(&JournalLine::<u8>::Job(serde_json::json!({"a": 1}))).unwrap();
            text.push(b'\n');
            let mut ends = vec![text.len()];
            for file in &files {
                let sum = Sum { bytes: 1, sha256: "ab".into() };
                let line = JournalLine::Shard(Done { file: file.clone(), sum, of: 7u8 });
                text.extend(serde_json::to_vec(&line).unwrap());
                text.push(b'\n');
                ends.push(text.len());
            }
            let torn = &text[..(keep * text.len() as f64) as usize];
            let (lines, end) = parse::<u8>(torn);
            let whole = ends.iter().filter(|e| **e <= torn.len()).count();
            prop_assert_eq!(lines.len(), whole);
            prop_assert_eq!(end as usize, whole.checked_sub(1).map_or(0, |i| ends[i]));
            for (line, file) in lines.iter().skip(1).zip(&files) {
                prop_assert!(matches!(line, JournalLine::Shard(d) if d.file == *file && d.of == 7));
            }
        }
    }
}
