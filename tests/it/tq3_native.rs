//! Models of turboquant-vllm through the command: recomputed signs and codebook, sensitive layers, padded rows, fused
//! experts, leftovers in F16.

use crate::support::cli::{stderr, tq4};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::path::Path;
use tq4::format::TqModel;
use tq4::reference::dequantize;
use tq4::synthetic::Rng;

const N: usize = 128;
/// Element i is +1 where bit i is set: seed 42, as torch draws them.
const AFTER: u128 = 0x656b_5fe7_ff4a_baf6_01ab_7c17_3fd7_4222;
const BEFORE: u128 = 0x1425_bfcb_c501_d238_2440_e65c_a821_d007;
/// Positive halves of the codebooks for groups of 128, as published.
const OF_3_BITS: [f64; 4] = [0.02166345, 0.066822, 0.11878585, 0.19020685];
const OF_4_BITS: [f64; 8] = [
    0.011133652,
    0.033669988,
    0.057053462,
    0.082001522,
    0.109546631,
    0.141438002,
    0.181332022,
    0.240163242,
];

fn sign(of: u128, i: usize) -> f64 {
    if of >> i & 1 == 1 { 1.0 } else { -1.0 }
}

/// A quantised weight: groups of random codes, and norms.
struct Weight {
    bits: usize,
    rows: usize,
    groups: usize,
    packed: Vec<u8>,
    norms: Vec<f32>,
}

impl Weight {
    fn new(seed: u64, bits: usize, rows: usize, groups: usize) -> Self {
        let rng = &mut Rng::new(seed);
        let bytes = rows * groups * N * bits / 8;
        Self {
            bits,
            rows,
            groups,
            packed: (0..bytes).map(|_| (rng.next_u64() >> 50) as u8).collect(),
            norms: (0..rows * groups).map(|_| 0.1 + rng.uniform()).collect(),
        }
    }

    fn code(&self, at: usize) -> usize {
        let bit =
            |k: usize| self.packed[(at * self.bits + k) / 8] >> ((at * self.bits + k) % 8) & 1;
        (0..self.bits).map(|k| usize::from(bit(k)) << k).sum()
    }

    /// Each group by the dense product, in f64.
    fn decoded(&self) -> Vec<f64> {
        let half: &[f64] = if self.bits == 3 {
            &OF_3_BITS
        } else {
            &OF_4_BITS
        };
        let book: Vec<f64> = half.iter().rev().map(|c| -c).chain(half.to_vec()).collect();
        let mut out = Vec::new();
        for (group, norm) in self.norms.iter().enumerate() {
            for i in 0..N {
                let sum: f64 = (0..N)
                    .map(|j| {
                        let v = book[self.code(group * N + j)] * sign(BEFORE, j);
                        if (i & j).count_ones() % 2 == 1 { -v } else { v }
                    })
                    .sum();
                out.push(sum / (N as f64).sqrt() * sign(AFTER, i) * f64::from(*norm));
            }
        }
        out
    }
}

fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// A model with weights of 3 bits, a sensitive one of 4, fused experts, and a norm in F16; rows of `q_proj` are 200
/// wide.
fn model(dir: &Path) -> Vec<(String, Weight)> {
    std::fs::create_dir_all(dir).unwrap();
    let weights: Vec<(String, Weight)> = [
        ("model.layers.0.self_attn.q_proj.weight", 3, 6, 2),
        ("model.layers.0.self_attn.o_proj.weight", 4, 5, 1),
        ("model.layers.0.mlp.experts.gate_up_proj", 3, 8, 2),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, (name, bits, rows, groups))| {
        let seed = 7 + i as u64;
        (name.to_owned(), Weight::new(seed, bits, rows, groups))
    })
    .collect();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, w) in &weights {
        let shape = vec![w.rows * w.groups, N * w.bits / 8];
        tensors.push((
            format!("{name}.tq_packed"),
            Dtype::U8,
            shape,
            w.packed.clone(),
        ));
        let shape = vec![w.rows, w.groups];
        tensors.push((
            format!("{name}.tq_norms"),
            Dtype::F32,
            shape,
            bytes(&w.norms),
        ));
    }
    let norm: Vec<f16> = (0..200).map(|i| f16::from_f32(0.003 * i as f32)).collect();
    tensors.push((
        "model.norm.weight".into(),
        Dtype::F16,
        vec![200],
        bytes(&norm),
    ));
    let views = tensors
        .iter()
        .map(|(n, d, s, b)| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
    let config = json!({
        "format": "tq3_native", "bits": 3, "group_size": N, "quantizer_seed": 42,
        "compressed_layers": 3, "original_model": "a/b", "sensitive_bits": 4,
    });
    let write = |name: &str, v: &Value| std::fs::write(dir.join(name), v.to_string()).unwrap();
    write("tq_config.json", &config);
    let config = json!({
        "hidden_size": 200, "num_attention_heads": 2, "head_dim": 64, "moe_intermediate_size": 64,
    });
    write("config.json", &config);
    weights
}

