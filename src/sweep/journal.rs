//! The report of a sweep on disk: lines appended as tensors finish, so that a run that is stopped at any
//! moment loses at most the tensor it was at.

use super::record::{Header, Partition, PlainRecord, Record, Summary, TensorRecord};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines are forced to the disk no more often than this; a killed process loses none in any case.
const SYNC: Duration = Duration::from_secs(1);

/// The records of a report, in the order of the file.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The first line.
    pub header: Header,
    /// TQ4 tensors, each with its line.
    pub tensors: Vec<(TensorRecord, String)>,
    /// Other tensors, each with its line.
    pub plain: Vec<(PlainRecord, String)>,
    /// The last line of a finished sweep.
    pub summary: Option<Summary>,
    // Bytes up to the end of the last whole tensor line.
    keep: u64,
}

impl Contents {
    /// Reads a report; a last line that was torn off is left out. `None` when not even the header is
    /// whole.
    ///
    /// # Errors
    /// When the file cannot be read or is not the report of a sweep.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let place = || path.display().to_string();
        let meta = std::fs::metadata(path).map_err(|e| Error::io("read the report", path, &e))?;
        if !meta.is_file() {
            return Err(Error::input("not a regular file", place(), "name a report"));
        }
        let text = std::fs::read(path).map_err(|e| Error::io("read the report", path, &e))?;
        let mut contents: Option<Self> = None;
        // What is still to come, TQ4 tensors and others.
        let mut open: [BTreeSet<String>; 2] = Default::default();
        let mut at = 0u64;
        for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            if line.last() != Some(&b'\n') {
                break;
            }
            at += line.len() as u64;
            let bad = |what: String| {
                Error::input(
                    format!("line {}: {what}", number + 1),
                    place(),
                    "name a report that `tq4 validate --report FILE.jsonl` wrote",
                )
            };
            let record: Record = serde_json::from_slice(line)
                .map_err(|e| bad(format!("not a record of a sweep: {e}")))?;
            let line = || String::from_utf8_lossy(line).into_owned();
            let once = |left: &mut BTreeSet<String>, name: &String| {
                let what = || format!("tensor {name:?} is there twice, or not one of the sweep's");
                left.remove(name).then_some(()).ok_or_else(|| bad(what()))
            };
            match (&mut contents, record) {
                (None, Record::Header(header)) => {
                    open = [&header.tensors, &header.plain].map(|n| n.iter().cloned().collect());
                    contents = Some(Self {
                        header: *header,
                        tensors: Vec::new(),
                        plain: Vec::new(),
                        summary: None,
                        keep: at,
                    });
                }
                (None, _) => return Err(bad("no header found".into())),
                (Some(c), Record::Tensor(t)) if c.summary.is_none() => {
                    once(&mut open[0], &t.tensor_base)?;
                    c.tensors.push((*t, line()));
                    c.keep = at;
                }
                (Some(c), Record::Plain(p)) if c.summary.is_none() => {
                    once(&mut open[1], &p.name)?;
                    c.plain.push((p, line()));
                    c.keep = at;
                }
                (Some(c), Record::Summary(s)) if c.summary.is_none() => c.summary = Some(*s),
                _ => return Err(bad("a record that does not belong here".into())),
            }
        }
        Ok(contents)
    }

    /// Names of the TQ4 tensors in it.
    pub fn tensor_names(&self) -> BTreeSet<String> {
        self.tensors
            .iter()
            .map(|(t, _)| t.tensor_base.clone())
            .collect()
    }

    /// Names of the other tensors in it.
    pub fn plain_names(&self) -> BTreeSet<String> {
        self.plain.iter().map(|(p, _)| p.name.clone()).collect()
    }
}

/// One line of a report.
///
/// # Panics
/// Never: a record is plain data.
pub fn line(record: &Record) -> String {
    let mut line = serde_json::to_string(record).expect("plain data");
    line.push('\n');
    line
}

