//! The judge: from what the lanes made of a tensor's strips to the tensor's record.
//!
//! Metrics, gates and decisions are of the tensor as a whole, whatever the strips; a failed lane is
//! diagnosed on the strip in which most of its elements are wrong.

pub(crate) mod control;
pub mod gate;

use crate::error::{Error, Result};
use crate::fault;
use crate::hash::short;
use crate::lane::cpu::Cpu;
use crate::lane::{Decoded, Lane, LaneOutput, Output, decode};
use crate::metrics::{Accumulator, Values};
use crate::picture::{Columns, Picture};
use crate::record::{
    CodebookComparison, Decision, LaneName, LaneRecord, OutputType, Status, StripDiagnosis,
    TensorError, TensorRecord, Verdict, cuda_verdict,
};
use crate::strip::{Strip, TensorSum};
use crate::tensor::TqTensor;
use control::Control;
use half::bf16;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Where the values of a comparison's side come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    /// Index of the lane.
    Lane(usize),
}

impl Side {
    /// The values in a strip; `None` when the lane did not compute them.
    fn values(self, strip: &Decoded) -> Option<Values<'_>> {
        match self {
            Self::Source => strip.strip.source.as_deref().map(Values::F32),
            Self::Lane(i) => strip.output(i).map(Output::values),
        }
    }
}

struct Pair {
    lhs: Side,
    rhs: Side,
    figures: Accumulator,
}

/// The strip in which a lane has most wrong elements.
#[derive(Default)]
struct WorstStrip {
    unequal: u64,
    strip: Option<Arc<Decoded>>,
}

/// The tensor that is being judged.
pub struct Judge {
    record: TensorRecord,
    /// The lane that others are held to: the reference, or the first recording without one.
    held_to: usize,
    pairs: Vec<Pair>,
    control: Option<(usize, Control)>,
    hashes: Vec<Sha256>,
    worst: Vec<WorstStrip>,
    picture: Option<WorstStrip>,
    seen: usize,
}

impl Judge {
    /// A judge who has seen no strip of the tensor that `record` names. `lanes` are those of the run as
    /// they are when all goes well; `pictures` asks for a drawing of the worst strip.
    pub fn new(
        record: TensorRecord,
        lanes: Vec<LaneRecord>,
        with_source: bool,
        pictures: bool,
    ) -> Self {
        let there = |l: &LaneRecord| matches!(l.status, Status::Ran | Status::Recorded);
        let reference = lanes.iter().position(|l| l.name == LaneName::Reference);
        let held_to = reference.unwrap_or(0);
        let active: Vec<usize> = (0..lanes.len()).filter(|i| there(&lanes[*i])).collect();
        let others: Vec<usize> = active.iter().copied().filter(|i| *i != held_to).collect();
        let mut sides = Vec::new();
        if with_source {
            let first = active.iter().filter(|i| **i == held_to).chain(&others);
            sides.extend(first.map(|&i| (Side::Lane(i), Side::Source)));
        }
        for (k, &i) in others.iter().enumerate() {
            sides.push((Side::Lane(i), Side::Lane(held_to)));
            let before = others[..k].iter();
            sides.extend(before.map(|&j| (Side::Lane(i), Side::Lane(j))));
        }
        let name = |side| match side {
            Side::Source => LaneName::Source,
            Side::Lane(i) => lanes[i].name.clone(),
        };
        let pairs = sides
            .into_iter()
            .map(|(lhs, rhs)| Pair {
                lhs,
                rhs,
                figures: Accumulator::new(name(lhs), name(rhs)),
            })
            .collect();
        let cuda = others.iter().find(|i| lanes[**i].name == LaneName::Cuda);
        Self {
            held_to,
            pairs,
            control: reference.and(cuda).map(|&i| (i, Control::default())),
            hashes: lanes.iter().map(|_| Sha256::new()).collect(),
            worst: lanes.iter().map(|_| WorstStrip::default()).collect(),
            picture: (pictures && reference.is_some()).then(WorstStrip::default),
            seen: 0,
            record: TensorRecord { lanes, ..record },
        }
    }

