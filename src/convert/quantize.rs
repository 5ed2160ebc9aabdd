//! From a source model to a TQ4 model.

use super::job::Job;
use super::names::Choice;
use super::signs::SignSeed;
use super::{Event, model, strips};
use crate::checkpoint::{Checkpoint, Dtype, Planned, Shard, StreamWriter};
use crate::codebook::Codebook;
use crate::encode::quantize_rows;
use crate::error::{Error, Result};
use crate::format::turboquant::{CONFIG, Config};
use crate::reference;
use crate::tensor::{Layout, base_of};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Elements per block of the parallel sums; they are added in order, whatever the threads.
const BLOCK: usize = 1 << 16;

/// How to quantise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bits and group size.
    pub layout: Layout,
    /// Where signs come from.
    pub sign_seed: SignSeed,
    /// Globs of the weights to quantise; empty for linear layers by the usual names.
    pub include: Vec<String>,
    /// Globs of weights to leave as they are.
    pub exclude: Vec<String>,
}

/// One quantised weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// The name before `.weight`.
    pub tensor_base: String,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// `rmse / rms` of the decoded weight against the source, f32 as the reference decodes it.
    pub rmse_ratio: f64,
    /// Bytes in the source.
    pub bytes_in: u64,
    /// Bytes of codes, scales and signs.
    pub bytes_out: u64,
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
    /// Bits per code.
    pub bits: u32,
    /// Elements per group.
    pub group_size: usize,
    /// The weights, shard by shard.
    pub weights: Vec<Weight>,
    /// Weights with a linear layer's name that the format cannot hold.
    pub left: Vec<Left>,
    /// Tensors copied as they are.
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

