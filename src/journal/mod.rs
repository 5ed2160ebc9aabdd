//! A JSONL report on disk: lines are appended as tensors are done, so that a run that is stopped at any
//! moment loses at most the tensor it was at.

mod merge;

pub use merge::merge;

use crate::error::{Error, Result};
use crate::record::{
    Model, Partition, PlainRecord, Record, ReportHeader, Run, Summary, TensorRecord, missing_lanes,
};
use crate::run::{Sink, Target};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines are forced to the disk no more often than this; a killed process loses none in any case.
const SYNC: Duration = Duration::from_secs(1);

/// The records of a report, in the order of the file.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The first line.
    pub header: ReportHeader,
    /// TQ4 tensors. One on which a lane broke may be there again later; the last one counts.
    pub tensors: Vec<TensorRecord>,
    /// Other tensors.
    pub plain: Vec<PlainRecord>,
    /// The last line of a finished run.
    pub summary: Option<Summary>,
    // Bytes up to the end of the last whole tensor line.
    keep: u64,
}

impl Contents {
    /// Reads a JSONL report; a last line that was torn off is left out. `None` when not even the
    /// header is whole.
    ///
    /// # Errors
    /// When the file cannot be read or is no such report.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let place = || path.display().to_string();
        let io = |e: std::io::Error| Error::io("read the report", path, e);
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::input("not a regular file", place(), "name a report"));
        }
        Self::parse(&std::fs::read(path).map_err(io)?, path)
    }

    fn parse(text: &[u8], path: &Path) -> Result<Option<Self>> {
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
                    path.display().to_string(),
                    "name a JSONL report that this version of tq4 wrote",
                )
            };
            let record: Record = serde_json::from_slice(line)
                .map_err(|e| bad(format!("not a record of a report: {e}")))?;
            let once = |left: &mut BTreeSet<String>, name: &String| {
                let what = || format!("tensor {name:?} is there twice, or not one of the run's");
                left.remove(name).then_some(()).ok_or_else(|| bad(what()))
            };
            match (&mut contents, record) {
                (None, Record::Header(header)) => {
                    let model = &header.model;
                    open = [&model.tensors, &model.plain].map(|n| n.iter().cloned().collect());
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
                    let header = &c.header;
                    let again = |old: &TensorRecord| {
                        old.tensor_base == t.tensor_base && to_do_again(header, old)
                    };
                    if let Some(i) = c.tensors.iter().position(again) {
                        c.tensors.remove(i);
                    } else {
                        once(&mut open[0], &t.tensor_base)?;
                    }
                    c.tensors.push(*t);
                    c.keep = at;
                }
                (Some(c), Record::Plain(p)) if c.summary.is_none() => {
                    once(&mut open[1], &p.name)?;
                    c.plain.push(p);
                    c.keep = at;
                }
                (Some(c), Record::Summary(s)) if c.summary.is_none() => c.summary = Some(*s),
                _ => return Err(bad("a record that does not belong here".into())),
            }
        }
        Ok(contents)
    }

    /// Names of the TQ4 tensors that are done. One on which a lane broke, which could not be read, or on
    /// which a required lane did not run is not: another machine, or another day, may bring it.
    pub fn done(&self) -> BTreeSet<String> {
        let done = self
            .tensors
            .iter()
            .filter(|t| !to_do_again(&self.header, t));
        done.map(|t| t.tensor_base.clone()).collect()
    }

    /// Names of the other tensors that are done.
    pub fn plain_done(&self) -> BTreeSet<String> {
        self.plain.iter().map(|p| p.name.clone()).collect()
    }
}

fn to_do_again(header: &ReportHeader, t: &TensorRecord) -> bool {
    t.broke()
        || t.error.is_some()
        || !missing_lanes(&header.model, std::slice::from_ref(t)).is_empty()
}

/// Reads a report in either form: one object, or lines.
///
/// # Errors
/// When the file cannot be read or is no report; `None` when it is of another kind altogether.
pub fn read_report(path: &Path) -> Result<Option<Run>> {
    let io = |e: std::io::Error| Error::io("read the report", path, e);
    let mut head = [0; 64];
    let mut file = File::open(path).map_err(io)?;
    let n = file.read(&mut head).map_err(io)?;
    let head = String::from_utf8_lossy(&head[..n]).into_owned();
    if head.starts_with("{\"record\":\"header\"") {
        let contents = Contents::read(path)?;
        return Ok(contents.map(|c| Run::new(c.header, c.tensors, c.plain)));
    }
    // What `to_json` writes first.
    if !head
        .trim_start_matches(['{', '\n', ' '])
        .starts_with("\"format\": \"tq4-report")
    {
        return Ok(None);
    }
    let text = std::fs::read(path).map_err(io)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        let place = path.display().to_string();
        Error::input(format!("a damaged report: {e}"), place, "write it again")
    })
}

