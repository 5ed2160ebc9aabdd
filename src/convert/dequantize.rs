//! From a TQ4 model to a plain BF16 model.

use super::job::Job;
use super::{Event, model, strips};
use crate::backend::{Backend, dequantize_bf16};
use crate::checkpoint::{Planned, StreamWriter, TqModel};
use crate::error::{Error, Result};
use crate::fault::{self, Diagnosis};
use crate::gate::{self, Decision};
use crate::metrics::{Values, compare};
use crate::reference;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
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

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dequantized {
    /// Name of the lane.
    pub lane: String,
    /// The device as its driver names it.
    pub device: String,
    /// The weights, in name order.
    pub weights: Vec<Restored>,
    /// Tensors copied as they are.
    pub copied: usize,
    /// Bytes of all tensors read.
    pub bytes_in: u64,
    /// Bytes of all tensors written.
    pub bytes_out: u64,
    /// Shards that an earlier run had finished.
    pub resumed_shards: usize,
    /// An earlier run had finished it: nothing was written.
    pub already_finished: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The model is whole.
    Done(Dequantized),
    /// The lane failed its gates; nothing is left of the output.
    GatesFailed {
        /// The tensor.
        tensor_base: String,
        /// First of the rows that were checked together.
        row_start: usize,
        /// The gates.
        decision: Box<Decision>,
        /// What explains it.
        diagnosis: Option<Box<Diagnosis>>,
    },
}

