//! Tensors that are not quantised, byte for byte.

use crate::checkpoint::{Checkpoint, Shard, TensorInfo};
use crate::error::Result;
use crate::hash::short;
use crate::record::{PlainRecord, PlainStatus};
use blake3::Hasher;
use rayon::prelude::*;

/// Bytes that a thread compares at a time.
const PIECE: usize = 1 << 20;

/// Compares a tensor of the TQ4 model with the source model's.
///
/// # Errors
/// When a file cannot be read.
///
/// # Panics
/// When neither holds it.
pub(super) fn compare(tq: &Checkpoint, source: &Checkpoint, name: &str) -> Result<PlainRecord> {
    let mut record = PlainRecord {
        name: name.to_owned(),
        status: PlainStatus::Equal,
        dtype: String::new(),
        shape: Vec::new(),
        bytes: 0,
        differing_bytes: None,
        first_difference: None,
        checksum: None,
        reason: None,
    };
    let mut of = |(_, info): (&Shard, &TensorInfo)| {
        record.dtype = format!("{:?}", info.dtype);
        record.shape.clone_from(&info.shape);
        record.bytes = info.bytes;
    };
    match (find(tq, name), find(source, name)) {
        (Some(a), Some(b)) => {
            of(a);
            contents(&mut record, a, b)?;
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
    Ok(record)
}

fn find<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<(&'a Shard, &'a TensorInfo)> {
    let shard = checkpoint.shard_of(name)?;
    Some((shard, shard.info(name)?))
}

fn contents(
    record: &mut PlainRecord,
    a: (&Shard, &TensorInfo),
    b: (&Shard, &TensorInfo),
) -> Result<()> {
    let (to, from) = (a.1.dtype, b.1.dtype);
    let cast = to != from && to.is_plain() && from.is_plain();
    if to != from && !to.is_plain() && a.1.shape == b.1.shape {
        record.status = PlainStatus::NotDecoded;
        record.reason = Some(format!(
            "{to:?} is not decoded here, the source is {from:?}"
        ));
        return Ok(());
    }
    if a.1.shape != b.1.shape || (to != from && !cast) {
        record.status = PlainStatus::Differs;
        record.reason = Some(format!(
            "{:?} {:?} found, {:?} {:?} in the source",
            a.1.dtype, a.1.shape, b.1.dtype, b.1.shape
        ));
        return Ok(());
    }
    if cast {
        record.status = PlainStatus::Cast;
        record.reason = Some(format!(
            "the source is {from:?}: its values, rounded to {to:?}"
        ));
    }
    let len = record.bytes as usize;
    let pieces: Vec<(u64, Option<usize>, blake3::Hash)> = (0..len.div_ceil(PIECE))
        .into_par_iter()
        .map(|i| {
            let piece = i * PIECE..len.min((i + 1) * PIECE);
            let a: Vec<u8> = a.0.read(&record.name, piece.clone())?;
            let b: Vec<u8> = if cast {
                let (size, first) = (to.bits() / 8, piece.start * 8 / to.bits());
                let mut values = vec![0.0; piece.len() / size];
                b.0.read_f32(&record.name, first, &mut values)?;
                to.bytes_of(&values)
            } else {
                b.0.read(&record.name, piece.clone())?
            };
            let hash = Hasher::new().update(&a).update(&b).finalize();
            if a == b {
                return Ok((0, None, hash));
            }
            let differs = |(a, b): (&u8, &u8)| a != b;
            let count = a.iter().zip(&b).filter(|p| differs(*p)).count() as u64;
            let first = a.iter().zip(&b).position(differs);
            Ok((count, first.map(|at| piece.start + at), hash))
        })
        .collect::<Result<_>>()?;
    let differing = pieces.iter().map(|(count, ..)| count).sum();
    let first = pieces.iter().find_map(|(_, first, _)| *first);
    let mut all = Hasher::new();
    for (.., hash) in pieces {
        all.update(hash.as_bytes());
    }
    record.checksum = Some(short(&all));
    record.differing_bytes = Some(differing);
    record.first_difference = first.map(|at| at as u64);
    if let Some(first) = first {
        record.status = PlainStatus::Differs;
        record.reason = Some(format!(
            "{differing} of {} bytes differ, the first at {first}",
            record.bytes
        ));
    }
    Ok(())
}
