//! Reading strips of a job's tensors, and the checksum of what was read.

use super::job::{Job, Target};
use crate::error::{Error, Result};
use crate::format::TqInfo;
use crate::metrics::SUM_BLOCK;
use crate::record::{PlainRecord, StripSize, TensorRecord};
use crate::strip::{Strip, TensorSum};
use std::ops::Range;
use std::sync::mpsc::SyncSender;

/// Elements of a strip; a row that is longer is a strip by itself. A tensor of no more goes through whole, and has
/// exact quantiles.
const RUN_STRIP: usize = 1 << 22;

/// The same where no kernel is to be launched on a strip, and none to be diagnosed: what comes of one stays in the caches
/// of most processors, and its memory is used again without the system.
const REFERENCE_STRIP: usize = 1 << 20;

/// A strip in either state, or why the rest of a tensor cannot be read.
pub(super) enum Item<T> {
    Strip {
        /// Index in the job.
        target: usize,
        /// Whether it is the tensor's first.
        first: bool,
        /// Of all rows and of their source, with the last strip.
        checksums: [Option<String>; 2],
        strip: T,
    },
    Bad {
        target: usize,
        error: Error,
    },
}

/// Strips of whole rows that cover a tensor's.
pub(super) fn strips(job: &Job<'_>, target: &Target) -> impl Iterator<Item = Range<usize>> + use<> {
    let (rows, cols) = (target.rows.clone(), target.shape[1]);
    let step = match job.header.model.strip {
        _ if job.whole => rows.len(),
        StripSize::Rows(rows) => rows,
        _ if rows.len() * cols <= RUN_STRIP => rows.len(),
        _ if job.header.model.reference_alone() => bounded(REFERENCE_STRIP, cols),
        _ => bounded(RUN_STRIP, cols),
    };
    let end = rows.end;
    rows.step_by(step.max(1))
        .map(move |at| at..at.saturating_add(step).min(end))
}

/// Rows of a strip of at most so many elements; of whole blocks of the sums where it holds enough rows,
/// which leaves no block to be summed in two pieces.
fn bounded(elements: usize, cols: usize) -> usize {
    let most = (elements / cols.max(1)).max(1);
    let align = SUM_BLOCK >> cols.trailing_zeros().min(SUM_BLOCK.trailing_zeros());
    if most >= align {
        most - most % align
    } else {
        most
    }
}

/// Reads every strip of every tensor, until nobody takes them any more.
pub(super) fn read_all(job: &Job<'_>, to: &SyncSender<Item<Strip>>) {
    for (index, target) in job.targets.iter().enumerate() {
        let mut sum = TensorSum::default();
        for rows in strips(job, target) {
            let (first, last) = (rows.start == target.rows.start, rows.end == target.rows.end);
            let item = match read(job, target, rows, &mut sum) {
                Ok((strip, checksums)) => Item::Strip {
                    target: index,
                    first,
                    checksums: if last { checksums } else { [None, None] },
                    strip,
                },
                Err(error) => Item::Bad {
                    target: index,
                    error,
                },
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

/// Reads some rows and the source's; the checksums of all rows so far.
fn read(
    job: &Job<'_>,
    target: &Target,
    rows: Range<usize>,
    sum: &mut TensorSum,
) -> Result<(Strip, [Option<String>; 2])> {
    let tensor = job
        .model
        .map(|model| model.rows(&target.base, rows.clone()));
    let tensor = tensor.transpose().map_err(|e| {
        // The system's error is not about the tensor.
        if matches!(e, Error::Io { .. }) {
            return e;
        }
        let place = e.problem().place.clone();
        match rows.start {
            0 => e,
            start => e.at(format!("{place} (rows counted from row {start})")),
        }
    })?;
    let source = job.source.map(|source| {
        let weight = |info: &TqInfo| info.weight.clone();
        let name = target
            .info
            .as_ref()
            .map_or_else(|| format!("{}.weight", target.base), weight);
        source.rows_f32(&name, target.shape, rows.clone(), |b| sum.add_source(b))
    });
    let source = source.transpose()?;
    if let Some(tensor) = &tensor {
        sum.add(tensor);
    }
    let checksums = [
        tensor.as_ref().map(|tensor| sum.finish(tensor)),
        source.as_ref().map(|_| sum.finish_source()),
    ];
    let strip = Strip {
        base: target.base.clone(),
        rows,
        cols: target.shape[1],
        tensor,
        source,
    };
    Ok((strip, checksums))
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
        let (mut sum, mut now) = (TensorSum::default(), [None, None]);
        for rows in strips(job, target) {
            (_, now) = read(job, target, rows, &mut sum)?;
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
            for elements in [RUN_STRIP, REFERENCE_STRIP] {
                let rows = bounded(elements, cols);
                prop_assert!(rows >= 1 && (rows == 1 || rows * cols <= elements));
            }
        }
    }
}
