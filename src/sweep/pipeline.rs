//! The three stages of a sweep, each in a thread of its own: reading strips, running the lanes on them,
//! comparing. Queues between them are bounded, and so is what is in memory.

use super::plan::{Plan, Tensor};
use super::record::{Record, RowsDiagnosis, TensorRecord};
use super::tensor::{Sample, State, WorstStrip, strips};
use super::{Event, plain};
use crate::backend::{self, Cost, OutMut};
use crate::error::{Error, Problem, Result};
use crate::fault;
use crate::lane::{self, Lane};
use crate::metrics::{Accumulator, Values};
use crate::reference;
use crate::report::LaneReport;
use crate::tensor::TqTensor;
use half::bf16;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Strips that wait between two stages.
const QUEUE: usize = 1;
/// Elements of the sample that foretells a tensor's quantiles, and the pieces that it is taken in.
const SAMPLE: usize = 1 << 20;
const SAMPLE_PIECES: usize = 64;

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
    fn new(lanes: &'l mut [Lane]) -> Self {
        Self {
            reports: lanes.iter().map(Lane::report).collect(),
            ready: lanes
                .iter()
                .map(|l| matches!(l.state(), lane::State::Ready(_)) && !l.is_reference())
                .collect(),
            lanes: Mutex::new(lanes),
        }
    }

    /// Indices of the kernel lanes that can run.
    pub(super) fn kernels(&self) -> impl Iterator<Item = usize> {
        (0..self.ready.len()).filter(|&i| self.ready[i])
    }

    /// Runs one kernel lane.
    fn run_one(&self, i: usize, tensor: &TqTensor<'_>) -> LaneRun {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane::State::Ready(backend) = lanes[i].state_mut() else {
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
    fn run(&self, strip: Strip<'_>, broken: &[bool]) -> Outputs {
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
                        bytes_copied: 0,
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

/// Some rows of a tensor, read.
struct Strip<'a> {
    // Index of the tensor in the plan.
    index: usize,
    first: bool,
    last: bool,
    rows: Range<usize>,
    tensor: TqTensor<'a>,
    source: Option<Vec<f32>>,
    sample: Option<Sample>,
}

/// Some rows of a tensor, computed by every lane.
pub(super) struct Outputs {
    index: usize,
    /// Whether it is the tensor's first strip.
    pub first: bool,
    last: bool,
    /// Rows in the whole tensor.
    pub rows: Range<usize>,
    /// The source's values.
    pub source: Option<Vec<f32>>,
    sample: Option<Sample>,
    /// The reference's values.
    pub reference: Vec<f32>,
    /// For every lane.
    pub lanes: Vec<LaneRun>,
}

/// A strip in either state, or why the rest of a tensor cannot be read.
type Item<T> = std::result::Result<T, (usize, Error)>;

/// Sweeps what the plan holds. `sink` is told of everything that happens, in order; its first error ends
/// the sweep.
///
/// # Errors
/// What `sink` returns. Bad tensors and lanes that break are records.
pub(super) fn run(
    plan: &Plan<'_>,
    lanes: &mut [Lane],
    sink: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<()> {
    let bench = Bench::new(lanes);
    std::thread::scope(|scope| {
        let (to_lanes, from_reader) = sync_channel(QUEUE);
        let (to_metrics, from_lanes) = sync_channel(QUEUE);
        // A stage ends when the one behind it has gone.
        scope.spawn(move || read_all(plan, &to_lanes));
        let stage = &bench;
        scope.spawn(move || compute_all(stage, from_reader, &to_metrics));
        compare_all(plan, &bench, from_lanes, sink)
    })?;
    if let Some(source) = plan.source {
        for name in &plan.plain {
            sink(Event::Working(name))?;
            let record = plain::compare(plan.model.checkpoint(), source, name);
            sink(Event::Bytes(plan.plain_bytes(name)))?;
            sink(Event::Done(Record::Plain(record)))?;
        }
    }
    Ok(())
}

fn read_all<'a>(plan: &Plan<'a>, to: &SyncSender<Item<Strip<'a>>>) {
    for index in 0..plan.tensors.len() {
        let tensor = &plan.tensors[index];
        let mut strips = strips(tensor.rows.clone(), tensor.shape[1]).peekable();
        let mut first = true;
        while let Some(rows) = strips.next() {
            let last = strips.peek().is_none();
            let sample = (first && !last).then(|| sample(plan, tensor)).flatten();
            let item = read(plan, tensor, rows.clone()).map(|(tensor, source)| Strip {
                index,
                first,
                last,
                rows,
                tensor,
                source,
                sample,
            });
            let bad = item.is_err();
            if to.send(item.map_err(|e| (index, e))).is_err() {
                return;
            }
            if bad {
                break;
            }
            first = false;
        }
    }
}

/// Reads some rows and the source's.
fn read<'a>(
    plan: &Plan<'a>,
    tensor: &Tensor,
    rows: Range<usize>,
) -> Result<(TqTensor<'a>, Option<Vec<f32>>)> {
    let model = plan.model;
    let strip = model.rows(&tensor.base, rows.clone()).map_err(|e| {
        let p = e.problem();
        let counted = if rows.start > 0 {
            format!("{} (rows counted from row {})", p.place, rows.start)
        } else {
            p.place.clone()
        };
        Error::input(&p.what, counted, &p.help)
    })?;
    // Every page is touched here, so that the later stages do not wait for the disk.
    let touched = strip.packed().iter().step_by(4096).fold(0, |a, b| a ^ b);
    std::hint::black_box(touched);
    let source = plan
        .source
        .map(|source| source.rows_f32(&format!("{}.weight", tensor.base), tensor.shape, rows));
    Ok((strip, source.transpose()?))
}

