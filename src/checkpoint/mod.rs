//! Checkpoints on disk: a directory of safetensors shards, with or without an index.
//!
//! Files are untrusted: every size and offset is checked before it is used, paths may not leave the
//! directory, and nothing is read that a header did not declare.

mod dtype;
mod guard;
mod identity;
mod opened;
mod shard;
mod stream;
mod unfinished;
mod write;

pub use dtype::Dtype;
pub use guard::{keep_apart, same_place};
pub use identity::dir_name;
pub(crate) use opened::{OpenedFile, failed, read_exact_at};
pub use shard::{Shard, TensorInfo};
pub use stream::{PlannedTensor, StreamWriter};
pub use unfinished::Sum;
pub(crate) use unfinished::{Unfinished, remove_if_there, sync_directory, temporary};
pub use write::{PlainTensor, write_atomically, write_plain_model};
pub(crate) use write::{view, write_safetensors};

use crate::error::{Error, Result};
use crate::spare::sized;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// Name of the index of a sharded checkpoint.
pub const INDEX: &str = "model.safetensors.index.json";
/// Name of the only file of an unsharded one.
pub const SINGLE: &str = "model.safetensors";

/// Name of the journal in a directory that a conversion is writing.
pub const JOURNAL: &str = ".tq4-unfinished.jsonl";

