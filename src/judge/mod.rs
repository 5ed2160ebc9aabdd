//! The judge: from what the lanes made of a tensor's strips to the tensor's record.
//!
//! Metrics, gates and decisions are of the tensor as a whole, whatever the strips; a failed lane is
//! diagnosed on the strip in which most of its elements are wrong.

mod checkpoint;
pub(crate) mod control;
mod decide;
mod device;
mod exact;
pub mod gate;
mod hashes;
mod values;

use crate::error::Error;
use crate::fault;
use crate::lane::{Decoded, LaneOutput, Output};
use crate::metrics::{Accumulator, Values};
use crate::picture::{LaneRows, Picture};
use crate::record::{
    LaneKind, LaneName, LaneRecord, Status, StripDiagnosis, TensorError, TensorRecord, Tolerance,
    Verdict,
};
use crate::reference;
use crate::strip::copy_rows;
use crate::tensor::TqTensor;
use checkpoint::GroupErrorSums;
use control::Control;
use decide::decide;
use exact::Exact;
use hashes::OutputHashes;
use std::borrow::Cow;
use std::sync::Arc;

pub(crate) use values::decision;
pub use values::{blank, judge_strip, judge_values};

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

struct JudgedPair {
    lhs: Side,
    rhs: Side,
    figures: Accumulator,
}

/// The strip in which a lane has most wrong elements: outside their sets, then other than the reference.
#[derive(Default)]
struct WorstStrip {
    wrong: [u64; 2],
    strip: Option<Arc<Decoded>>,
}

/// What a judge is asked for besides the lanes.
#[derive(Debug, Clone, Copy, Default)]
pub struct JudgeOptions {
    /// Whether strips come with the source's weights.
    pub with_source: bool,
    /// Whether the worst strip is drawn.
    pub pictures: bool,
    /// How far a lane that is lossy by intent may be off.
    pub tolerance: Option<Tolerance>,
}

/// The tensor that is being judged.
pub struct Judge {
    record: TensorRecord,
    /// The lane that others are held to: the reference, or the first recording without one.
    held_to: usize,
    pairs: Vec<JudgedPair>,
    control: Option<(usize, Control)>,
    checkpoint: Option<GroupErrorSums>,
    hashes: OutputHashes,
    tolerance: Option<Tolerance>,
    /// One for each lane that is held to the reference.
    exact: Vec<Option<Exact>>,
    worst: Vec<WorstStrip>,
    picture: Option<WorstStrip>,
    seen: usize,
}