#[test]
fn every_weight_decodes_as_described() {
    let dir = tempfile::tempdir().unwrap();
    let weights = model(dir.path());
    let open = TqModel::open(dir.path()).unwrap();
    assert!(open.notes().is_empty(), "{:?}", open.notes());
    for (name, w) in &weights {
        let base = name.strip_suffix(".weight").unwrap_or(name);
        let info = open.info(base).unwrap();
        let width = if base.ends_with("o_proj") { 128 } else { 200 };
        assert_eq!(info.shape, [w.rows, width], "{base}");
        assert_eq!(info.codec.layout.bits() as usize, w.bits);
        let tensor = open.rows(base, 0..w.rows).unwrap();
        for (i, (f, want)) in dequantize(&tensor).iter().zip(w.decoded()).enumerate() {
            assert!(
                (f64::from(*f) - want).abs() < 1e-6,
                "{base} {i}: {f} {want}"
            );
        }
    }
    // Without the model's configuration the width is that of whole groups.
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    let open = TqModel::open(dir.path()).unwrap();
    assert_eq!(
        open.info("model.layers.0.self_attn.q_proj").unwrap().shape,
        [6, 256]
    );
    assert!(
        open.notes()[0].contains("3 of the weights"),
        "{:?}",
        open.notes()
    );
}

/// A recording has the weight's columns; what pads them is not judged, the last of them is.
#[test]
fn padded_rows_are_judged_as_wide_as_the_weight() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("model");
    model(&at);
    let base = "model.layers.0.self_attn.q_proj";
    let open = TqModel::open(&at).unwrap();
    let tensor = open.rows(base, 0..6).unwrap();
    let reference = dequantize(&tensor);
    let rows = reference.chunks(256).flat_map(|row| &row[..200]);
    let right: Vec<bf16> = rows.map(|v| bf16::from_f32(*v)).collect();
    let run = |values: &[bf16]| {
        let file = dir.path().join("mine.safetensors");
        let data = bytes(values);
        let view = TensorView::new(Dtype::BF16, vec![6, 200], &data).unwrap();
        safetensors::serialize_to_file([(base, view)], None, &file).unwrap();
        let given = format!("mine={}", file.display());
        let out = tq4(&[
            "validate",
            "--lanes",
            "reference",
            "--tensor-base",
            base,
            "--tq-model",
            at.to_str().unwrap(),
            "--recording",
            &given,
            "--format",
            "json",
        ]);
        let json: Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&out)));
        let t = &json["tensors"][0];
        let mut decision = t["decisions"].as_array().unwrap().iter();
        let decision = decision.find(|d| d["lane"] == "mine").cloned().unwrap();
        (decision, t.clone())
    };
    let (decision, t) = run(&right);
    assert_eq!(decision["verdict"], "identical", "{decision}");
    assert_eq!(
        (&t["elements"], &t["column_count"]),
        (&json!(1200), &t["column_count"])
    );
    let mut wrong = right;
    // The last column of a row, in a group that is not whole.
    let at = 3 * 200 + 199;
    wrong[at] = -wrong[at] + bf16::ONE;
    let (decision, t) = run(&wrong);
    assert_eq!(decision["verdict"], "differs", "{decision}");
    let outside = &decision["exactness"]["worst"];
    assert_eq!(
        (&outside["row"], &outside["col"]),
        (&json!(3), &json!(199)),
        "{decision}"
    );
    let diagnosis = &t["diagnosis"][0];
    assert_eq!(diagnosis["wrong"], 1, "{diagnosis}");
}

