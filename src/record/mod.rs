//! Every type that is written to a report and read back: the one place that knows JSON.
//!
//! A report is a [`Run`]. As JSON it is one object; as lines of JSON it is a header, every tensor, every
//! tensor that is not quantised, and a summary, one a line, so that a run that is stopped keeps what it
//! has. `docs/report.md` documents every key.
//!
//! Times are in keys that end with `seconds` and nowhere else; apart from those, and from `tool`, a
//! report depends only on the models, the lanes and the options.

mod arithmetic;
pub mod bench;
mod checkpoint;
mod compare;
mod decision;
mod device_arithmetic;
mod exactness;
mod lane;
mod require;
mod summary;
mod tensor;

pub use crate::name::{LaneKind, LaneName};
pub use arithmetic::Arithmetic;
pub use checkpoint::{
    CheckpointRecord, CheckpointTotals, CheckpointVerdict, DamagedGroup, WrongSign,
};
pub use compare::{LanePair, ReportPair, TensorPair};
pub use decision::{Decision, Gate, GateName, Relation, Verdict, leading, published};
pub use device_arithmetic::DeviceArithmetic;
pub use exactness::{Exactness, Outside, Tolerance};
pub use lane::{CudaDevices, LaneConfig, LaneInfo, LaneRecord, OutputType, Status};
pub use require::{Unmet, unmet};
pub(crate) use summary::worse;
pub use summary::{
    LaneTotals, Outcome, PlainTotals, Summary, lanes_once, missing_lanes, summarise,
};
pub use tensor::{
    CodebookComparison, FwhtBugControl, PlainRecord, PlainStatus, StripDiagnosis, TensorError,
    TensorRecord,
};

use crate::error::{Error, Result};
use crate::natural::natural;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Form of a report.
pub const FORMAT: &str = "tq4-report-2";

/// The program that made the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name and version.
    pub version: String,
    /// Arguments as given.
    pub command_line: Vec<String>,
    /// Operating system and architecture.
    pub host: String,
    /// The operating system with its version, as it names itself; null where that is not known.
    #[serde(default)]
    pub os: Option<String>,
}

impl Tool {
    /// This program, as it was called.
    pub fn this() -> Self {
        Self {
            version: format!("tq4 {}", env!("CARGO_PKG_VERSION")),
            command_line: std::env::args().skip(1).collect(),
            host: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            os: crate::environment::operating_system(),
        }
    }
}

/// The rows of every tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// First row.
    pub start: usize,
    /// Number of rows; null for all.
    pub count: Option<usize>,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(f, "{count} from {}", self.start),
            None => write!(f, "all from {}", self.start),
        }
    }
}

/// How many rows go through the lanes at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StripSize {
    /// All rows of a single tensor that fits, else strips of bounded size.
    #[default]
    Auto,
    /// So many rows.
    Rows(usize),
    /// All rows.
    Whole,
}

impl fmt::Display for StripSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

impl FromStr for StripSize {
    type Err = Error;

    /// `whole`, `auto` or a number of rows.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "whole" => Ok(Self::Whole),
            "auto" => Ok(Self::Auto),
            rows => match rows.parse() {
                Ok(rows) if rows > 0 => Ok(Self::Rows(rows)),
                _ => Err(Error::input(
                    format!("{text:?} found, expected whole, auto or a number of rows"),
                    "",
                    "",
                )),
            },
        }
    }
}

impl Serialize for StripSize {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StripSize {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map_err(|e: Error| serde::de::Error::custom(&e.problem().what))
    }
}

/// One of `count` parts of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// 1 to `count`.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Partition {
    /// All tensors.
    pub const WHOLE: Self = Self { index: 1, count: 1 };
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Partition {
    type Err = Error;

    /// `i/n`, with `i` from 1 to `n`.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text
            .split_once('/')
            .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(Error::input(
                format!("{text:?} found, expected i/n with i from 1 to n, such as 1/4"),
                "",
                "",
            )),
        }
    }
}

/// What identifies a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Directory name. Not part of the identity: a copy may lie elsewhere.
    pub name: String,
    /// First 32 hex digits of the BLAKE3 over name, dtype, shape and contents of every tensor; of a
    /// large tensor a sample of its contents is taken.
    pub fingerprint: String,
}

/// What is judged, and how: whoever holds the same models and options writes the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The TQ4 model; null where recordings are compared with each other alone.
    pub tq: Option<ModelIdentity>,
    /// The source model, when one was given.
    pub source: Option<ModelIdentity>,
    /// What the TQ4 model's format is called; null without one.
    #[serde(default)]
    pub format: Option<String>,
    /// 2, 3 or 4; null without a TQ4 model.
    pub bits: Option<u32>,
    /// Elements per group; null without a TQ4 model.
    pub group_size: Option<usize>,
    /// The model's codebook against the recomputed one; null without a TQ4 model.
    pub centroids_config_vs_cuda: Option<CodebookComparison>,
    /// Lanes and their options.
    pub lanes: LaneConfig,
    /// How far a lane that is lossy by intent may be off; null where none may.
    #[serde(default)]
    pub tolerance: Option<Tolerance>,
    /// Rows of every tensor.
    pub rows: Rows,
    /// The recordings that take part, each as `NAME=HASH`: first 32 hex digits of the file's SHA-256.
    #[serde(default)]
    pub recordings: Vec<String>,
    /// The programs that take part, each as `NAME:TYPE=COMMAND`; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
    /// The users' kernels that take part, each as `NAME=HASH`: first 32 hex digits of the SHA-256 of
    /// manifest and source; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// How many rows go through the lanes at a time.
    pub strip: StripSize,
    /// The part of `tensors` and `plain` that this report is about.
    pub partition: Partition,
    /// Every TQ4 tensor of the whole job, all partitions together, layer 2 before layer 10; names
    /// without `.weight`.
    pub tensors: Vec<String>,
    /// Every other tensor of either model, all partitions together, likewise; empty without a source or
    /// when tensors were chosen by name.
    pub plain: Vec<String>,
}