impl Judge {
    /// A judge who has seen no strip of the tensor that `record` names. `lanes` are those of the run as
    /// they are when all goes well.
    pub fn new(record: TensorRecord, lanes: Vec<LaneRecord>, options: JudgeOptions) -> Self {
        let there = |l: &LaneRecord| matches!(l.status, Status::Ran | Status::Recorded);
        let reference = lanes.iter().position(|l| l.name == LaneName::Reference);
        let held_to = reference.unwrap_or(0);
        let active: Vec<usize> = (0..lanes.len()).filter(|i| there(&lanes[*i])).collect();
        let others: Vec<usize> = active.iter().copied().filter(|i| *i != held_to).collect();
        let mut sides = Vec::new();
        if options.with_source {
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
            .map(|(lhs, rhs)| JudgedPair {
                lhs,
                rhs,
                figures: Accumulator::new(name(lhs), name(rhs)),
            })
            .collect();
        let is_cuda = |i: &&usize| lanes[**i].name.kind() == Some(LaneKind::Cuda);
        let cuda = others.iter().find(is_cuda);
        Self {
            held_to,
            pairs,
            control: reference.and(cuda).map(|&i| (i, Control::default())),
            checkpoint: (options.with_source && reference.is_some())
                .then(|| GroupErrorSums::new(record.row_start, record.row_count)),
            hashes: OutputHashes::new(lanes.len()),
            exact: (0..lanes.len())
                .map(|i| {
                    let held = reference.is_some() && others.contains(&i);
                    held.then(|| Exact::new(options.tolerance))
                })
                .collect(),
            tolerance: options.tolerance,
            worst: lanes.iter().map(|_| WorstStrip::default()).collect(),
            picture: (options.pictures && reference.is_some()).then(WorstStrip::default),
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
        self.measure(decoded);
        let mut in_all = [0, 0];
        for i in 0..self.exact.len() {
            let wrong = self.hold(i, decoded);
            if let Some(wrong) = wrong {
                self.worst[i].keep(wrong, decoded);
                in_all = [in_all[0] + wrong[0], in_all[1] + wrong[1]];
            }
        }
        if let Some(picture) = &mut self.picture {
            picture.keep(in_all, decoded);
        }
        if let Some((i, control)) = &mut self.control
            && let (Some(values), Some(Output::F32(reference)), Some(tensor)) = (
                decoded.output(*i),
                decoded.output(self.held_to),
                &decoded.strip.tensor,
            )
        {
            let n = tensor.layout().group_size();
            control.push(values.values(), reference, decoded.strip.cols, n);
        }
        self.seen += 1;
    }

    /// Takes the next strip into the checksums, the figures and the errors of the checkpoint, side by side: a checksum keeps
    /// one thread only.
    fn measure(&mut self, decoded: &Decoded) {
        let hashes = || self.hashes.push(decoded);
        let figures = || {
            for pair in &mut self.pairs {
                let sides = (pair.lhs.values(decoded), pair.rhs.values(decoded));
                if let (Some(lhs), Some(rhs)) = sides {
                    pair.figures.push(lhs, rhs);
                }
            }
        };
        let checkpoint = || {
            if let Some(checkpoint) = &mut self.checkpoint
                && let (Some(tensor), Some(source), Some(Output::F32(reference))) = (
                    &decoded.strip.tensor,
                    &decoded.strip.source,
                    decoded.output(self.held_to),
                )
            {
                checkpoint.push(tensor, source, reference);
            }
        };
        rayon::join(hashes, || rayon::join(figures, checkpoint));
    }

    /// Holds a lane to the codec; how many of its elements in this strip are wrong.
    fn hold(&mut self, lane: usize, decoded: &Decoded) -> Option<[u64; 2]> {
        let exact = self.exact[lane].as_mut()?;
        let tensor = decoded.strip.tensor.as_ref()?;
        let (Output::F32(reference), got) = (decoded.output(self.held_to)?, decoded.output(lane)?)
        else {
            return None;
        };
        let before = exact.wrong();
        let first_row = decoded.strip.rows.start - self.record.row_start;
        exact.push(tensor, first_row, reference, got);
        let after = exact.wrong();
        Some([after[0] - before[0], after[1] - before[1]])
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
        self.exact[lane] = None;
    }

    /// The record of the whole tensor, whose stored parts have this checksum.
    pub fn finish(mut self, checksum: Option<String>) -> TensorRecord {
        for (lane, hash) in self.record.lanes.iter_mut().zip(self.hashes.short()) {
            if matches!(lane.status, Status::Ran | Status::Recorded) {
                lane.output_hash = Some(hash);
            }
        }
        let mut record = self.record;
        record.checksum = checksum;
        record.metrics = self.pairs.into_iter().map(|p| p.figures.finish()).collect();
        record.fwht_bug_control = self.control.map(|(_, c)| c.finish());
        record.checkpoint = self.checkpoint.and_then(GroupErrorSums::finish);
        let exact = self.exact.into_iter().map(|e| e.map(Exact::finish));
        decide(
            &mut record,
            self.held_to,
            exact.collect(),
            self.tolerance.as_ref(),
        );
        for (i, worst) in self.worst.iter().enumerate() {
            let lane = &record.lanes[i].name;
            let failed = record.decision_of(lane).map(|d| d.verdict) == Some(Verdict::Differs);
            if let (true, Some(strip)) = (failed, &worst.strip) {
                record
                    .diagnosis
                    .extend(diagnose(&record.lanes[i], i, strip));
            }
        }
        record.picture = self
            .picture
            .and_then(|p| draw(p.strip.as_ref()?, &record, self.tolerance))
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
        decide(&mut record, self.held_to, Vec::new(), None);
        record
    }
}

impl WorstStrip {
    fn keep(&mut self, wrong: [u64; 2], strip: &Arc<Decoded>) {
        if wrong > self.wrong || self.strip.is_none() {
            self.wrong = wrong;
            self.strip = Some(Arc::clone(strip));
        }
    }
}

/// Looks for the fault of a lane in a strip.
fn diagnose(of: &LaneRecord, lane: usize, decoded: &Decoded) -> Option<StripDiagnosis> {
    let tensor = decoded.strip.tensor.as_ref()?;
    let got = decoded.output(lane)?;
    // What a recording holds was not poisoned here.
    let launched = of.status == Status::Ran;
    let padding = padding(decoded, tensor);
    let whole = widened(decoded, got, padding.as_deref());
    let mut diagnosis = fault::diagnose_width(
        &of.name.to_string(),
        tensor,
        &whole,
        launched,
        decoded.strip.cols,
    )?;
    diagnosis.evidence += &device::of_diagnosis(of, &diagnosis);
    Some(StripDiagnosis {
        strip_start: decoded.strip.rows.start,
        strip_rows: decoded.strip.rows.len(),
        diagnosis,
    })
}

/// Whole groups of the reference, whose last columns pad the rows; `None` where nothing does.
fn padding(decoded: &Decoded, tensor: &TqTensor) -> Option<Vec<f32>> {
    (decoded.strip.cols < tensor.cols()).then(|| reference::dequantize(tensor))
}

/// Values with what pads the rows: the reference's, with which nothing is wrong.
fn widened<'o>(decoded: &Decoded, values: &'o Output, padding: Option<&[f32]>) -> Cow<'o, Output> {
    let (cols, stored) = (decoded.strip.cols, decoded.strip.stored_cols());
    match padding {
        None => Cow::Borrowed(values),
        Some(padding) => Cow::Owned(values.widened(cols, stored, padding)),
    }
}

