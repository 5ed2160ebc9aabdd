//! The first format: safetensors with `turboquant_config.json`.
//!
//! A weight `BASE.weight` of shape `[N, K]` is three tensors: `BASE.tq_packed` U8 `[N, K * b / 8]`,
//! `BASE.tq_scales` F16 `[N, K / group_size]` and `BASE.tq_signs` I8 `[K]`.

mod config;
mod encoding;
mod signs;
mod write;

pub use config::{CONFIG, Config};
pub(super) use encoding::Encoder;
pub use signs::SignSeed;
pub use write::write_tq_model;

use super::model::{Format, OpenedModel, Stored, TqInfo, read_scales};
use crate::checkpoint::{Checkpoint, Dtype, TensorInfo, nearest};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::tensor::Parts;
use std::ops::Range;
use std::path::Path;

/// The name under which a user asks for it to be written.
pub(super) const NAME: &str = "turboquant";

/// End of the name of a weight's codes.
pub const PACKED: &str = ".tq_packed";

/// What follows a weight's base name in those of its parts.
pub const PARTS: [&str; 3] = ["tq_packed", "tq_scales", "tq_signs"];

/// A model of this format.
#[derive(Debug)]
struct Turboquant {
    config: Config,
}

/// Reads the configuration in `dir` and finds the weights.
///
/// # Errors
/// As [`Config::read`].
pub(super) fn open(dir: &Path, checkpoint: &Checkpoint) -> Result<OpenedModel> {
    let config = Config::read(dir)?;
    let bases = checkpoint.names().filter_map(|n| n.strip_suffix(PACKED));
    let weights = bases.map(|base| Stored {
        base: base.to_owned(),
        weight: format!("{base}.weight"),
        parts: PARTS.iter().map(|part| format!("{base}.{part}")).collect(),
    });
    Ok(OpenedModel {
        format: Box::new(Turboquant { config }),
        weights: weights.collect(),
        notes: Vec::new(),
    })
}

impl Turboquant {
    /// What the header says of a part, and its place in words.
    fn part<'c>(
        checkpoint: &'c Checkpoint,
        base: &str,
        suffix: &str,
        dtype: Dtype,
    ) -> Result<(&'c TensorInfo, String)> {
        let name = format!("{base}.{suffix}");
        let dir = checkpoint.dir().display();
        let Some(shard) = checkpoint.shard_of(&name) else {
            if checkpoint.shard_of(&format!("{base}.tq_norms")).is_some() {
                return Err(Error::input(
                    format!("{base}.tq_norms found, expected {name}"),
                    dir.to_string(),
                    "this is another project's format, which only looks like TQ4",
                ));
            }
            let bases = || checkpoint.names().filter_map(|n| n.strip_suffix(PACKED));
            let near = if bases().any(|b| b == base) {
                String::new()
            } else {
                nearest(base, bases())
            };
            return Err(Error::input(
                format!("no tensor {name:?}{near}"),
                dir.to_string(),
                "a TQ4 weight is three tensors: .tq_packed, .tq_scales, .tq_signs",
            ));
        };
        let info = shard.info(&name).expect("the map names this shard");
        let place = format!("{name} in {}", shard.path().display());
        if info.dtype != dtype {
            return Err(Error::input(
                format!("dtype {:?} found, expected {dtype:?}", info.dtype),
                place,
                "this is another project's format, which only looks like TQ4",
            ));
        }
        Ok((info, place))
    }
}

impl Format for Turboquant {
    fn codec(&self) -> Option<Codec> {
        Some(Codec {
            layout: self.config.layout,
            codebook: self.config.codebook.clone(),
        })
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn identity(&self) -> String {
        self.config.to_json()
    }

    fn info(&self, checkpoint: &Checkpoint, stored: &Stored) -> Result<TqInfo> {
        let base = &stored.base;
        let layout = self.config.layout;
        let (packed, packed_at) = Self::part(checkpoint, base, "tq_packed", Dtype::U8)?;
        let (scales, scales_at) = Self::part(checkpoint, base, "tq_scales", Dtype::F16)?;
        let (signs, signs_at) = Self::part(checkpoint, base, "tq_signs", Dtype::I8)?;
        let wrong = |found: &[usize], expected: String, place: String| {
            Err(Error::input(
                format!("shape {found:?} found, expected {expected}"),
                place,
                "check bits and group_size in turboquant_config.json",
            ))
        };
        let [cols] = signs.shape[..] else {
            return wrong(&signs.shape, "[K]".into(), signs_at);
        };
        let [rows, row_bytes] = packed.shape[..] else {
            return wrong(
                &packed.shape,
                format!("[N, {}]", layout.packed_len(cols)),
                packed_at,
            );
        };
        if cols == 0 || !cols.is_multiple_of(layout.group_size()) {
            let expected = format!("[K], K a multiple of group_size {}", layout.group_size());
            return wrong(&signs.shape, expected, signs_at);
        }
        if row_bytes != layout.packed_len(cols) || rows == 0 {
            let expected = format!(
                "[N, {}] for {cols} columns at {} bits",
                layout.packed_len(cols),
                layout.stored_bits()
            );
            return wrong(&packed.shape, expected, packed_at);
        }
        if scales.shape != [rows, cols / layout.group_size()] {
            let expected = format!("[{rows}, {}]", cols / layout.group_size());
            return wrong(&scales.shape, expected, scales_at);
        }
        Ok(TqInfo {
            base: base.clone(),
            weight: stored.weight.clone(),
            shape: [rows, cols],
            cols,
            width_known: true,
            codec: self.codec().expect("there is one for all"),
        })
    }

    fn parts(&self, checkpoint: &Checkpoint, info: &TqInfo, rows: Range<usize>) -> Result<Parts> {
        let layout = info.codec.layout;
        let name = |part: &str| format!("{}.{part}", info.base);
        let shard = |name: &str| checkpoint.shard_of(name).expect("the part is there");
        let of_rows = |per_row| rows.start * per_row..rows.end * per_row;
        let (packed, signs) = (name("tq_packed"), name("tq_signs"));
        Ok(Parts {
            packed: shard(&packed).read(&packed, of_rows(layout.packed_len(info.cols)))?,
            scales: read_scales(checkpoint, &name("tq_scales"), info, rows)?,
            signs: shard(&signs).read(&signs, 0..info.cols)?,
        })
    }
}