    /// Takes the next strip in.
    pub fn push(&mut self, decoded: &Arc<Decoded>) {
        for (i, output) in decoded.outputs.iter().enumerate() {
            match output {
                LaneOutput::Values(_, timed) => {
                    let lane = &mut self.record.lanes[i];
                    *lane.seconds.get_or_insert(0.0) += timed.wall.as_secs_f64();
                    let kernel = timed.device.map(|d| d.as_secs_f64());
                    lane.kernel_seconds = if self.seen == 0 {
                        kernel
                    } else {
                        lane.kernel_seconds.zip(kernel).map(|(a, b)| a + b)
                    };
                }
                LaneOutput::Failed(e) => self.fail(i, e),
                LaneOutput::Idle => {}
            }
        }
        self.hashes
            .par_iter_mut()
            .zip(&decoded.outputs)
            .for_each(|(hash, output)| {
                if let LaneOutput::Values(values, _) = output {
                    // The reference's values are rounded, as the other lanes' are.
                    hash.update(bytemuck::cast_slice::<_, u8>(&values.rounded()));
                }
            });
        let mut unequal_in_all = 0;
        for pair in &mut self.pairs {
            let (Some(lhs), Some(rhs)) = (pair.lhs.values(decoded), pair.rhs.values(decoded))
            else {
                continue;
            };
            let before = pair.figures.unequal();
            pair.figures.push(lhs, rhs);
            let unequal = pair.figures.unequal() - before;
            if let (Side::Lane(i), Side::Lane(rhs)) = (pair.lhs, pair.rhs)
                && rhs == self.held_to
            {
                self.worst[i].keep(unequal, decoded);
                unequal_in_all += unequal;
            }
        }
        if let Some(picture) = &mut self.picture {
            picture.keep(unequal_in_all, decoded);
        }
        if let Some((i, control)) = &mut self.control
            && let (Some(values), Some(Output::F32(reference)), Some(tensor)) = (
                decoded.output(*i),
                decoded.output(self.held_to),
                &decoded.strip.tensor,
            )
        {
            control.push(values.values(), reference, tensor.layout().group_size());
        }
        self.seen += 1;
    }

    /// A lane failed: it has no figures for this tensor.
    fn fail(&mut self, lane: usize, error: &Error) {
        let status = match error {
            Error::Unavailable(_) => Status::Unavailable,
            _ => Status::Failed,
        };
        self.record.lanes[lane].fail(status, error);
        self.pairs
            .retain(|p| p.lhs != Side::Lane(lane) && p.rhs != Side::Lane(lane));
        self.control.take_if(|(i, _)| *i == lane);
    }

    /// The record of the whole tensor, whose stored parts have this checksum.
    pub fn finish(mut self, checksum: Option<String>) -> TensorRecord {
        for (lane, hash) in self.record.lanes.iter_mut().zip(self.hashes) {
            if matches!(lane.status, Status::Ran | Status::Recorded) {
                lane.output_hash = Some(short(hash));
            }
        }
        let mut record = self.record;
        record.checksum = checksum;
        record.metrics = self.pairs.into_iter().map(|p| p.figures.finish()).collect();
        record.fwht_bug_control = self.control.map(|(_, c)| c.finish());
        decide(&mut record, self.held_to);
        for (i, worst) in self.worst.iter().enumerate() {
            let lane = &record.lanes[i].name;
            let failed = record.decision_of(lane).map(|d| d.verdict) == Some(Verdict::Failed);
            if let (true, Some(strip)) = (failed, &worst.strip) {
                record.diagnosis.extend(diagnose(lane, i, strip));
            }
        }
        record.picture = self
            .picture
            .and_then(|p| draw(p.strip.as_ref()?, &record))
            .map(Box::new);
        record
    }

    /// The record of a tensor that is bad input.
    pub fn bad(self, error: &Error) -> TensorRecord {
        let mut record = self.record;
        for lane in &mut record.lanes {
            lane.seconds = None;
            lane.kernel_seconds = None;
            let there = matches!(lane.status, Status::Ran | Status::Recorded);
            if there && lane.name != LaneName::Reference {
                lane.status = Status::Skipped;
                lane.reason = Some("the tensor is bad input".into());
            }
        }
        record.error = Some(TensorError::from(error.problem()));
        decide(&mut record, self.held_to);
        record
    }
}

impl WorstStrip {
    fn keep(&mut self, unequal: u64, strip: &Arc<Decoded>) {
        if unequal > self.unequal || self.strip.is_none() {
            self.unequal = unequal;
            self.strip = Some(Arc::clone(strip));
        }
    }
}

