//! A model of any size, written in a stream: its contents are a piece of noise over and over.

use half::{bf16, f16};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use tq4::codebook::Codebook;
use tq4::synthetic::Rng;

/// Bytes of noise; a prime number of elements, so that no two rows are alike.
const PIECE: usize = 2 * 524_287;

/// A TQ4 tensor: name without `.weight`, rows, columns (a multiple of 128).
pub struct Tensor {
    pub base: String,
    pub rows: usize,
    pub cols: usize,
}

/// `count` tensors of `rows * cols` elements.
pub fn tensors(count: usize, rows: usize, cols: usize) -> Vec<Tensor> {
    (0..count)
        .map(|i| Tensor {
            base: format!("model.layers.{i}.mlp.gate_proj"),
            rows,
            cols,
        })
        .collect()
}

fn noise(rng: &mut Rng, mut element: impl FnMut(&mut Rng) -> [u8; 2]) -> Vec<u8> {
    (0..PIECE / 2).flat_map(|_| element(rng)).collect()
}

/// One tensor of a file: name, dtype, shape, bytes, contents to repeat.
type Part<'a> = (String, &'static str, Vec<usize>, usize, &'a [u8]);

fn write(path: &Path, parts: &[Part<'_>]) {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, dtype, shape, bytes, _) in parts {
        let entry = serde_json::json!({
            "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes],
        });
        header.insert(name.clone(), entry);
        at += bytes;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    for (_, _, _, bytes, contents) in parts {
        let mut left = *bytes;
        while left > 0 {
            let n = left.min(contents.len());
            file.write_all(&contents[..n]).unwrap();
            left -= n;
        }
    }
    file.flush().unwrap();
}

/// Bytes of each tensor that is not quantised.
const PLAIN: usize = 4096;

/// Writes the TQ4 model in `dir/tq4`, and in `dir/source` weights of the usual spread (not those that the
/// codes stand for). Each TQ4 tensor has one beside it that is not quantised, the same in both.
pub fn write_models(dir: &Path, tensors: &[Tensor]) {
    let mut rng = Rng::new(7);
    let codes = noise(&mut rng, |r| (r.next_u64() as u16).to_le_bytes());
    let scales = noise(&mut rng, |r| {
        f16::from_f32(0.1 + 0.4 * r.uniform()).to_le_bytes()
    });
    let signs: Vec<u8> = rng.signs(1 << 16).into_iter().map(|s| s as u8).collect();
    let weights = noise(&mut rng, |r| {
        bf16::from_f32(0.02 * r.normal()).to_le_bytes()
    });
    let (tq, source) = (dir.join("tq4"), dir.join("source"));
    std::fs::create_dir_all(&tq).unwrap();
    std::fs::create_dir_all(&source).unwrap();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for Tensor { base, rows, cols } in tensors {
        let (n, k) = (*rows, *cols);
        let name = |part: &str| format!("{base}.{part}");
        let plain = format!("{base}_norm.weight");
        parts.push((plain, "BF16", vec![PLAIN / 2], PLAIN, &weights[..PLAIN]));
        parts.push((name("tq_packed"), "U8", vec![n, k / 2], n * k / 2, &codes));
        parts.push((
            name("tq_scales"),
            "F16",
            vec![n, k / 128],
            n * k / 64,
            &scales,
        ));
        parts.push((name("tq_signs"), "I8", vec![k], k, &signs));
    }
    write(&tq.join("model.safetensors"), &parts);
    let centroids = Codebook::lloyd_max(4, 128).centroids().to_vec();
    let config = serde_json::json!({
        "quant_type": "turboquant", "bits": 4, "group_size": 128, "rotation": "hadamard",
        "centroids": centroids,
    });
    std::fs::write(tq.join("turboquant_config.json"), config.to_string()).unwrap();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for Tensor { base, rows, cols } in tensors {
        let (n, k) = (*rows, *cols);
        let plain = format!("{base}_norm.weight");
        parts.push((plain, "BF16", vec![PLAIN / 2], PLAIN, &weights[..PLAIN]));
        let name = format!("{base}.weight");
        parts.push((name, "BF16", vec![n, k], 2 * n * k, &weights));
    }
    write(&source.join("model.safetensors"), &parts);
}

/// Writes over some bytes of a tensor of the TQ4 model in `dir/tq4`; returns what was there.
pub fn overwrite(dir: &Path, name: &str, at: usize, new: &[u8]) -> Vec<u8> {
    let path = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let parsed: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let start = parsed[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let place = &mut bytes[header + start + at..][..new.len()];
    let old = place.to_vec();
    place.copy_from_slice(new);
    std::fs::write(&path, bytes).unwrap();
    old
}
