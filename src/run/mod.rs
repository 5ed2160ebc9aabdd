//! One way through: read -> lanes -> judge -> sinks, strip by strip, in bounded memory.
//!
//! A [`Job`] says what is judged. [`run`] reads its tensors in strips of whole rows, has every lane decode
//! them and the judge compare, all three at once, and hands strips and records to sinks: a recording, a
//! plain model, the worst elements, a report.

mod codes;
mod decode;
mod job;
mod judging;
mod pipeline;
mod plain;
mod read;
mod recorder;
mod under_way;

pub use crate::strip::Strip;
pub use job::{Job, RunOptions, Target, wanted};
pub use pipeline::run;
pub use read::same_weights;
pub use recorder::{Recorder, file_name};

use crate::error::Result;
use crate::lane::Decoded;
use crate::record::{PlainRecord, TensorRecord, worse};

/// What a run tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEvent<'a> {
    /// Bytes that there are.
    Total(u64),
    /// This file of an earlier run is being checked.
    Checking(&'a str),
    /// This tensor is being worked on.
    Tensor(&'a str),
    /// So many bytes more are done.
    Bytes(u64),
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of the job was done.
    Done,
    /// A lane lost its device for good and the job stops there; the rest has no records.
    Lost,
}

/// What a command does with strips and records. An error ends the run.
pub trait Sink {
    /// The next strip of a tensor, in order, with what every lane made of it.
    ///
    /// # Errors
    /// When the sink cannot go on.
    fn strip(&mut self, target: &Target, decoded: &Decoded) -> Result<()> {
        let _ = (target, decoded);
        Ok(())
    }

    /// A tensor is done.
    ///
    /// # Errors
    /// When the sink cannot go on.
    fn tensor(&mut self, target: &Target, record: &TensorRecord) -> Result<()> {
        let _ = (target, record);
        Ok(())
    }

    /// A tensor that is not quantised was compared.
    ///
    /// # Errors
    /// When the sink cannot go on.
    fn plain(&mut self, record: &PlainRecord) -> Result<()> {
        let _ = record;
        Ok(())
    }
}

/// Keeps every record, and the pictures of the worst.
#[derive(Debug)]
pub struct Records {
    /// Pictures that are kept at most, to bound memory; all by default.
    pub pictures: usize,
    /// The TQ4 tensors, in the order of the run.
    pub tensors: Vec<TensorRecord>,
    /// The tensors that are not quantised.
    pub plain: Vec<PlainRecord>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            pictures: usize::MAX,
            tensors: Vec::new(),
            plain: Vec::new(),
        }
    }
}

impl Sink for Records {
    fn tensor(&mut self, _: &Target, record: &TensorRecord) -> Result<()> {
        self.tensors.push(record.clone());
        let drawn = self.tensors.iter_mut().filter(|t| t.picture.is_some());
        let mut drawn: Vec<&mut TensorRecord> = drawn.collect();
        if drawn.len() <= self.pictures {
            return Ok(());
        }
        drawn.sort_by(|a, b| worse(a, b));
        for t in drawn.into_iter().skip(self.pictures) {
            t.picture = None;
        }
        Ok(())
    }

    fn plain(&mut self, record: &PlainRecord) -> Result<()> {
        self.plain.push(record.clone());
        Ok(())
    }
}
