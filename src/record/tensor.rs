//! The record of one tensor.

use super::{CheckpointRecord, Decision, LaneRecord};
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::error::{Error, Problem};
use crate::fault::Diagnosis;
use crate::metrics::Metrics;
use crate::picture::Picture;
use serde::{Deserialize, Serialize};

/// The published control: the lane against the reference, and against the emulated sign bug.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FwhtBugControl {
    /// Largest difference from the reference, f32.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cuda_vs_good_python_max_abs: f64,
    /// Root mean square difference from the reference.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cuda_vs_good_python_rmse: f64,
    /// Largest difference from the emulated bug, f32.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cuda_vs_bug_emulation_max_abs: f64,
    /// Root mean square difference from the emulated bug.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cuda_vs_bug_emulation_rmse: f64,
    /// Largest difference from the emulated bug rounded to BF16.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cuda_vs_bug_emulation_bf16_max_abs: f64,
    /// Root mean square difference from the emulated bug rounded to BF16.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cuda_vs_bug_emulation_bf16_rmse: f64,
    /// What to make of it.
    pub interpretation: String,
}

/// The model's codebook against the one that a loader recomputes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CodebookComparison {
    /// Largest difference of two centroids.
    pub max_abs: f64,
    /// Mean difference.
    pub mean_abs: f64,
    /// Centroids in the model's configuration.
    pub config: Vec<f64>,
    /// Centroids by Lloyd-Max, as a loader recomputes them.
    pub cuda: Vec<f64>,
}

impl CodebookComparison {
    /// Compares a codec's codebook with Lloyd-Max for its groups; `None` of a codec that no loader recomputes
    /// it for.
    pub fn of(codec: &Codec) -> Option<Self> {
        let layout = codec.layout;
        let plain = layout.is_plain();
        plain.then(|| Self::new(&codec.codebook, layout.bits(), layout.group_size()))
    }

    /// Compares a model's codebook with Lloyd-Max in `group_size` dimensions.
    pub fn new(config: &Codebook, bits: u32, group_size: usize) -> Self {
        let double =
            |c: &Codebook| -> Vec<f64> { c.centroids().iter().map(|v| (*v).into()).collect() };
        let (config, cuda) = (
            double(config),
            double(&Codebook::lloyd_max(bits, group_size)),
        );
        let diffs: Vec<f64> = config
            .iter()
            .zip(&cuda)
            .map(|(a, b)| (a - b).abs())
            .collect();
        Self {
            max_abs: diffs.iter().copied().fold(0.0, f64::max),
            mean_abs: diffs.iter().sum::<f64>() / diffs.len() as f64,
            config,
            cuda,
        }
    }
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
    /// The file of the model that it lies in; left out where it lies in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl From<&Problem> for TensorError {
    fn from(p: &Problem) -> Self {
        Self {
            what: p.what.clone(),
            place: p.place.clone(),
            help: p.help.clone(),
            file: p.file.clone(),
        }
    }
}

impl TensorError {
    /// The error as it was.
    pub fn to_error(&self) -> Error {
        Error::input(&self.what, &self.place, &self.help)
    }
}

/// The diagnosis of a lane that failed its gates, from the strip in which most of its elements are
/// wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StripDiagnosis {
    /// First row of that strip; rows inside the diagnosis count from it.
    pub strip_start: usize,
    /// Rows of that strip.
    pub strip_rows: usize,
    /// The fault, or where the error is.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
}

impl StripDiagnosis {
    /// The diagnosis in one line; the rows are named when they are not `rows`, the whole tensor's.
    pub fn summary(&self, rows: usize) -> String {
        if self.strip_rows == rows {
            return self.diagnosis.summary();
        }
        let end = self.strip_start + self.strip_rows;
        format!(
            "diagnosis of {}, rows {}..{end}: {}",
            self.diagnosis.lane, self.strip_start, self.diagnosis.evidence
        )
    }
}

