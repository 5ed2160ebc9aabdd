//! A sweep: every tensor of a checkpoint, in bounded memory, with a report that is written as it goes.
//!
//! A [`Plan`] says what is to be done. [`Plan::run`] reads tensors in strips of whole rows, runs the lanes
//! on them and compares, all three at once, and hands out a [`Record`] for every tensor. A [`Journal`]
//! appends them to a file from which a later run goes on; [`merge()`] makes one report of the partitions'.

mod journal;
mod lanes;
mod merge;
mod pipeline;
mod plain;
mod plan;
mod read;
pub mod record;
mod summary;
mod table;
mod tensor;

pub use journal::{Contents, Journal};
pub use merge::{Merged, merge};
pub use plan::{Options, Plan, Tensor, dir_name};
pub use record::Record;
pub use summary::summarise;
pub use table::text;
pub(crate) use table::{lanes, row, totals};

use crate::checkpoint::{Checkpoint, TqModel};
use crate::error::Result;
use crate::lane::Lane;
use record::{PlainRecord, Summary, SweepOutcome};

/// Every tensor that is not quantised, compared byte for byte with the source's, by name.
///
/// # Errors
/// When a file cannot be read.
pub fn compare_plain(model: &TqModel, source: &Checkpoint) -> Result<Vec<PlainRecord>> {
    plan::plain_names(model, source)
        .iter()
        .map(|name| plain::compare(model.checkpoint(), source, name))
        .collect()
}

/// What happens in a sweep.
#[derive(Debug)]
pub enum Event<'e> {
    /// A tensor's first strip has been computed.
    Working(&'e str),
    /// So many bytes are done: of BF16 weights for TQ4 tensors, as stored for the others.
    Bytes(u64),
    /// A tensor is done.
    Done(Record),
}

impl Plan<'_> {
    /// Sweeps the tensors of this plan in name order, TQ4 tensors first. `sink` is told of everything
    /// that happens; its first error ends the sweep.
    ///
    /// # Errors
    /// What `sink` returns, or when a plain tensor cannot be read. A TQ4 tensor that is bad input and a
    /// lane that breaks are records, not errors.
    pub fn run(
        &self,
        lanes: &mut [Lane],
        mut sink: impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        pipeline::run(self, lanes, &mut sink)
    }

    /// What [`Event::Bytes`] adds up to.
    pub fn work(&self) -> u64 {
        let plain = self.plain.iter().map(|n| self.plain_bytes(n));
        self.tensors
            .iter()
            .map(|t| 2 * t.elements())
            .chain(plain)
            .sum()
    }
}

impl Summary {
    /// Required lanes that did not run on every tensor.
    pub fn missing_lanes<'a>(&self, header: &'a record::Header) -> Vec<&'a str> {
        if self.outcome == SweepOutcome::RequiredLaneMissing {
            summary::missing(&header.lanes.require, &self.lanes)
        } else {
            Vec::new()
        }
    }
}
