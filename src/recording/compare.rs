//! Two recordings of the same input, without the reference.

use super::file::RecordingFile;
use super::identity::Entry;
use crate::error::Result;
use crate::gate::{self, Decision};
use crate::metrics::{Metrics, Values, compare};
use serde::{Deserialize, Serialize};

/// The comparison of two outputs for one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// Over all elements.
    pub metrics: Metrics,
    /// The outcome for `lhs`.
    pub decision: Decision,
}

/// Compares two recordings, each with its name, for the rows in `entry`.
///
/// # Errors
/// When a file is damaged or does not hold the tensor.
///
/// # Panics
/// When the two hold other rows of it: compare their identities first.
pub fn compare_pair(
    entry: &Entry,
    (lhs_name, lhs): (&str, &RecordingFile),
    (rhs_name, rhs): (&str, &RecordingFile),
) -> Result<Comparison> {
    let lhs = lhs.recording(lhs_name, &entry.tensor_base)?.rounded();
    let rhs = rhs.recording(rhs_name, &entry.tensor_base)?.rounded();
    let metrics = compare(lhs_name, Values::Bf16(&lhs), rhs_name, Values::Bf16(&rhs));
    let decision = named(gate::decide(lhs_name, &metrics), lhs_name, rhs_name);
    Ok(Comparison {
        tensor_base: entry.tensor_base.clone(),
        row_start: entry.row_start,
        shape: entry.shape,
        metrics,
        decision,
    })
}

/// The decision in the words for two lanes, neither of which is the reference.
fn named(mut decision: Decision, lhs: &str, rhs: &str) -> Decision {
    let word = if decision.passed == Some(true) {
        "matches"
    } else {
        "differs_from"
    };
    decision.decision = format!("{lhs}_{word}_{rhs}");
    decision.reason = decision.reason.replace("the rounded reference", rhs);
    decision
}
