//! Small models of every format, which hold what kernels and readers get wrong.

use super::encoding::{Choices, Encodes, Encoding, Matrix, ModelWriter, OutputTensor};
use super::gguf::{BlockType, GgufWriter, WrittenValue, planned};
use super::turboquant::{Config, write_tq_model};
use super::{tq3_native, turboquant};
use crate::checkpoint::{Dtype, SINGLE, StreamWriter, write_atomically};
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::counted::counted;
use crate::error::{Error, Result};
use crate::fixture::tensors;
use crate::synthetic::{self, Rng, ScaleDistribution};
use crate::tensor::{Layout, TqTensor};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// A model that was written: its path below the directory, and what it is.
pub type Example = (String, String);

/// A weight with its codes and scales.
type ExampleWeight = (Matrix, TqTensor);
/// Another tensor with its bytes.
type Plain = (OutputTensor, Vec<u8>);

/// Writes a model of the first format and one of tq3_native for each layout, and GGUF files of the types that
/// have such; where `whole`, models of what is not a matter of a layout as well.
///
/// # Errors
/// When `dir` cannot be written.
pub fn write_all(dir: &Path, layouts: &[Layout], whole: bool) -> Result<Vec<Example>> {
    let mut made = Vec::new();
    for layout in layouts {
        made.push(first(dir, *layout)?);
    }
    for layout in layouts {
        made.push(native(dir, layout.bits(), layout.group_size())?);
    }
    for block in BlockType::ALL {
        let Codec { layout, .. } = block.codec();
        let of = |l: &Layout| (l.bits(), l.group_size());
        if layouts.iter().any(|l| of(l) == of(&layout)) {
            made.push(gguf(dir, block)?);
        }
    }
    if whole {
        made.push(split(dir)?);
        made.push(mixed(dir)?);
    }
    Ok(made)
}

fn example(name: String, codec: &str, all: &[&TqTensor]) -> Example {
    let elements: usize = all.iter().map(|t| t.elements()).sum();
    (
        name,
        format!(
            "{codec}, {}, {elements} elements",
            counted(all.len(), "tensor")
        ),
    )
}

fn first(dir: &Path, layout: Layout) -> Result<Example> {
    let (bits, n) = (layout.bits(), layout.group_size());
    let codebook = Arc::new(Codebook::encoder(bits, n));
    let config = Config { layout, codebook };
    let codec = Codec {
        layout,
        codebook: Arc::clone(&config.codebook),
    };
    let all = tensors(&codec, None)?;
    let name = format!("b{bits}_g{n}");
    write_tq_model(&dir.join(&name), &config, &all)?;
    let said = format!("{}, {bits} bits, group {n}", turboquant::NAME);
    Ok(example(name, &said, &all.iter().collect::<Vec<_>>()))
}

/// The tensors of [`tensors`] as weights of a format.
fn weights(format: &dyn Encodes) -> Result<Vec<ExampleWeight>> {
    let signs = |cols: usize| format.signs("", cols);
    let all = tensors(&format.codec(""), Some(&signs))?.into_iter();
    Ok(all
        .map(|t| {
            let name = format!("{}.weight", t.base());
            (matrix(format, &name, &[t.rows(), t.cols()]), t)
        })
        .collect())
}

fn matrix(format: &dyn Encodes, name: &str, shape: &[usize]) -> Matrix {
    let matrix = format.matrix(name, shape);
    matrix.expect("a shape that the format has")
}

/// A weight of this shape with random codes.
fn weight(
    rng: &mut Rng,
    format: &dyn Encodes,
    name: &str,
    shape: &[usize],
) -> Result<ExampleWeight> {
    let matrix = matrix(format, name, shape);
    let (rows, cols) = (matrix.rows, matrix.stored);
    let tensor = synthetic::of_codec(
        rng,
        &format.codec(name),
        rows,
        cols,
        ScaleDistribution::Usual,
    )?;
    Ok((matrix, tensor))
}

