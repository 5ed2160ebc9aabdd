//! The three stages of a run, each in a thread of its own: reading strips, running the lanes on them,
//! judging. Queues between them are bounded, and so is what is in memory.

use super::job::{Job, Target};
use super::read::{Item, read_all};
use super::{Ended, RunEvent, Sink, plain};
use crate::error::Result;
use crate::judge::{self, Judge};
use crate::lane::{Decoded, LaneOutput, LaneState, Slot};
use crate::record::LaneRecord;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Strips that wait between two stages.
const QUEUE: usize = 1;

/// Runs the job: its TQ4 tensors in name order, then those that are not quantised. `on` is told of
/// progress.
///
/// # Errors
/// What a sink returns, and when a model's file was written to meanwhile. A tensor that is bad input and
/// a lane that breaks are records, not errors; a lane that is lost ends the run where the job says so.
pub fn run(
    job: &Job<'_>,
    slots: &mut [Slot],
    sinks: &mut [&mut dyn Sink],
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Ended> {
    on(RunEvent::Total(job.work()));
    let lanes: Vec<LaneRecord> = slots.iter().map(Slot::record).collect();
    let ended = std::thread::scope(|scope| {
        let (to_lanes, from_reader) = sync_channel(QUEUE);
        let (to_judge, from_lanes) = sync_channel(QUEUE);
        // A stage ends when the one behind it has gone.
        scope.spawn(move || read_all(job, &to_lanes));
        scope.spawn(move || decode_all(job, slots, from_reader, &to_judge));
        judge_all(job, &lanes, from_lanes, sinks, on)
    })?;
    if let (Some(model), Some(source), Ended::Done) = (job.model, job.source, ended) {
        for name in &job.plain {
            on(RunEvent::Tensor(name));
            let record = plain::compare(model.checkpoint(), source, name)?;
            on(RunEvent::Bytes(job.plain_bytes(name)));
            job.unchanged()?;
            for sink in sinks.iter_mut() {
                sink.plain(&record)?;
            }
        }
    }
    Ok(ended)
}

fn decode_all(
    job: &Job<'_>,
    slots: &mut [Slot],
    from: Receiver<Item<super::Strip>>,
    to: &SyncSender<Item<Decoded>>,
) {
    let mut states = vec![LaneState::Ready; slots.len()];
    for item in from {
        let item = match item {
            Item::Bad { target, error } => Item::Bad { target, error },
            Item::Strip {
                target,
                first,
                checksums,
                strip,
            } => {
                if first {
                    states.iter_mut().for_each(LaneState::renew);
                }
                let mut decoded = Decoded::new(strip, first, slots, &mut states);
                if let Some(checksum) = &checksums[0] {
                    refuse_other_input(job, target, &mut decoded, slots, checksum);
                }
                Item::Strip {
                    target,
                    first,
                    checksums,
                    strip: decoded,
                }
            }
        };
        if to.send(item).is_err() {
            return;
        }
    }
}

/// A recording of other weights than those just read has no figures.
fn refuse_other_input(
    job: &Job<'_>,
    target: usize,
    decoded: &mut Decoded,
    slots: &[Slot],
    checksum: &str,
) {
    let Target { base, rows, .. } = &job.targets[target];
    for (slot, output) in slots.iter().zip(&mut decoded.outputs) {
        if let (Slot::Recorded(lane), LaneOutput::Values(..)) = (slot, &output)
            && let Err(e) = lane.same_input(base, rows, checksum)
        {
            *output = LaneOutput::Failed(e);
        }
    }
}

fn judge_all(
    job: &Job<'_>,
    lanes: &[LaneRecord],
    from: Receiver<Item<Decoded>>,
    sinks: &mut [&mut dyn Sink],
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Ended> {
    let start = |target: &Target| {
        let options = judge::JudgeOptions {
            with_source: job.source.is_some(),
            pictures: job.pictures,
            tolerance: job.header.model.tolerance,
        };
        Judge::new(job.blank(target), lanes.to_vec(), options)
    };
    let mut open: Option<Judge> = None;
    // Bytes done of the open tensor.
    let mut done = 0;
    let mut lost = false;
    for item in from {
        let (target, record) = match item {
            Item::Bad { target, error } => {
                let target = &job.targets[target];
                on(RunEvent::Bytes(
                    target.output_bytes() - std::mem::take(&mut done),
                ));
                let judge = open.take().unwrap_or_else(|| start(target));
                (target, judge.bad(&error))
            }
            Item::Strip {
                target,
                first,
                checksums,
                strip,
            } => {
                let target = &job.targets[target];
                if first {
                    on(RunEvent::Tensor(&target.base));
                }
                let mut judge = open.take().unwrap_or_else(|| start(target));
                let strip = Arc::new(strip);
                lost |= strip.lost();
                judge.push(&strip);
                for sink in sinks.iter_mut() {
                    sink.strip(target, &strip)?;
                }
                let bytes = 2 * strip.strip.elements() as u64;
                done += bytes;
                on(RunEvent::Bytes(bytes));
                if strip.strip.rows.end < target.rows.end {
                    open = Some(judge);
                    continue;
                }
                done = 0;
                let [checksum, source_checksum] = checksums;
                let mut record = judge.finish(checksum);
                record.source_checksum = source_checksum;
                (target, record)
            }
        };
        // What a changed file gave is not kept.
        job.unchanged()?;
        for sink in sinks.iter_mut() {
            sink.tensor(target, &record)?;
        }
        if lost && job.stop_when_lost {
            return Ok(Ended::Lost);
        }
    }
    Ok(Ended::Done)
}
