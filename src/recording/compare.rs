//! Two outputs of the same input, at least one of which is a recording.

use super::digest::{Cut, Digest, SKETCHES};
use super::file::RecordingFile;
use super::identity::Entry;
use super::record::digest_lane;
use crate::backend::{Backend, dequantize_bf16};
use crate::checkpoint::TqModel;
use crate::error::Result;
use crate::gate::{self, Decision, Gate};
use crate::metrics::{Metrics, Values, compare};
use half::bf16;
use serde::{Deserialize, Serialize};

/// Largest difference of a block over the block's root sum of squares, by its sketches. A step of BF16
/// is at most 0.0078 of a value, so that values one step off stay below.
const MAX_BLOCK_RATIO: f64 = 0.01;
/// Differing blocks that are listed.
const LISTED: usize = 8;

/// One of the two.
pub enum Side<'a> {
    /// A recording.
    File(&'a RecordingFile),
    /// A lane, with the model that it reads.
    Live(&'a mut dyn Backend, &'a TqModel),
}

/// Groups in a tensor: from group `group` of row `row` on, so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Row in the whole tensor.
    pub row: usize,
    /// Group within the row.
    pub group: usize,
    /// Number of groups.
    pub groups: usize,
}

/// What the blocks of two digests say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    /// Groups in a block.
    pub groups_per_block: usize,
    /// Blocks compared.
    pub blocks: u64,
    /// Blocks that are not the same bit for bit.
    pub differ: u64,
    /// The first of them.
    pub first: Vec<Place>,
    /// The one that differs most for its size.
    pub worst: Option<Place>,
    /// `rmse / rhs_rms` over all elements, estimated from the sketches.
    pub rmse_over_rhs_rms: f64,
    /// Difference of the worst block over its root sum of squares, estimated.
    pub max_block_ratio: f64,
    /// Blocks that hold a NaN or an infinity in `lhs` and none in `rhs`.
    pub nan: u64,
}

impl Blocks {
    /// Where the blocks that differ are, to follow a count of them; empty when there are none.
    pub fn places(&self) -> String {
        let place = |p: &Place| format!("row {} group {}", p.row, p.group);
        let mut text = String::new();
        if !self.first.is_empty() {
            let first: Vec<String> = self.first.iter().map(place).collect();
            text += &format!(", the first from {}", first.join(", "));
        }
        if let Some(worst) = &self.worst {
            text += &format!(
                "; most from {} ({:.2e} of its size)",
                place(worst),
                self.max_block_ratio
            );
        }
        text
    }
}

/// The comparison of two outputs for one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// Over all elements; over the sampled groups when a digest is compared.
    pub metrics: Metrics,
    /// When a digest is compared.
    pub blocks: Option<Blocks>,
    /// The outcome for `lhs`.
    pub decision: Decision,
}