/// One TQ4 tensor: the published report's keys, then this project's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Directory name of the source model.
    pub source_model: Option<String>,
    /// Directory name of the TQ4 model.
    pub tq_model: String,
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// Number of rows.
    pub row_count: usize,
    /// `[rows, cols]` as compared.
    pub shape: [usize; 2],
    /// 2, 3 or 4; null where recordings without it are compared with each other alone.
    pub bits: Option<u32>,
    /// Elements per group; null likewise.
    pub group_size: Option<usize>,
    /// The model's codebook against the recomputed one; null likewise.
    pub centroids_config_vs_cuda: Option<CodebookComparison>,
    /// All comparisons.
    pub metrics: Vec<Metrics>,
    /// The control for the CUDA lane; null when it did not run.
    pub fwht_bug_control: Option<FwhtBugControl>,
    /// The checkpoint against its source; null without a source, and where the tensor is bad input.
    #[serde(default)]
    pub checkpoint: Option<CheckpointRecord>,
    /// The published string of the outcome for CUDA; of a lane that failed, where one did.
    pub decision: String,
    /// The outcome for every kernel lane and recording, CUDA first.
    pub decisions: Vec<Decision>,
    /// For every lane that failed its gates: the fault that explains it, or where the error is.
    pub diagnosis: Vec<StripDiagnosis>,
    /// Every lane.
    pub lanes: Vec<LaneRecord>,
    /// `rows * cols`.
    pub elements: u64,
    /// Bytes of codes, scales and signs of these rows.
    pub bytes: u64,
    /// First 32 hex digits of the BLAKE3 over layout, codes, scales and signs of these rows; null
    /// when they could not be read to the end.
    pub checksum: Option<String>,
    /// The same over the source's weights of these rows as they are stored; null without a source.
    #[serde(default)]
    pub source_checksum: Option<String>,
    /// Why the tensor could not be validated; null when it could.
    pub error: Option<TensorError>,
    /// What is drawn of it; not part of the JSON.
    #[serde(skip)]
    pub picture: Option<Box<Picture>>,
}

impl TensorRecord {
    /// The decision for a lane.
    pub fn decision_of(&self, lane: &super::LaneName) -> Option<&Decision> {
        self.decisions.iter().find(|d| d.lane == *lane)
    }

    /// The decision that a comparison led to.
    pub fn decision_on(&self, m: &Metrics) -> Option<&Decision> {
        let mut decisions = self.decisions.iter();
        decisions.find(|d| d.lane == m.lhs && d.rhs == m.rhs)
    }

    /// Elements of a comparison that differ: of a lane that is held to the reference, those that are not the
    /// reference rounded to the lane's type.
    pub fn unequal(&self, m: &Metrics) -> u64 {
        let exactness = self.decision_on(m).and_then(|d| d.exactness.as_ref());
        exactness.map_or(m.elements.saturating_sub(m.bit_equal), |e| e.unequal)
    }

    /// Whether a lane broke on it.
    pub fn broke(&self) -> bool {
        self.lanes.iter().any(|l| l.status == super::Status::Failed)
    }

    /// Whether a lane failed its gates.
    pub fn failed(&self) -> bool {
        let mut decisions = self.decisions.iter();
        decisions.any(|d| d.verdict.passed() == Some(false))
    }

    /// Whether its error against the source is not what the format costs.
    pub fn damaged(&self) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(CheckpointRecord::damaged)
    }
}

/// How a tensor that is not quantised compares with the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainStatus {
    /// Same dtype, shape and bytes.
    Equal,
    /// Same shape and, once the source's values are rounded to this dtype, the same bytes.
    Cast,
    /// Quantised by another method, which is not decoded here.
    NotDecoded,
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
    /// First 32 hex digits of a BLAKE3 over the contents, the TQ4 model's and the source's; null when
    /// they were not read.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Why it is not equal, or how it was compared, in words.
    pub reason: Option<String>,
}
