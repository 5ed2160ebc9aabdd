//! What a sweep is about: tensors, rows, identity, partitions.

use super::record::{FORMAT, Header, LaneOptions, ModelIdentity, Partition, Rows};
use crate::checkpoint::{Checkpoint, TqModel};
use crate::error::{Error, Result};
use crate::report::{CodebookComparison, Tool};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

/// What a user may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lanes and their options, for the header.
    pub lanes: LaneOptions,
    /// Rows of every tensor.
    pub rows: Rows,
    /// Which part of the tensors.
    pub partition: Partition,
}

/// A TQ4 tensor of the plan.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name without `.weight`.
    pub base: String,
    /// `[rows, cols]` of the whole tensor.
    pub shape: [usize; 2],
    /// Rows to validate.
    pub rows: Range<usize>,
    /// Bytes of codes, scales and signs of these rows.
    pub bytes: u64,
}

impl Tensor {
    /// Elements to validate.
    pub fn elements(&self) -> u64 {
        (self.rows.len() * self.shape[1]) as u64
    }
}

/// A checked plan: nothing but the contents of tensors can still be bad input.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The TQ4 model.
    pub model: &'a TqModel,
    /// The source model.
    pub source: Option<&'a Checkpoint>,
    /// The header of the report.
    pub header: Header,
    /// TQ4 tensors of this partition, by name.
    pub tensors: Vec<Tensor>,
    /// Other tensors of this partition, by name.
    pub plain: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Plans a sweep over the TQ4 tensors `bases` of `model` and, when these are all of them and there is
    /// a source, over every tensor that is not quantised.
    ///
    /// # Errors
    /// When a tensor's parts, its rows or its source weight do not fit, by the headers alone.
    pub fn new(
        model: &'a TqModel,
        source: Option<&'a Checkpoint>,
        bases: &[String],
        options: &Options,
    ) -> Result<Self> {
        let layout = model.config().layout;
        let mut tensors = Vec::new();
        for base in bases {
            let shape = model.info(base)?.shape;
            let rows = rows(base, shape[0], options.rows)?;
            if let Some(source) = source {
                // No row is read: this checks the name, shape and dtype.
                source.rows_f32(&format!("{base}.weight"), shape, 0..0)?;
            }
            let groups = shape[1] / layout.group_size();
            let bytes = rows.len() * (layout.packed_len(shape[1]) + 2 * groups) + shape[1];
            tensors.push(Tensor {
                base: base.clone(),
                shape,
                rows,
                bytes: bytes as u64,
            });
        }
        let plain: Vec<String> = match source {
            Some(source) if bases.len() == model.bases().count() => plain_names(model, source),
            _ => Vec::new(),
        };
        let header = Header {
            format: FORMAT.into(),
            tool: Tool::this(),
            model: identity(model.checkpoint()),
            source: source.map(identity),
            bits: layout.bits(),
            group_size: layout.group_size(),
            centroids_config_vs_cuda: CodebookComparison::new(
                &model.config().codebook,
                layout.bits(),
                layout.group_size(),
            ),
            lanes: options.lanes.clone(),
            rows: options.rows,
            partition: options.partition,
            tensors: bases.to_vec(),
            plain: plain.clone(),
        };
        let mine = partition(
            &[
                tensors.iter().map(|t| (t.base.as_str(), t.bytes)).collect(),
                plain
                    .iter()
                    .map(|n| (n.as_str(), plain_bytes(model, source, n)))
                    .collect(),
            ],
            options.partition,
        );
        Ok(Self {
            model,
            source,
            header,
            tensors: tensors
                .iter()
                .filter(|t| mine[0].contains(t.base.as_str()))
                .cloned()
                .collect(),
            plain: plain
                .iter()
                .filter(|n| mine[1].contains(n.as_str()))
                .cloned()
                .collect(),
        })
    }

    /// Leaves out what `done` holds.
    pub fn without(&mut self, tensors: &BTreeSet<String>, plain: &BTreeSet<String>) {
        self.tensors.retain(|t| !tensors.contains(&t.base));
        self.plain.retain(|n| !plain.contains(n));
    }

    /// Bytes of a tensor that is not quantised; the TQ4 model's where both hold it.
    pub fn plain_bytes(&self, name: &str) -> u64 {
        plain_bytes(self.model, self.source, name)
    }
}

fn rows(base: &str, n: usize, asked: Rows) -> Result<Range<usize>> {
    let end = match asked.count {
        Some(count) => asked.start.saturating_add(count),
        None => n.max(asked.start),
    };
    if asked.start >= end || end > n {
        return Err(Error::input(
            format!(
                "rows {}..{end} asked for, the tensor has rows 0..{n}",
                asked.start
            ),
            base,
            "choose --row-start and --row-count inside the tensor",
        ));
    }
    Ok(asked.start..end)
}

