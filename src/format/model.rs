//! A quantised model, whatever its format.

use super::{foreign, gguf, tq3_native, turboquant};
use crate::checkpoint::{Checkpoint, nearest, read_json};
use crate::codec::{Codec, ScaleType, Scales};
use crate::error::{Error, Result};
use crate::natural::natural;
use crate::tensor::{PARTS, Parts, TqTensor, base_of, place_of};
use globset::{GlobBuilder, GlobSetBuilder};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a format makes of a checkpoint's tensors.
pub(super) trait Format: Debug + Send + Sync {
    /// The codec that all weights have; `None` where they have several.
    fn codec(&self) -> Option<Codec>;

    /// What it is called.
    fn name(&self) -> String;

    /// All that decoding depends on besides the tensors, for checksums.
    fn identity(&self) -> String;

    /// Shape and codec of a weight, by the headers alone.
    fn info(&self, checkpoint: &Checkpoint, stored: &Stored) -> Result<TqInfo>;

    /// The parts of some rows that are there.
    fn parts(&self, checkpoint: &Checkpoint, info: &TqInfo, rows: Range<usize>) -> Result<Parts>;
}

/// A model whose format is known.
pub(super) struct OpenedModel {
    pub(super) format: Box<dyn Format>,
    /// Every quantised weight.
    pub(super) weights: Vec<Stored>,
    /// What a user should know of it, a sentence each.
    pub(super) notes: Vec<String>,
}

/// The names of a quantised weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Without `.weight`.
    pub(super) base: String,
    /// What a plain model calls it.
    pub(super) weight: String,
    /// The tensors that it is made of.
    pub(super) parts: Vec<String>,
}

/// A quantised model.
#[derive(Debug)]
pub struct TqModel {
    checkpoint: Checkpoint,
    format: Box<dyn Format>,
    weights: BTreeMap<String, Stored>,
    notes: Vec<String>,
}

/// Shape and codec of one quantised weight.
#[derive(Debug, Clone, PartialEq)]
pub struct TqInfo {
    /// The name before `.weight`.
    pub base: String,
    /// The name of the weight in a plain model.
    pub weight: String,
    /// `[rows, cols]` of the weight.
    pub shape: [usize; 2],
    /// Columns as stored: those of the weight and what pads them to whole groups.
    pub cols: usize,
    /// Whether the files tell how many columns the weight has; those that are stored are taken otherwise.
    pub width_known: bool,
    /// How it is decoded.
    pub codec: Codec,
}

impl TqInfo {
    /// The width that a source of this shape tells, where nothing else does.
    pub(crate) fn width_of(&self, [rows, cols]: [usize; 2]) -> Option<usize> {
        let n = self.codec.layout.group_size();
        let fits = !self.width_known && rows == self.shape[0];
        (fits && cols.checked_next_multiple_of(n) == Some(self.cols)).then_some(cols)
    }

    /// Bytes of codes and scales of so many rows, and of the signs.
    pub fn bytes(&self, rows: usize) -> u64 {
        let layout = self.codec.layout;
        let groups = rows * (self.cols / layout.group_size());
        (groups * layout.group_bytes() + self.cols) as u64
    }
}

