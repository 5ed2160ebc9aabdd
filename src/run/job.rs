//! What a run is about: tensors, rows, identity, partition.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::format::{TqInfo, TqModel};
use crate::judge::blank;
use crate::lane::recording::Wanted;
use crate::natural::natural;
use crate::record::{
    CodebookComparison, FORMAT, LaneConfig, Model, Partition, ReportHeader, Rows, StripSize,
    TensorRecord, Tolerance, Tool,
};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// What a user may choose.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Lanes and their options, for the report.
    pub lanes: LaneConfig,
    /// The recordings that take part, each as `NAME=HASH`, for the report.
    pub recordings: Vec<String>,
    /// The programs that take part, each as `NAME:TYPE=COMMAND`, for the report.
    pub programs: Vec<String>,
    /// The users' kernels that take part, each as `NAME=HASH`, for the report.
    pub kernels: Vec<String>,
    /// How far a lane that is lossy by intent may be off.
    pub tolerance: Option<Tolerance>,
    /// Rows of every tensor.
    pub rows: Rows,
    /// How many rows go through the lanes at a time.
    pub strip: StripSize,
    /// Which part of the tensors.
    pub partition: Partition,
    /// Whether the worst strip of each tensor is drawn.
    pub pictures: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            lanes: LaneConfig::default(),
            recordings: Vec::new(),
            programs: Vec::new(),
            kernels: Vec::new(),
            tolerance: None,
            rows: Rows::default(),
            strip: StripSize::Auto,
            partition: Partition::WHOLE,
            pictures: false,
        }
    }
}

/// A TQ4 tensor of the job.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name without `.weight`.
    pub base: String,
    /// `[rows, cols]` of the whole tensor.
    pub shape: [usize; 2],
    /// How it is stored; `None` where its model is not at hand.
    pub info: Option<TqInfo>,
    /// Rows to judge.
    pub rows: Range<usize>,
    /// Bytes of codes, scales and signs of these rows.
    pub bytes: u64,
}

impl Target {
    /// Bytes of these rows as BF16.
    pub fn output_bytes(&self) -> u64 {
        2 * (self.rows.len() * self.shape[1]) as u64
    }
}

/// A checked job: nothing but the contents of tensors can still be bad input.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The TQ4 model; `None` where recordings are compared with each other alone.
    pub model: Option<&'a TqModel>,
    /// The source model.
    pub source: Option<&'a Checkpoint>,
    /// The header of the report.
    pub header: ReportHeader,
    /// TQ4 tensors of this partition, by name.
    pub targets: Vec<Target>,
    /// Other tensors of this partition, by name.
    pub plain: Vec<String>,
    /// Whether a tensor goes through the lanes in one strip.
    pub whole: bool,
    /// Whether the worst strip of each tensor is drawn.
    pub pictures: bool,
    /// Whether the run ends at the tensor at which a lane loses its device for good: for a report that can
    /// be resumed by a process in which the device works.
    pub stop_when_lost: bool,
}

/// A single tensor of so many elements goes through whole: the published figures are of such a one.
const WHOLE: usize = 1 << 26;

/// Whether strips are whole tensors.
fn whole(targets: &[Target], strip: StripSize) -> bool {
    match (strip, targets) {
        (StripSize::Whole, _) => true,
        (StripSize::Auto, [one]) => one.rows.len() * one.shape[1] <= WHOLE,
        (StripSize::Auto | StripSize::Rows(_), _) => false,
    }
}

