//! A GGUF model: its files as a checkpoint, and its blocks.

use super::{BlockType, Dialect, GgufFile, GgufModel, TensorType, decide};
use crate::checkpoint::{Checkpoint, Dtype, Shard, TensorInfo};
use crate::codec::{Codec, Layout, Scales};
use crate::counted::{are, counted};
use crate::error::{Error, Result};
use crate::format::model::{Format, OpenedModel, Stored, TqInfo};
use crate::tensor::{Parts, base_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Whether a file begins as GGUF files do; of what is no regular file none does.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == super::MAGIC
}

/// Opens a model by its file, or by any of its parts, whatever its tensors' types.
///
/// # Errors
/// When a file is damaged or missing, or a tensor lies outside its file.
pub(crate) fn checkpoint(path: &Path) -> Result<Checkpoint> {
    Ok(read(path, None)?.0)
}

/// Opens a quantised model.
///
/// # Errors
/// As [`checkpoint`], and when the type of a tensor cannot be told, or none is TurboQuant's.
pub(in crate::format) fn open(
    path: &Path,
    dialect: Option<Dialect>,
) -> Result<(Checkpoint, OpenedModel)> {
    let (checkpoint, types) = read(path, dialect)?;
    let mut blocks = BTreeMap::new();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for (name, kind) in types {
        match kind? {
            TensorType::Turbo(block) => {
                let base = base_of(&name).to_owned();
                if let Some((other, _)) = blocks.insert(base, (name.clone(), block)) {
                    return Err(Error::input(
                        format!("{other} and {name} are the same weight"),
                        path.display().to_string(),
                        "the file is damaged, or of a program that is not known here",
                    ));
                }
            }
            TensorType::Stock(stock) => *others.entry(stock.name.to_owned()).or_default() += 1,
            TensorType::Unknown(id) => *others.entry(format!("type {id}")).or_default() += 1,
        }
    }
    let listed: Vec<String> = others.iter().map(|(t, n)| format!("{n} {t}")).collect();
    let listed = listed.join(", ");
    if blocks.is_empty() {
        return Err(Error::input(
            format!("no tensor of TurboQuant's types (TQ4_1S, TQ3_1S, TQ3_4S) found, but {listed}"),
            path.display().to_string(),
            "llama.cpp reads it; tq4 is for files of its forks that have these types",
        ));
    }
    let weights = blocks.iter().map(|(base, (name, _))| Stored {
        base: base.clone(),
        weight: name.clone(),
        parts: vec![name.clone()],
    });
    let notes = match others.values().sum::<usize>() {
        0 => Vec::new(),
        n => vec![format!(
            "{} {} of types that are not TurboQuant's, and {} not decoded: {listed}",
            counted(n, "tensor"),
            are(n),
            are(n)
        )],
    };
    let opened = OpenedModel {
        weights: weights.collect(),
        notes,
        format: Box::new(Gguf {
            blocks: blocks
                .into_iter()
                .map(|(base, (_, block))| (base, block))
                .collect(),
        }),
    };
    Ok((checkpoint, opened))
}

/// The types of a model's tensors, where they can be told.
type Types = Vec<(String, Result<TensorType>)>;

fn read(path: &Path, dialect: Option<Dialect>) -> Result<(Checkpoint, Types)> {
    let mut types = Types::new();
    let mut shards = Vec::new();
    for file in GgufModel::open(path)?.into_parts() {
        let mut tensors = BTreeMap::new();
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        for name in names {
            let kind = decide(&file, &name, dialect);
            tensors.insert(name.clone(), info(&file, &name, &kind)?);
            types.push((name, kind));
        }
        shards.push(shard(file, tensors));
    }
    Ok((Checkpoint::of_shards(path, shards), types))
}

fn shard(file: GgufFile, tensors: BTreeMap<String, TensorInfo>) -> Shard {
    let (opened, data_start) = file.into_opened();
    Shard::of_container(opened, data_start, tensors)
}

