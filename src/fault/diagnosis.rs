//! What a diagnosis says.

use super::survey::{Signature, Survey};
use crate::tensor::TqTensor;
use half::bf16;
use serde::{Deserialize, Serialize};

/// A fault by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Name in the catalogue.
    pub name: String,
    /// What is wrong and where to look.
    pub advice: String,
}

/// A fault that reproduces nearly all of an output, but not all: a lead, not an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closest {
    /// The fault.
    pub fault: Named,
    /// Elements that it reproduces bit for bit.
    pub reproduced: u64,
}

/// The element that is furthest off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Row within the compared rows.
    pub row: usize,
    /// Column.
    pub col: usize,
    /// Its code.
    pub code: u8,
    /// The centroid that the code stands for.
    pub centroid: f32,
    /// Scale of its group.
    pub scale: f32,
    /// Sign of its column.
    pub sign: i8,
    /// The rounded reference.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub expected: f32,
    /// What the lane returned; null when it is NaN or infinite.
    pub got: Option<f32>,
}

impl Worst {
    pub(super) fn new(tensor: &TqTensor, at: usize, expected: bf16, got: bf16) -> Self {
        let (row, col) = (at / tensor.cols(), at % tensor.cols());
        let code = tensor.code(row, col);
        let group = row * tensor.groups_per_row() + col / tensor.layout().group_size();
        Self {
            row,
            col,
            code,
            centroid: tensor.codebook().centroids()[code as usize],
            scale: tensor.scales()[group].to_f32(),
            sign: tensor.signs()[col],
            expected: expected.to_f32(),
            got: Some(got.to_f32()).filter(|v| v.is_finite()),
        }
    }
}

/// Where an output differs from the rounded reference: by more than one BF16 step, which every GPU lane
/// may be off in a rare element, or, where nothing is so far off, at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Elements in all.
    pub elements: u64,
    /// BF16 steps that do not count as a difference here: 1 or 0.
    pub tolerance: u32,
    /// Elements that differ.
    pub wrong: u64,
    /// Rows with one.
    pub wrong_rows: u64,
    /// Groups with one.
    pub wrong_groups: u64,
    /// First row with one.
    pub first_row: usize,
    /// First group of that row with one.
    pub first_group: usize,
    /// Positions within a group, `[first, last]` of each run, at which any group is wrong.
    pub positions: Vec<[usize; 2]>,
    /// The element that is furthest off.
    pub worst: Worst,
}

impl Place {
    pub(super) fn new(
        survey: &Survey,
        (first_row, first_group): (usize, usize),
        worst: Worst,
        elements: usize,
    ) -> Self {
        let mut positions: Vec<[usize; 2]> = Vec::new();
        for i in (0..survey.positions.len()).filter(|i| survey.positions[*i]) {
            match positions.last_mut() {
                Some(run) if run[1] + 1 == i => run[1] = i,
                _ => positions.push([i, i]),
            }
        }
        Self {
            elements: elements as u64,
            tolerance: survey.tolerance,
            wrong: survey.wrong,
            wrong_rows: survey.wrong_per_row.iter().filter(|w| **w > 0).count() as u64,
            wrong_groups: survey.wrong_groups,
            first_row,
            first_group,
            positions,
            worst,
        }
    }

    /// The wrong positions in a few words: `all`, or the first runs.
    fn positions_text(&self, group_size: usize) -> String {
        if self.positions == [[0, group_size - 1]] {
            return "at every position of the group".into();
        }
        let runs: Vec<String> = self
            .positions
            .iter()
            .take(6)
            .map(|[a, b]| {
                if a == b {
                    a.to_string()
                } else {
                    format!("{a}..{}", b + 1)
                }
            })
            .collect();
        let more = if self.positions.len() > 6 {
            ", ..."
        } else {
            ""
        };
        format!("at positions {}{more} of the group", runs.join(", "))
    }
}

/// Why an output differs from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The lane or recording.
    pub lane: String,
    /// Whether `faults` explain the output.
    pub explained: bool,
    /// One fault, or two together; empty when none explains it.
    pub faults: Vec<Named>,
    /// Faults that are the same function on this tensor.
    pub equivalent: Vec<String>,
    /// Elements that the faults reproduce bit for bit; the others are within one BF16 step.
    pub reproduced: u64,
    /// When nothing explains the output: the fault that reproduces most of it, if that is nearly all.
    pub closest: Option<Closest>,
    /// One line with the evidence.
    pub evidence: String,
    /// What the output as a whole has in common with the reference.
    pub signature: Signature,
    /// Where the error is.
    #[serde(flatten)]
    pub place: Place,
}

impl Diagnosis {
    /// The diagnosis in words: the fault with its evidence, or what is known.
    pub fn summary(&self) -> String {
        format!("diagnosis of {}: {}", self.lane, self.evidence)
    }

    pub(super) fn explained_by(
        faults: &[Named],
        equivalent: &[String],
        reproduced: u64,
        elements: u64,
    ) -> String {
        let join = |part: fn(&Named) -> &str, with: &str| {
            faults.iter().map(part).collect::<Vec<_>>().join(with)
        };
        let same = if equivalent.is_empty() {
            String::new()
        } else {
            format!(" (on this tensor the same as {})", equivalent.join(", "))
        };
        format!(
            "{}: explains {reproduced} of {elements} elements bit for bit{same}; {}",
            join(|f| &f.name, " + "),
            join(|f| &f.advice, "; ")
        )
    }

    pub(super) fn unexplained(
        place: &Place,
        signature: &Signature,
        closest: Option<&Closest>,
        tensor: &TqTensor,
    ) -> String {
        let w = &place.worst;
        let by = if place.tolerance > 0 {
            " by more than one BF16 step"
        } else {
            ""
        };
        let got = w.got.map_or("NaN or infinity".into(), |v| v.to_string());
        let other_rows = if signature.rows_of_other_rows > 0 {
            format!(
                ", {} rows have the signs of another row",
                signature.rows_of_other_rows
            )
        } else {
            String::new()
        };
        let closest = closest.map_or_else(String::new, |c| {
            format!(
                "; closest: {} reproduces {} of {} elements bit for bit and not the others ({})",
                c.fault.name, c.reproduced, place.elements, c.fault.advice
            )
        });
        format!(
            "unexplained: {} of {} elements differ{by}, in {} of {} rows and {} of {} groups, {}; the first in row {}, \
             group {}; the worst at row {}, column {} (code {}, centroid {}, scale {}, sign {:+}): expected {}, \
             got {got}; cosine {:.6}, norm ratio {:.6}, {:.2} % of the signs flipped{other_rows}{closest}",
            place.wrong,
            place.elements,
            place.wrong_rows,
            tensor.rows(),
            place.wrong_groups,
            tensor.groups(),
            place.positions_text(tensor.layout().group_size()),
            place.first_row,
            place.first_group,
            w.row,
            w.col,
            w.code,
            w.centroid,
            w.scale,
            w.sign,
            w.expected,
            signature.cosine,
            signature.norm_ratio,
            100.0 * signature.signs_flipped,
        )
    }
}
