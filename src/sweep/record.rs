//! The records of a sweep: one JSON object per line, in this order: a header, every TQ4 tensor by name,
//! every other tensor by name, a summary.
//!
//! Each line says what it is in `record`. Times are in keys that end with `seconds` and nowhere else;
//! apart from those, and from `tool.command_line` and `tool.host` of the header, a file depends only on
//! the models, the lanes and the options.

use crate::error::{Error, Problem};
use crate::fault::Diagnosis;
use crate::gate::Decision;
use crate::metrics::Metrics;
use crate::report::{CodebookComparison, FwhtBugControl, LaneReport, Tool};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Form of the file.
pub const FORMAT: &str = "tq4-sweep-1";

/// One line of a sweep's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// What is swept; the first line.
    Header(Box<Header>),
    /// A TQ4 tensor through the lanes.
    Tensor(Box<TensorRecord>),
    /// A tensor that is not quantised, byte for byte.
    Plain(PlainRecord),
    /// Totals; the last line of a finished sweep.
    Summary(Box<Summary>),
}

/// What identifies a checkpoint, from its headers and configuration alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Directory name. Not part of the identity: a copy may lie elsewhere.
    pub name: String,
    /// First 16 hex digits of the SHA-256 over the name, dtype and shape of every tensor, by name.
    pub digest: String,
}

/// The rows of every tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// First row.
    pub start: usize,
    /// Number of rows; null for all.
    pub count: Option<usize>,
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

impl std::str::FromStr for Partition {
    type Err = Error;

    /// `i/n`, with `i` from 1 to `n`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text
            .split_once('/')
            .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(Error::input(
                format!("{text:?} found, expected i/n with i from 1 to n, such as 1/4"),
                "--partition",
                "",
            )),
        }
    }
}

/// Which lanes were asked for, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOptions {
    /// Lanes asked for; empty for all.
    pub lanes: Vec<String>,
    /// Lanes that must run.
    pub require: Vec<String>,
    /// wgpu adapter asked for.
    pub adapter: Option<String>,
    /// Index of the CUDA device.
    pub cuda_device: usize,
    /// Whether the CUDA kernel is compiled for the device's own architecture.
    pub nvrtc: bool,
}

impl fmt::Display for LaneOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String], none: &str| match names {
            [] => none.to_owned(),
            some => some.join(","),
        };
        write!(
            f,
            "{} (required: {}, adapter {}, CUDA device {}{})",
            list(&self.lanes, "all"),
            list(&self.require, "none"),
            self.adapter.as_deref().unwrap_or("by itself"),
            self.cuda_device,
            if self.nvrtc { ", NVRTC" } else { "" }
        )
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(f, "{count} from {}", self.start),
            None => write!(f, "all from {}", self.start),
        }
    }
}

/// What is swept: whoever holds the same models and options writes the same header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// The program.
    pub tool: Tool,
    /// The TQ4 model.
    pub model: ModelIdentity,
    /// The source model, when one was given.
    pub source: Option<ModelIdentity>,
    /// 2, 3 or 4.
    pub bits: u32,
    /// Elements per group.
    pub group_size: usize,
    /// The model's codebook against the recomputed one.
    pub centroids_config_vs_cuda: CodebookComparison,
    /// Lanes and their options.
    pub lanes: LaneOptions,
    /// Rows of every tensor.
    pub rows: Rows,
    /// The part of `tensors` and `plain` that this file is about.
    pub partition: Partition,
    /// Every TQ4 tensor of the whole sweep, all partitions together, sorted; names without `.weight`.
    pub tensors: Vec<String>,
    /// Every other tensor of either model, all partitions together, sorted; empty without a source.
    pub plain: Vec<String>,
}

/// Why a tensor could not be validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorError {
    /// What was found, and what was expected.
    pub what: String,
    /// Where.
    pub place: String,
    /// What to do about it.
    pub help: String,
}

impl From<&Problem> for TensorError {
    fn from(p: &Problem) -> Self {
        Self {
            what: p.what.clone(),
            place: p.place.clone(),
            help: p.help.clone(),
        }
    }
}