/// Every tensor of either model that is neither part of a TQ4 tensor nor the weight of one.
pub(super) fn plain_names(model: &TqModel, source: &Checkpoint) -> Vec<String> {
    let mut quantised = BTreeSet::new();
    for base in model.bases() {
        for part in ["tq_packed", "tq_scales", "tq_signs", "weight"] {
            quantised.insert(format!("{base}.{part}"));
        }
    }
    let names: BTreeSet<&str> = model.checkpoint().names().chain(source.names()).collect();
    names
        .into_iter()
        .filter(|n| !quantised.contains(*n))
        .map(str::to_owned)
        .collect()
}

fn plain_bytes(model: &TqModel, source: Option<&Checkpoint>, name: &str) -> u64 {
    let size = |c: &Checkpoint| Some(c.shard_of(name)?.info(name)?.bytes);
    size(model.checkpoint())
        .or_else(|| source.and_then(size))
        .unwrap_or(0)
}

fn identity(checkpoint: &Checkpoint) -> ModelIdentity {
    let mut hash = Sha256::new();
    for name in checkpoint.names() {
        let info = checkpoint.shard_of(name).and_then(|s| s.info(name));
        let info = info.expect("the names are those of the shards");
        hash.update(format!("{name}\0{:?}\0{:?}\n", info.dtype, info.shape));
    }
    ModelIdentity {
        name: dir_name(checkpoint.dir()),
        digest: hash.finalize()[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect(),
    }
}

/// Last part of a directory's path.
pub fn dir_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    full.file_name().map_or_else(
        || dir.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    )
}

/// The names that fall to one partition, for each class.
///
/// Classes are split one after the other, each evenly by itself, since a byte of one costs more time
/// than a byte of another. Within a class, names go by size, the largest first (ties by name), each to
/// the partition with the fewest bytes of this class so far (ties: of all classes, then the lowest
/// index). Every name falls to exactly one partition.
fn partition<'n, const N: usize>(
    classes: &[Vec<(&'n str, u64)>; N],
    which: Partition,
) -> [BTreeSet<&'n str>; N] {
    let mut total: HashMap<usize, u64> = HashMap::new();
    std::array::from_fn(|class| {
        let mut by_size = classes[class].clone();
        by_size.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        // No more partitions than names get any.
        let used = which.count.min(by_size.len());
        let mut load = vec![0u64; used];
        let mut mine = BTreeSet::new();
        let before = total.clone();
        for (name, bytes) in by_size {
            let other = |i: usize| before.get(&i).copied().unwrap_or(0);
            let to = (0..used)
                .min_by_key(|&i| (load[i], load[i] + other(i), i))
                .expect("there is a name");
            load[to] += bytes;
            *total.entry(to).or_default() += bytes;
            if to + 1 == which.index {
                mine.insert(name);
            }
        }
        mine
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn partitions_cover_every_name_once_and_evenly(
            sizes in prop::collection::vec(0u64..1_000_000, 0..60),
            plain in prop::collection::vec(0u64..1_000_000, 0..60),
            count in 1usize..80,
        ) {
            let names: Vec<String> = (0..60).map(|i| format!("t{i}")).collect();
            let class = |sizes: &[u64]| -> Vec<(&str, u64)> {
                names.iter().map(String::as_str).zip(sizes.iter().copied()).collect()
            };
            let classes = [class(&sizes), class(&plain)];
            let parts: Vec<_> = (1..=count)
                .map(|index| partition(&classes, Partition { index, count }))
                .collect();
            for (c, class) in classes.iter().enumerate() {
                let bytes: HashMap<&str, u64> = class.iter().copied().collect();
                let mut all: Vec<&str> = parts.iter().flat_map(|p| p[c].iter().copied()).collect();
                all.sort_unstable();
                let mut expected: Vec<&str> = class.iter().map(|(n, _)| *n).collect();
                expected.sort_unstable();
                prop_assert_eq!(all, expected);
                let loads: Vec<u64> = parts.iter().map(|p| p[c].iter().map(|n| bytes[n]).sum()).collect();
                let largest = class.iter().map(|(_, b)| *b).max().unwrap_or(0);
                let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
                prop_assert!(most - least <= largest, "{:?}", loads);
            }
        }
    }

    #[test]
    fn a_partition_is_i_of_n() {
        assert_eq!("3/4".parse(), Ok(Partition { index: 3, count: 4 }));
        for bad in ["", "0/4", "5/4", "1", "1/0", "-1/4", "1/4/2", "a/b", " 1/4"] {
            assert!(bad.parse::<Partition>().is_err(), "{bad}");
        }
    }
}
