//! From a source model to a quantised model, in whatever format.

use super::job::Conversion;
use super::lock::Lock;
use super::names::Choice;
use super::weight::{QuantizedWeight, encode};
use super::{RunEvent, model};
use crate::checkpoint::{Checkpoint, PlannedTensor, Shard, TensorInfo, keep_apart};
use crate::counted::counted;
use crate::error::{Error, Result};
use crate::format::{self, Encodes, Encoding, Matrix, ModelWriter, OutputTensor};
use crate::natural::natural;
use crate::tensor::base_of;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// How to quantise.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// The format, with what was chosen for it.
    pub encoding: Encoding,
    /// Globs of the weights to quantise; empty for linear layers by the usual names.
    pub include: Vec<String>,
    /// Globs of weights to leave as they are.
    pub exclude: Vec<String>,
}

/// A chosen weight that is copied all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The name before `.weight`.
    pub tensor_base: String,
    /// Why it cannot be quantised.
    pub reason: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantized {
    /// Name of the format.
    pub format: String,
    /// Bits per code; of most weights, where some have others.
    pub bits: u32,
    /// Elements per group.
    pub group_size: usize,
    /// The weights, in name order.
    pub weights: Vec<QuantizedWeight>,
    /// Weights with a linear layer's name that the format cannot hold.
    pub left: Vec<Left>,
    /// What a user should know of the files, a sentence each.
    pub notes: Vec<String>,
    /// Tensors copied as they are, or cast to the type that the format has for them.
    pub copied: usize,
    /// Bytes of all tensors of the source.
    pub bytes_in: u64,
    /// Bytes of all tensors written.
    pub bytes_out: u64,
    /// Shards that an earlier run had finished.
    pub resumed_shards: usize,
    /// An earlier run had finished it: nothing was written.
    pub already_finished: bool,
}

/// Quantises the model in `source` into `out`, a new directory, or a new file where the format's models are one;
/// where the same call has made the directory already and nothing was changed since, that is said and nothing is
/// written.
///
/// # Errors
/// When the source is damaged, is a quantised model already or holds no weight to quantise; when `out` is the
/// source, holds other files or cannot be written; when a chosen weight holds a NaN, an infinity or a group
/// whose scale is beyond its type, or another tensor is of a type that the format does not have.
pub fn quantize(
    source: &Path,
    out: &Path,
    options: &QuantizeOptions,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Quantized> {
    let checkpoint = format::open_plain(source)?;
    if format::is_quantised(&checkpoint) {
        return Err(Error::input(
            "the model is quantised already",
            source.display().to_string(),
            "name the source model",
        ));
    }
    let plan = Plan::new(&checkpoint, options)?;
    let chosen: Vec<&Matrix> = plan.chosen.values().collect();
    let notes = plan.format.notes(source, &chosen)?;
    let written = if plan.format.is_one_file() {
        plan.to_file(&checkpoint, out, on)?
    } else {
        plan.to_directory(&checkpoint, out, on)?
    };
    let layout = plan.format.codec("").layout;
    Ok(Quantized {
        format: plan.format.name().to_owned(),
        bits: layout.bits(),
        group_size: layout.group_size(),
        copied: checkpoint.names().count() - written.weights.len(),
        weights: written.weights,
        left: plan.left,
        notes,
        bytes_in: plan.bytes_in,
        bytes_out: written.bytes_out,
        resumed_shards: written.resumed_shards,
        already_finished: written.already_finished,
    })
}

/// What the header says of a tensor of the checkpoint.
fn info<'c>(checkpoint: &'c Checkpoint, name: &str) -> &'c TensorInfo {
    let info = checkpoint.shard_of(name).and_then(|s| s.info(name));
    info.expect("the checkpoint names it")
}

/// What a conversion wrote.
#[derive(Default)]
struct WrittenModel {
    weights: Vec<QuantizedWeight>,
    bytes_out: u64,
    resumed_shards: usize,
    already_finished: bool,
}