/// What is not quantised was cast to F16: against BF16 it is equal where that, cast as well, is.
#[test]
fn leftovers_in_f16_are_the_sources_values_cast() {
    let dir = tempfile::tempdir().unwrap();
    let (at, source) = (dir.path().join("model"), dir.path().join("source"));
    let weights = model(&at);
    std::fs::create_dir_all(&source).unwrap();
    let open = TqModel::open(&at).unwrap();
    let run = |norm: Vec<f32>| {
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, w) in &weights {
            let base = name.strip_suffix(".weight").unwrap_or(name);
            let cols = open.info(base).unwrap().shape[1];
            // The weight that these codes are of, with an error as large as they cost.
            let decoded = w.decoded();
            let rms = [0.186, 0.0975][w.bits - 3];
            let rng = &mut Rng::new(1);
            let noisy = decoded.chunks(w.groups * N).flat_map(|row| {
                let group = |group: &[f64]| {
                    let size = (group.iter().map(|v| v * v).sum::<f64>() / N as f64).sqrt();
                    let noise = |v: &f64| *v as f32 + (rms * size) as f32 * rng.normal();
                    group.iter().map(noise).collect::<Vec<_>>()
                };
                let row: Vec<f32> = row.chunks(N).flat_map(group).collect();
                let row = row[..cols].iter().map(|v| bf16::from_f32(*v));
                row.collect::<Vec<_>>()
            });
            tensors.push((
                name.clone(),
                vec![w.rows, cols],
                bytes(&noisy.collect::<Vec<_>>()),
            ));
        }
        let norm: Vec<bf16> = norm.into_iter().map(bf16::from_f32).collect();
        tensors.push(("model.norm.weight".into(), vec![200], bytes(&norm)));
        let views = tensors.iter().map(|(n, s, b)| {
            (
                n.as_str(),
                TensorView::new(Dtype::BF16, s.clone(), b).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &source.join("model.safetensors")).unwrap();
        let out = tq4(&[
            "validate",
            "--all",
            "--lanes",
            "reference",
            "--tq-model",
            at.to_str().unwrap(),
            "--source-model",
            source.to_str().unwrap(),
            "--format",
            "json",
        ]);
        let json: Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&out)));
        (out.status.code(), json)
    };
    // BF16 has fewer bits than F16 here: what was BF16 is the same in F16.
    let f16_norm: Vec<f32> = (0..200)
        .map(|i| f16::from_f32(0.003 * i as f32).to_f32())
        .collect();
    let rounded: Vec<f32> = f16_norm
        .iter()
        .map(|v| bf16::from_f32(*v).to_f32())
        .collect();
    let (code, json) = run(rounded);
    let plain = &json["plain"][0];
    assert_eq!(
        (code, &plain["status"]),
        (Some(1), &json!("differs")),
        "{plain}"
    );
    // The leftover is what a cast of the source gives.
    let norm: Vec<f16> = f16_norm
        .iter()
        .map(|v| f16::from_f32(bf16::from_f32(*v).to_f32()))
        .collect();
    rewrite_norm(&at, &norm);
    let (code, json) = run(f16_norm);
    let plain = &json["plain"][0];
    assert_eq!(
        (code, &plain["status"]),
        (Some(0), &json!("cast")),
        "{json}"
    );
    assert!(
        plain["reason"].as_str().unwrap().contains("BF16"),
        "{plain}"
    );
    for t in json["tensors"].as_array().unwrap() {
        assert_eq!(
            t["checkpoint"]["verdict"], "as_expected",
            "{}",
            t["checkpoint"]
        );
    }
}

fn rewrite_norm(dir: &Path, norm: &[f16]) {
    let path = dir.join("model.safetensors");
    let all = std::fs::read(&path).unwrap();
    let read = safetensors::SafeTensors::deserialize(&all).unwrap();
    let norm = bytes(norm);
    let views: Vec<(String, TensorView<'_>)> = read
        .tensors()
        .into_iter()
        .map(|(name, view)| match name == "model.norm.weight" {
            true => (name, TensorView::new(Dtype::F16, vec![200], &norm).unwrap()),
            false => (name, view),
        })
        .collect();
    let out = safetensors::serialize(views, None).unwrap();
    std::fs::write(&path, out).unwrap();
}