impl<'a> Job<'a> {
    /// A job over the TQ4 tensors `bases` of `model` and, when these are all of them and there is a
    /// source, over every tensor that is not quantised.
    ///
    /// # Errors
    /// When a tensor's parts, its rows or its source weight do not fit, by the headers alone.
    pub fn new(
        model: &'a TqModel,
        source: Option<&'a Checkpoint>,
        bases: &[String],
        options: &RunOptions,
    ) -> Result<Self> {
        let targets = bases
            .iter()
            .map(|base| target(model, source, base, options.rows))
            .collect::<Result<Vec<_>>>()?;
        let plain = match source {
            Some(source) if bases.len() == model.bases().count() => plain_names(model, source),
            _ => Vec::new(),
        };
        let codec = model.codec();
        let model_record = Model {
            tq: Some(model.checkpoint().identity()?),
            source: source.map(Checkpoint::identity).transpose()?,
            format: Some(model.format_name()),
            bits: codec.as_ref().map(|c| c.layout.bits()),
            group_size: codec.as_ref().map(|c| c.layout.group_size()),
            centroids_config_vs_cuda: codec.as_ref().and_then(CodebookComparison::of),
            lanes: options.lanes.clone(),
            recordings: options.recordings.clone(),
            programs: options.programs.clone(),
            kernels: options.kernels.clone(),
            tolerance: options.tolerance,
            rows: options.rows,
            strip: options.strip,
            partition: options.partition,
            tensors: bases.to_vec(),
            plain: plain.clone(),
        };
        let sizes = [
            targets.iter().map(|t| (t.base.as_str(), t.bytes)).collect(),
            plain
                .iter()
                .map(|n| (n.as_str(), plain_bytes(model, source, n)))
                .collect(),
        ];
        let [tq, other] = partition(&sizes, options.partition);
        let mut job = Self {
            model: Some(model),
            source,
            header: header(model_record),
            targets: targets.clone(),
            plain: plain.clone(),
            whole: whole(&targets, options.strip),
            pictures: options.pictures,
            stop_when_lost: false,
        };
        job.targets.retain(|t| tq.contains(t.base.as_str()));
        job.plain.retain(|n| other.contains(n.as_str()));
        Ok(job)
    }

    /// A job over tensors of which only recordings are there.
    pub fn of_recordings(targets: Vec<Target>, options: &RunOptions) -> Self {
        Self {
            model: None,
            source: None,
            header: header(Model {
                tq: None,
                source: None,
                format: None,
                bits: None,
                group_size: None,
                centroids_config_vs_cuda: None,
                lanes: options.lanes.clone(),
                recordings: options.recordings.clone(),
                programs: options.programs.clone(),
                kernels: options.kernels.clone(),
                tolerance: options.tolerance,
                rows: options.rows,
                strip: options.strip,
                partition: options.partition,
                tensors: targets.iter().map(|t| t.base.clone()).collect(),
                plain: Vec::new(),
            }),
            whole: whole(&targets, options.strip),
            targets,
            plain: Vec::new(),
            pictures: false,
            stop_when_lost: false,
        }
    }

    /// Judges these rows of a target only.
    ///
    /// # Errors
    /// When the tensor does not have them.
    pub fn narrow(&mut self, base: &str, rows: Range<usize>) -> Result<()> {
        for t in self.targets.iter_mut().filter(|t| t.base == base) {
            let asked = Rows {
                start: rows.start,
                count: Some(rows.len()),
            };
            rows_of(base, t.shape[0], asked)?;
            if let Some(info) = &t.info {
                t.bytes = info.bytes(rows.len());
            }
            t.rows = rows.clone();
        }
        self.whole = whole(&self.targets, self.header.model.strip);
        Ok(())
    }

    /// Leaves out the tensors that are `done`.
    pub fn without(&mut self, done: &BTreeSet<String>, plain: &BTreeSet<String>) {
        self.targets.retain(|t| !done.contains(&t.base));
        self.plain.retain(|n| !plain.contains(n));
    }

    /// Bytes of output and of plain tensors that there are to work on.
    pub fn work(&self) -> u64 {
        let plain = self.plain.iter().map(|n| self.plain_bytes(n));
        self.targets
            .iter()
            .map(Target::output_bytes)
            .chain(plain)
            .sum()
    }

    /// Bytes of a tensor that is not quantised; the TQ4 model's where both hold it.
    pub(super) fn plain_bytes(&self, name: &str) -> u64 {
        self.model
            .map_or(0, |model| plain_bytes(model, self.source, name))
    }