/// Some rows from all over a tensor; `None` when one of them is bad input, which reading the strip it is
/// in will say.
fn sample(plan: &Plan<'_>, tensor: &Tensor) -> Option<Sample> {
    let (n, cols) = (tensor.rows.len(), tensor.shape[1]);
    let each = (SAMPLE / SAMPLE_PIECES / cols).clamp(1, n);
    let pieces = (SAMPLE / (each * cols)).clamp(2, SAMPLE_PIECES);
    let mut sample = Sample {
        source: plan.source.map(|_| Accumulator::new("", "")),
        rounding: Accumulator::new("", ""),
    };
    for piece in 0..pieces {
        let at = tensor.rows.start + piece * (n - each) / (pieces - 1);
        let (strip, source) = read(plan, tensor, at..at + each).ok()?;
        let values = reference::dequantize(&strip);
        let rounded: Vec<bf16> = values.iter().map(|v| bf16::from_f32(*v)).collect();
        let values = Values::F32(&values);
        sample.rounding.push(Values::Bf16(&rounded), values);
        if let (Some(acc), Some(source)) = (&mut sample.source, &source) {
            acc.push(values, Values::F32(source));
        }
    }
    Some(sample)
}

fn compute_all<'a>(
    bench: &Bench<'_>,
    from: Receiver<Item<Strip<'a>>>,
    to: &SyncSender<Item<Outputs>>,
) {
    let mut broken = vec![false; bench.ready.len()];
    for item in from {
        let item = item.map(|strip| {
            if strip.first {
                broken.fill(false);
            }
            let outputs = bench.run(strip, &broken);
            for (broken, lane) in broken.iter_mut().zip(&outputs.lanes) {
                *broken |= matches!(lane, LaneRun::Broke(_));
            }
            outputs
        });
        if to.send(item).is_err() {
            return;
        }
    }
}