impl Model {
    /// Whether no lane but the reference is asked for.
    pub fn reference_alone(&self) -> bool {
        let others = [&self.recordings, &self.programs, &self.kernels];
        self.lanes.lanes == [LaneKind::Reference] && others.iter().all(|list| list.is_empty())
    }
}

/// The first line of a JSONL report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportHeader {
    /// [`FORMAT`].
    pub format: String,
    /// The program.
    pub tool: Tool,
    /// What is judged.
    pub model: Model,
}

/// One line of a JSONL report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// What is judged; the first line.
    Header(Box<ReportHeader>),
    /// A TQ4 tensor through the lanes.
    Tensor(Box<TensorRecord>),
    /// A tensor that is not quantised, byte for byte.
    Plain(PlainRecord),
    /// Totals; the last line of a finished run.
    Summary(Box<Summary>),
}

impl Record {
    /// As a line of JSON, with its newline.
    ///
    /// # Panics
    /// Never: a record is plain data.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data");
        line.push('\n');
        line
    }
}

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`].
    pub format: String,
    /// The program.
    pub tool: Tool,
    /// What is judged.
    pub model: Model,
    /// The TQ4 tensors, by name.
    pub tensors: Vec<TensorRecord>,
    /// The tensors that are not quantised, by name.
    pub plain: Vec<PlainRecord>,
    /// Totals.
    pub summary: Summary,
}

impl Run {
    /// The report of `tensors` and `plain`, with its totals.
    pub fn new(
        header: ReportHeader,
        mut tensors: Vec<TensorRecord>,
        mut plain: Vec<PlainRecord>,
    ) -> Self {
        tensors.sort_by(|a, b| natural(&a.tensor_base, &b.tensor_base));
        plain.sort_by(|a, b| natural(&a.name, &b.name));
        let summary = summarise(&header.model, &tensors, &plain);
        Self {
            format: header.format,
            tool: header.tool,
            model: header.model,
            tensors,
            plain,
            summary,
        }
    }

    /// As lines of JSON: what a run writes line by line.
    pub fn to_lines(&self) -> String {
        let header = ReportHeader {
            format: self.format.clone(),
            tool: self.tool.clone(),
            model: self.model.clone(),
        };
        let mut text = Record::Header(Box::new(header)).to_line();
        for t in &self.tensors {
            text += &Record::Tensor(Box::new(t.clone())).to_line();
        }
        for p in &self.plain {
            text += &Record::Plain(p.clone()).to_line();
        }
        text + &Record::Summary(Box::new(self.summary.clone())).to_line()
    }

    /// What became of the lanes that were asked for.
    pub fn asked_for(&self) -> Vec<&LaneTotals> {
        let lanes = self.summary.lanes.iter();
        lanes.filter(|l| self.is_asked_for(&l.lane)).collect()
    }

    /// Whether a lane was asked for, or is there by itself.
    pub fn is_asked_for(&self, lane: &LaneName) -> bool {
        let LaneConfig { lanes, require, .. } = &self.model.lanes;
        let among = |kinds: &[LaneKind]| lane.kind().is_some_and(|kind| kinds.contains(&kind));
        // Bad input is tried on no lane: of nothing else the options tell.
        let mut tried = self.tensors.iter().filter(|t| t.error.is_none()).peekable();
        match tried.peek() {
            _ if require.iter().any(|name| lane.meets(name)) => true,
            None => lanes.is_empty() || lane.kind().is_none() || among(lanes),
            Some(_) => tried
                .flat_map(|t| &t.lanes)
                .any(|l| l.name == *lane && l.status != Status::Skipped),
        }
    }

    /// The tensors, worst first.
    pub fn worst_first(&self) -> Vec<&TensorRecord> {
        let at: std::collections::HashMap<&str, &TensorRecord> = self
            .tensors
            .iter()
            .map(|t| (t.tensor_base.as_str(), t))
            .collect();
        let order = self.summary.worst_first.iter();
        order.filter_map(|n| at.get(n.as_str()).copied()).collect()
    }
}

/// Any record as indented JSON with a final newline.
///
/// # Panics
/// Never for the types of this module, which are plain data.
pub fn to_json<T: Serialize>(record: &T) -> String {
    let mut text = serde_json::to_string_pretty(record).expect("plain data");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_i_of_n() {
        assert_eq!("3/4".parse(), Ok(Partition { index: 3, count: 4 }));
        for bad in ["", "0/4", "5/4", "1", "1/0", "-1/4", "1/4/2", "a/b", " 1/4"] {
            assert!(bad.parse::<Partition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_strip_is_whole_or_so_many_rows() {
        for (text, strip) in [
            ("whole", StripSize::Whole),
            ("auto", StripSize::Auto),
            ("12", StripSize::Rows(12)),
        ] {
            assert_eq!(text.parse(), Ok(strip));
            assert_eq!(strip.to_string(), text);
        }
        for bad in ["", "0", "-1", "all", "1.5"] {
            assert!(bad.parse::<StripSize>().is_err(), "{bad}");
        }
    }
}