/// What tells two sweeps apart, or `None` when they are the same but for where they ran. `partitions`
/// says whether their partitions must be the same as well.
pub(super) fn difference(old: &Header, new: &Header, partitions: bool) -> Option<String> {
    let parts = |h: &Header| {
        if partitions {
            h.partition
        } else {
            Partition::WHOLE
        }
    };
    let source = |h: &Header| match &h.source {
        Some(s) => s.digest.clone(),
        None => "none".into(),
    };
    let codebook = |h: &Header| h.centroids_config_vs_cuda.config.clone();
    let fields: [(&str, String, String); 10] = [
        ("format", old.format.clone(), new.format.clone()),
        (
            "tool version",
            old.tool.version.clone(),
            new.tool.version.clone(),
        ),
        ("model", old.model.digest.clone(), new.model.digest.clone()),
        (
            "layout",
            format!("{} bits, group {}", old.bits, old.group_size),
            format!("{} bits, group {}", new.bits, new.group_size),
        ),
        (
            "codebook",
            format!("{:?}", codebook(old)),
            format!("{:?}", codebook(new)),
        ),
        ("source model", source(old), source(new)),
        ("lanes", old.lanes.to_string(), new.lanes.to_string()),
        ("rows", old.rows.to_string(), new.rows.to_string()),
        ("partition", parts(old).to_string(), parts(new).to_string()),
        (
            "tensors",
            format!("{} and {} others", old.tensors.len(), old.plain.len()),
            format!("{} and {} others", new.tensors.len(), new.plain.len()),
        ),
    ];
    if let Some((name, a, b)) = fields.into_iter().find(|(_, a, b)| a != b) {
        return Some(format!("{name}: {a} there, {b} here"));
    }
    (old.tensors != new.tensors || old.plain != new.plain)
        .then(|| "tensors: other names there than here".to_owned())
}

/// A report that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    // Bytes of whole lines.
    good: u64,
    synced: Instant,
}

impl Journal {
    /// Checks that a new report can be started.
    ///
    /// # Errors
    /// When the file exists or its directory does not.
    pub fn check_new(path: &Path) -> Result<()> {
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
        if dir.is_some_and(|d| !d.is_dir()) {
            return Err(Error::input(
                "the directory does not exist",
                path.display().to_string(),
                "make it first",
            ));
        }
        if path.exists() {
            return Err(Error::input(
                "the report exists",
                path.display().to_string(),
                "go on with it by --resume, or remove it",
            ));
        }
        Ok(())
    }

    /// Starts a new report.
    ///
    /// # Errors
    /// As [`Journal::check_new`], or when the file cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        Self::check_new(path)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(path);
        let file = file.map_err(|e| Error::io("write the report", path, &e))?;
        Self::start(path, file, header)
    }

    fn start(path: &Path, file: File, header: &Header) -> Result<Self> {
        let mut journal = Self {
            path: path.to_owned(),
            file,
            good: 0,
            synced: Instant::now(),
        };
        journal.append(&Record::Header(Box::new(header.clone())))?;
        Ok(journal)
    }

    /// Goes on with a report: a torn line or a summary at its end is cut off. A file that is not there or
    /// has no whole header is started anew.
    ///
    /// # Errors
    /// When the report is of another sweep, is damaged, or cannot be written.
    pub fn resume(path: &Path, header: &Header) -> Result<(Self, Option<Contents>)> {
        if !path.exists() {
            return Ok((Self::create(path, header)?, None));
        }
        let contents = Contents::read(path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|e| Error::io("write the report", path, &e))?;
        let Some(contents) = contents else {
            file.set_len(0)
                .map_err(|e| Error::io("write the report", path, &e))?;
            return Ok((Self::start(path, file, header)?, None));
        };
        if let Some(difference) = difference(&contents.header, header, true) {
            return Err(Error::input(
                format!("the report is of another sweep: {difference}"),
                path.display().to_string(),
                "give the same models and options, or another --report",
            ));
        }
        if contents.summary.is_none() {
            file.set_len(contents.keep)
                .map_err(|e| Error::io("write the report", path, &e))?;
        }
        let good = file
            .seek(SeekFrom::End(0))
            .map_err(|e| Error::io("write the report", path, &e))?;
        let journal = Self {
            path: path.to_owned(),
            file,
            good,
            synced: Instant::now(),
        };
        Ok((journal, Some(contents)))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When it cannot be written whole; what was written of it is taken back.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let text = line(record);
        let summary = matches!(record, Record::Summary(_));
        let written = self.file.write_all(text.as_bytes()).and_then(|()| {
            if summary || self.synced.elapsed() >= SYNC {
                self.synced = Instant::now();
                self.file.sync_data()?;
            }
            Ok(())
        });
        if let Err(e) = written {
            // A torn line would do no harm, since --resume leaves it out.
            let _ = self.file.set_len(self.good);
            let place = self.path.display().to_string();
            return Err(Error::input(
                format!("cannot write the report: {e}"),
                place,
                "what is done is kept; free some space and run again with --resume",
            ));
        }
        self.good += text.len() as u64;
        Ok(())
    }
}
