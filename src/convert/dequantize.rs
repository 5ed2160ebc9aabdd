//! From a TQ4 model to a plain BF16 model.

use super::job::Conversion;
use super::model;
use crate::checkpoint::{Dtype, PlannedTensor, StreamWriter};
use crate::error::{Error, Result};
use crate::format::{ModelWriter, TqModel};
use crate::lane::cpu::Cpu;
use crate::lane::{Decoded, LaneOutput, Slot};
use crate::natural::natural;
use crate::record::{Decision, LaneName, OutputType, StripDiagnosis, TensorRecord};
use crate::run::{self, Job, RunEvent, Sink, Target};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// One weight of the plain model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The name before `.weight`.
    pub tensor_base: String,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// Elements that equal the rounded reference.
    pub bit_equal: u64,
}

/// A tensor of the model that a plain model cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub tensor: String,
    /// The name of its type.
    pub dtype: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dequantized {
    /// Name of the lane.
    pub lane: LaneName,
    /// The device as its driver names it.
    pub device: String,
    /// The weights, in name order.
    pub weights: Vec<Restored>,
    /// Tensors copied as they are.
    pub copied: usize,
    /// Tensors that are not there, since safetensors does not have their types.
    pub left_out: Vec<LeftOut>,
    /// Bytes of all tensors read.
    pub bytes_in: u64,
    /// Bytes of all tensors written.
    pub bytes_out: u64,
    /// Shards that an earlier run had finished.
    pub resumed_shards: usize,
    /// An earlier run had finished it: nothing was written.
    pub already_finished: bool,
}

/// The end of a conversion.
#[derive(Debug, Clone, PartialEq)]
pub enum DequantizeOutcome {
    /// The model is whole.
    Done(Dequantized),
    /// The lane failed its gates; nothing is left of the output.
    GatesFailed {
        /// The tensor.
        tensor_base: String,
        /// The gates, of the tensor as a whole.
        decision: Box<Decision>,
        /// What explains it.
        diagnosis: Option<Box<StripDiagnosis>>,
    },
}

