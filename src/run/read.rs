//! Reading strips of a job's tensors.

use super::codes::Codes;
use super::decode::InputSums;
use super::job::{Job, Target};
use super::under_way::{Judged, UnderWay};
use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::format::TqInfo;
use crate::metrics::SUM_BLOCK;
use crate::record::{PlainRecord, StripSize, TensorRecord};
use crate::strip::Strip;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender};

/// Elements of a strip; a row that is longer is a strip by itself. A tensor of no more goes through whole, and has
/// exact quantiles.
pub(super) const RUN_STRIP: usize = 1 << 22;

/// The same where no kernel is to be launched on a strip, and none to be diagnosed: what comes of one stays in the caches
/// of most processors. Up to so many times as many where that makes whole blocks of the sums.
pub(super) const REFERENCE_STRIP: usize = 1 << 18;
const REFERENCE_TIMES: usize = 4;

/// A strip in either state, or why the rest of a tensor cannot be read.
pub(super) enum Item<T> {
    Strip {
        /// Index in the job.
        target: usize,
        /// Whether it is the tensor's first.
        first: bool,
        strip: T,
    },
    Bad {
        target: usize,
        error: Error,
    },
}

/// A strip as it was read: without its source's weights, which are still as they are stored.
pub(super) struct ReadStrip {
    pub(super) strip: Strip,
    /// The type of the source's weights; `None` without a source.
    pub(super) dtype: Option<Dtype>,
    /// The weights, or memory for some.
    pub(super) stored: Vec<u8>,
}

/// Strips of whole rows that cover a tensor's.
pub(super) fn strips(job: &Job<'_>, target: &Target) -> impl Iterator<Item = Range<usize>> + use<> {
    let (rows, cols) = (target.rows.clone(), target.shape[1]);
    let step = match job.header.model.strip {
        _ if job.whole => rows.len(),
        StripSize::Rows(rows) => rows,
        _ if rows.len() * cols <= RUN_STRIP => rows.len(),
        _ if job.header.model.reference_alone() => bounded(REFERENCE_STRIP, REFERENCE_TIMES, cols),
        _ => bounded(RUN_STRIP, 1, cols),
    };
    let end = rows.end;
    rows.step_by(step.max(1))
        .map(move |at| at..at.saturating_add(step).min(end))
}

/// Rows of a strip of at most so many elements; of whole blocks of the sums where up to so many times as many hold enough
/// rows, which leaves no block to be summed in two pieces.
fn bounded(elements: usize, times: usize, cols: usize) -> usize {
    let most = (elements / cols.max(1)).max(1);
    let align = SUM_BLOCK >> cols.trailing_zeros().min(SUM_BLOCK.trailing_zeros());
    if most >= align {
        most - most % align
    } else if align * cols <= times * elements {
        align
    } else {
        most
    }
}

/// Reads every strip of every tensor, until nobody takes them any more.
pub(super) fn read_all(job: &Job<'_>, to: &Sender<Item<ReadStrip>>, judged: Receiver<Judged>) {
    let mut under_way = UnderWay::new(judged);
    for (index, target) in job.targets.iter().enumerate() {
        let mut codes = Codes::new(job, target);
        for rows in strips(job, target) {
            let first = rows.start == target.rows.start;
            let elements = rows.len() * target.shape[1];
            let Some(memory) = under_way.add(elements) else {
                return;
            };
            let item = match read(job, target, &mut codes, rows, memory) {
                Ok(strip) => Item::Strip {
                    target: index,
                    first,
                    strip,
                },
                Err(error) => {
                    let stored = Vec::new();
                    under_way.remove(Judged { elements, stored });
                    Item::Bad {
                        target: index,
                        error,
                    }
                }
            };
            let bad = matches!(item, Item::Bad { .. });
            if to.send(item).is_err() {
                return;
            }
            if bad {
                break;
            }
        }
    }
}

/// Reads some rows, and the source's into memory that was used before.
fn read(
    job: &Job<'_>,
    target: &Target,
    codes: &mut Codes<'_>,
    rows: Range<usize>,
    mut stored: Vec<u8>,
) -> Result<ReadStrip> {
    let tensor = codes.of(&rows)?;
    let dtype = job.source.map(|source| {
        let weight = |info: &TqInfo| info.weight.clone();
        let name = target
            .info
            .as_ref()
            .map_or_else(|| format!("{}.weight", target.base), weight);
        source.rows_stored(&name, target.shape, rows.clone(), &mut stored)
    });
    let dtype = dtype.transpose()?;
    let strip = Strip {
        base: target.base.clone(),
        rows,
        cols: target.shape[1],
        tensor,
        source: None,
    };
    Ok(ReadStrip {
        strip,
        dtype,
        stored,
    })
}

/// Checks that what is behind the records is what is in the models now, by reading every byte of it.
///
/// # Errors
/// When one is not, or cannot be read.
pub fn same_weights(job: &Job<'_>, records: &[TensorRecord], plain: &[PlainRecord]) -> Result<()> {
    let of = |target: &&Target| records.iter().find(|r| r.tensor_base == target.base);
    for (target, record) in job.targets.iter().filter_map(|t| Some((t, of(&t)?))) {
        // A tensor that was bad input has none.
        let then = [&record.checksum, &record.source_checksum];
        if record.error.is_some() {
            continue;
        }
        let (mut sums, mut now) = (InputSums::default(), [None, None]);
        let (mut codes, mut memory) = (Codes::new(job, target), Vec::new());
        for rows in strips(job, target) {
            let read = read(job, target, &mut codes, rows, memory)?;
            let tensor = read.strip.tensor.as_ref();
            sums.add(tensor, read.dtype.map(|_| &read.stored[..]));
            now = sums.finish(tensor);
            memory = read.stored;
        }
        if [&now[0], &now[1]] != then {
            return Err(other(&target.base));
        }
    }
    if let (Some(model), Some(source)) = (job.model, job.source) {
        for then in plain {
            if super::plain::compare(model.checkpoint(), source, &then.name)? != *then {
                return Err(other(&then.name));
            }
        }
    }
    Ok(())
}

fn other(name: &str) -> Error {
    Error::input(
        format!(
            "the report is of other weights: the checksum of {name} is another there than here"
        ),
        name,
        "give the same models, or name another report",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounded_strips_are_never_empty(groups in 1usize..200_000) {
            let cols = groups * 32;
            for (elements, times) in [(RUN_STRIP, 1), (REFERENCE_STRIP, REFERENCE_TIMES)] {
                let rows = bounded(elements, times, cols);
                prop_assert!(rows >= 1 && (rows == 1 || rows * cols <= times * elements));
            }
        }
    }
}