fn parts(format: &dyn Encodes, weights: &[ExampleWeight], plain: &[Plain]) -> Vec<OutputTensor> {
    let of_weights = weights.iter().flat_map(|(matrix, _)| format.parts(matrix));
    of_weights
        .chain(plain.iter().map(|p| p.0.clone()))
        .collect()
}

/// Writes all bytes of a file, and gives it its name.
fn finish(
    writer: ModelWriter,
    format: &dyn Encodes,
    weights: &[ExampleWeight],
    plain: &[Plain],
) -> Result<()> {
    for (matrix, tensor) in weights {
        for (name, at, bytes) in format.pieces(matrix, 0, tensor) {
            writer.write_at(&name, at, &bytes)?;
        }
    }
    for (part, bytes) in plain {
        writer.write_at(&part.planned.name, 0, bytes)?;
    }
    writer.sync()?;
    writer.commit()
}

fn native_encoding(choices: &Choices) -> Result<Encoding> {
    Encoding::new(tq3_native::NAME, choices)
}

fn native(dir: &Path, bits: u32, n: usize) -> Result<Example> {
    let encoding = native_encoding(&Choices {
        bits: Some(bits),
        group_size: Some(n),
        ..Choices::default()
    })?;
    let format = encoding.format();
    let all = weights(format)?;
    let name = format!("native_b{bits}_g{n}");
    write_native(&dir.join(&name), format, &all, &[])?;
    let said = format!("{}, {bits} bits, group {n}", tq3_native::NAME);
    Ok(example(
        name,
        &said,
        &all.iter().map(|w| &w.1).collect::<Vec<_>>(),
    ))
}

fn write_native(
    dir: &Path,
    format: &dyn Encodes,
    weights: &[ExampleWeight],
    plain: &[Plain],
) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, e))?;
    let all = parts(format, weights, plain).into_iter();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let planned = all.map(|p| p.planned).collect();
    let writer = StreamWriter::create(&dir.join(SINGLE), planned, Some(metadata))?;
    finish(ModelWriter::Safetensors(writer), format, weights, plain)?;
    let config = format.configuration(Path::new("fixture"), weights.len());
    let (file, text) = config.expect("the format has one");
    write_atomically(&dir.join(file), text.as_bytes())
}

/// Sensitive layers of other bits, rows that are padded, and experts of one tensor.
fn mixed(dir: &Path) -> Result<Example> {
    let encoding = native_encoding(&Choices {
        bits: Some(3),
        group_size: Some(64),
        sensitive_bits: Some(4),
        ..Choices::default()
    })?;
    let format = encoding.format();
    let mut rng = Rng::new(0xF1C6);
    let mut weight = |name: &str, shape: &[usize]| {
        let name = format!("model.layers.0.{name}");
        self::weight(&mut rng, format, &name, shape)
    };
    let all = [
        weight("self_attn.q_proj.weight", &[10, 200])?,
        weight("mlp.down_proj.weight", &[10, 96])?,
        weight("mlp.experts.gate_up_proj", &[3, 8, 200])?,
    ];
    let name = "model.layers.0.input_layernorm.weight".to_owned();
    let ones = [0x00, 0x3C].repeat(200);
    let plain = [(OutputTensor::new(name, Dtype::F16, vec![200]), ones)];
    let name = "native_mixed".to_owned();
    let path = dir.join(&name);
    write_native(&path, format, &all, &plain)?;
    let config = serde_json::json!({"hidden_size": 200, "intermediate_size": 96});
    write_atomically(&path.join("config.json"), config.to_string().as_bytes())?;
    let said = format!(
        "{}, 3 bits, 4 of sensitive layers, padded rows, experts",
        tq3_native::NAME
    );
    Ok(example(
        name,
        &said,
        &all.iter().map(|w| &w.1).collect::<Vec<_>>(),
    ))
}

