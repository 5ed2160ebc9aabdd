//! A benchmark's record: what the JSON file holds, and what a baseline is read from.

use super::{LaneName, LaneRecord, Tool};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name and version of the record's form.
pub const SCHEMA: &str = "tq4-bench/1";

/// Rounds end when every interval is within this of its median.
pub const INTERVAL: f64 = 0.01;

/// One run of `tq4 bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// [`SCHEMA`].
    pub schema: String,
    /// The program.
    pub tool: Tool,
    /// The machine.
    pub host: Host,
    /// When it ran, seconds since 1970.
    pub unix_time: u64,
    /// Every lane, run or not.
    pub lanes: Vec<LaneRecord>,
    /// What was timed, in order.
    pub shapes: Vec<ShapeRecord>,
    /// Against an earlier record; null when none was given.
    pub comparison: Option<BaselineDiff>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The CPU's name.
    pub cpu: String,
    /// Threads that the reference uses.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: u64,
}

/// One tensor on every lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapeRecord {
    /// The tensor's name, or the shape that was asked for.
    pub name: String,
    /// Rows and columns that were timed.
    pub shape: [usize; 2],
    /// Rows that were asked for.
    pub rows_asked: usize,
    /// Why there are fewer rows than asked for.
    pub cut: Vec<String>,
    /// Bits per code.
    pub bits: u32,
    /// Elements per group.
    pub group_size: usize,
    /// Rows times columns.
    pub elements: u64,
    /// Least bytes per element: codes, scale and BF16, without the signs.
    pub bytes_per_element: f64,
    /// Least bytes of the whole job, with the signs once.
    pub bytes: u64,
    /// Bytes of the buffer that is copied; twice as many are moved.
    pub copy_bytes: u64,
    /// Rounds over all lanes.
    pub rounds: usize,
    /// Why the rounds ended.
    pub stopped: Stopped,
    /// The lanes that could be opened.
    pub lanes: Vec<LaneTimes>,
    /// Every pair of timed lanes.
    pub ratios: Vec<Ratio>,
    /// What to know before these figures are used.
    pub warnings: Vec<String>,
}

/// Why the rounds ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// Every interval is within 1 % of its median.
    Interval,
    /// The time limit came first.
    TimeLimit,
    /// The largest number of rounds came first.
    Rounds,
    /// No lane was left to time.
    NothingToTime,
}

/// Whether a lane may be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// Its output passes the gates.
    Verified,
    /// It does not: no speed is given.
    Wrong,
    /// The lane broke: no speed is given.
    Broke,
}

/// A lane on one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneTimes {
    /// The lane.
    pub lane: LaneName,
    /// Whether its output is right.
    pub verdict: Checked,
    /// What is wrong; null when nothing is.
    pub reason: Option<String>,
    /// Elements that equal the rounded reference.
    pub equal: u64,
    /// Null unless the lane was verified and timed.
    pub times: Option<Times>,
}

/// Everything that is timed of a lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Copy of a buffer on the device; null for a lane that has no memory of its own to copy.
    #[serde(default)]
    pub copy: Option<Speed>,
    /// The kernel after the copy, nothing of its memory in the caches.
    pub kernel_cold: Speed,
    /// The kernel again on the same memory.
    pub kernel_warm: Speed,
    /// Upload, kernel, download.
    pub end_to_end: Speed,
}

/// What is timed of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Copy of a buffer on the device.
    Copy,
    /// The kernel, caches flushed.
    KernelCold,
    /// The kernel again.
    KernelWarm,
    /// Upload, kernel, download.
    EndToEnd,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Copy,
        Self::KernelCold,
        Self::KernelWarm,
        Self::EndToEnd,
    ];
    /// Those that decode.
    pub const DECODING: [Self; 3] = [Self::KernelCold, Self::KernelWarm, Self::EndToEnd];

    /// Name in records: `copy`, `kernel_cold`, `kernel_warm`, `end_to_end`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::KernelCold => "kernel_cold",
            Self::KernelWarm => "kernel_warm",
            Self::EndToEnd => "end_to_end",
        }
    }
}

