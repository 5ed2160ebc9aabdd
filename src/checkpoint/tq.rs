//! The TQ4 tensors of a checkpoint.

use super::{Checkpoint, Config, Dtype, TensorInfo, nearest};
use crate::error::{Error, Result};
use crate::tensor::{Parts, TqTensor, base_of};
use bytemuck::Pod;
use globset::{GlobBuilder, GlobSetBuilder};
use half::f16;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const PACKED: &str = ".tq_packed";

/// A TQ4 model directory.
#[derive(Debug)]
pub struct TqModel {
    checkpoint: Checkpoint,
    config: Config,
}

/// Shape of one TQ4 tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TqInfo {
    /// The name before `.weight`.
    pub base: String,
    /// `[rows, cols]` of the weight.
    pub shape: [usize; 2],
}

impl TqModel {
    /// Opens a TQ4 model directory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Config::read`].
    pub fn open(dir: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        let config = Config::read(dir)?;
        Ok(Self { checkpoint, config })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Base names of all TQ4 tensors, sorted.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        self.checkpoint
            .names()
            .filter_map(|n| n.strip_suffix(PACKED))
    }

    /// The base name of the TQ4 tensor with this name, which may end in `.weight`.
    ///
    /// # Errors
    /// When there is none; the nearest names are said.
    pub fn base<'a>(&self, name: &'a str) -> Result<&'a str> {
        let base = base_of(name);
        if self.bases().any(|b| b == base) {
            Ok(base)
        } else {
            Err(self.unknown(base, "give the name before .weight"))
        }
    }

    fn unknown(&self, base: &str, help: &str) -> Error {
        Error::input(
            format!("no TQ4 tensor {base:?}{}", nearest(base, self.bases())),
            self.checkpoint.dir().display().to_string(),
            help,
        )
    }

    /// Base names that match `patterns`: exact names, or globs in which `*` crosses dots.
    ///
    /// # Errors
    /// When a pattern is malformed or matches nothing; the nearest names are said.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<String>> {
        let (mut exact, mut chosen) = (Vec::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let wanted = base_of(pattern);
            if self.bases().any(|b| b == wanted) {
                exact.push(wanted);
                continue;
            }
            let glob = GlobBuilder::new(wanted)
                .build()
                .map_err(|e| Error::input(format!("malformed pattern: {e}"), pattern, ""))?;
            let matcher = glob.compile_matcher();
            if !self.bases().any(|b| matcher.is_match(b)) {
                return Err(self.unknown(wanted, "give the name before .weight, or a glob"));
            }
            chosen.add(glob);
        }
        let chosen = chosen.build().map_err(|e| {
            Error::input(format!("malformed pattern: {e}"), patterns.join(", "), "")
        })?;
        Ok(self
            .bases()
            .filter(|b| exact.contains(b) || chosen.is_match(b))
            .map(str::to_owned)
            .collect())
    }

    /// What the header says of a part, and its place in words.
    fn part(&self, base: &str, suffix: &str, dtype: Dtype) -> Result<(&TensorInfo, String)> {
        let name = format!("{base}.{suffix}");
        let dir = self.checkpoint.dir().display();
        let Some(shard) = self.checkpoint.shard_of(&name) else {
            if self
                .checkpoint
                .shard_of(&format!("{base}.tq_norms"))
                .is_some()
            {
                return Err(Error::input(
                    format!("{base}.tq_norms found, expected {name}"),
                    dir.to_string(),
                    "this is another project's format, which only looks like TQ4",
                ));
            }
            let near = if self.bases().any(|b| b == base) {
                String::new()
            } else {
                nearest(base, self.bases())
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

    /// The shape of a TQ4 tensor, from the headers alone.
    ///
    /// # Errors
    /// When a part is missing, has another dtype, or the shapes contradict each other.
    pub fn info(&self, base: &str) -> Result<TqInfo> {
        let layout = self.config.layout;
        let (packed, packed_at) = self.part(base, "tq_packed", Dtype::U8)?;
        let (scales, scales_at) = self.part(base, "tq_scales", Dtype::F16)?;
        let (signs, signs_at) = self.part(base, "tq_signs", Dtype::I8)?;
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
            base: base.to_owned(),
            shape: [rows, cols],
        })
    }

    fn read<T: Pod>(&self, base: &str, suffix: &str, elements: Range<usize>) -> Result<Vec<T>> {
        let name = format!("{base}.{suffix}");
        let shard = self.checkpoint.shard_of(&name);
        shard.expect("the part is there").read(&name, elements)
    }

    /// Reads rows of a TQ4 tensor, and no more than these.
    ///
    /// # Errors
    /// As [`TqModel::info`] and [`TqTensor::new`], or when the rows lie outside the tensor.
    pub fn rows(&self, base: &str, rows: Range<usize>) -> Result<TqTensor> {
        let [n, cols] = self.info(base)?.shape;
        if rows.start >= rows.end || rows.end > n {
            return Err(Error::input(
                format!(
                    "rows {}..{} asked for, the tensor has rows 0..{n}",
                    rows.start, rows.end
                ),
                base,
                "choose rows inside the tensor",
            ));
        }
        let layout = self.config.layout;
        let of_rows = |per_row| rows.start * per_row..rows.end * per_row;
        let parts = Parts {
            packed: self.read(base, "tq_packed", of_rows(layout.packed_len(cols)))?,
            scales: self
                .read::<f16>(base, "tq_scales", of_rows(cols / layout.group_size()))?
                .into(),
            signs: self.read(base, "tq_signs", 0..cols)?,
        };
        TqTensor::new(
            base,
            layout,
            [rows.len(), cols],
            parts,
            Arc::clone(&self.config.codebook),
        )
    }
}
