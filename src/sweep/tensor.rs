//! One TQ4 tensor, strip by strip: metrics, decision, record.

use super::lanes::{Bench, LaneRun, Outputs};
use super::plan::Tensor;
use super::record::{TensorError, TensorRecord};
use crate::control::Control;
use crate::error::Problem;
use crate::metrics::{Accumulator, Values};
use crate::report::{LaneReport, Status};
use crate::validate::{cuda_decision, decisions};
use std::ops::Range;

/// Where the values of a comparison's side come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Reference,
    /// Index of the lane.
    Kernel(usize),
}

impl Side {
    /// The values in a strip; `None` when the lane did not compute them.
    fn values<'o>(self, strip: &'o Outputs) -> Option<Values<'o>> {
        match self {
            Self::Source => strip.source.as_deref().map(Values::F32),
            Self::Reference => Some(Values::F32(&strip.reference)),
            Self::Kernel(i) => match &strip.lanes[i] {
                LaneRun::Ran(values, _) => Some(Values::Bf16(values)),
                _ => None,
            },
        }
    }
}

struct Pair {
    lhs: Side,
    rhs: Side,
    acc: Accumulator,
}

/// The strip in which a lane has most wrong elements.
#[derive(Debug, Clone, Default)]
pub(super) struct WorstStrip {
    unequal: u64,
    pub rows: Range<usize>,
}

/// The state of the tensor that is being compared.
pub(super) struct State<'p> {
    pub tensor: &'p Tensor,
    pub lanes: Vec<LaneReport>,
    pairs: Vec<Pair>,
    control: Option<(usize, Control)>,
    pub worst: Vec<WorstStrip>,
    group_size: usize,
}

impl<'p> State<'p> {
    /// A tensor of which no strip has come. The pairs are those of [`crate::validate`]: each lane against
    /// the source, each kernel lane against the reference, each pair of kernel lanes.
    pub(super) fn new(
        tensor: &'p Tensor,
        bench: &Bench<'_>,
        group_size: usize,
        with_source: bool,
    ) -> Self {
        let name = |side: Side| match side {
            Side::Source => "bf16_source".to_owned(),
            Side::Reference => "reference_dequant".to_owned(),
            Side::Kernel(i) => crate::lane::metric_name(&bench.reports[i].name, false),
        };
        let kernels: Vec<usize> = bench.kernels().collect();
        let mut sides = Vec::new();
        if with_source {
            sides.push((Side::Reference, Side::Source));
            sides.extend(kernels.iter().map(|&i| (Side::Kernel(i), Side::Source)));
        }
        for (k, &i) in kernels.iter().enumerate() {
            sides.push((Side::Kernel(i), Side::Reference));
            sides.extend(
                kernels[..k]
                    .iter()
                    .map(|&j| (Side::Kernel(i), Side::Kernel(j))),
            );
        }
        let pairs = sides
            .into_iter()
            .map(|(lhs, rhs)| Pair {
                lhs,
                rhs,
                acc: Accumulator::new(&name(lhs), &name(rhs)),
            })
            .collect();
        Self {
            tensor,
            lanes: bench.reports.clone(),
            pairs,
            control: kernels
                .into_iter()
                .find(|&i| bench.reports[i].name == "cuda")
                .map(|i| (i, Control::default())),
            worst: vec![WorstStrip::default(); bench.reports.len()],
            group_size,
        }
    }

    /// Takes the next strip in.
    pub(super) fn push(&mut self, strip: &Outputs) {
        for (i, run) in strip.lanes.iter().enumerate() {
            match run {
                LaneRun::Ran(_, cost) => {
                    let report = &mut self.lanes[i];
                    *report.seconds.get_or_insert(0.0) += cost.total.as_secs_f64();
                    let kernel = cost.kernel.map(|k| k.as_secs_f64());
                    report.kernel_seconds = if strip.first {
                        kernel
                    } else {
                        report.kernel_seconds.zip(kernel).map(|(a, b)| a + b)
                    };
                }
                LaneRun::Broke(problem) => self.broke(i, problem),
                LaneRun::Idle => {}
            }
        }
        for pair in &mut self.pairs {
            let (Some(lhs), Some(rhs)) = (pair.lhs.values(strip), pair.rhs.values(strip)) else {
                continue;
            };
            let before = pair.acc.unequal();
            pair.acc.push(lhs, rhs);
            if let (Side::Kernel(i), Side::Reference) = (pair.lhs, pair.rhs) {
                let unequal = pair.acc.unequal() - before;
                if unequal > self.worst[i].unequal {
                    self.worst[i] = WorstStrip {
                        unequal,
                        rows: strip.rows.clone(),
                    };
                }
            }
        }
        if let Some((i, control)) = &mut self.control
            && let LaneRun::Ran(values, _) = &strip.lanes[*i]
        {
            control.push(Values::Bf16(values), &strip.reference, self.group_size);
        }
    }

    /// A lane broke: it has no figures for this tensor.
    pub(super) fn broke(&mut self, lane: usize, problem: &Problem) {
        let report = &mut self.lanes[lane];
        report.status = Status::Failed;
        report.reason = Some(problem.what.clone());
        report.help = Some(problem.help.clone()).filter(|h| !h.is_empty());
        report.seconds = None;
        report.kernel_seconds = None;
        let of = |side| side == Side::Kernel(lane);
        self.pairs.retain(|p| !of(p.lhs) && !of(p.rhs));
        self.control.take_if(|(i, _)| *i == lane);
    }

    /// The record, without a diagnosis.
    pub(super) fn finish(self) -> TensorRecord {
        let metrics: Vec<_> = self.pairs.into_iter().map(|p| p.acc.finish()).collect();
        let decisions = decisions(&metrics, &self.lanes);
        TensorRecord {
            metrics,
            fwht_bug_control: self.control.map(|(_, c)| c.finish()),
            decision: cuda_decision(&decisions),
            decisions,
            lanes: self.lanes,
            ..blank(self.tensor)
        }
    }

    /// The record of a tensor that is bad input.
    pub(super) fn bad(mut self, problem: &Problem) -> TensorRecord {
        for lane in &mut self.lanes {
            if lane.status == Status::Ran && lane.name != "reference" {
                lane.status = Status::Skipped;
                lane.reason = Some("the tensor is bad input".into());
                lane.seconds = None;
                lane.kernel_seconds = None;
            }
        }
        let decisions = decisions(&[], &self.lanes);
        TensorRecord {
            decision: cuda_decision(&decisions),
            decisions,
            lanes: self.lanes,
            error: Some(TensorError::from(problem)),
            ..blank(self.tensor)
        }
    }
}

fn blank(tensor: &Tensor) -> TensorRecord {
    TensorRecord {
        tensor_base: tensor.base.clone(),
        row_start: tensor.rows.start,
        row_count: tensor.rows.len(),
        shape: [tensor.rows.len(), tensor.shape[1]],
        elements: tensor.elements(),
        bytes: tensor.bytes,
        metrics: Vec::new(),
        fwht_bug_control: None,
        decision: String::new(),
        decisions: Vec::new(),
        diagnosis: Vec::new(),
        lanes: Vec::new(),
        error: None,
    }
}
