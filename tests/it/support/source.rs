//! Source models for the converters.

use super::tool;
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use tq4::synthetic::{self, Rng};

/// A tensor: name, shape, BF16 values.
type Tensor = (String, Vec<usize>, Vec<bf16>);

/// Writes a sharded source model with `layers` shards: in each two linear layers of `[rows, cols]` and
/// `[rows, 2 * cols]`, a norm and an embedding; beside them a config, a tokenizer and the same weights
/// in another form.
pub fn write(dir: &Path, layers: usize, rows: usize, cols: usize) {
    write_rows(dir, &vec![rows; layers], cols);
}

/// [`write`] with a number of rows for each shard.
pub fn write_rows(dir: &Path, rows: &[usize], cols: usize) {
    let layers = rows.len();
    std::fs::create_dir_all(dir.join("chat_templates")).unwrap();
    let mut rng = Rng::new(7);
    let mut map = BTreeMap::new();
    for (layer, rows) in rows.iter().copied().enumerate() {
        let file = format!("model-{:05}-of-{layers:05}.safetensors", layer + 1);
        let mut tensors: Vec<Tensor> = Vec::new();
        for (name, shape) in [
            ("mlp.gate_proj.weight", vec![rows, cols]),
            ("self_attn.q_proj.weight", vec![rows, 2 * cols]),
            ("input_layernorm.weight", vec![cols]),
            ("embed_tokens.weight", vec![3, cols]),
        ] {
            let count = shape.iter().product::<usize>() / cols;
            let values = synthetic::weight(&mut rng, count, cols);
            let values = values.into_iter().map(bf16::from_f32).collect();
            let name = format!("model.layers.{layer}.{name}");
            map.insert(name.clone(), file.clone());
            tensors.push((name, shape, values));
        }
        let views = tensors.iter().map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values);
            let view = TensorView::new(Dtype::BF16, shape.clone(), bytes).unwrap();
            (name, view)
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views, Some(metadata)).unwrap();
        std::fs::write(dir.join(file), bytes).unwrap();
    }
    let index = serde_json::json!({
        "metadata": { "total_size": 1, "made_by": "a test" }, "weight_map": map,
    });
    for (name, text) in [
        ("model.safetensors.index.json", index.to_string()),
        ("config.json", r#"{"model_type":"test"}"#.to_owned()),
        ("tokenizer.json", "{}".to_owned()),
        ("chat_templates/default.jinja", "{{ messages }}".to_owned()),
        ("pytorch_model.bin", "weights in another form".to_owned()),
        (".hidden", "of this machine".to_owned()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

/// Every file below a directory with its bytes.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                out.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    out
}

/// Names of the files below a directory.
pub fn names(dir: &Path) -> Vec<String> {
    files(dir)
        .keys()
        .map(|p| p.to_str().unwrap().replace('\\', "/"))
        .collect()
}

/// The Python that `TQ4_PYTHON` names, which has numpy and safetensors; `None` with a notice.
pub fn python(what: &str) -> Option<Command> {
    let how = "name a Python with numpy and safetensors in TQ4_PYTHON";
    tool("TQ4_PYTHON", what, how).map(Command::new)
}