impl Times {
    /// One of the four; `None` for the copy of a lane that has none.
    pub fn of(&self, measure: Measure) -> Option<&Speed> {
        match measure {
            Measure::Copy => self.copy.as_ref(),
            Measure::KernelCold => Some(&self.kernel_cold),
            Measure::KernelWarm => Some(&self.kernel_warm),
            Measure::EndToEnd => Some(&self.end_to_end),
        }
    }
}

/// A series of times and the rates that follow from its median.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// What took the time: the device's clock by name, or `wall`.
    pub clock: String,
    /// Median, seconds.
    pub median_s: f64,
    /// Median absolute deviation, seconds.
    pub mad_s: f64,
    /// The true median lies in here with 95 % confidence; null for fewer than 6 rounds.
    pub interval_s: Option<[f64; 2]>,
    /// Elements decoded a second; null for a copy.
    pub elements_per_s: Option<f64>,
    /// Least bytes of the job over the median, 10^9 a second; for a copy, bytes read and written.
    pub gb_per_s: f64,
    /// That as a part of this device's own copy bandwidth; null for the copy itself and without one.
    pub percent_of_copy: Option<f64>,
    /// Each round's time, seconds, in order.
    pub samples_s: Vec<f64>,
}

/// How much faster one lane is than another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The lane whose speed is given.
    pub lhs: LaneName,
    /// The lane that it is measured in.
    pub rhs: LaneName,
    /// What is compared.
    pub measure: Measure,
    /// Median over the rounds of time of `rhs` over time of `lhs`: above 1, `lhs` is faster.
    pub speed_ratio: f64,
    /// The true median lies in here with 95 % confidence; null for fewer than 6 rounds.
    pub interval: Option<[f64; 2]>,
}

impl Bench {
    /// Reads a record that `tq4 bench --json` wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is no such record.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::io("read the baseline", path, e))?;
        let place = path.display().to_string();
        let help = "write one with a benchmark's record";
        // A report of lines is told by its first.
        let lines = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
        let first = lines.flatten().next().unwrap_or_default();
        if first.get("summary").is_some() || first["record"] == "header" {
            return Err(Error::input(
                "a report of tq4 validate, which holds no speeds",
                &place,
                "give what tq4 bench --json wrote",
            ));
        }
        let form: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| Error::input(format!("no JSON: {e}"), &place, help))?;
        match form["schema"].as_str() {
            Some(SCHEMA) => serde_json::from_value(form)
                .map_err(|e| Error::input(format!("a damaged record: {e}"), &place, help)),
            found => Err(Error::input(
                format!(
                    "schema {} found, expected {SCHEMA:?}",
                    found.map_or("none".into(), |f| format!("{f:?}"))
                ),
                &place,
                help,
            )),
        }
    }

    /// Whether a lane gave a wrong result, and whether one broke.
    pub fn failures(&self) -> [bool; 2] {
        let any = |v| {
            self.shapes
                .iter()
                .flat_map(|s| &s.lanes)
                .any(|l| l.verdict == v)
        };
        [any(Checked::Wrong), any(Checked::Broke)]
    }
}

/// What became of a speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Faster by more than the tolerance.
    Faster,
    /// Slower by more than the tolerance.
    Slower,
    /// The same within the tolerance.
    Same,
    /// The intervals are too wide to tell, or there are none.
    NotDecidable,
}

impl Change {
    /// `faster`, `slower`, `same` or `not decidable`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::NotDecidable => "not decidable",
        }
    }
}

/// One speed of this run beside the same of an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeedChange {
    /// What was timed.
    pub name: String,
    /// The lane.
    pub lane: LaneName,
    /// What was timed of it.
    pub measure: Measure,
    /// Speed now over speed then.
    pub speed_ratio: f64,
    /// The quotient lies in here with 95 % confidence.
    pub interval: Option<[f64; 2]>,
    /// What that means.
    pub outcome: Change,
    /// Why it is not decidable; left out where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What else is not as it was: the device, the driver, the kernel, the clock.
    pub notes: Vec<String>,
}

/// A run against an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineDiff {
    /// Name of the file that the earlier run is in; empty where that is not known.
    #[serde(default)]
    pub baseline: String,
    /// Part by which a speed may differ and still be the same.
    pub tolerance: f64,
    /// Every speed that both records have.
    pub changes: Vec<SpeedChange>,
    /// What could not be compared, a line each.
    pub left_out: Vec<String>,
}