/// Decodes the TQ4 model in `tq` with `lane` into the new directory `out`; every weight is held to the
/// reference before it is written. Other tensors and files are copied as they are.
///
/// # Errors
/// When the model is damaged; when `out` is the model, holds other files or cannot be written; when
/// the lane breaks.
pub fn dequantize(
    tq: &Path,
    out: &Path,
    lane: &mut dyn Backend,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let from = TqModel::open(tq)?;
    let checkpoint = from.checkpoint();
    let shapes: BTreeMap<String, [usize; 2]> = from
        .bases()
        .map(|b| Ok((b.to_owned(), from.info(b)?.shape)))
        .collect::<Result<_>>()?;
    if shapes.is_empty() {
        return Err(Error::input(
            "no TQ4 tensor found",
            tq.display().to_string(),
            "name a TQ4 model directory",
        ));
    }
    if let Some(base) = shapes
        .keys()
        .find(|b| checkpoint.shard_of(&format!("{b}.weight")).is_some())
    {
        return Err(Error::input(
            format!("both {base}.tq_packed and {base}.weight found"),
            tq.display().to_string(),
            "a weight is plain or quantised, not both",
        ));
    }
    let device = lane.device().clone();
    let identity = serde_json::json!({
        "command": "dequantize",
        "tool": env!("CARGO_PKG_VERSION"),
        "source": model::identity(checkpoint)?,
        "codebook": from.config().to_json(),
        "lane": device.lane,
        "kernel_checksum": device.kernel_checksum,
    });
    let mut job: Job<Vec<Restored>> = Job::open(out, &[tq], identity, on)?;
    let size = |name: &str| {
        let shard = checkpoint.shard_of(name);
        let info = shard.and_then(|s| s.info(name));
        info.map_or(0, |i| (i.data_offsets.1 - i.data_offsets.0) as u64)
    };
    let bytes_in = checkpoint.names().map(size).sum();
    on(Event::Total(bytes_in));
    let resumed_shards = job.done().len();
    let (mut weight_map, mut bytes_out, mut copied) = (BTreeMap::new(), 0, 0);
    for (file, shard, names) in checkpoint.shards() {
        // A weight goes where its codes are; scales and signs may be in another shard.
        let bases: Vec<&str> = names
            .iter()
            .filter_map(|n| n.strip_suffix(".tq_packed"))
            .collect();
        let plain: Vec<&str> = names
            .iter()
            .copied()
            .filter(|n| {
                let (base, part) = n.rsplit_once('.').unwrap_or((n, ""));
                !(matches!(part, "tq_packed" | "tq_scales" | "tq_signs")
                    && shapes.contains_key(base))
            })
            .collect();
        copied += plain.len();
        let mut planned = Vec::new();
        for base in &bases {
            let shape = shapes[*base];
            bytes_out += 2 * (shape[0] * shape[1]) as u64;
            planned.push(Planned {
                name: format!("{base}.weight"),
                dtype: Dtype::BF16,
                shape: shape.to_vec(),
            });
        }
        for name in &plain {
            let info = shard.info(name).expect("the checkpoint names it");
            bytes_out += size(name);
            planned.push(Planned {
                name: (*name).to_owned(),
                dtype: info.dtype,
                shape: info.shape.clone(),
            });
        }
        if planned.is_empty() {
            on(Event::Bytes(names.iter().map(|n| size(n)).sum()));
            continue;
        }
        weight_map.extend(planned.iter().map(|p| (p.name.clone(), file.clone())));
        if job.done().iter().any(|d| d.file == file) {
            on(Event::Bytes(names.iter().map(|n| size(n)).sum()));
            continue;
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let writer = StreamWriter::create(&job.place(&file)?, planned, Some(metadata))?;
        let mut weights = Vec::new();
        for base in bases {
            on(Event::Tensor(base));
            match decode(&writer, &from, base, shapes[base], lane)? {
                Ok(weight) => weights.push(weight),
                Err(failed) => {
                    drop(writer);
                    job.discard();
                    return Ok(failed);
                }
            }
            on(Event::Bytes(size(&format!("{base}.tq_packed"))));
        }
        for name in plain {
            model::copy_tensor(&writer, shard, name, on)?;
        }
        shard.unchanged()?;
        job.shard(&file, writer, weights)?;
    }
    let already_finished = job.finished();
    let mut weights: Vec<Restored> = job.done().iter().flat_map(|d| d.of.clone()).collect();
    weights.sort_by(|a, b| a.tensor_base.cmp(&b.tensor_base));
    if !already_finished {
        model::finish(&mut job, checkpoint, &weight_map, bytes_out, None)?;
        job.finish()?;
    }
    Ok(Outcome::Done(Dequantized {
        lane: device.lane,
        device: device.device,
        weights,
        copied,
        bytes_in,
        bytes_out,
        resumed_shards,
        already_finished,
    }))
}

/// Decodes one weight, strip by strip; the inner error is a lane that fails its gates.
fn decode(
    writer: &StreamWriter,
    from: &TqModel,
    base: &str,
    [rows, cols]: [usize; 2],
    lane: &mut dyn Backend,
) -> Result<Result<Restored, Outcome>> {
    let name = format!("{base}.weight");
    let is_reference = lane.device().lane == "reference";
    let lane_name = lane.device().lane.clone();
    let mut bit_equal = 0;
    let mut expected = Vec::new();
    for strip in strips(rows, cols) {
        let tensor = from.rows(base, strip.clone())?;
        let got = dequantize_bf16(lane, &tensor)?;
        if is_reference {
            bit_equal += got.len() as u64;
        } else {
            expected.resize(tensor.elements(), 0.0);
            reference::dequantize_into(&tensor, &mut expected);
            let metrics = compare(
                &lane_name,
                Values::Bf16(&got),
                "reference_dequant",
                Values::F32(&expected),
            );
            let decision = gate::decide(&lane_name, &metrics);
            if decision.passed != Some(true) {
                return Ok(Err(Outcome::GatesFailed {
                    tensor_base: base.to_owned(),
                    row_start: strip.start,
                    decision: Box::new(decision),
                    diagnosis: fault::diagnose(&lane_name, &tensor, &got).map(Box::new),
                }));
            }
            bit_equal += metrics.bit_equal;
        }
        // Memory is little-endian on every machine that a lane runs on, as the file is.
        let bytes = bytemuck::cast_slice(&got);
        writer.write_at(&name, (strip.start * cols * 2) as u64, bytes)?;
    }
    Ok(Ok(Restored {
        tensor_base: base.to_owned(),
        shape: [rows, cols],
        bit_equal,
    }))
}