impl TqModel {
    /// Opens a quantised model.
    ///
    /// # Errors
    /// When its files are missing, damaged, or of a format that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_in(path, None)
    }

    /// Opens a quantised model, of which the user says which program wrote it, where it is a GGUF file.
    ///
    /// # Errors
    /// As [`TqModel::open`]; when a dialect is given of what is no GGUF file.
    pub fn open_in(path: &Path, dialect: Option<gguf::Dialect>) -> Result<Self> {
        let (checkpoint, opened) = if gguf::is_gguf(path) {
            gguf::open(path, dialect)?
        } else {
            let checkpoint = Checkpoint::open(path)?;
            let opened = open(path, &checkpoint)?;
            if let Some(dialect) = dialect {
                return Err(Error::input(
                    format!("no GGUF file, which alone has a dialect: {dialect} is given"),
                    path.display().to_string(),
                    "leave --gguf-dialect out",
                ));
            }
            (checkpoint, opened)
        };
        let OpenedModel {
            format,
            weights,
            notes,
        } = opened;
        let named = weights.into_iter().map(|w| (w.base.clone(), w));
        Ok(Self {
            checkpoint,
            format,
            weights: named.collect(),
            notes,
        })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What a user should know of the model, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The codec that all weights have; `None` where they have several.
    pub fn codec(&self) -> Option<Codec> {
        self.format.codec()
    }

    /// All that decoding depends on besides the tensors, for checksums.
    pub(crate) fn identity(&self) -> String {
        self.format.identity()
    }

    /// Base names of all quantised weights, layer 2 before layer 10.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.weights.keys().map(String::as_str).collect();
        names.sort_by(|a, b| natural(a, b));
        names.into_iter()
    }

    /// What its format is called.
    pub fn format_name(&self) -> String {
        self.format.name()
    }

    /// The tensors that a quantised weight is made of, its codes first.
    ///
    /// # Panics
    /// When there is no such weight.
    pub(crate) fn parts_of(&self, base: &str) -> &[String] {
        &self.weights[base].parts
    }

    /// What a plain model calls a quantised weight.
    ///
    /// # Panics
    /// When there is no such weight.
    pub(crate) fn weight_of(&self, base: &str) -> &str {
        &self.weights[base].weight
    }

    /// The shape that a plain model has a quantised weight in, given its rows and columns: one that is a tensor of
    /// its own has that tensor's, experts and all.
    pub(crate) fn plain_shape(&self, base: &str, matrix: [usize; 2]) -> Vec<usize> {
        let weight = self.weight_of(base);
        let shard = self.checkpoint.shard_of(weight);
        match shard.and_then(|s| s.info(weight)) {
            Some(info) if info.matrix() == matrix => info.shape.clone(),
            _ => matrix.to_vec(),
        }
    }

    /// The base name of the quantised weight with this name, which may end in `.weight`.
    ///
    /// # Errors
    /// When there is none; the nearest names are said.
    pub fn base<'a>(&self, name: &'a str) -> Result<&'a str> {
        let base = base_of(name);
        if self.weights.contains_key(base) {
            Ok(base)
        } else {
            Err(self.unknown(base, "give the name before .weight"))
        }
    }

    fn unknown(&self, base: &str, help: &str) -> Error {
        let names = [format!("{base}.weight"), base.to_owned()];
        let plain = names
            .iter()
            .find_map(|n| Some((n, self.checkpoint.shard_of(n)?)));
        if let Some((name, shard)) = plain
            && let Some(info) = shard.info(name)
        {
            return Error::input(
                format!(
                    "{name} is there, stored as {:?} and not quantised",
                    info.dtype
                ),
                shard.path().display().to_string(),
                "--all with --source-model compares what is not quantised, byte for byte",
            );
        }
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
            if self.weights.contains_key(wanted) {
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

    /// Shape and codec of a quantised weight, from the headers alone.
    ///
    /// # Errors
    /// When it is not there, a part is missing or of another type, or the shapes contradict each other.
    pub fn info(&self, base: &str) -> Result<TqInfo> {
        let stored = self.weights.get(base);
        let stored = stored.ok_or_else(|| self.unknown(base, "give the name before .weight"))?;
        self.format.info(&self.checkpoint, stored)
    }

    /// Reads rows of a quantised weight, and no more than these.
    ///
    /// # Errors
    /// As [`TqModel::info`] and [`TqTensor::new`], or when the rows lie outside the tensor.
    pub fn rows(&self, base: &str, rows: Range<usize>) -> Result<TqTensor> {
        let info = self.info(base)?;
        let n = info.shape[0];
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
        let parts = self.format.parts(&self.checkpoint, &info, rows.clone())?;
        TqTensor::new(
            base,
            info.codec.layout,
            [rows.len(), info.cols],
            parts,
            Arc::clone(&info.codec.codebook),
        )
        .map_err(|e| self.in_its_file(base, e))
    }

    /// An error about a part of a weight, with the file that the part lies in.
    fn in_its_file(&self, base: &str, error: Error) -> Error {
        let place = &error.problem().place;
        let part = PARTS.iter().position(|part| *place == place_of(base, part));
        // What a format interleaves is one tensor.
        let parts = self.parts_of(base);
        let name = part.and_then(|part| parts.get(part).or(parts.first()));
        match name.and_then(|name| self.checkpoint.shard_of(name)) {
            Some(shard) => error.in_file(shard.path()),
            None => error,
        }
    }
}

/// Opens a plain model: a directory of safetensors, or a GGUF file.
///
/// # Errors
/// As [`Checkpoint::open`]; of a GGUF file, when it is damaged or a part of it is missing.
pub fn open_plain(path: &Path) -> Result<Checkpoint> {
    if gguf::is_gguf(path) {
        gguf::checkpoint(path)
    } else {
        Checkpoint::open(path)
    }
}

/// Tells the format by its marker.
fn open(dir: &Path, checkpoint: &Checkpoint) -> Result<OpenedModel> {
    let first = dir.join(turboquant::CONFIG).exists();
    if !first && dir.join(tq3_native::CONFIG).exists() {
        return tq3_native::open(dir, checkpoint);
    }
    let has = |end: &str| checkpoint.names().any(|n| n.ends_with(end));
    match foreign::recognise(dir) {
        Some(refused) => Err(refused),
        None if !first && has(".tq_norms") && !has(".tq_scales") => Err(Error::input(
            format!(
                "no {} found, which a model with .tq_norms tensors has",
                tq3_native::CONFIG
            ),
            dir.display().to_string(),
            "copy it from where the model is from",
        )),
        None => turboquant::open(dir, checkpoint),
    }
}

/// Reads and checks a model's configuration; errors name the file. Where there is none, `help` says what to name.
pub(super) fn read_config<Raw: DeserializeOwned, Config>(
    dir: &Path,
    name: &str,
    help: &str,
    check: impl FnOnce(Raw) -> Result<Config>,
) -> Result<Config> {
    let path = dir.join(name);
    if !path.exists() {
        let what = format!("no {name} found");
        return Err(Error::input(what, dir.display().to_string(), help));
    }
    check(read_json(&path)?).map_err(|e| {
        let p = e.problem();
        let place = format!("{} in {}", p.place, path.display());
        Error::input(&p.what, place, &p.help)
    })
}

/// The scales of some rows, from a tensor that holds nothing else.
pub(super) fn read_scales(
    checkpoint: &Checkpoint,
    name: &str,
    info: &TqInfo,
    rows: Range<usize>,
) -> Result<Scales> {
    let shard = checkpoint.shard_of(name).expect("the part is there");
    let scales = info.codec.layout.scales();
    let per_row = info.cols / scales.elements;
    let range = rows.start * per_row..rows.end * per_row;
    Ok(match scales.stored {
        ScaleType::F16 => Scales::F16(shard.read(name, range)?),
        ScaleType::F32 => Scales::F32(shard.read(name, range)?),
        ScaleType::E3m5 => Scales::E3m5(shard.read(name, range)?),
    })
}
