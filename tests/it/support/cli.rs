//! Running the built `tq4` and making models for it.

use super::{not_run_under, root};
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use tq4::codebook::Codebook;
use tq4::encode::quantize;
use tq4::synthetic::{self, Rng};
use tq4::tensor::Layout;

/// Runs `tq4`.
pub fn tq4(args: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("tq4")
        .expect("the binary is built with the tests")
        .args(args)
        .output()
        .expect("the binary starts")
}

/// Records the reference's output of every tensor of a model.
pub fn record(model: &str, output: &str) -> Output {
    let record = ["record", "--all", "--lane", "reference"];
    tq4(&[&record[..], &["--tq-model", model, "--output", output]].concat())
}

pub fn stdout(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned()
}

/// What is printed with each paragraph in one line.
pub fn unfolded(text: &str) -> String {
    text.replace("\n  ", " ")
}

pub fn stderr(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

/// The real tensor's folder, which lies beside the repository; `None` with a notice where it is absent.
pub fn seed_case() -> Option<PathBuf> {
    let dir = root().join("../shared/seed-case");
    if dir.join("published-report.json").exists() {
        return Some(dir);
    }
    let why = format!("{} is not here", dir.display());
    not_run_under("TQ4_REQUIRE_SEED_CASE", "seed case", &why);
    None
}

/// A tensor of a model under construction.
#[derive(Clone)]
pub struct Raw {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// A model directory under construction; the default is a valid TQ4 model of two tensors.
#[derive(Clone)]
pub struct Model {
    pub tensors: BTreeMap<String, Raw>,
    pub config: Option<serde_json::Value>,
}

/// The weight of a tensor of the source, the same for each name.
fn weight(base: &str) -> Vec<bf16> {
    let mut rng = Rng::new(base.len() as u64);
    let values = synthetic::weight(&mut rng, ROWS, COLS).into_iter();
    values.map(bf16::from_f32).collect()
}

pub const ROWS: usize = 6;
pub const COLS: usize = 256;

impl Model {
    /// Tensors `a.gate_proj` and `a.up_proj`, 6 x 256, 4 bits, group 128.
    pub fn valid() -> Self {
        let centroids: Vec<f64> = (0..16).map(|i| -0.225 + 0.03 * f64::from(i)).collect();
        let mut model = Self {
            tensors: BTreeMap::new(),
            config: Some(serde_json::json!({
                "quant_type": "turboquant", "bits": 4, "group_size": 128, "rotation": "hadamard",
                "centroids": centroids,
            })),
        };
        for base in ["a.gate_proj", "a.up_proj"] {
            model.add(base);
        }
        model
    }

    /// What the encoder makes of the source.
    fn add(&mut self, base: &str) {
        let centroids = self.config.as_ref().expect("a configuration")["centroids"].clone();
        let centroids: Vec<f32> = serde_json::from_value(centroids).unwrap();
        let codebook = Arc::new(Codebook::new(centroids, None).unwrap());
        let signs: Vec<i8> = (0..COLS).map(|i| if i % 3 == 0 { 1 } else { -1 }).collect();
        let weight: Vec<f32> = weight(base).iter().map(|v| v.to_f32()).collect();
        let layout = Layout::new(4, 128).unwrap();
        let tensor = quantize(base, &weight, COLS, layout, &signs, &codebook).unwrap();
        let scales = tensor.scales().le_bytes();
        let packed = tensor.packed().to_vec();
        let signs = signs.iter().map(|s| *s as u8).collect();
        self.set(base, "tq_packed", Dtype::U8, &[ROWS, COLS / 2], packed);
        self.set(base, "tq_scales", Dtype::F16, &[ROWS, COLS / 128], scales);
        self.set(base, "tq_signs", Dtype::I8, &[COLS], signs);
    }

    pub fn set(&mut self, base: &str, part: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        let raw = Raw {
            dtype,
            shape: shape.to_vec(),
            data,
        };
        self.tensors.insert(format!("{base}.{part}"), raw);
    }

    /// The plain weights that this model was made from.
    pub fn source() -> Self {
        let mut model = Self {
            tensors: BTreeMap::new(),
            config: None,
        };
        for base in ["a.gate_proj", "a.up_proj"] {
            let values = weight(base).iter().flat_map(|v| v.to_le_bytes()).collect();
            model.set(base, "weight", Dtype::BF16, &[ROWS, COLS], values);
        }
        model
    }

    pub fn bytes(&self, of: impl Fn(&str) -> bool) -> Vec<u8> {
        let views: Vec<(&str, TensorView<'_>)> = self
            .tensors
            .iter()
            .filter(|(n, _)| of(n))
            .map(|(n, r)| {
                (
                    n.as_str(),
                    TensorView::new(r.dtype, r.shape.clone(), &r.data).unwrap(),
                )
            })
            .collect();
        safetensors::serialize(views, None).unwrap()
    }

    /// Writes it unsharded.
    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("model.safetensors"), self.bytes(|_| true)).unwrap();
        self.write_config(dir);
    }

    /// The same with so many tensors `l.0.proj`, `l.1.proj` and so on in the place of its own.
    pub fn of_layers(&self, layers: usize) -> Self {
        let of = "a.gate_proj.";
        let parts = self
            .tensors
            .iter()
            .filter_map(|(n, raw)| Some((n.strip_prefix(of)?, raw)));
        let layer = |i| {
            parts
                .clone()
                .map(move |(part, raw)| (format!("l.{i}.proj.{part}"), raw.clone()))
        };
        Self {
            tensors: (0..layers).flat_map(layer).collect(),
            config: self.config.clone(),
        }
    }

    /// Writes it as two shards with an index, so that one weight is spread over both.
    pub fn write_sharded(&self, dir: &Path) {
        self.write_shards(dir, |name| name.ends_with("packed"));
    }

    /// Writes it as two shards with an index, by what is in the first.
    pub fn write_shards(&self, dir: &Path, first: impl Fn(&str) -> bool) {
        std::fs::create_dir_all(dir).unwrap();
        let names = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        std::fs::write(dir.join(names[0]), self.bytes(&first)).unwrap();
        std::fs::write(dir.join(names[1]), self.bytes(|n| !first(n))).unwrap();
        let map: BTreeMap<&str, &str> = self
            .tensors
            .keys()
            .map(|n| (n.as_str(), names[usize::from(!first(n))]))
            .collect();
        let index = serde_json::json!({ "metadata": {}, "weight_map": map });
        std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        self.write_config(dir);
    }

    fn write_config(&self, dir: &Path) {
        if let Some(config) = &self.config {
            std::fs::write(dir.join("turboquant_config.json"), config.to_string()).unwrap();
        }
    }
}