/// Longest index or config that is read, in bytes.
const MAX_JSON: u64 = 256 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A checkpoint directory with its shards open.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens every shard of the checkpoint in `dir`.
    ///
    /// # Errors
    /// When the directory, its index or a shard is missing, damaged or contradicts the others.
    pub fn open(dir: &Path) -> Result<Self> {
        let place = dir.display().to_string();
        if !dir.is_dir() {
            return Err(Error::input(
                if dir.exists() {
                    "a file, not a model directory"
                } else {
                    "no such model directory"
                },
                place,
                "name the directory that holds *.safetensors, or a GGUF file",
            ));
        }
        if dir.join(JOURNAL).exists() {
            return Err(Error::input(
                "the conversion that writes this model is not finished",
                place,
                "give its command again: it goes on where it stopped",
            ));
        }
        let index = dir.join(INDEX);
        if index.exists() {
            return Self::from_index(dir, &index);
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .map_err(|e| Error::io("list the directory", dir, e))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        let file = match files.as_slice() {
            [] => {
                return Err(Error::input(
                    "no *.safetensors file found",
                    place,
                    match gguf_in(dir) {
                        Some(file) => format!("name the GGUF file: {}", file.display()),
                        None => "name the directory that holds the model".into(),
                    },
                ));
            }
            [one] => one.clone(),
            _ => match files.iter().find(|f| f.ends_with(SINGLE)) {
                Some(single) => single.clone(),
                None => {
                    return Err(Error::input(
                        format!("{} shards found but no {INDEX}", files.len()),
                        place,
                        "copy the index that belongs to these shards",
                    ));
                }
            },
        };
        let shard = Shard::open(&file)?;
        let tensors = shard.names().map(|n| (n.to_owned(), 0)).collect();
        Ok(Self {
            dir: dir.to_owned(),
            shards: vec![shard],
            tensors,
        })
    }

    /// The files of another container, as one checkpoint; `path` is what errors call it.
    pub(crate) fn of_shards(path: &Path, shards: Vec<Shard>) -> Self {
        let names = |(i, shard): (usize, &Shard)| -> Vec<(String, usize)> {
            shard.names().map(|n| (n.to_owned(), i)).collect()
        };
        Self {
            dir: path.to_owned(),
            tensors: shards.iter().enumerate().flat_map(names).collect(),
            shards,
        }
    }

    fn from_index(dir: &Path, path: &Path) -> Result<Self> {
        let index: Index = read_json(path)?;
        let mut shards = Vec::new();
        let mut by_file: BTreeMap<&str, usize> = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        for (tensor, file) in &index.weight_map {
            let shard = match by_file.get(file.as_str()) {
                Some(&i) => i,
                None => {
                    shards.push(Shard::open(&inside(dir, path, file)?)?);
                    by_file.insert(file, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if shards[shard].info(tensor).is_none() {
                return Err(Error::input(
                    format!("the index puts tensor {tensor:?} in {file:?}, which does not hold it"),
                    path.display().to_string(),
                    "the index and the shards are of different models; copy both again",
                ));
            }
            tensors.insert(tensor.clone(), shard);
        }
        Ok(Self {
            dir: dir.to_owned(),
            shards,
            tensors,
        })
    }

    /// The directory, or the file that holds the whole model or a part of it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Checks that no shard was written to since it was opened.
    ///
    /// # Errors
    /// When one was.
    pub fn unchanged(&self) -> Result<()> {
        self.shards.iter().try_for_each(Shard::unchanged)
    }

    /// The shard that holds `name`.
    pub fn shard_of(&self, name: &str) -> Option<&Shard> {
        Some(&self.shards[*self.tensors.get(name)?])
    }

    /// Rows of a plain weight as f32, row-major.
    ///
    /// # Errors
    /// When `name` is not there, is not `shape`, or is neither BF16, F16 nor F32.
    pub fn rows_f32(&self, name: &str, shape: [usize; 2], rows: Range<usize>) -> Result<Vec<f32>> {
        let (shard, _) = self.plain_weight(name, shape)?;
        let mut values = vec![0.0; rows.len() * shape[1]];
        shard.read_f32(name, rows.start * shape[1], &mut values)?;
        Ok(values)
    }

    /// Rows of a plain weight as they are stored, and their type. They go to memory that may have been used before; what
    /// it holds after an error is any.
    ///
    /// # Errors
    /// As [`Self::rows_f32`].
    pub(crate) fn rows_stored(
        &self,
        name: &str,
        shape: [usize; 2],
        rows: Range<usize>,
        stored: &mut Vec<u8>,
    ) -> Result<Dtype> {
        let (shard, dtype) = self.plain_weight(name, shape)?;
        let row = shape[1] * dtype.bits() / 8;
        sized(stored, rows.len() * row);
        shard.read_into(name, rows.start * row, stored)?;
        Ok(dtype)
    }

    /// The shard that holds a plain weight, and the weight's type.
    ///
    /// # Errors
    /// As [`Self::rows_f32`].
    pub(crate) fn plain_weight(&self, name: &str, shape: [usize; 2]) -> Result<(&Shard, Dtype)> {
        let Some(shard) = self.shard_of(name) else {
            return Err(Error::input(
                format!("no tensor {name:?}{}", nearest(name, self.names())),
                self.dir.display().to_string(),
                "name the source model that the TQ4 model was made from",
            ));
        };
        let info = shard.info(name).expect("the map names this shard");
        if info.matrix() != shape {
            return Err(Error::input(
                format!(
                    "shape {:?} found, expected {shape:?} as in the TQ4 model",
                    info.shape
                ),
                format!("{name} in {}", shard.path().display()),
                "name the source model that the TQ4 model was made from",
            ));
        }
        Ok((shard, shard.plain_dtype(name)?))
    }

    /// Every shard with its path below the directory and the names that the checkpoint takes from it,
    /// in name order.
    pub fn shards(&self) -> impl Iterator<Item = (String, &Shard, Vec<&str>)> {
        self.shards.iter().enumerate().map(|(i, shard)| {
            let below = shard.path().strip_prefix(&self.dir).ok();
            let name = shard.path().file_name().map(Path::new);
            // A checkpoint that is a file has no path below it.
            let file = below.filter(|p| !p.as_os_str().is_empty()).or(name);
            let file = file.unwrap_or(shard.path());
            let names = self
                .tensors
                .iter()
                .filter(|(_, s)| **s == i)
                .map(|(n, _)| n.as_str())
                .collect();
            (file.to_string_lossy().into_owned(), shard, names)
        })
    }
}

/// The first GGUF file in a directory.
fn gguf_in(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .min()
}

/// The path of a shard that the index names; it must stay inside the directory.
fn inside(dir: &Path, index: &Path, file: &str) -> Result<PathBuf> {
    let relative = Path::new(file);
    let plain = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if !plain || file.is_empty() {
        return Err(Error::input(
            format!("shard path {file:?} leaves the model directory"),
            index.display().to_string(),
            "an index names files beside it; do not trust this one",
        ));
    }
    Ok(dir.join(relative))
}

/// Reads a regular file of JSON, with a limit on its size.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    let bad = |what: String, help: &str| Error::input(what, path.display().to_string(), help);
    if !meta.is_file() {
        return Err(bad("not a regular file".into(), "name a JSON file"));
    }
    if meta.len() > MAX_JSON {
        let what = format!(
            "{} bytes of JSON are more than the {MAX_JSON} read here",
            meta.len()
        );
        return Err(bad(what, "the file is damaged or of another kind"));
    }
    let text = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    serde_json::from_slice(&text).map_err(|e| {
        let what = format!("not the JSON expected here: {e}");
        bad(what, "the file is damaged or of another kind")
    })
}

/// `; nearest: a, b, c` for a name that is not there, or nothing when no name is near.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut scored: Vec<(f64, &str)> = names
        .map(|n| (strsim::normalized_levenshtein(name, n), n))
        .filter(|(score, _)| *score > 0.4)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<&str> = scored.iter().take(3).map(|(_, n)| *n).collect();
    if near.is_empty() {
        String::new()
    } else {
        format!("; nearest names: {}", near.join(", "))
    }
}