/// Compares the outputs of `lhs` and `rhs` for the rows in `entry`.
///
/// Values are held to each other where `cut` is `None`. Else digests are, made by that cut where there
/// are values: they say how many blocks differ and by how much, and the gates on single elements are
/// decided from the sample.
///
/// # Errors
/// When a file is damaged or a lane breaks.
pub fn compare_pair(
    entry: &Entry,
    cut: Option<Cut>,
    (lhs_name, lhs): (&str, &mut Side<'_>),
    (rhs_name, rhs): (&str, &mut Side<'_>),
) -> Result<Comparison> {
    let done = |metrics: Metrics, blocks: Option<Blocks>, decision: Decision| Comparison {
        tensor_base: entry.tensor_base.clone(),
        row_start: entry.row_start,
        shape: entry.shape,
        metrics,
        blocks,
        decision,
    };
    let Some(cut) = cut else {
        let (l, r) = (values(lhs, entry)?, values(rhs, entry)?);
        let metrics = compare(lhs_name, Values::Bf16(&l), rhs_name, Values::Bf16(&r));
        let decision = named(gate::decide(lhs_name, &metrics), lhs_name, rhs_name);
        return Ok(done(metrics, None, decision));
    };
    let l = digest(lhs, entry, cut)?;
    let r = digest(rhs, entry, cut)?;
    let metrics = compare(
        lhs_name,
        Values::Bf16(&l.sample),
        rhs_name,
        Values::Bf16(&r.sample),
    );
    let blocks = blocks(entry, &l, &r);
    let decision = decide(lhs_name, rhs_name, &metrics, &blocks);
    Ok(done(metrics, Some(blocks), decision))
}

fn values(side: &mut Side<'_>, entry: &Entry) -> Result<Vec<bf16>> {
    match side {
        Side::File(file) => {
            let recording = file.recording("", &entry.tensor_base)?;
            let values = recording.values();
            Ok((0..values.len()).map(|i| values.bf16(i)).collect())
        }
        Side::Live(lane, model) => {
            let rows = entry.row_start..entry.row_start + entry.shape[0];
            dequantize_bf16(&mut **lane, &model.rows(&entry.tensor_base, rows)?)
        }
    }
}

fn digest(side: &mut Side<'_>, entry: &Entry, cut: Cut) -> Result<Digest> {
    match side {
        Side::File(file) => file.digest(&entry.tensor_base, cut),
        Side::Live(lane, model) => digest_lane(model, entry, &mut **lane, cut),
    }
}

fn blocks(entry: &Entry, lhs: &Digest, rhs: &Digest) -> Blocks {
    let per_row = entry.shape[1] / lhs.group_size;
    let place = |block: usize| {
        let first = block * lhs.groups_per_block;
        Place {
            row: entry.row_start + first / per_row,
            group: first % per_row,
            groups: lhs.groups_per_block.min(lhs.groups - first),
        }
    };
    let mut found = Blocks {
        groups_per_block: lhs.groups_per_block,
        blocks: lhs.sums.len() as u64,
        differ: 0,
        first: Vec::new(),
        worst: None,
        rmse_over_rhs_rms: 0.0,
        max_block_ratio: 0.0,
        nan: 0,
    };
    let (mut square, mut rhs_square) = (0.0, 0.0);
    for block in 0..lhs.sums.len() {
        let size = f64::from(rhs.squares[block]);
        rhs_square += size;
        if lhs.sums[block] == rhs.sums[block] {
            continue;
        }
        found.differ += 1;
        if found.first.len() < LISTED {
            found.first.push(place(block));
        }
        let (l, r) = (lhs.sketches[block], rhs.sketches[block]);
        let finite = |s: [f32; SKETCHES]| s.iter().all(|v| v.is_finite());
        found.nan += u64::from(!finite(l) && finite(r));
        let difference = l
            .iter()
            .zip(r)
            .map(|(l, r)| (f64::from(*l) - f64::from(r)).powi(2))
            .sum::<f64>()
            / SKETCHES as f64;
        square += difference;
        let ratio = (difference / size.max(1e-24)).sqrt();
        // A NaN is the worst, and the first one stays.
        let worse = ratio.is_nan() || ratio > found.max_block_ratio;
        if worse && !found.max_block_ratio.is_nan() {
            found.max_block_ratio = ratio;
            found.worst = Some(place(block));
        }
    }
    let elements = (lhs.groups * lhs.group_size) as f64;
    found.rmse_over_rhs_rms =
        (square / elements).sqrt() / (rhs_square / elements).sqrt().max(1e-12);
    found
}

/// The gates on the whole from the blocks, those on single elements from the sample.
fn decide(lhs: &str, rhs: &str, sample: &Metrics, blocks: &Blocks) -> Decision {
    let mut decision = gate::decide(lhs, sample);
    for gate in &mut decision.gates {
        match gate.name.as_str() {
            "no_nan" => {
                gate.value += blocks.nan as f64;
                gate.passed = gate.value <= gate.limit;
            }
            "rmse_ratio" => {
                gate.value = blocks.rmse_over_rhs_rms;
                gate.passed = gate.value <= gate.limit;
            }
            _ => {}
        }
    }
    decision.gates.push(Gate {
        name: "max_block_ratio".into(),
        value: blocks.max_block_ratio,
        must_be: "<=".into(),
        limit: MAX_BLOCK_RATIO,
        passed: blocks.max_block_ratio <= MAX_BLOCK_RATIO,
    });
    let failed: Vec<String> = decision
        .gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| {
            format!(
                "{} is {:.6}, must be {} {}",
                g.name, g.value, g.must_be, g.limit
            )
        })
        .collect();
    decision.passed = Some(failed.is_empty());
    decision.reason = if failed.is_empty() {
        format!(
            "{} of {} blocks are the same, the difference of all is {:.2e} of the whole, {} of {} sampled \
             elements are equal",
            blocks.blocks - blocks.differ,
            blocks.blocks,
            blocks.rmse_over_rhs_rms,
            sample.bit_equal,
            sample.elements
        )
    } else {
        failed.join("; ")
    };
    named(decision, lhs, rhs)
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