/// What the header says of a tensor, with the length that its type gives it; of an unknown type, all that is
/// there for it.
fn info(file: &GgufFile, name: &str, kind: &Result<TensorType>) -> Result<TensorInfo> {
    let info = file.known(name)?;
    let elements = info.elements();
    let bytes = match kind {
        Ok(TensorType::Stock(stock)) => {
            let blocks = elements.div_ceil(stock.block);
            blocks.checked_mul(stock.bytes)
        }
        Ok(TensorType::Turbo(block)) => {
            Some(elements / super::block::BLOCK_WEIGHTS as u64 * block.block_bytes())
        }
        Ok(TensorType::Unknown(_)) | Err(_) => Some(info.available),
    };
    let Some(bytes) = bytes.filter(|bytes| *bytes <= info.available) else {
        return Err(Error::input(
            format!(
                "{} bytes are there for {elements} elements of type {}, which take more",
                info.available, info.type_id
            ),
            format!("{name} in {}", file.path().display()),
            "copy the file again; it is truncated or damaged",
        ));
    };
    let dtype = match kind {
        Ok(TensorType::Stock(stock)) => Dtype::of_ggml(stock.id, stock.name),
        Ok(TensorType::Turbo(block)) => Dtype::of_ggml(info.type_id, block.name()),
        Ok(TensorType::Unknown(id)) => Dtype::of_ggml(*id, "of an unknown type"),
        Err(_) => Dtype::of_ggml(info.type_id, "of a type that is not told"),
    };
    let shape = info.dims.iter().rev().map(|d| *d as usize);
    Ok(TensorInfo::new(dtype, shape.collect(), info.offset, bytes))
}

/// Which blocks each weight has.
#[derive(Debug)]
struct Gguf {
    blocks: BTreeMap<String, BlockType>,
}

impl Format for Gguf {
    fn codec(&self) -> Option<Codec> {
        let mut blocks = self.blocks.values();
        let first = blocks.next()?;
        blocks.all(|b| b == first).then(|| first.codec())
    }

    fn name(&self) -> String {
        let types: BTreeSet<&str> = self.blocks.values().map(|b| b.name()).collect();
        let types: Vec<&str> = types.into_iter().collect();
        format!("GGUF {}", types.join(", "))
    }

    fn identity(&self) -> String {
        format!("{:?}", self.blocks)
    }

    fn info(&self, checkpoint: &Checkpoint, stored: &Stored) -> Result<TqInfo> {
        let shard = checkpoint.shard_of(&stored.weight);
        let info = shard.and_then(|s| s.info(&stored.weight));
        let shape = info.expect("the tensor is there").matrix();
        Ok(TqInfo {
            base: stored.base.clone(),
            weight: stored.weight.clone(),
            shape,
            cols: shape[1],
            width_known: true,
            codec: self.blocks[&stored.base].codec(),
        })
    }

    fn parts(&self, checkpoint: &Checkpoint, info: &TqInfo, rows: Range<usize>) -> Result<Parts> {
        let shard = checkpoint
            .shard_of(&info.weight)
            .expect("the tensor is there");
        let layout = info.codec.layout;
        let per_row = info.cols / layout.group_size() * layout.group_bytes();
        let blocks: Vec<u8> = shard.read(&info.weight, rows.start * per_row..rows.end * per_row)?;
        let (packed, scales) = split(layout, &blocks);
        Ok(Parts {
            packed,
            scales,
            signs: BlockType::signs(info.cols),
        })
    }
}

/// Blocks as codes and scales.
fn split(layout: Layout, blocks: &[u8]) -> (Vec<u8>, Scales) {
    let scale_bytes = layout.group_bytes() - layout.packed_group();
    let (mut packed, mut scales) = (Vec::new(), Vec::new());
    packed.reserve_exact(blocks.len() / layout.group_bytes() * layout.packed_group());
    scales.reserve_exact(blocks.len() / layout.group_bytes() * scale_bytes);
    for block in blocks.chunks_exact(layout.group_bytes()) {
        let (of_scales, of_codes) = block.split_at(scale_bytes);
        scales.extend_from_slice(of_scales);
        packed.extend_from_slice(of_codes);
    }
    (packed, Scales::from_bytes(layout.scales().stored, &scales))
}