/// The diagnosis of a lane that failed its gates, from some of the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsDiagnosis {
    /// The lane.
    pub lane: String,
    /// First row that the diagnosis is based on; rows inside `diagnosis` count from it.
    pub row_start: usize,
    /// Number of rows that it is based on.
    pub row_count: usize,
    /// The fault, or where the error is; null when a second run of these rows was right.
    pub diagnosis: Option<Diagnosis>,
    /// One line for people.
    pub summary: String,
}

/// One TQ4 tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// Number of rows.
    pub row_count: usize,
    /// `[rows, cols]` as compared.
    pub shape: [usize; 2],
    /// `rows * cols`.
    pub elements: u64,
    /// Bytes of codes, scales and signs of these rows.
    pub bytes: u64,
    /// All comparisons, as in the report of one tensor.
    pub metrics: Vec<Metrics>,
    /// The control for the CUDA lane; null when it did not run.
    pub fwht_bug_control: Option<FwhtBugControl>,
    /// The outcome for CUDA against the reference.
    pub decision: String,
    /// The outcome for every kernel lane.
    pub decisions: Vec<Decision>,
    /// For every lane that failed its gates.
    pub diagnosis: Vec<RowsDiagnosis>,
    /// Every lane.
    pub lanes: Vec<LaneReport>,
    /// Why the tensor could not be validated; null when it could.
    pub error: Option<TensorError>,
}

/// How a tensor that is not quantised compares with the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainStatus {
    /// Same dtype, shape and bytes.
    Equal,
    /// Another dtype, shape or content.
    Differs,
    /// The source model does not hold it.
    OnlyInTq4,
    /// The TQ4 model does not hold it.
    OnlyInSource,
}

/// One tensor that is not quantised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainRecord {
    /// Full name.
    pub name: String,
    /// How it compares.
    pub status: PlainStatus,
    /// Dtype, as safetensors names it; the TQ4 model's where both hold it.
    pub dtype: String,
    /// Shape; the TQ4 model's where both hold it.
    pub shape: Vec<usize>,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that differ; null when they were not compared.
    pub differing_bytes: Option<u64>,
    /// Offset of the first byte that differs.
    pub first_difference: Option<u64>,
    /// Why it is not equal, in words.
    pub reason: Option<String>,
}

/// One lane over all tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneTotals {
    /// Name of the lane.
    pub lane: String,
    /// Tensors that met every gate.
    pub passed: u64,
    /// Tensors that did not.
    pub failed: u64,
    /// Tensors on which it did not run.
    pub not_run: u64,
    /// Tensors on which it broke; these are in `not_run` as well.
    pub broke: u64,
    /// The outcome, the worst over all tensors: as in [`Decision::decision`].
    pub decision: String,
    /// Why: of the first tensor with that outcome.
    pub reason: String,
    /// That tensor.
    pub tensor_base: String,
}

/// The tensors that are not quantised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainTotals {
    /// Tensors with the source's bytes.
    pub equal: u64,
    /// Tensors that differ.
    pub differs: u64,
    /// Tensors that the source does not hold.
    pub only_in_tq4: u64,
    /// Tensors that the TQ4 model does not hold.
    pub only_in_source: u64,
    /// Bytes compared.
    pub bytes: u64,
}

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepOutcome {
    /// All that ran passed.
    Passed,
    /// A lane failed its gates, or a tensor that is not quantised is not the source's.
    Failed,
    /// A lane broke, or a tensor is bad input.
    Broke,
    /// A required lane did not run on every tensor.
    RequiredLaneMissing,
}

/// Totals of a sweep or of one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// TQ4 tensors.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their bytes of codes, scales and signs.
    pub bytes: u64,
    /// TQ4 tensors that are bad input.
    pub errors: u64,
    /// Every kernel lane.
    pub lanes: Vec<LaneTotals>,
    /// The tensors that are not quantised; null without a source.
    pub plain: Option<PlainTotals>,
    /// The worst outcome for CUDA.
    pub decision: String,
    /// How it ended.
    pub outcome: SweepOutcome,
    /// Every TQ4 tensor, worst first.
    pub worst_first: Vec<String>,
}
