//! What a conversion carries over: plain tensors, the index, and the files beside the weights.

use super::RunEvent;
use super::job::Conversion;
use crate::checkpoint::{Checkpoint, Dtype, INDEX, SINGLE, Shard, read_json};
use crate::error::{Error, Result};
use crate::format::{ModelWriter, is_marker};
use crate::hash::hex;
use half::f16;
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

/// What shard `i` of `count` is called in a directory: as in the source, where that is one too.
pub(super) fn file_name(from: &Checkpoint, file: String, i: usize, count: usize) -> String {
    match count {
        _ if from.dir().is_dir() => file,
        1 => SINGLE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    }
}

/// Copies a tensor as elements of `dtype`: its own, or F16 for one that is read as f32.
pub(super) fn copy_tensor(
    writer: &ModelWriter,
    shard: &Shard,
    name: &str,
    dtype: Dtype,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<()> {
    on(RunEvent::Tensor(name));
    let info = shard.info(name).expect("the checkpoint names it");
    if dtype != info.dtype {
        return cast_tensor(writer, shard, name, on);
    }
    let len = info.bytes as usize;
    for at in (0..len).step_by(PIECE) {
        let piece: Vec<u8> = shard.read(name, at..len.min(at + PIECE))?;
        writer.write_at(name, at as u64, &piece)?;
        on(RunEvent::Bytes(piece.len() as u64));
    }
    Ok(())
}

/// Copies a tensor of BF16, F16 or F32 as F16.
fn cast_tensor(
    writer: &ModelWriter,
    shard: &Shard,
    name: &str,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<()> {
    let info = shard.info(name).expect("the checkpoint names it");
    let (elements, bytes) = (info.shape.iter().product::<usize>(), info.bytes);
    let per_piece = PIECE / 4;
    for at in (0..elements).step_by(per_piece) {
        let mut values = vec![0.0f32; per_piece.min(elements - at)];
        shard.read_f32(name, at, &mut values)?;
        let half: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
        let lost = |(v, h): (&f32, &f16)| v.is_finite() && !h.is_finite();
        if let Some(i) = values.iter().zip(&half).position(lost) {
            return Err(Error::input(
                format!("value {} of element {} is beyond F16", values[i], at + i),
                name,
                "this format has other tensors in F16; choose another format, or leave the tensor out of the source",
            ));
        }
        writer.write_at(name, 2 * at as u64, bytemuck::cast_slice(&half))?;
        on(RunEvent::Bytes(
            bytes / elements as u64 * values.len() as u64,
        ));
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
    job: &mut Conversion<T>,
    from: &Checkpoint,
    weight_map: &BTreeMap<String, String>,
    total_size: u64,
    config: Option<(&str, String)>,
) -> Result<()> {
    let mut files = Vec::new();
    // What lies beside a file is not known to be its model's.
    if from.dir().is_dir() {
        list(from.dir(), "", &mut files)?;
    }
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
        Some((file, text)) => job.write(file, text.as_bytes()),
        None => Ok(()),
    }
}

fn write_index<T: Serialize + DeserializeOwned + Clone>(
    job: &mut Conversion<T>,
    from: &Checkpoint,
    weight_map: &BTreeMap<String, String>,
    total_size: u64,
) -> Result<()> {
    let path = from.dir().join(INDEX);
    let mut index = if path.exists() {
        read_json(&path)?
    } else if !from.dir().is_dir() && weight_map.values().any(|file| file != SINGLE) {
        serde_json::Value::Null
    } else {
        return Ok(());
    };
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
            && !is_marker(name)
            && !WEIGHTS.iter().any(|w| name.ends_with(w))
        {
            files.push(path);
        }
    }
    Ok(())
}