/// The weights of a GGUF file: not one block alone, whose bytes do not tell its type.
fn gguf_weights(format: &dyn Encodes) -> Result<Vec<ExampleWeight>> {
    let mut all = weights(format)?;
    all.retain(|(matrix, _)| matrix.rows * matrix.cols > format.codec("").layout.group_size());
    let experts = weight(
        &mut Rng::new(0xF1C7),
        format,
        "fixture.experts.weight",
        &[3, 5, 64],
    )?;
    all.push(experts);
    Ok(all)
}

/// Tensors of types that are not TurboQuant's.
fn stock() -> Vec<Plain> {
    let norm = OutputTensor::new("fixture.norm.weight".into(), Dtype::F32, vec![96]);
    let ones = 1f32.to_le_bytes().repeat(96);
    let blocks: Vec<u8> = (0..4u8)
        .flat_map(|block| [0x00, 0x3C].into_iter().chain([block; 32]))
        .collect();
    let mut q8_0 = OutputTensor::new("fixture.q8_0.weight".into(), Dtype::I8, vec![2, 64]);
    q8_0.planned.dtype = Dtype::of_ggml(8, "Q8_0");
    q8_0.bytes = blocks.len() as u64;
    vec![(norm, ones), (q8_0, blocks)]
}

/// Metadata with every kind of value that is written.
fn metadata(more: &[(&str, u32)]) -> Vec<(String, WrittenValue)> {
    let mut entries = vec![
        ("general.architecture", WrittenValue::String("tq4".into())),
        ("general.name", WrittenValue::String("fixture".into())),
        ("tq4.block_count", WrittenValue::U32(1)),
        ("tq4.parameter_count", WrittenValue::U64(1)),
        ("tq4.rope.freq_base", WrittenValue::F32(10_000.0)),
        ("tokenizer.ggml.add_bos_token", WrittenValue::Bool(true)),
        (
            "tokenizer.ggml.tokens",
            WrittenValue::Strings(vec!["a".into(), String::new()]),
        ),
    ];
    entries.extend(more.iter().map(|(key, n)| (*key, WrittenValue::U32(*n))));
    let owned = entries.into_iter().map(|(key, e)| (key.to_owned(), e));
    owned.collect()
}

fn write_gguf(
    path: &Path,
    format: &dyn Encodes,
    metadata: &[(String, WrittenValue)],
    weights: &[ExampleWeight],
    plain: &[Plain],
) -> Result<()> {
    let all = parts(format, weights, plain);
    let planned: Vec<_> = all.iter().map(planned).collect::<Result<_>>()?;
    let writer = GgufWriter::create(path, metadata, &planned)?;
    finish(ModelWriter::Gguf(writer), format, weights, plain)
}

fn gguf(dir: &Path, block: BlockType) -> Result<Example> {
    let encoding = Encoding::new(block.encoding(), &Choices::default())?;
    let format = encoding.format();
    let all = gguf_weights(format)?;
    let name = format!("{}.gguf", block.name().to_lowercase());
    write_gguf(&dir.join(&name), format, &metadata(&[]), &all, &stock())?;
    let said = format!("GGUF, {block}");
    Ok(example(
        name,
        &said,
        &all.iter().map(|w| &w.1).collect::<Vec<_>>(),
    ))
}

/// A model of two files.
fn split(dir: &Path) -> Result<Example> {
    let block = BlockType::Tq4_1s;
    let encoding = Encoding::new(block.encoding(), &Choices::default())?;
    let format = encoding.format();
    let (all, plain) = (gguf_weights(format)?, stock());
    let (low, high) = all.split_at(3);
    let name = |part: usize| format!("split-{part:05}-of-00002.gguf");
    let count = (all.len() + plain.len()) as u32;
    for (no, weights, plain) in [(0, low, &plain[..1]), (1, high, &plain[1..])] {
        let place = [
            ("split.no", no),
            ("split.count", 2),
            ("split.tensors.count", count),
        ];
        let path = dir.join(name(no as usize + 1));
        write_gguf(&path, format, &metadata(&place), weights, plain)?;
    }
    let said = format!("GGUF of two files, {block}");
    Ok(example(
        name(1),
        &said,
        &all.iter().map(|w| &w.1).collect::<Vec<_>>(),
    ))
}
