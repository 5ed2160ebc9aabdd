//! `tq3_native`, the checkpoints of turboquant-vllm: groups of 2-, 3- or 4-bit codes with an f32 norm each.
//!
//! A file holds codes and norms only. Signs and codebook are recomputed from `tq_config.json`; a row's true
//! width, before it was padded to whole groups, is in the model's `config.json` alone.
//!
//! Decoding a group: `centroid * signs.before`, Walsh-Hadamard transform, division by `sqrt(group)`,
//! `* signs.after`, `* norm`.
//!
//! Source: varjoranta/turboquant-vllm 9311d91, `checkpoint.py`, `torch_ops.py`, `weight_quant.py`.

mod config;
mod encoding;
mod names;
mod shape;
mod signs;

pub(super) use config::CONFIG;
pub(super) use encoding::Encoder;

use super::model::{Format, OpenedModel, Stored, TqInfo, read_scales};
use crate::checkpoint::Checkpoint;
use crate::codebook::Codebook;
use crate::codec::{Codec, Layout, ScaleGrid, ScaleType, Scaling, SignsBefore, Unit};
use crate::error::Result;
use crate::tensor::Parts;
use config::Config;
use names::Tq3Weight;
use shape::Widths;
use signs::GroupSigns;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The name under which a user asks for it to be written.
pub(super) const NAME: &str = "tq3-native";

/// Codes without gaps, an f32 norm a group after everything else, signs before the transform as well as after;
/// the codebook and the signs are recomputed.
///
/// # Errors
/// As [`Layout::new`].
pub fn codec(bits: u32, group_size: usize, seed: u64) -> Result<Codec> {
    let scales = ScaleGrid {
        elements: group_size,
        stored: ScaleType::F32,
        scaling: Scaling::After,
        unit: Unit::Norm,
    };
    let before = GroupSigns::of_seed(seed, group_size).before;
    Ok(Codec {
        layout: Layout::new(bits, group_size)?
            .dense()
            .scaled(scales)
            .signed_before(SignsBefore::new(&before)),
        codebook: Arc::new(Codebook::normal(bits, group_size)?),
    })
}

/// The signs after the transform of so many columns, whole groups.
pub fn signs(seed: u64, group_size: usize, cols: usize) -> Vec<i8> {
    let after = GroupSigns::of_seed(seed, group_size).after;
    after.into_iter().cycle().take(cols).collect()
}

/// A model of this format.
#[derive(Debug)]
struct Native {
    config: Config,
    widths: Widths,
    weights: BTreeMap<String, Tq3Weight>,
    /// By bits.
    codecs: BTreeMap<u32, Codec>,
}

/// Reads the configuration in `dir` and finds the weights.
///
/// # Errors
/// When a configuration is damaged, or the tensors contradict it.
pub(super) fn open(dir: &Path, checkpoint: &Checkpoint) -> Result<OpenedModel> {
    let config = Config::read(dir)?;
    let headers: Vec<(&str, String, &[usize])> = checkpoint
        .names()
        .map(|name| {
            let info = checkpoint.shard_of(name).and_then(|s| s.info(name));
            let info = info.expect("the names are those of the shards");
            (name, format!("{:?}", info.dtype), &info.shape[..])
        })
        .collect();
    let tensors = headers.iter().map(|(n, d, s)| (*n, d.as_str(), *s));
    let weights = names::find(&config, &dir.display().to_string(), tensors)?;
    let mut codecs = BTreeMap::new();
    for weight in weights.values() {
        if let Entry::Vacant(place) = codecs.entry(weight.bits) {
            place.insert(codec(weight.bits, config.group_size(), config.seed())?);
        }
    }
    let format = Native {
        widths: Widths::read(dir)?,
        config,
        weights,
        codecs,
    };
    let stored = format.weights.iter().map(|(base, weight)| Stored {
        base: base.clone(),
        weight: plain_name(base, weight),
        parts: vec![weight.packed(), weight.norms()],
    });
    let weights = stored.collect();
    let padded = format.weights.iter().filter(|(base, w)| {
        let padded = w.groups * format.config.group_size();
        format.width(base, padded).is_none()
    });
    let notes = match padded.count() {
        0 => Vec::new(),
        n => vec![format!(
            "no config.json tells the width of {n} of the weights: they are decoded as wide as they are stored, which \
             is whole groups, but where a source tells"
        )],
    };
    Ok(OpenedModel {
        format: Box::new(format),
        weights,
        notes,
    })
}

/// Fused experts are stored without `.weight`, as plain models have them.
fn plain_name(base: &str, weight: &Tq3Weight) -> String {
    if weight.stem == base && base.contains(".experts.") {
        base.to_owned()
    } else {
        format!("{base}.weight")
    }
}

impl Native {
    fn width(&self, base: &str, padded: usize) -> Option<usize> {
        self.widths.of(base, padded, self.config.group_size())
    }
}

impl Format for Native {
    fn codec(&self) -> Option<Codec> {
        let mut codecs = self.codecs.values();
        codecs.next().filter(|_| codecs.next().is_none()).cloned()
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn identity(&self) -> String {
        format!("{:?} {:?}", self.config, self.widths)
    }

    fn info(&self, _: &Checkpoint, stored: &Stored) -> Result<TqInfo> {
        let weight = &self.weights[&stored.base];
        let cols = weight.groups * self.config.group_size();
        let width = self.width(&stored.base, cols);
        Ok(TqInfo {
            base: stored.base.clone(),
            weight: stored.weight.clone(),
            shape: [weight.rows, width.unwrap_or(cols)],
            cols,
            width_known: width.is_some(),
            codec: self.codecs[&weight.bits].clone(),
        })
    }

    fn parts(&self, checkpoint: &Checkpoint, info: &TqInfo, rows: Range<usize>) -> Result<Parts> {
        let weight = &self.weights[&info.base];
        let packed = weight.packed();
        let shard = checkpoint.shard_of(&packed).expect("the part is there");
        let per_row = info.codec.layout.packed_len(info.cols);
        Ok(Parts {
            packed: shard.read(&packed, rows.start * per_row..rows.end * per_row)?,
            scales: read_scales(checkpoint, &weight.norms(), info, rows)?,
            signs: signs(self.config.seed(), self.config.group_size(), info.cols),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Scales;
    use crate::reference::dequantize;
    use crate::tensor::TqTensor;

    /// Codes `i mod 8` under a norm of 1, seed 42, as turboquant-vllm decodes them.
    #[test]
    fn a_group_of_3_bit_codes_decodes_as_published() {
        const N: usize = 128;
        let Codec { layout, codebook } = codec(3, N, 42).unwrap();
        let codes: Vec<u8> = (0..N as u8).map(|i| i % 8).collect();
        let parts = Parts {
            packed: layout.pack(&codes),
            scales: Scales::F32(vec![1.0]),
            signs: signs(42, N, N),
        };
        let tensor = TqTensor::new("group", layout, [1, N], parts, codebook).unwrap();
        let published = [
            -0.03401416,
            -0.02408139,
            -0.12028204,
            0.02635498,
            -0.1822031,
            -0.0576393,
        ];
        for (i, (found, want)) in dequantize(&tensor).iter().zip(published).enumerate() {
            assert!((found - want).abs() < 1e-7, "{i}: {found} {want}");
        }
    }
}
