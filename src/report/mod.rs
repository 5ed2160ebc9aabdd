//! The report: one record type, one exporter per format.

mod csv;
pub mod html;
mod markdown;
mod table;
mod terminal;
mod view;

pub(crate) use self::csv::text_cell;
pub use self::csv::{Outputs, top_errors};
pub use markdown::{markdown, sweep_markdown};
pub use table::{Style, lanes_table, metrics_table, table, tensor_table};
pub use terminal::picture_text;

use crate::codebook::Codebook;
use crate::fault::Diagnosis;
use crate::gate::Decision;
use crate::metrics::Metrics;
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

/// What became of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It computed.
    Ran,
    /// A recording was read in its place.
    Recorded,
    /// It is not there on this machine.
    Unavailable,
    /// It was there and broke.
    Failed,
    /// It was not asked for.
    Skipped,
}

/// One lane in the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// Name of the lane.
    pub name: String,
    /// What became of it.
    pub status: Status,
    /// Why it did not run; null when it did.
    pub reason: Option<String>,
    /// What would bring it; null when it ran.
    pub help: Option<String>,
    /// The device as its driver names it.
    pub device: Option<String>,
    /// Driver name and version.
    pub driver: Option<String>,
    /// `CPU`, `Vulkan`, `Metal`, `D3D12` or `CUDA`.
    pub api: Option<String>,
    /// Whether the device is a software one.
    pub software: Option<bool>,
    /// Which form of the kernel runs; null where a lane has one only.
    #[serde(default)]
    pub kernel_variant: Option<String>,
    /// First 16 hex digits of the SHA-256 of the kernel.
    pub kernel_checksum: Option<String>,
    /// Seconds by the wall for upload, kernel and download.
    pub seconds: Option<f64>,
    /// Seconds in the kernel by the device's own clock.
    pub kernel_seconds: Option<f64>,
}

/// The program that made the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name and version.
    pub version: String,
    /// Arguments as given.
    pub command_line: Vec<String>,
    /// Operating system and architecture.
    pub host: String,
}

impl Tool {
    /// This program, as it was called.
    pub fn this() -> Self {
        Self {
            version: format!("tq4 {}", env!("CARGO_PKG_VERSION")),
            command_line: std::env::args().skip(1).collect(),
            host: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// The report of one tensor: the published keys, then this project's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
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
    /// 2, 3 or 4.
    pub bits: u32,
    /// Elements per group.
    pub group_size: usize,
    /// The model's codebook against the recomputed one.
    pub centroids_config_vs_cuda: CodebookComparison,
    /// All comparisons.
    pub metrics: Vec<Metrics>,
    /// The control for the CUDA lane; null when it did not run.
    pub fwht_bug_control: Option<FwhtBugControl>,
    /// The outcome for CUDA against the reference.
    pub decision: String,
    /// The outcome for every kernel lane and recording.
    pub decisions: Vec<Decision>,
    /// For every lane that failed its gates: the fault that explains it, or where the error is.
    pub diagnosis: Vec<Diagnosis>,
    /// Every lane.
    pub lanes: Vec<LaneReport>,
    /// The program.
    pub tool: Tool,
}

/// The report of a run: the published object for one tensor, a list of them for several.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// One tensor.
    One(Box<TensorReport>),
    /// Several tensors.
    Many {
        /// The worst outcome for CUDA.
        decision: String,
        /// The reports, in name order.
        tensors: Vec<TensorReport>,
        /// The program.
        tool: Tool,
    },
}

impl Report {
    /// Makes the report of a run.
    ///
    /// # Panics
    /// When `tensors` is empty.
    pub fn new(mut tensors: Vec<TensorReport>) -> Self {
        assert!(!tensors.is_empty(), "a run has at least one tensor");
        if tensors.len() == 1 {
            return Self::One(Box::new(tensors.remove(0)));
        }
        let rank = |d: &str| {
            if d.ends_with("differs_from_reference") {
                2
            } else {
                i32::from(d.ends_with("not_run"))
            }
        };
        let worst = tensors
            .iter()
            .max_by_key(|t| rank(&t.decision))
            .expect("not empty");
        Self::Many {
            decision: worst.decision.clone(),
            tool: worst.tool.clone(),
            tensors,
        }
    }

    /// The reports of the tensors.
    pub fn tensors(&self) -> &[TensorReport] {
        match self {
            Self::One(t) => std::slice::from_ref(t),
            Self::Many { tensors, .. } => tensors,
        }
    }

    /// JSON, indented, with a newline at the end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }

    /// For every kernel lane the worst decision over all tensors, with the reason; CUDA first.
    pub fn worst_decisions(&self) -> Vec<(&Decision, String)> {
        let mut lanes: Vec<&str> = Vec::new();
        for d in self.tensors().iter().flat_map(|t| &t.decisions) {
            if !lanes.contains(&d.lane.as_str()) {
                lanes.push(&d.lane);
            }
        }
        let total = self.tensors().len();
        lanes
            .iter()
            .map(|lane| {
                let all: Vec<(&str, &Decision)> = self
                    .tensors()
                    .iter()
                    .flat_map(|t| t.decisions.iter().map(|d| (t.tensor_base.as_str(), d)))
                    .filter(|(_, d)| d.lane == *lane)
                    .collect();
                let failed: Vec<_> = all
                    .iter()
                    .filter(|(_, d)| d.passed == Some(false))
                    .collect();
                let first_not_run = all.iter().find(|(_, d)| d.passed.is_none());
                let (base, d) = match (failed.first(), first_not_run) {
                    (Some(first), _) => **first,
                    (None, Some(first)) => *first,
                    (None, None) => all[0],
                };
                let reason = if total == 1 || d.passed.is_none() {
                    d.reason.clone()
                } else if failed.is_empty() {
                    format!("{total} of {total} tensors")
                } else {
                    format!("{} of {total} tensors; {base}: {}", failed.len(), d.reason)
                };
                (d, reason)
            })
            .collect()
    }

    /// The decision in one line, with the reason: CUDA first, then every other kernel lane.
    pub fn decision_line(&self) -> String {
        let parts: Vec<String> = self
            .worst_decisions()
            .iter()
            .map(|(d, reason)| format!("{} ({reason})", d.decision))
            .collect();
        format!("decision: {}", parts.join("; "))
    }
}
