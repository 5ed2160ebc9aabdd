//! A model of any size, written in a stream: its contents are a piece over and over, which the encoder made
//! of the source's.

use half::bf16;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use tq4::codebook::Codebook;
use tq4::encode::quantize;
use tq4::synthetic::{self, Rng};
use tq4::tensor::Layout;

/// Groups of the piece that is repeated: a prime number, so that no two rows are alike.
const GROUPS: usize = 8191;
/// Elements of a group.
const GROUP: usize = 128;

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

/// Writes the TQ4 model in `dir/tq4`, and in `dir/source` the weights that it was made from. Each TQ4 tensor has one beside it that is not quantised, the same in both.
pub fn write_models(dir: &Path, tensors: &[Tensor]) {
    let mut rng = Rng::new(7);
    // The signs are the same in every group, so that a group's codes do not depend on its place.
    let of_group = rng.signs(GROUP);
    let weights: Vec<bf16> = synthetic::weight(&mut rng, GROUPS, GROUP)
        .into_iter()
        .map(bf16::from_f32)
        .collect();
    let values: Vec<f32> = weights.iter().map(|v| v.to_f32()).collect();
    let layout = Layout::new(4, GROUP).unwrap();
    let codebook = Arc::new(Codebook::lloyd_max(4, GROUP));
    let piece = quantize("piece", &values, GROUP, layout, &of_group, &codebook).unwrap();
    let codes = piece.packed();
    let scales: &[u8] = piece.scales().bytes();
    let signs: Vec<u8> = of_group.iter().map(|s| *s as u8).collect();
    let weights: &[u8] = bytemuck::cast_slice(&weights);
    let (tq, source) = (dir.join("tq4"), dir.join("source"));
    std::fs::create_dir_all(&tq).unwrap();
    std::fs::create_dir_all(&source).unwrap();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for Tensor { base, rows, cols } in tensors {
        let (n, k) = (*rows, *cols);
        let name = |part: &str| format!("{base}.{part}");
        let plain = format!("{base}_norm.weight");
        parts.push((plain, "BF16", vec![PLAIN / 2], PLAIN, &weights[..PLAIN]));
        parts.push((name("tq_packed"), "U8", vec![n, k / 2], n * k / 2, codes));
        parts.push((
            name("tq_scales"),
            "F16",
            vec![n, k / 128],
            n * k / 64,
            scales,
        ));
        parts.push((name("tq_signs"), "I8", vec![k], k, &signs));
    }
    write(&tq.join("model.safetensors"), &parts);
    let centroids = codebook.centroids().to_vec();
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
        parts.push((name, "BF16", vec![n, k], 2 * n * k, weights));
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