fn compare_all(
    plan: &Plan<'_>,
    bench: &Bench<'_>,
    from: Receiver<Item<Outputs>>,
    sink: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<()> {
    let group_size = plan.model.config().layout.group_size();
    let start = |index: usize, sample: Option<&Sample>| {
        let tensor: &Tensor = &plan.tensors[index];
        State::new(tensor, bench, sample, group_size, plan.source.is_some())
    };
    let mut open: Option<State<'_>> = None;
    for item in from {
        let strip = match item {
            Ok(strip) => strip,
            Err((index, e)) => {
                let state = open.take().unwrap_or_else(|| start(index, None));
                let record = state.bad(e.problem());
                sink(Event::Done(Record::Tensor(Box::new(record))))?;
                continue;
            }
        };
        let mut state = match open.take() {
            Some(state) => state,
            None => {
                sink(Event::Working(&plan.tensors[strip.index].base))?;
                start(strip.index, strip.sample.as_ref())
            }
        };
        state.push(&strip);
        let elements = strip.rows.len() * state.tensor.shape[1];
        sink(Event::Bytes(2 * elements as u64))?;
        if strip.last {
            let record = finish(plan, bench, state, &strip);
            sink(Event::Done(Record::Tensor(Box::new(record))))?;
        } else {
            open = Some(state);
        }
    }
    Ok(())
}

/// The second pass, where one is needed, and the diagnosis.
fn finish(
    plan: &Plan<'_>,
    bench: &Bench<'_>,
    mut state: State<'_>,
    last: &Outputs,
) -> TensorRecord {
    let tensor = state.tensor;
    if state.second_pass() {
        // The only strip is still here.
        if last.first {
            state.refine(last);
        } else {
            let mut broken = vec![false; bench.ready.len()];
            for rows in strips(tensor.rows.clone(), tensor.shape[1]) {
                let strip = match read(plan, tensor, rows.clone()) {
                    Err(e) => return state.bad(e.problem()),
                    Ok((tensor, source)) => Strip {
                        index: last.index,
                        first: false,
                        last: false,
                        rows,
                        tensor,
                        source,
                        sample: None,
                    },
                };
                let outputs = bench.run(strip, &broken);
                for (broken, lane) in broken.iter_mut().zip(&outputs.lanes) {
                    *broken |= matches!(lane, LaneRun::Broke(_));
                }
                state.refine(&outputs);
            }
        }
        if let Err(problem) = state.settle() {
            return state.bad(&problem);
        }
    }
    let worst = std::mem::take(&mut state.worst);
    let mut record = state.finish();
    for (lane, worst) in worst.iter().enumerate() {
        let name = &bench.reports[lane].name;
        let failed = |d: &crate::gate::Decision| d.lane == *name && d.passed == Some(false);
        if record.decisions.iter().any(failed) {
            record
                .diagnosis
                .push(diagnose(plan, bench, tensor, lane, worst));
        }
    }
    record
}

/// Runs a failed lane again on the strip with most wrong elements, which is the whole of a small tensor,
/// and looks for the fault in it.
fn diagnose(
    plan: &Plan<'_>,
    bench: &Bench<'_>,
    tensor: &Tensor,
    lane: usize,
    worst: &WorstStrip,
) -> RowsDiagnosis {
    let (name, rows) = (&bench.reports[lane].name, worst.rows.clone());
    let (diagnosis, summary) = match read(plan, tensor, rows.clone()) {
        Err(e) => (None, format!("not made: {}", e.problem().what)),
        Ok((strip, _)) => match bench.run_one(lane, &strip) {
            LaneRun::Ran(values, _) => {
                let found = fault::diagnose(name, &strip, &values);
                let summary = found.as_ref().map_or_else(
                    || {
                        "a second run of these rows was right: the lane does not repeat itself"
                            .into()
                    },
                    |d| d.evidence.clone(),
                );
                (found, summary)
            }
            LaneRun::Broke(p) => (None, format!("not made: the lane broke: {}", p.what)),
            LaneRun::Idle => (None, "not made: the lane is not there".into()),
        },
    };
    RowsDiagnosis {
        lane: name.clone(),
        row_start: rows.start,
        row_count: rows.len(),
        summary: format!(
            "diagnosis of {name}, rows {}..{}: {summary}",
            rows.start, rows.end
        ),
        diagnosis,
    }
}
