//! What a conversion carries over: plain tensors, the index, and the files beside the weights.

use super::Event;
use super::job::Job;
use crate::checkpoint::{Checkpoint, INDEX, Shard, StreamWriter, read_json};
use crate::error::{Error, Result};
use crate::format::turboquant::CONFIG;
use crate::hash::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Bytes copied at a time.
const PIECE: usize = 4 << 20;

/// Ends of names of files that hold weights in some form: they are of the input and not carried over.
const WEIGHTS: [&str; 10] = [
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
];

/// Copies a tensor as it is.
pub(super) fn copy_tensor(
    writer: &StreamWriter,
    shard: &Shard,
    name: &str,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    on(Event::Tensor(name));
    let len = shard.info(name).map_or(0, |i| i.bytes) as usize;
    for at in (0..len).step_by(PIECE) {
        let piece: Vec<u8> = shard.read(name, at..len.min(at + PIECE))?;
        writer.write_at(name, at as u64, &piece)?;
        on(Event::Bytes(piece.len() as u64));
    }
    Ok(())
}

/// Checksum of which model this is: file names, lengths, times of change and headers of all shards.
pub(super) fn identity(checkpoint: &Checkpoint) -> Result<String> {
    let mut hash = Sha256::new();
    for (file, shard, names) in checkpoint.shards() {
        let path = shard.path();
        let meta = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
        hash.update(format!(
            "{file:?} {} {:?}\n",
            meta.len(),
            meta.modified().ok()
        ));
        for name in names {
            hash.update(format!("{name:?} {:?}\n", shard.info(name)));
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Writes all that is not a shard: first the files beside the weights, then the index, then the files
/// by which a loader knows a model.
pub(super) fn finish<T: Serialize + DeserializeOwned + Clone>(
    job: &mut Job<T>,
    from: &Checkpoint,
    weight_map: &BTreeMap<String, String>,
    total_size: u64,
    config: Option<&str>,
) -> Result<()> {
    let mut files = Vec::new();
    list(from.dir(), "", &mut files)?;
    // Last, since loaders look for it first.
    files.sort_by_key(|f| f == "config.json");
    for file in &files {
        let path = from.dir().join(file);
        let mut reader = File::open(&path).map_err(|e| Error::io("read", &path, e))?;
        if file == "config.json" {
            write_index(job, from, weight_map, total_size)?;
        }
        job.copy_from(file, &mut reader)?;
    }
    if files.last().is_none_or(|f| f != "config.json") {
        write_index(job, from, weight_map, total_size)?;
    }
    match config {
        Some(text) => job.write(CONFIG, text.as_bytes()),
        None => Ok(()),
    }
}

fn write_index<T: Serialize + DeserializeOwned + Clone>(
    job: &mut Job<T>,
    from: &Checkpoint,
    weight_map: &BTreeMap<String, String>,
    total_size: u64,
) -> Result<()> {
    let path = from.dir().join(INDEX);
    if !path.exists() {
        return Ok(());
    }
    let mut index: serde_json::Value = read_json(&path)?;
    let mut metadata = match index["metadata"].take() {
        serde_json::Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    metadata.insert("total_size".into(), total_size.into());
    let index = serde_json::json!({ "metadata": metadata, "weight_map": weight_map });
    let mut text = serde_json::to_string_pretty(&index).expect("plain data");
    text.push('\n');
    job.write(INDEX, text.as_bytes())
}

/// Files of the model that are not weights, as paths below `root`. Hidden files and linked directories
/// are passed over.
fn list(root: &Path, below: &str, files: &mut Vec<String>) -> Result<()> {
    let dir = root.join(below);
    let io = |e: std::io::Error| Error::io("list the directory", &dir, e);
    let mut entries = std::fs::read_dir(&dir)
        .map_err(io)?
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(io)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| !n.starts_with('.')) else {
            continue;
        };
        let path = if below.is_empty() {
            name.to_owned()
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type().map_err(io)?.is_dir() {
            list(root, &path, files)?;
        } else if entry.path().is_file()
            && name != CONFIG
            && !WEIGHTS.iter().any(|w| name.ends_with(w))
        {
            files.push(path);
        }
    }
    Ok(())
}