/// The decision for every lane but the one that others are held to, CUDA first.
fn decide(record: &mut TensorRecord, held_to: usize) {
    let against = record.lanes[held_to].name.clone();
    let others = record.lanes.iter().filter(|l| l.name != against);
    let mut decisions: Vec<Decision> = others
        .map(|lane| {
            let figures = record.metrics.iter();
            let mut of_lane = figures.filter(|m| m.lhs == lane.name && m.rhs == against);
            match of_lane.next() {
                Some(m) => gate::decide(lane.name.clone(), m),
                None => {
                    let reason = lane.reason.as_deref().unwrap_or("not asked for");
                    Decision::not_run(lane.name.clone(), reason)
                }
            }
        })
        .collect();
    let cuda = decisions.iter().any(|d| d.lane == LaneName::Cuda);
    if against == LaneName::Reference && !cuda {
        decisions.push(Decision::not_run(LaneName::Cuda, "not asked for"));
    }
    decisions.sort_by_key(|d| d.lane != LaneName::Cuda);
    record.decision = cuda_verdict(&decisions);
    record.decisions = decisions;
}

/// Looks for the fault of a lane in a strip.
fn diagnose(name: &LaneName, lane: usize, decoded: &Decoded) -> Option<StripDiagnosis> {
    let tensor = decoded.strip.tensor.as_ref()?;
    let got = decoded.output(lane)?.rounded();
    let diagnosis = fault::diagnose(&name.to_string(), tensor, &got);
    Some(StripDiagnosis {
        strip_start: decoded.strip.rows.start,
        strip_rows: decoded.strip.rows.len(),
        diagnosis: diagnosis?,
    })
}

/// Draws a strip.
fn draw(decoded: &Decoded, record: &TensorRecord) -> Option<Picture> {
    let source = decoded.strip.source.as_deref().map(Values::F32);
    let mut lanes: Vec<(LaneName, Values<'_>)> = Vec::new();
    lanes.extend(source.map(|values| (LaneName::Source, values)));
    let there = record.lanes.iter().enumerate();
    lanes.extend(there.filter_map(|(i, l)| Some((l.name.clone(), decoded.output(i)?.values()))));
    let columns = Columns {
        row_start: decoded.strip.rows.start,
        lanes,
    };
    let in_this_strip = record
        .diagnosis
        .iter()
        .filter(|d| d.strip_start == decoded.strip.rows.start);
    let diagnosis: Vec<_> = in_this_strip.map(|d| &d.diagnosis).collect();
    Some(Picture::new(
        decoded.strip.tensor.as_ref()?,
        &columns,
        &diagnosis,
    ))
}

/// Judges values that were computed elsewhere: `values` are the BF16 output for all of `tensor`,
/// row-major.
///
/// # Errors
/// When there is another number of values than of elements.
pub fn judge_values(name: &str, tensor: TqTensor, values: Vec<bf16>) -> Result<TensorRecord> {
    if values.len() != tensor.elements() {
        return Err(Error::input(
            format!(
                "{} values found, expected {}",
                values.len(),
                tensor.elements()
            ),
            tensor.base(),
            "give a value for each element, row by row",
        ));
    }
    let mut sum = TensorSum::default();
    sum.add(&tensor);
    let checksum = sum.finish(&tensor);
    let strip = Strip::of(tensor);
    let mut reference = Cpu::new(OutputType::F32);
    let (expected, timed) = decode(&mut reference, &strip)?;
    let lanes = vec![
        LaneRecord::of(reference.info(), Status::Ran),
        LaneRecord::new(LaneName::from(name), Status::Ran),
    ];
    let mut judge = Judge::new(
        blank(&strip.base, &strip.rows, strip.cols),
        lanes,
        false,
        false,
    );
    judge.push(&Arc::new(Decoded {
        strip,
        outputs: vec![
            LaneOutput::Values(expected, timed),
            LaneOutput::Values(Output::Bf16(values), timed),
        ],
    }));
    Ok(judge.finish(Some(checksum)))
}

/// The record of a tensor of which nothing is known but what is to be judged.
pub(crate) fn blank(base: &str, rows: &std::ops::Range<usize>, cols: usize) -> TensorRecord {
    TensorRecord {
        source_model: None,
        tq_model: String::new(),
        tensor_base: base.to_owned(),
        row_start: rows.start,
        row_count: rows.len(),
        shape: [rows.len(), cols],
        bits: None,
        group_size: None,
        centroids_config_vs_cuda: None::<CodebookComparison>,
        metrics: Vec::new(),
        fwht_bug_control: None,
        decision: Verdict::NotRun,
        decisions: Vec::new(),
        diagnosis: Vec::new(),
        lanes: Vec::new(),
        elements: (rows.len() * cols) as u64,
        bytes: 0,
        checksum: None,
        source_checksum: None,
        error: None,
        picture: None,
    }
}