/// What becomes of every tensor.
struct Plan<'o> {
    format: &'o dyn Encodes,
    /// The weights to quantise, by their full names.
    chosen: BTreeMap<String, Matrix>,
    left: Vec<Left>,
    bytes_in: u64,
}

impl<'o> Plan<'o> {
    fn new(checkpoint: &Checkpoint, options: &'o QuantizeOptions) -> Result<Self> {
        let format = options.encoding.format();
        let is_weight = |name: &&str| format.is_weight(name, &info(checkpoint, name).shape);
        let bases: Vec<&str> = checkpoint.names().filter(is_weight).map(base_of).collect();
        let choice = Choice::new(&options.include, &options.exclude, &bases)?;
        let mut plan = Self {
            format,
            chosen: BTreeMap::new(),
            left: Vec::new(),
            bytes_in: 0,
        };
        for name in checkpoint.names() {
            let info = info(checkpoint, name);
            plan.bytes_in += info.bytes;
            if is_weight(&name) && choice.takes(base_of(name)) {
                let matrix = match info.dtype.is_plain() {
                    true => format.matrix(name, &info.shape),
                    false => Err(format!("dtype {:?}", info.dtype)),
                };
                let reason = match matrix {
                    Ok(matrix) => {
                        plan.chosen.insert(name.to_owned(), matrix);
                        continue;
                    }
                    Err(reason) => reason,
                };
                plan.left.push(Left {
                    tensor_base: base_of(name).to_owned(),
                    reason,
                });
            }
            if !format.holds(info.dtype) {
                return Err(Error::input(
                    format!(
                        "{name} is of type {:?}, which files of {} do not have",
                        info.dtype,
                        format.name()
                    ),
                    checkpoint.dir().display().to_string(),
                    "name a source model of F32, F16 or BF16",
                ));
            }
        }
        plan.left
            .sort_by(|a, b| natural(&a.tensor_base, &b.tensor_base));
        if plan.chosen.is_empty() {
            return Err(Error::input(
                format!(
                    "no weight to quantise among {}",
                    counted(checkpoint.names().count(), "tensor")
                ),
                checkpoint.dir().display().to_string(),
                match plan.left.first() {
                    Some(left) => format!("{} is left as it is: {}", left.tensor_base, left.reason),
                    None => "choose weights by name".to_owned(),
                },
            ));
        }
        Ok(plan)
    }

    /// What makes two conversions the same.
    fn identity(&self, checkpoint: &Checkpoint) -> Result<serde_json::Value> {
        Ok(serde_json::json!({
            "command": "quantize",
            "tool": env!("CARGO_PKG_VERSION"),
            "source": model::identity(checkpoint)?,
            "encoding": self.format.identity(),
            "weights": self.chosen.keys().collect::<Vec<_>>(),
        }))
    }