/// Quantises the model in `source` into the new directory `out`; where the same call has done so already
/// and nothing was changed since, that is said and nothing is written.
///
/// # Errors
/// When the source is damaged, is a TQ4 model already or holds no weight to quantise; when `out` is
/// the source, holds other files or cannot be written; when a chosen weight holds a NaN, an infinity or
/// a group whose norm is beyond f16.
pub fn quantize(
    source: &Path,
    out: &Path,
    options: &Options,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<Quantized> {
    let checkpoint = Checkpoint::open(source)?;
    if source.join(CONFIG).exists() || checkpoint.names().any(|n| n.ends_with(".tq_packed")) {
        return Err(Error::input(
            "the model is quantised already",
            source.display().to_string(),
            "name the source model",
        ));
    }
    let mut plan = Plan::new(&checkpoint, options)?;
    let identity = serde_json::json!({
        "command": "quantize",
        "tool": env!("CARGO_PKG_VERSION"),
        "source": model::identity(&checkpoint)?,
        "bits": options.layout.bits(),
        "group_size": options.layout.group_size(),
        "sign_seed": format!("{:?}", options.sign_seed),
        "weights": plan.chosen.keys().collect::<Vec<_>>(),
    });
    let mut job: Job<Vec<Weight>> = Job::open(out, &[source], identity, on)?;
    let codebook = Arc::new(Codebook::encoder(
        options.layout.bits(),
        options.layout.group_size(),
    ));
    on(Event::Total(plan.bytes_in));
    let resumed_shards = job.done().len();
    let mut weight_map = BTreeMap::new();
    let mut bytes_out = 0;
    for (file, shard, names) in checkpoint.shards() {
        let planned = plan.shard(shard, &names);
        for p in &planned {
            weight_map.insert(p.name.clone(), file.clone());
            bytes_out += bytes(p);
        }
        if job.done().iter().any(|d| d.file == file) {
            let all = names.iter().filter_map(|n| shard.info(n));
            on(Event::Bytes(all.map(|i| i.bytes).sum()));
            continue;
        }
        let metadata = match shard.metadata() {
            given if given.is_empty() => HashMap::from([("format".into(), "pt".into())]),
            given => given.clone(),
        };
        let writer = StreamWriter::create(&job.place(&file)?, planned, Some(metadata))?;
        let mut weights = Vec::new();
        for name in names {
            match plan.chosen.get(name) {
                Some(shape) => weights.push(encode(
                    &writer, shard, name, *shape, options, &codebook, on,
                )?),
                None => model::copy_tensor(&writer, shard, name, on)?,
            }
        }
        shard.unchanged()?;
        job.shard(&file, writer, weights)?;
    }
    let config = Config {
        layout: options.layout,
        codebook,
    };
    let already_finished = job.finished();
    let mut weights: Vec<Weight> = job.done().iter().flat_map(|d| d.of.clone()).collect();
    weights.sort_by(|a, b| a.tensor_base.cmp(&b.tensor_base));
    if !already_finished {
        let config = config.to_json();
        model::finish(&mut job, &checkpoint, &weight_map, bytes_out, Some(&config))?;
        job.finish()?;
    }
    Ok(Quantized {
        bits: options.layout.bits(),
        group_size: options.layout.group_size(),
        copied: checkpoint.names().count() - weights.len(),
        weights,
        left: std::mem::take(&mut plan.left),
        bytes_in: plan.bytes_in,
        bytes_out,
        resumed_shards,
        already_finished,
    })
}

fn bytes(p: &Planned) -> u64 {
    (p.shape.iter().product::<usize>() * p.dtype.bits() / 8) as u64
}

/// What becomes of every tensor.
struct Plan {
    layout: Layout,
    /// Full names of the weights to quantise, with their shapes.
    chosen: BTreeMap<String, [usize; 2]>,
    left: Vec<Left>,
    bytes_in: u64,
}

impl Plan {
    fn new(checkpoint: &Checkpoint, options: &Options) -> Result<Self> {
        let layout = options.layout;
        let bases: Vec<&str> = checkpoint
            .names()
            .filter_map(|n| n.strip_suffix(".weight"))
            .collect();
        let choice = Choice::new(&options.include, &options.exclude, &bases)?;
        let mut plan = Self {
            layout,
            chosen: BTreeMap::new(),
            left: Vec::new(),
            bytes_in: 0,
        };
        for name in checkpoint.names() {
            let info = checkpoint
                .shard_of(name)
                .and_then(|s| s.info(name))
                .expect("the checkpoint names it");
            plan.bytes_in += info.bytes;
            let Some(base) = name.strip_suffix(".weight").filter(|b| choice.takes(b)) else {
                continue;
            };
            let n = layout.group_size();
            let reason = match info.shape[..] {
                _ if !info.dtype.is_plain() => format!("dtype {:?}", info.dtype),
                [rows, cols] if rows > 0 && cols > 0 && cols.is_multiple_of(n) => {
                    plan.chosen.insert(name.to_owned(), [rows, cols]);
                    continue;
                }
                [_, cols] => format!("{cols} columns, not a multiple of {n}"),
                _ => format!("shape {:?}", info.shape),
            };
            plan.left.push(Left {
                tensor_base: base.to_owned(),
                reason,
            });
        }
        if plan.chosen.is_empty() {
            return Err(Error::input(
                format!(
                    "no weight to quantise among {} tensors",
                    checkpoint.names().count()
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

    /// The tensors of a shard of the TQ4 model.
    fn shard(&self, shard: &Shard, names: &[&str]) -> Vec<Planned> {
        let mut planned = Vec::new();
        for name in names {
            let Some([rows, cols]) = self.chosen.get(*name).copied() else {
                let info = shard.info(name).expect("the checkpoint names it");
                planned.push(Planned {
                    name: (*name).to_owned(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                });
                continue;
            };
            let [packed, scales, signs] = parts(name);
            let mut part = |name, dtype, shape| planned.push(Planned { name, dtype, shape });
            part(packed, Dtype::U8, vec![rows, self.layout.packed_len(cols)]);
            part(
                scales,
                Dtype::F16,
                vec![rows, cols / self.layout.group_size()],
            );
            part(signs, Dtype::I8, vec![cols]);
        }
        planned
    }
}

/// Names of codes, scales and signs of the weight `name`.
fn parts(name: &str) -> [String; 3] {
    let base = base_of(name);
    ["tq_packed", "tq_scales", "tq_signs"].map(|part| format!("{base}.{part}"))
}

/// Quantises one weight, strip by strip.
fn encode(
    writer: &StreamWriter,
    shard: &Shard,
    name: &str,
    [rows, cols]: [usize; 2],
    options: &Options,
    codebook: &Arc<Codebook>,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<Weight> {
    on(Event::Tensor(name));
    let layout = options.layout;
    let [packed_name, scales_name, signs_name] = parts(name);
    let base = base_of(name);
    let signs = options.sign_seed.signs(base, cols);
    writer.write_at(&signs_name, 0, bytemuck::cast_slice(&signs))?;
    let row_packed = layout.packed_len(cols);
    let row_scales = 2 * (cols / layout.group_size());
    let info = shard.info(name).expect("the plan took it from there");
    let bytes_in = info.bytes;
    let (mut weight, mut decoded) = (Vec::new(), Vec::new());
    let (mut square, mut source_square) = (0.0, 0.0);
    for strip in strips(rows, cols) {
        weight.resize(strip.len() * cols, 0.0);
        decoded.resize(strip.len() * cols, 0.0);
        shard.read_f32(name, strip.start * cols, &mut weight, |_| ())?;
        let tensor = quantize_rows(base, strip.start, &weight, cols, layout, &signs, codebook)?;
        writer.write_at(
            &packed_name,
            (strip.start * row_packed) as u64,
            tensor.packed(),
        )?;
        let at = (strip.start * row_scales) as u64;
        writer.write_at(&scales_name, at, &tensor.scales().le_bytes())?;
        reference::dequantize_into(&tensor, &mut decoded);
        let sums: Vec<(f64, f64)> = decoded
            .par_chunks(BLOCK)
            .zip(weight.par_chunks(BLOCK))
            .map(|(d, w)| {
                d.iter()
                    .zip(w)
                    .fold((0.0, 0.0), |(square, source), (d, w)| {
                        let (e, w) = (f64::from(d - w), f64::from(*w));
                        (square + e * e, source + w * w)
                    })
            })
            .collect();
        for (s, w) in sums {
            square += s;
            source_square += w;
        }
        on(Event::Bytes(bytes_in / rows as u64 * strip.len() as u64));
    }
    let elements = (rows * cols) as f64;
    Ok(Weight {
        tensor_base: base.to_owned(),
        shape: [rows, cols],
        rmse_ratio: (square / elements).sqrt() / (source_square / elements).sqrt().max(1e-12),
        bytes_in,
        bytes_out: (rows * (row_packed + row_scales) + cols) as u64,
    })
}
