//! The three stages of a sweep, each in a thread of its own: reading strips, running the lanes on them,
//! comparing. Queues between them are bounded, and so is what is in memory.

use super::lanes::{Bench, LaneRun, Outputs};
use super::plan::{Plan, Tensor};
use super::read::{Sample, Strip, read, sample, strips};
use super::record::{Record, RowsDiagnosis, TensorRecord};
use super::tensor::{State, WorstStrip};
use super::{Event, plain};
use crate::error::{Error, Result};
use crate::fault;
use crate::lane::Lane;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Strips that wait between two stages.
const QUEUE: usize = 1;

/// A strip in either state, or why the rest of a tensor cannot be read.
type Item<T> = std::result::Result<T, (usize, Error)>;

/// Sweeps what the plan holds. `sink` is told of everything that happens, in order; its first error ends
/// the sweep.
///
/// # Errors
/// What `sink` returns, or when a plain tensor cannot be read. Bad TQ4 tensors and lanes that break are
/// records.
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
            let record = plain::compare(plan.model.checkpoint(), source, name)?;
            sink(Event::Bytes(plan.plain_bytes(name)))?;
            sink(Event::Done(Record::Plain(record)))?;
        }
    }
    Ok(())
}

fn read_all(plan: &Plan<'_>, to: &SyncSender<Item<Strip>>) {
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

fn compute_all(bench: &Bench<'_>, from: Receiver<Item<Strip>>, to: &SyncSender<Item<Outputs>>) {
    let mut broken = vec![false; bench.reports.len()];
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
    // Work done on the open tensor.
    let mut done = 0;
    for item in from {
        let strip = match item {
            Ok(strip) => strip,
            Err((index, e)) => {
                let state = open.take().unwrap_or_else(|| start(index, None));
                let left = 2 * state.tensor.elements() - std::mem::take(&mut done);
                let record = state.bad(e.problem());
                sink(Event::Bytes(left))?;
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
        let bytes = 2 * (strip.rows.len() * state.tensor.shape[1]) as u64;
        done += bytes;
        sink(Event::Bytes(bytes))?;
        if strip.last {
            done = 0;
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
            let mut broken = vec![false; bench.reports.len()];
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
