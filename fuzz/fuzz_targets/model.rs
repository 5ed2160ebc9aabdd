//! Model directories: config, shards and index, as untrusted bytes.
//!
//! An input is up to six files with `\n%%\n` between them: turboquant_config.json, the first shard,
//! the index, the second shard, tq_config.json, config.json; an empty one is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::format::TqModel;
use tq4::reference;

const FILES: [&str; 6] = [
    "turboquant_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "b.safetensors",
    "tq_config.json",
    "config.json",
];
const SEPARATOR: &[u8] = b"\n%%\n";
/// Larger tensors are looked at, not decoded.
const MAX_ELEMENTS: usize = 1 << 16;

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let parts = split(data);
    for (i, name) in FILES.iter().enumerate() {
        match parts.get(i) {
            Some(bytes) if !bytes.is_empty() => std::fs::write(dir.join(name), bytes).unwrap(),
            _ => drop(std::fs::remove_file(dir.join(name))),
        }
    }
    let model = match TqModel::open(dir) {
        Ok(model) => model,
        Err(e) => return drop(e.to_string()),
    };
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    for base in bases {
        let Ok(info) = model.info(&base) else { continue };
        let rows = info.shape[0].min((MAX_ELEMENTS / info.cols.max(1)).max(1));
        if let Ok(tensor) = model.rows(&base, 0..rows)
            && tensor.elements() <= MAX_ELEMENTS
        {
            assert_eq!(reference::dequantize(&tensor).len(), tensor.elements());
        }
    }
    let checkpoint = model.checkpoint();
    for name in checkpoint.names() {
        let shape = checkpoint.shard_of(name).unwrap().info(name).unwrap().shape.clone();
        if let [rows, cols] = shape[..]
            && let Some(elements) = rows.checked_mul(cols)
            && elements <= MAX_ELEMENTS
        {
            let _ = checkpoint.rows_f32(name, [rows, cols], 0..rows);
        }
    }
});
