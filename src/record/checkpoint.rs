//! The checkpoint itself, judged by its error against the source.

use super::TensorRecord;
use serde::{Deserialize, Serialize};

/// What a tensor's error against the source says of the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointVerdict {
    /// The error is what the format costs.
    AsExpected,
    /// It is not: the checkpoint is damaged, or the source is not the one that it was made from.
    DamagedOrAnotherSource,
}

/// A group that is further from the source than correct codes are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DamagedGroup {
    /// Its row in the tensor.
    pub row: usize,
    /// Its place in the row, in groups.
    pub group: usize,
    /// Its root mean square error over the least that correct codes could have; not finite where the source is not.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub times: f64,
}

/// A column whose sign is wrong: negating it takes the error away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongSign {
    /// The column of the weight.
    pub column: usize,
    /// Rows whose error shows it: those in which the column's weight is large enough.
    pub rows: u64,
}

/// One tensor of the checkpoint against its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The outcome.
    pub verdict: CheckpointVerdict,
    /// Root mean square error of an element that codebook, scales and the marginal density predict, in
    /// the unit of the weights.
    pub expected_rms: f64,
    /// Root mean square difference of reference and source, in the same unit.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub measured_rms: f64,
    /// `measured_rms / expected_rms`.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub ratio: f64,
    /// Rows of the tensor with a damaged group, each range as
    /// `[first, end)`; the first 16 ranges.
    pub damaged_rows: Vec<[usize; 2]>,
    /// Groups that are further from the source than the format puts them.
    #[serde(default)]
    pub damaged_groups: u64,
    /// The worst of these; `None` when there is none.
    #[serde(default)]
    pub worst_group: Option<DamagedGroup>,
    /// Columns that are negated in several rows, those in most rows first; the first 16.
    #[serde(default)]
    pub wrong_signs: Vec<WrongSign>,
    /// The outcome in a sentence.
    pub reason: String,
}

impl CheckpointRecord {
    /// Whether the error is not what the format costs.
    pub fn damaged(&self) -> bool {
        self.verdict == CheckpointVerdict::DamagedOrAnotherSource
    }
}

/// The checkpoint over all tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointTotals {
    /// Tensors that were judged.
    pub judged: u64,
    /// Tensors that are damaged or of another source.
    pub damaged: u64,
    /// Why, of the worst of these; empty when there is none.
    pub reason: String,
    /// That tensor.
    pub tensor_base: String,
}

impl CheckpointTotals {
    /// Totals over tensors, worst first; `None` when none was judged.
    pub(super) fn of(worst_first: &[&TensorRecord]) -> Option<Self> {
        let mut totals = Self::default();
        for t in worst_first {
            let Some(checkpoint) = &t.checkpoint else {
                continue;
            };
            totals.judged += 1;
            if checkpoint.damaged() {
                totals.damaged += 1;
                if totals.damaged == 1 {
                    totals.reason.clone_from(&checkpoint.reason);
                    totals.tensor_base.clone_from(&t.tensor_base);
                }
            }
        }
        (totals.judged > 0).then_some(totals)
    }

    /// What is wrong in one line; `None` when nothing is.
    pub fn problem(&self) -> Option<String> {
        let what = "the checkpoint is damaged or the source is another model's";
        match self {
            Self { damaged: 0, .. } => None,
            Self { judged: 1, .. } => Some(format!("{what}: {}", self.reason)),
            _ => Some(format!(
                "{what}: {} of {} tensors, {} first: {}",
                self.damaged, self.judged, self.tensor_base, self.reason
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn a_report_from_before_groups_were_judged_is_read() {
        let old = json!({
            "verdict": "as_expected", "expected_rms": 0.5, "measured_rms": 0.5, "ratio": 1.0,
            "damaged_rows": [], "reason": "",
        });
        let read: CheckpointRecord = from_value(old).unwrap();
        assert_eq!((read.damaged_groups, read.worst_group), (0, None));
        assert!(read.wrong_signs.is_empty());
    }

    #[test]
    fn a_group_whose_source_is_not_finite_is_written_and_read() {
        let group = DamagedGroup {
            row: 1,
            group: 2,
            times: f64::INFINITY,
        };
        let written = to_value(group).unwrap();
        assert!(written["times"].is_null());
        let read: DamagedGroup = from_value(written).unwrap();
        assert!((read.row, read.group) == (1, 2) && read.times.is_nan());
    }
}