    /// Writes a directory, shard by shard of the source.
    fn to_directory(
        &self,
        checkpoint: &Checkpoint,
        out: &Path,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<WrittenModel> {
        let identity = self.identity(checkpoint)?;
        let mut job: Conversion<Vec<QuantizedWeight>> =
            Conversion::open(out, &[checkpoint.dir()], identity, on)?;
        on(RunEvent::Total(self.bytes_in));
        let mut written = WrittenModel {
            resumed_shards: job.done().len(),
            already_finished: job.finished(),
            ..WrittenModel::default()
        };
        let mut weight_map = BTreeMap::new();
        let count = checkpoint.shards().count();
        for (i, (file, shard, names)) in checkpoint.shards().enumerate() {
            let file = model::file_name(checkpoint, file, i, count);
            let parts = self.parts(shard, &names);
            for part in &parts {
                weight_map.insert(part.planned.name.clone(), file.clone());
                written.bytes_out += part.bytes;
            }
            if job.done().iter().any(|d| d.file == file) {
                let all = names.iter().filter_map(|n| shard.info(n));
                on(RunEvent::Bytes(all.map(|i| i.bytes).sum()));
                continue;
            }
            let path = job.place(&file)?;
            let metadata = shard.metadata();
            let writer = self.format.create(&path, checkpoint, metadata, &parts)?;
            let weights = self.fill(&writer, shard, &names, on)?;
            job.shard(&file, writer, weights)?;
        }
        written.weights = job.done().iter().flat_map(|d| d.of.clone()).collect();
        let by_name =
            |a: &QuantizedWeight, b: &QuantizedWeight| natural(&a.tensor_base, &b.tensor_base);
        written.weights.sort_by(by_name);
        if !written.already_finished {
            let config = self
                .format
                .configuration(checkpoint.dir(), self.chosen.len());
            model::finish(&mut job, checkpoint, &weight_map, written.bytes_out, config)?;
            job.finish()?;
        }
        Ok(written)
    }

    /// Writes one file of all shards. It has its name when it is whole: there is nothing to go on from.
    fn to_file(
        &self,
        checkpoint: &Checkpoint,
        out: &Path,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<WrittenModel> {
        let shards: Vec<_> = checkpoint.shards().collect();
        let mut inputs: Vec<&Path> = shards.iter().map(|(_, shard, _)| shard.path()).collect();
        inputs.push(checkpoint.dir());
        keep_apart(out, &inputs)?;
        let _lock = Lock::new(out)?;
        if out.exists() {
            return Err(Error::input(
                "it is there already",
                out.display().to_string(),
                "name a new file, or remove this one",
            ));
        }
        on(RunEvent::Total(self.bytes_in));
        let mut written = WrittenModel::default();
        let parts = shards.iter().flat_map(|(_, s, names)| self.parts(s, names));
        let parts: Vec<OutputTensor> = parts.collect();
        written.bytes_out = parts.iter().map(|p| p.bytes).sum();
        let writer = self
            .format
            .create(out, checkpoint, &HashMap::new(), &parts)?;
        for (_, shard, names) in &shards {
            written
                .weights
                .extend(self.fill(&writer, shard, names, on)?);
        }
        let by_name =
            |a: &QuantizedWeight, b: &QuantizedWeight| natural(&a.tensor_base, &b.tensor_base);
        written.weights.sort_by(by_name);
        writer.sync()?;
        writer.commit()?;
        Ok(written)
    }

    /// What the tensors of a shard become.
    fn parts(&self, shard: &Shard, names: &[&str]) -> Vec<OutputTensor> {
        let mut parts = Vec::new();
        for name in names {
            if let Some(weight) = self.chosen.get(*name) {
                parts.extend(self.format.parts(weight));
                continue;
            }
            let info = shard.info(name).expect("the checkpoint names it");
            let dtype = self.format.rest(info.dtype);
            let mut part = OutputTensor {
                planned: PlannedTensor {
                    name: (*name).to_owned(),
                    dtype,
                    shape: info.shape.clone(),
                },
                bytes: info.bytes,
            };
            if dtype != info.dtype {
                part = OutputTensor::new(part.planned.name, dtype, part.planned.shape);
            }
            parts.push(part);
        }
        parts
    }

    /// Writes what the tensors of a shard become.
    fn fill(
        &self,
        writer: &ModelWriter,
        shard: &Shard,
        names: &[&str],
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Vec<QuantizedWeight>> {
        let mut weights = Vec::new();
        for name in names {
            if let Some(weight) = self.chosen.get(*name) {
                weights.push(encode(writer, shard, weight, self.format, on)?);
            } else {
                let info = shard.info(name).expect("the checkpoint names it");
                let dtype = self.format.rest(info.dtype);
                model::copy_tensor(writer, shard, name, dtype, on)?;
            }
        }
        shard.unchanged()?;
        Ok(weights)
    }
}
