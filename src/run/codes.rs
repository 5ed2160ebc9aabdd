//! Reading codes, scales and signs.

use super::job::{Job, Target};
use super::read::RUN_STRIP;
use crate::error::{Error, Result};
use crate::format::TqModel;
use crate::tensor::TqTensor;
use std::ops::Range;

/// Codes, scales and signs of a tensor, which are read for several strips at a time: the scales of one are few, and to
/// read so little is to wait for the disk.
pub(super) struct Codes<'j> {
    model: Option<&'j TqModel>,
    target: &'j Target,
    /// The rows that were read last.
    rows: Range<usize>,
    read: Option<TqTensor>,
}

impl<'j> Codes<'j> {
    pub(super) fn new(job: &Job<'j>, target: &'j Target) -> Self {
        Self {
            model: job.model,
            target,
            rows: 0..0,
            read: None,
        }
    }

    /// Those of the next strip; `None` without a model.
    pub(super) fn of(&mut self, rows: &Range<usize>) -> Result<Option<TqTensor>> {
        let Some(model) = self.model else {
            return Ok(None);
        };
        let read = match self.read.take() {
            Some(read) if rows.end <= self.rows.end => read,
            _ => self.read_from(model, rows)?,
        };
        if *rows == self.rows {
            return Ok(Some(read));
        }
        let start = self.rows.start;
        let strip = read.slice_rows(rows.start - start..rows.end - start)?;
        self.read = Some(read);
        Ok(Some(strip))
    }

    /// Reads those of a strip and of as many after it as make no more than a large one.
    fn read_from(&mut self, model: &TqModel, strip: &Range<usize>) -> Result<TqTensor> {
        let Target { base, .. } = self.target;
        let strips = RUN_STRIP / (strip.len() * self.target.shape[1]).max(1);
        let end = strip.start + strip.len() * strips.max(1);
        self.rows = strip.start..end.min(self.target.rows.end);
        model.rows(base, self.rows.clone()).map_err(|e| {
            // The system's error is not about the tensor.
            if matches!(e, Error::Io { .. }) {
                return e;
            }
            let place = e.problem().place.clone();
            match strip.start {
                0 => e,
                start => e.at(format!("{place} (rows counted from row {start})")),
            }
        })
    }
}
