//! The last stage of a run: strips are judged in order, and records go to the sinks.

use super::decode::{DecodedStrip, SpareValues};
use super::job::{Job, Target};
use super::read::Item;
use super::under_way::Judged;
use super::{Ended, RunEvent, Sink};
use crate::error::Result;
use crate::judge::{Judge, JudgeOptions};
use crate::lane::Decoded;
use crate::record::{LaneRecord, TensorRecord};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Where the memory of strips goes that are done with.
pub(super) struct Spare {
    pub(super) judged: Sender<Judged>,
    pub(super) values: Sender<SpareValues>,
}

impl Spare {
    fn take(&self, strip: Arc<Decoded>, stored: Vec<u8>) {
        let elements = strip.strip.elements();
        // A strip that is kept keeps its values.
        let values = Arc::into_inner(strip).map(Decoded::into_spare);
        // Who has read or decoded all takes none.
        let _ = self.judged.send(Judged { elements, stored });
        let _ = self.values.send(values.unwrap_or_default());
    }
}

/// The judge of a job's tensors, one after the other.
pub(super) struct Judging<'r, 's, 'j> {
    job: &'r Job<'j>,
    lanes: &'r [LaneRecord],
    spare: Spare,
    sinks: &'r mut [&'s mut dyn Sink],
    on: &'r mut dyn FnMut(RunEvent<'_>),
    /// Of the tensor of which there is more.
    open: Option<Judge>,
    /// Bytes done of it.
    done: u64,
    lost: bool,
}

impl<'r, 's, 'j> Judging<'r, 's, 'j> {
    pub(super) fn new(
        job: &'r Job<'j>,
        lanes: &'r [LaneRecord],
        spare: Spare,
        sinks: &'r mut [&'s mut dyn Sink],
        on: &'r mut dyn FnMut(RunEvent<'_>),
    ) -> Self {
        Self {
            job,
            lanes,
            spare,
            sinks,
            on,
            open: None,
            done: 0,
            lost: false,
        }
    }

    /// Takes all that comes, or up to the tensor at which a lane is lost.
    pub(super) fn all(
        mut self,
        items: impl IntoIterator<Item = Item<DecodedStrip>>,
    ) -> Result<Ended> {
        for item in items {
            self.next(item, || ())?;
            if self.ended() == Ended::Lost {
                break;
            }
        }
        Ok(self.ended())
    }

    /// How the job ends if nothing more comes.
    pub(super) fn ended(&self) -> Ended {
        let stop = self.open.is_none() && self.lost && self.job.stop_when_lost;
        if stop { Ended::Lost } else { Ended::Done }
    }

    /// Takes the next strip, or learns that there is no more of a tensor; other work is done beside.
    pub(super) fn next<T: Send>(
        &mut self,
        item: Item<DecodedStrip>,
        beside: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        let job = self.job;
        match item {
            Item::Bad { target, error } => {
                let target = &job.targets[target];
                let left = target.output_bytes() - std::mem::take(&mut self.done);
                (self.on)(RunEvent::Bytes(left));
                let judge = self.open.take();
                let judge = judge.unwrap_or_else(|| self.start(target));
                self.tensor(target, &judge.bad(&error))?;
                Ok(beside())
            }
            Item::Strip {
                target,
                first,
                strip,
            } => {
                let target = &job.targets[target];
                if first {
                    (self.on)(RunEvent::Tensor(&target.base));
                }
                self.strip(target, strip, beside)
            }
        }
    }

    fn strip<T: Send>(
        &mut self,
        target: &Target,
        strip: DecodedStrip,
        beside: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        let DecodedStrip {
            decoded,
            checksums,
            stored,
        } = strip;
        let strip = Arc::new(decoded);
        let judge = self.open.take();
        let mut judge = judge.unwrap_or_else(|| self.start(target));
        self.lost |= strip.lost();
        let ((), beside) = rayon::join(|| judge.push(&strip), beside);
        for sink in self.sinks.iter_mut() {
            sink.strip(target, &strip)?;
        }
        let bytes = 2 * strip.strip.elements() as u64;
        (self.on)(RunEvent::Bytes(bytes));
        let more = strip.strip.rows.end < target.rows.end;
        self.spare.take(strip, stored);
        if more {
            self.done += bytes;
            self.open = Some(judge);
        } else {
            self.done = 0;
            let [checksum, source_checksum] = checksums;
            let mut record = judge.finish(checksum);
            record.source_checksum = source_checksum;
            self.tensor(target, &record)?;
        }
        Ok(beside)
    }

    fn start(&self, target: &Target) -> Judge {
        let job = self.job;
        let options = JudgeOptions {
            with_source: job.source.is_some(),
            pictures: job.pictures,
            tolerance: job.header.model.tolerance,
        };
        Judge::new(job.blank(target), self.lanes.to_vec(), options)
    }

    /// Hands a tensor's record to the sinks.
    fn tensor(&mut self, target: &Target, record: &TensorRecord) -> Result<()> {
        // What a changed file gave is not kept.
        self.job.unchanged()?;
        let mut sinks = self.sinks.iter_mut();
        sinks.try_for_each(|sink| sink.tensor(target, record))
    }
}
