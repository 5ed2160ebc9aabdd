//! What is drawn of one tensor, as plain data: counts in bins, heat map cells, the worst elements.
//!
//! Everything is gathered in one pass over each lane, in memory that does not grow with the tensor.
//! Every number that a plot takes from here is finite, whatever the lanes returned.

mod codes;
mod compare;
mod grid;
mod limit;
mod scatter;

pub use codes::{CodeUse, Normalised};
pub use compare::{Comparison, STEP_BINS, WorstElement, step_label};
pub use grid::Grid;
pub(crate) use grid::bin_range;
pub use scatter::Scatter;

use crate::fault::{Diagnosis, Fault};
use crate::metrics::Values;
use crate::name::LaneName;
use crate::record::Tolerance;
use crate::tensor::TqTensor;
use compare::{Lhs, Rhs};
use serde::Serialize;

/// Rows of a heat map at most.
const ROW_BINS: usize = 48;
/// Columns of the heat map by group at most.
const GROUP_BINS: usize = 64;

/// What is drawn: some rows of a tensor by every lane.
pub struct LaneRows<'a> {
    /// First row.
    pub row_start: usize,
    /// Lanes, the source first where there is one, then the reference, each with its values.
    pub lanes: Vec<(LaneName, Values<'a>)>,
    /// How far a lane that is lossy by intent may be off.
    pub tolerance: Option<Tolerance>,
}

/// The pictures of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Picture {
    /// The tensor, without `.weight`.
    pub base: String,
    /// First row of the compared rows.
    pub row_start: usize,
    /// Rows compared.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements per group.
    pub group_size: usize,
    /// Codes used against what the codebook predicts.
    pub codes: CodeUse,
    /// The source's normalised values; `None` without a source.
    pub normalised: Option<Normalised>,
    /// The reference against the source, then each kernel lane and recording against the reference.
    pub comparisons: Vec<Comparison>,
    /// What the diagnosed faults do by themselves, by lane.
    pub emulated: Vec<Emulated>,
}

/// The emulation of the faults that a diagnosis named.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Emulated {
    /// The diagnosed lane.
    pub lane: String,
    /// The faults, joined by ` + `.
    pub faults: String,
    /// The emulation against the reference.
    pub comparison: Comparison,
}

impl Picture {
    /// Gathers the pictures of `tensor` from the lanes' `outputs`, and of each fault that
    /// `diagnosis` names.
    ///
    /// # Panics
    /// When a lane in `outputs` does not hold `rows * cols` elements, or there is no reference.
    pub fn new(tensor: &TqTensor, outputs: &LaneRows<'_>, diagnosis: &[&Diagnosis]) -> Self {
        let lane = |name: LaneName| outputs.lanes.iter().find(|(n, _)| *n == name);
        let (_, reference) = lane(LaneName::Reference).expect("the reference always runs");
        let source = lane(LaneName::Source).map(|(_, values)| *values);
        let compare = |name: &str, lhs: Lhs<'_>, rhs_name: &str, rhs: Rhs<'_>| {
            Comparison::new(tensor, outputs.row_start, (name, lhs), (rhs_name, rhs))
        };
        let reference_with = Rhs::Reference(*reference, outputs.tolerance);
        let mut comparisons = Vec::new();
        if let Some(source) = source {
            let lhs = Lhs::Values(*reference);
            comparisons.push(compare("reference", lhs, "source", Rhs::Source(source)));
        }
        for (name, values) in &outputs.lanes {
            if !matches!(name, LaneName::Source | LaneName::Reference) {
                comparisons.push(compare(
                    &name.to_string(),
                    Lhs::Values(*values),
                    "reference",
                    reference_with,
                ));
            }
        }
        let emulated = diagnosis
            .iter()
            .filter_map(|d| {
                let faults: Vec<Fault> = d
                    .faults
                    .iter()
                    .filter_map(|f| Fault::named(&f.name, tensor))
                    .collect();
                let names: Vec<&str> = d.faults.iter().map(|f| f.name.as_str()).collect();
                (!faults.is_empty()).then(|| Emulated {
                    lane: d.lane.clone(),
                    faults: names.join(" + "),
                    comparison: compare(
                        "emulated",
                        Lhs::Emulated(&faults),
                        "reference",
                        reference_with,
                    ),
                })
            })
            .collect();
        Self {
            base: tensor.base().to_owned(),
            row_start: outputs.row_start,
            rows: tensor.rows(),
            cols: tensor.cols(),
            group_size: tensor.layout().group_size(),
            codes: CodeUse::new(tensor),
            normalised: source.map(|s| Normalised::new(tensor, s)),
            comparisons,
            emulated,
        }
    }
}
