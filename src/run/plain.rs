//! Tensors that are not quantised, byte for byte.

use super::record::{PlainRecord, PlainStatus};
use crate::checkpoint::{Checkpoint, Shard};
use rayon::prelude::*;
use safetensors::tensor::TensorInfo;

/// Bytes that a thread compares at a time.
const PIECE: usize = 1 << 20;

/// Compares a tensor of the TQ4 model with the source model's.
///
/// # Panics
/// When neither holds it.
pub(super) fn compare(tq: &Checkpoint, source: &Checkpoint, name: &str) -> PlainRecord {
    let mut record = PlainRecord {
        name: name.to_owned(),
        status: PlainStatus::Equal,
        dtype: String::new(),
        shape: Vec::new(),
        bytes: 0,
        differing_bytes: None,
        first_difference: None,
        reason: None,
    };
    let mut of = |(info, data): (&TensorInfo, &[u8])| {
        record.dtype = format!("{:?}", info.dtype);
        record.shape.clone_from(&info.shape);
        record.bytes = data.len() as u64;
    };
    match (find(tq, name), find(source, name)) {
        (Some(a), Some(b)) => {
            of(a);
            contents(&mut record, a, b);
        }
        (Some(a), None) => {
            of(a);
            record.status = PlainStatus::OnlyInTq4;
            record.reason = Some("the source model does not hold it".into());
        }
        (None, b) => {
            of(b.expect("one of the models holds it"));
            record.status = PlainStatus::OnlyInSource;
            record.reason = Some("the TQ4 model does not hold it".into());
        }
    }
    record
}

fn find<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<(&'a TensorInfo, &'a [u8])> {
    let shard: &Shard = checkpoint.shard_of(name)?;
    Some((shard.info(name)?, shard.data(name)?))
}

fn contents(record: &mut PlainRecord, a: (&TensorInfo, &[u8]), b: (&TensorInfo, &[u8])) {
    if (a.0.dtype, &a.0.shape) != (b.0.dtype, &b.0.shape) {
        record.status = PlainStatus::Differs;
        record.reason = Some(format!(
            "{:?} {:?} found, {:?} {:?} in the source",
            a.0.dtype, a.0.shape, b.0.dtype, b.0.shape
        ));
        return;
    }
    let (differing, first) =
        a.1.par_chunks(PIECE)
            .zip(b.1.par_chunks(PIECE))
            .enumerate()
            .map(|(i, (a, b))| {
                if a == b {
                    return (0, None);
                }
                let differs = |(a, b): (&u8, &u8)| a != b;
                let count = a.iter().zip(b).filter(|p| differs(*p)).count() as u64;
                let first = a.iter().zip(b).position(differs).map(|at| i * PIECE + at);
                (count, first)
            })
            .reduce(
                || (0, None),
                // In whatever order: the first difference is the least offset.
                |a, b| (a.0 + b.0, a.1.into_iter().chain(b.1).min()),
            );
    record.differing_bytes = Some(differing);
    record.first_difference = first.map(|at| at as u64);
    if let Some(first) = first {
        record.status = PlainStatus::Differs;
        record.reason = Some(format!(
            "{differing} of {} bytes differ, the first at {first}",
            record.bytes
        ));
    }
}