/// Decodes a quantised model with `lane` into the new directory `out`; every weight is held to the
/// reference before it is written. Other tensors and files are copied as they are, but for tensors of types that
/// safetensors does not have.
///
/// # Errors
/// When the model is damaged; when `out` is the model, holds other files or cannot be written; when
/// the lane breaks.
pub fn dequantize(
    from: &TqModel,
    out: &Path,
    slot: Slot,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<DequantizeOutcome> {
    let checkpoint = from.checkpoint();
    let shapes: BTreeMap<String, [usize; 2]> = from
        .bases()
        .map(|b| Ok((b.to_owned(), from.info(b)?.shape)))
        .collect::<Result<_>>()?;
    if shapes.is_empty() {
        return Err(Error::input(
            "no TQ4 tensor found",
            checkpoint.dir().display().to_string(),
            "name a quantised model",
        ));
    }
    if let Some(base) = shapes.keys().find(|b| {
        let weight = from.weight_of(b);
        let parts = from.parts_of(b);
        checkpoint.shard_of(weight).is_some() && !parts.iter().any(|p| p == weight)
    }) {
        return Err(Error::input(
            format!(
                "both {} and {} found",
                from.parts_of(base)[0],
                from.weight_of(base)
            ),
            checkpoint.dir().display().to_string(),
            "a weight is plain or quantised, not both",
        ));
    }
    let Slot::Live(lane) = &slot else {
        return Err(Error::unavailable(
            "the lane is not there",
            format!("lane {}", slot.name()),
            "",
        ));
    };
    let device = lane.info().clone();
    let identity = serde_json::json!({
        "command": "dequantize",
        "tool": env!("CARGO_PKG_VERSION"),
        "source": model::identity(checkpoint)?,
        "codebook": from.identity(),
        "lane": device.name,
        "kernel_checksum": device.kernel_checksum,
    });
    let mut output: Conversion<Vec<Restored>> =
        Conversion::open(out, &[checkpoint.dir()], identity, on)?;
    let bases: Vec<String> = shapes.keys().cloned().collect();
    let all = Job::new(from, None, &bases, &run::RunOptions::default())?;
    // The reference decodes beside the lane, unless it is the lane.
    let mut slots = vec![slot];
    if device.name != LaneName::Reference {
        slots.insert(0, Slot::Live(Box::new(Cpu::new(OutputType::F32))));
    }
    let coded: BTreeMap<&str, &str> = from
        .bases()
        .map(|b| (from.parts_of(b)[0].as_str(), b))
        .collect();
    let parts: BTreeSet<&str> = from
        .bases()
        .flat_map(|b| from.parts_of(b).iter().map(String::as_str))
        .collect();
    let size = |name: &str| {
        let shard = checkpoint.shard_of(name);
        let info = shard.and_then(|s| s.info(name));
        info.map_or(0, |i| i.bytes)
    };
    let bytes_in = checkpoint.names().map(size).sum();
    on(RunEvent::Total(bytes_in));
    let resumed_shards = output.done().len();
    let (mut weight_map, mut bytes_out, mut copied) = (BTreeMap::new(), 0, 0);
    let mut left_out = Vec::new();
    let count = checkpoint.shards().count();
    for (i, (file, shard, names)) in checkpoint.shards().enumerate() {
        let file = model::file_name(checkpoint, file, i, count);
        // A weight goes where its codes are; scales and signs may be in another shard.
        let codes = names.iter().filter_map(|n| coded.get(n));
        let bases: Vec<&str> = codes.copied().collect();
        let rest = names.iter().copied().filter(|n| !parts.contains(n));
        let dtype = |name: &str| shard.info(name).expect("the checkpoint names it").dtype;
        let (plain, others): (Vec<&str>, Vec<&str>) =
            rest.partition(|name| dtype(name).safetensors().is_some());
        left_out.extend(others.into_iter().map(|name| LeftOut {
            tensor: name.to_owned(),
            dtype: format!("{:?}", dtype(name)),
        }));
        copied += plain.len();
        let mut planned = Vec::new();
        for base in &bases {
            let shape = shapes[*base];
            bytes_out += 2 * (shape[0] * shape[1]) as u64;
            planned.push(PlannedTensor {
                name: from.weight_of(base).to_owned(),
                dtype: Dtype::BF16,
                shape: from.plain_shape(base, shape),
            });
        }
        for name in &plain {
            let info = shard.info(name).expect("the checkpoint names it");
            bytes_out += size(name);
            planned.push(PlannedTensor {
                name: (*name).to_owned(),
                dtype: info.dtype,
                shape: info.shape.clone(),
            });
        }
        if planned.is_empty() {
            on(RunEvent::Bytes(names.iter().map(|n| size(n)).sum()));
            continue;
        }
        weight_map.extend(planned.iter().map(|p| (p.name.clone(), file.clone())));
        if output.done().iter().any(|d| d.file == file) {
            on(RunEvent::Bytes(names.iter().map(|n| size(n)).sum()));
            continue;
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let writer = StreamWriter::create(&output.place(&file)?, planned, Some(metadata))?;
        let writer = ModelWriter::Safetensors(writer);
        let mut job = all.clone();
        job.whole = false;
        job.targets.retain(|t| bases.contains(&t.base.as_str()));
        let mut sink = Weights {
            writer: &writer,
            lane: slots.len() - 1,
            done: Vec::new(),
            failed: None,
        };
        let packed = |base: &str| size(&from.parts_of(base)[0]);
        let ran = run::run(&job, &mut slots, &mut [&mut sink], &mut |e| {
            // The whole conversion counts bytes of input.
            if matches!(e, RunEvent::Tensor(_)) {
                on(e);
            }
        });
        let Weights { done, failed, .. } = sink;
        if let Some(failed) = failed {
            drop(writer);
            output.discard();
            return Ok(failed);
        }
        ran?;
        on(RunEvent::Bytes(bases.iter().map(|b| packed(b)).sum()));
        for name in plain {
            model::copy_tensor(&writer, shard, name, dtype(name), on)?;
        }
        shard.unchanged()?;
        output.shard(&file, writer, done)?;
    }
    let already_finished = output.finished();
    let mut weights: Vec<Restored> = output.done().iter().flat_map(|d| d.of.clone()).collect();
    weights.sort_by(|a, b| natural(&a.tensor_base, &b.tensor_base));
    if !already_finished {
        model::finish(&mut output, checkpoint, &weight_map, bytes_out, None)?;
        output.finish()?;
    }
    Ok(DequantizeOutcome::Done(Dequantized {
        lane: device.name,
        device: device.device,
        weights,
        copied,
        left_out,
        bytes_in,
        bytes_out,
        resumed_shards,
        already_finished,
    }))
}

/// Writes a lane's values as the weights of a shard; a tensor is judged as a whole before it counts.
struct Weights<'w> {
    writer: &'w ModelWriter,
    /// Index of the lane in the run.
    lane: usize,
    done: Vec<Restored>,
    failed: Option<DequantizeOutcome>,
}

impl Sink for Weights<'_> {
    fn strip(&mut self, target: &Target, decoded: &Decoded) -> Result<()> {
        match &decoded.outputs[self.lane] {
            LaneOutput::Values(values, _) => {
                // Memory is little-endian on every machine that a lane runs on, as the file is.
                let offset = decoded.strip.rows.start * target.shape[1] * 2;
                let info = target.info.as_ref().expect("the model is at hand");
                let values = values.rounded();
                let bytes = bytemuck::cast_slice(&values);
                self.writer.write_at(&info.weight, offset as u64, bytes)
            }
            LaneOutput::Failed(e) => Err(e.clone()),
            LaneOutput::Idle => Ok(()),
        }
    }

    fn tensor(&mut self, target: &Target, record: &TensorRecord) -> Result<()> {
        if let Some(e) = &record.error {
            return Err(e.to_error());
        }
        let lane = &record.lanes[self.lane].name;
        let mut bit_equal = record.elements;
        if *lane != LaneName::Reference {
            let decision = record.decision_of(lane).expect("every lane has one");
            if decision.verdict.passed() != Some(true) {
                self.failed = Some(DequantizeOutcome::GatesFailed {
                    tensor_base: target.base.clone(),
                    decision: Box::new(decision.clone()),
                    diagnosis: record.diagnosis.first().cloned().map(Box::new),
                });
                // Ends the run; the outcome says why.
                return Err(Error::backend("a gate is not met", &target.base, ""));
            }
            let against = |m: &&crate::metrics::Metrics| m.rhs == LaneName::Reference;
            bit_equal = record
                .metrics
                .iter()
                .find(against)
                .map_or(0, |m| m.bit_equal);
        }
        self.done.push(Restored {
            tensor_base: target.base.clone(),
            shape: target.shape,
            bit_equal,
        });
        Ok(())
    }
}