    /// Checks that no file of the models was written to since they were opened.
    ///
    /// # Errors
    /// When one was.
    pub fn unchanged(&self) -> Result<()> {
        self.model.map_or(Ok(()), |m| m.checkpoint().unchanged())?;
        self.source.map_or(Ok(()), Checkpoint::unchanged)
    }

    /// The record of a target before anything is known of it.
    pub(super) fn blank(&self, target: &Target) -> TensorRecord {
        let model = &self.header.model;
        let codec = target.info.as_ref().map(|info| &info.codec);
        TensorRecord {
            source_model: model.source.as_ref().map(|m| m.name.clone()),
            tq_model: model
                .tq
                .as_ref()
                .map_or_else(String::new, |m| m.name.clone()),
            bits: codec.map(|c| c.layout.bits()),
            group_size: codec.map(|c| c.layout.group_size()),
            centroids_config_vs_cuda: codec.and_then(CodebookComparison::of),
            bytes: target.bytes,
            ..blank(&target.base, &target.rows, target.shape[1])
        }
    }
}

fn header(model: Model) -> ReportHeader {
    ReportHeader {
        format: FORMAT.into(),
        tool: Tool::this(),
        model,
    }
}

/// What recordings may be of: these rows of the TQ4 tensors `bases`.
///
/// # Errors
/// When a tensor is not there or does not have the rows.
pub fn wanted(model: &TqModel, bases: &[String], rows: Rows) -> Result<Vec<Wanted>> {
    bases.iter().map(|b| wanted_rows(model, b, rows)).collect()
}

/// The rows of one tensor that are asked for.
fn wanted_rows(model: &TqModel, base: &str, asked: Rows) -> Result<Wanted> {
    let shape = model.info(base)?.shape;
    Ok(Wanted {
        base: base.to_owned(),
        shape,
        rows: rows_of(base, shape[0], asked)?,
    })
}

/// Some rows of a tensor, with its source's weight checked by the headers alone.
fn target(model: &TqModel, source: Option<&Checkpoint>, base: &str, asked: Rows) -> Result<Target> {
    let Wanted { base, shape, rows } = wanted_rows(model, base, asked)?;
    let mut info = model.info(&base)?;
    let mut shape = shape;
    if let Some(source) = source {
        let weight = source
            .shard_of(&info.weight)
            .and_then(|s| s.info(&info.weight));
        if let Some(width) = weight.and_then(|w| info.width_of(w.matrix())) {
            (shape[1], info.shape[1]) = (width, width);
        }
        // No row is read: this checks the name, shape and dtype.
        source.plain_weight(&info.weight, shape)?;
    }
    Ok(Target {
        bytes: info.bytes(rows.len()),
        info: Some(info),
        base,
        shape,
        rows,
    })
}

/// The rows that are asked for, of `n`.
fn rows_of(base: &str, n: usize, asked: Rows) -> Result<Range<usize>> {
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
            "choose rows inside the tensor",
        ));
    }
    Ok(asked.start..end)
}

/// Every tensor of either model that is neither part of a TQ4 tensor nor the weight of one.
fn plain_names(model: &TqModel, source: &Checkpoint) -> Vec<String> {
    let mut quantised: BTreeSet<&str> = BTreeSet::new();
    for base in model.bases() {
        quantised.insert(model.weight_of(base));
        quantised.extend(model.parts_of(base).iter().map(String::as_str));
    }
    let names: BTreeSet<&str> = model.checkpoint().names().chain(source.names()).collect();
    let mut names: Vec<&str> = names.difference(&quantised).copied().collect();
    names.sort_by(|a, b| natural(a, b));
    names.into_iter().map(str::to_owned).collect()
}

fn plain_bytes(model: &TqModel, source: Option<&Checkpoint>, name: &str) -> u64 {
    let size = |c: &Checkpoint| Some(c.shard_of(name)?.info(name)?.bytes);
    size(model.checkpoint())
        .or_else(|| source.and_then(size))
        .unwrap_or(0)
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
}
