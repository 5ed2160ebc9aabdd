//! The lanes of a sweep, and what they make of a strip.

use super::read::{Sample, Strip};
use crate::backend::{self, Cost, OutMut};
use crate::error::Problem;
use crate::lane::{Lane, State};
use crate::reference;
use crate::report::LaneReport;
use crate::tensor::TqTensor;
use half::bf16;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What became of a lane in one strip.
pub(super) enum LaneRun {
    /// It computed.
    Ran(Vec<bf16>, Cost),
    /// It broke.
    Broke(Problem),
    /// It is not there, is the reference, or broke earlier.
    Idle,
}

/// The lanes, shared by the stages: the second pass and the diagnosis run them again.
pub(super) struct Bench<'l> {
    lanes: Mutex<&'l mut [Lane]>,
    /// Every lane as it is reported before it runs.
    pub reports: Vec<LaneReport>,
    ready: Vec<bool>,
}

impl<'l> Bench<'l> {
    pub(super) fn new(lanes: &'l mut [Lane]) -> Self {
        Self {
            reports: lanes.iter().map(Lane::report).collect(),
            ready: lanes
                .iter()
                .map(|l| matches!(l.state(), State::Ready(_)) && !l.is_reference())
                .collect(),
            lanes: Mutex::new(lanes),
        }
    }

    /// Indices of the kernel lanes that can run.
    pub(super) fn kernels(&self) -> impl Iterator<Item = usize> {
        (0..self.ready.len()).filter(|&i| self.ready[i])
    }

    /// Runs one kernel lane.
    pub(super) fn run_one(&self, i: usize, tensor: &TqTensor) -> LaneRun {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Ready(backend) = lanes[i].state_mut() else {
            return LaneRun::Idle;
        };
        // Poisoned, so that what a lane leaves unwritten fails the gates.
        let mut out = vec![bf16::from_bits(backend::POISON_BF16); tensor.elements()];
        match backend.dequantize(tensor, OutMut::Bf16(&mut out)) {
            Ok(cost) => LaneRun::Ran(out, cost),
            Err(e) => LaneRun::Broke(e.problem().clone()),
        }
    }

    /// Runs the reference and every kernel lane that is ready and not in `broken`.
    pub(super) fn run(&self, strip: Strip, broken: &[bool]) -> Outputs {
        let (reference, cost) = {
            let start = std::time::Instant::now();
            (reference::dequantize(&strip.tensor), start.elapsed())
        };
        let lanes = (0..self.ready.len())
            .map(|i| {
                if self.reports[i].name == "reference" {
                    let cost = Cost {
                        kernel: Some(cost),
                        total: cost,
                        launches: 1,
                        ..Default::default()
                    };
                    LaneRun::Ran(Vec::new(), cost)
                } else if self.ready[i] && !broken[i] {
                    self.run_one(i, &strip.tensor)
                } else {
                    LaneRun::Idle
                }
            })
            .collect();
        Outputs {
            index: strip.index,
            first: strip.first,
            last: strip.last,
            rows: strip.rows,
            source: strip.source,
            sample: strip.sample,
            reference,
            lanes,
        }
    }
}

/// Some rows of a tensor, computed by every lane.
pub(super) struct Outputs {
    /// Index of the tensor in the plan.
    pub index: usize,
    /// Whether it is the tensor's first strip.
    pub first: bool,
    /// Whether it is the last.
    pub last: bool,
    /// Rows in the whole tensor.
    pub rows: Range<usize>,
    /// The source's values.
    pub source: Option<Vec<f32>>,
    /// The tensor's sample, with the first of several strips.
    pub sample: Option<Sample>,
    /// The reference's values.
    pub reference: Vec<f32>,
    /// For every lane.
    pub lanes: Vec<LaneRun>,
}