/// Draws a strip.
fn draw(decoded: &Decoded, record: &TensorRecord, tolerance: Option<Tolerance>) -> Option<Picture> {
    let tensor = decoded.strip.tensor.as_ref()?;
    let padding = padding(decoded, tensor);
    let source = decoded.strip.source.as_deref();
    let source = source.map(|source| match padding.clone() {
        None => Cow::Borrowed(source),
        Some(mut all) => {
            copy_rows(source, decoded.strip.cols, &mut all, tensor.cols());
            Cow::Owned(all)
        }
    });
    let there = record.lanes.iter().enumerate();
    let there = there.filter_map(|(i, l)| {
        let output = widened(decoded, decoded.output(i)?, padding.as_deref());
        Some((l.name.clone(), output))
    });
    let of_lanes: Vec<_> = there.collect();
    let mut lanes: Vec<(LaneName, Values<'_>)> = Vec::new();
    lanes.extend(source.as_ref().map(|s| (LaneName::Source, Values::F32(s))));
    lanes.extend(of_lanes.iter().map(|(name, o)| (name.clone(), o.values())));
    let columns = LaneRows {
        row_start: decoded.strip.rows.start,
        lanes,
        tolerance,
    };
    let in_this_strip = record
        .diagnosis
        .iter()
        .filter(|d| d.strip_start == decoded.strip.rows.start);
    let diagnosis: Vec<_> = in_this_strip.map(|d| &d.diagnosis).collect();
    Some(Picture::new(tensor, &columns, &diagnosis))
}
