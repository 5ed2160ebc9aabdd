//! The three stages of a run: reading strips, running the lanes on them, judging. Reading has a thread of its own, and so
//! have lanes that may wait for a device. No more is read than is judged soon, and so what is in memory is bounded.

use super::decode::Decoding;
use super::job::Job;
use super::judging::{Judging, Spare};
use super::read::read_all;
use super::{Ended, RunEvent, Sink, plain};
use crate::error::Result;
use crate::lane::Slot;
use crate::record::LaneRecord;
use std::sync::mpsc::{channel, sync_channel};

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
        let (to_lanes, from_reader) = channel();
        let (judged, to_reader) = channel();
        let (values, spare_values) = channel();
        // A stage ends when the one behind it has gone.
        scope.spawn(move || read_all(job, &to_lanes, to_reader));
        let mut decoding = Decoding::new(job, slots, spare_values);
        let mut judging = Judging::new(job, &lanes, Spare { judged, values }, sinks, on);
        if !job.header.model.reference_alone() {
            let (to_judge, from_lanes) = sync_channel(1);
            scope.spawn(move || {
                for item in from_reader {
                    if to_judge.send(decoding.next(item)).is_err() {
                        return;
                    }
                }
            });
            return judging.all(from_lanes);
        }
        // Nothing waits for a device: a strip is judged while the next is decoded, by the same threads.
        let mut decoded = from_reader.recv().ok().map(|item| decoding.next(item));
        while let Some(item) = decoded {
            let read = from_reader.try_recv().ok();
            let beside = judging.next(item, || read.map(|item| decoding.next(item)))?;
            let later = || Some(decoding.next(from_reader.recv().ok()?));
            decoded = beside.or_else(later);
        }
        Ok(judging.ended())
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