/// What tells two runs apart, or `None` when they are the same but for where they ran. `partitions` says
/// whether their partitions must be the same as well.
pub fn difference(old: &ReportHeader, new: &ReportHeader, partitions: bool) -> Option<String> {
    let (a, b) = (&old.model, &new.model);
    let fingerprint = |m: &Option<crate::record::ModelIdentity>| {
        m.as_ref()
            .map_or_else(|| "none".into(), |m| m.fingerprint.clone())
    };
    let layout = |m: &Model| format!("{:?} bits, group {:?}", m.bits, m.group_size);
    let codebook = |m: &Model| {
        let codebook = m.centroids_config_vs_cuda.as_ref();
        format!("{:?}", codebook.map(|c| &c.config))
    };
    let part = |m: &Model| {
        if partitions {
            m.partition
        } else {
            Partition::WHOLE
        }
        .to_string()
    };
    let list = |given: &[String]| match given {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    let count = |m: &Model| format!("{} and {} others", m.tensors.len(), m.plain.len());
    let fields: [(&str, String, String); 13] = [
        ("format", old.format.clone(), new.format.clone()),
        (
            "tool version",
            old.tool.version.clone(),
            new.tool.version.clone(),
        ),
        ("model", fingerprint(&a.tq), fingerprint(&b.tq)),
        ("layout", layout(a), layout(b)),
        ("codebook", codebook(a), codebook(b)),
        (
            "source model",
            fingerprint(&a.source),
            fingerprint(&b.source),
        ),
        ("lanes", a.lanes.to_string(), b.lanes.to_string()),
        ("recordings", list(&a.recordings), list(&b.recordings)),
        ("programs", list(&a.programs), list(&b.programs)),
        ("kernels", list(&a.kernels), list(&b.kernels)),
        (
            "rows",
            format!("{}, in strips of {}", a.rows, a.strip),
            format!("{}, in strips of {}", b.rows, b.strip),
        ),
        ("partition", part(a), part(b)),
        ("tensors", count(a), count(b)),
    ];
    if let Some((name, a, b)) = fields.into_iter().find(|(_, a, b)| a != b) {
        return Some(format!("{name}: {a} there, {b} here"));
    }
    let names =
        |m: &Model| [&m.tensors, &m.plain].map(|n| n.iter().cloned().collect::<BTreeSet<_>>());
    (names(a) != names(b)).then(|| "tensors: other names there than here".to_owned())
}

/// A report that is being written. The file is locked until it is dropped.
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
        let place = || path.display().to_string();
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
        if dir.is_some_and(|d| !d.is_dir()) {
            let what = "the directory does not exist";
            return Err(Error::input(what, place(), "create it first"));
        }
        if path.exists() {
            let help = "resume it, or remove it";
            return Err(Error::input("the report exists", place(), help));
        }
        Ok(())
    }

    /// Starts a new report.
    ///
    /// # Errors
    /// As [`Journal::check_new`], or when the file cannot be written.
    pub fn create(path: &Path, header: &ReportHeader) -> Result<Self> {
        Self::check_new(path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|e| Error::io("write the report", path, e))?;
        lock(&file, path)?;
        Self::start(path, file, header)
    }

    fn start(path: &Path, file: File, header: &ReportHeader) -> Result<Self> {
        let mut journal = Self {
            path: path.to_owned(),
            file,
            good: 0,
            synced: Instant::now(),
        };
        journal.append(&Record::Header(Box::new(header.clone())))?;
        Ok(journal)
    }

    /// Resumes a report: a torn line at its end is cut off, and the summary of one in which a lane broke.
    /// A file that is not there or has no whole header is started anew.
    ///
    /// # Errors
    /// When another process writes it, it is of another run, is damaged, or cannot be written.
    pub fn resume(path: &Path, header: &ReportHeader) -> Result<(Self, Option<Contents>)> {
        if !path.exists() {
            return Ok((Self::create(path, header)?, None));
        }
        let io = |e: std::io::Error| Error::io("write the report", path, e);
        // Locked before it is read: another process may be appending.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io)?;
        lock(&file, path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io)?;
        let Some(mut contents) = Contents::parse(&text, path)? else {
            file.rewind().map_err(io)?;
            file.set_len(0).map_err(io)?;
            return Ok((Self::start(path, file, header)?, None));
        };
        if let Some(difference) = difference(&contents.header, header, true) {
            return Err(Error::input(
                format!("the report is of another run: {difference}"),
                path.display().to_string(),
                "give the same models and options, or name another report",
            ));
        }
        if contents.tensors.iter().any(|t| to_do_again(header, t)) {
            contents.summary = None;
        }
        if contents.summary.is_none() {
            file.set_len(contents.keep).map_err(io)?;
        }
        let good = file.seek(SeekFrom::End(0)).map_err(io)?;
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
        let text = record.to_line();
        let summary = matches!(record, Record::Summary(_));
        let written = self.file.write_all(text.as_bytes()).and_then(|()| {
            if summary || self.synced.elapsed() >= SYNC {
                self.synced = Instant::now();
                self.file.sync_data()?;
            }
            Ok(())
        });
        if let Err(e) = written {
            // A torn line would do no harm, since it is left out when the report is read.
            let _ = self.file.set_len(self.good);
            let mut error = Error::io("write the report", &self.path, e);
            if let Error::Io { problem, .. } = &mut error {
                problem.help = "what is done is kept: free some space and resume the report".into();
            }
            return Err(error);
        }
        self.good += text.len() as u64;
        Ok(())
    }
}

impl Sink for Journal {
    fn tensor(&mut self, _: &Target, record: &TensorRecord) -> Result<()> {
        self.append(&Record::Tensor(Box::new(record.clone())))
    }

    fn plain(&mut self, record: &PlainRecord) -> Result<()> {
        self.append(&Record::Plain(record.clone()))
    }
}

/// One process writes a report at a time. A file system without locks is trusted.
fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        // One line: it may be one of many processes that print into one log.
        Err(TryLockError::WouldBlock) => Err(Error::input(
            format!("another process is writing {}", path.display()),
            "",
            "",
        )),
        Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
    }
}
