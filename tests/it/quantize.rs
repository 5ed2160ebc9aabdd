//! `tq4 quantize` makes the model that the published encoder makes, and never harms what is there.

use crate::support::cli::{Model, seed_case, stderr, stdout, tq4};
use crate::support::source;
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use tq4::checkpoint::Checkpoint;
use tq4::convert::SignSeed;
use tq4::format::TqModel;
use tq4::reference;

fn quantize(source: &Path, output: &Path, more: &[&str]) -> std::process::Output {
    let (source, output) = (source.to_str().unwrap(), output.to_str().unwrap());
    let mut args = vec!["quantize", "--source-model", source, "--output", output];
    args.extend(more);
    tq4(&args)
}

fn refused(out: &std::process::Output, what: &str) {
    assert_eq!(out.status.code(), Some(2), "{}", stdout(out));
    assert!(stderr(out).contains(what), "{}", stderr(out));
}

#[test]
fn the_model_is_whole_and_all_else_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (src, out) = (dir.path().join("src"), dir.path().join("tq"));
    source::write(&src, 3, 10, 256);
    let run = quantize(&src, &out, &["--format", "json"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(
        source::names(&out),
        [
            ".tq4-finished.jsonl",
            "chat_templates/default.jinja",
            "config.json",
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "turboquant_config.json",
        ]
    );
    let (before, after) = (source::files(&src), source::files(&out));
    for same in [
        "config.json",
        "tokenizer.json",
        "chat_templates/default.jinja",
    ] {
        assert_eq!(before[Path::new(same)], after[Path::new(same)], "{same}");
    }
    let report: Value = serde_json::from_str(&stdout(&run)).unwrap();
    assert_eq!(report["copied"], 6);
    assert_eq!(report["weights"].as_array().unwrap().len(), 6);
    let index: Value =
        serde_json::from_slice(&after[Path::new("model.safetensors.index.json")]).unwrap();
    assert_eq!(index["metadata"]["total_size"], report["bytes_out"]);
    assert_eq!(index["metadata"]["made_by"], "a test");
    assert_eq!(
        index["weight_map"]["model.layers.1.mlp.gate_proj.tq_scales"],
        "model-00002-of-00003.safetensors"
    );

    let (plain, model) = (
        Checkpoint::open(&src).unwrap(),
        TqModel::open(&out).unwrap(),
    );
    for name in plain
        .names()
        .filter(|n| n.contains("norm") || n.contains("embed"))
    {
        let bytes = |c: &Checkpoint| c.shard_of(name).unwrap().data(name).unwrap().to_vec();
        assert_eq!(bytes(&plain), bytes(model.checkpoint()), "{name}");
    }
    // The printed ratio is the one of the decoded file against the source.
    for w in report["weights"].as_array().unwrap() {
        let base = w["tensor_base"].as_str().unwrap();
        let shape = model.info(base).unwrap().shape;
        let tensor = model.rows(base, 0..shape[0]).unwrap();
        assert_eq!(tensor.signs(), SignSeed::Name.signs(base, shape[1]));
        let decoded = reference::dequantize(&tensor);
        let weight = plain
            .rows_f32(&format!("{base}.weight"), shape, 0..shape[0])
            .unwrap();
        let square =
            |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let error = square(&mut decoded.iter().zip(&weight).map(|(d, w)| d - w));
        let ratio = (error / square(&mut weight.iter().copied())).sqrt();
        let printed = w["rmse_ratio"].as_f64().unwrap();
        assert!((ratio - printed).abs() < 1e-12, "{ratio} {printed}");
        assert!((0.08..0.11).contains(&printed), "{printed}");
    }
}

/// Bits, group size and SHA-256 of both shards; the test below holds the files against NumPy as well.
const GOLDEN: [(&str, &str, &str); 4] = [
    (
        "4",
        "128",
        "3121c4b57b3543c1e03abff11db26af8eb38de9c7119248a7b87cef2985eda57",
    ),
    (
        "3",
        "64",
        "a28b40afc9f7c3d139eda6733647071552f4cd208da127bf98305184900659b2",
    ),
    (
        "2",
        "32",
        "266134d3612f87488137d704538dcf4dcd37e104f97186c8cc42e488b2b52cff",
    ),
    (
        "4",
        "256",
        "0c7ce90c4f115e22c997f18ad71cfb693ffe1675430c175f2b76cb9d8f7d8b32",
    ),
];

#[test]
fn files_are_those_of_the_published_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    source::write(&src, 2, 40, 1024);
    let python = "tests/support/encoder.py against quantize";
    let have_python = source::python(python).is_some();
    let mut wrong = Vec::new();
    for (bits, group, golden) in GOLDEN {
        let out = dir.path().join(format!("{bits}-{group}"));
        let options = [
            "--bits",
            bits,
            "--group-size",
            group,
            "--sign-seed",
            "python-hash",
        ];
        let run = quantize(&src, &out, &options);
        assert!(run.status.success(), "{}", stderr(&run));
        if have_python {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/encoder.py");
            let mut command = source::python(python).unwrap();
            let run = command
                .env("PYTHONHASHSEED", "0")
                .args([&script, &src, &out])
                .output()
                .unwrap();
            assert_eq!(
                stdout(&run),
                "4 weights equal\n",
                "{bits} {group} {}",
                stderr(&run)
            );
        }
        let mut hash = Sha256::new();
        for (name, bytes) in source::files(&out) {
            if name.extension().is_some_and(|e| e == "safetensors") {
                hash.update(&bytes);
            }
        }
        let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        if found != golden {
            wrong.push(format!("(\"{bits}\", \"{group}\", \"{found}\")"));
        }
    }
    assert!(wrong.is_empty(), "other digests: {}", wrong.join(", "));
}

/// An f32 weight has values between the BF16 ones, some of them right at a boundary of the codebook.
#[test]
fn an_f32_weight_is_packed_as_the_published_encoder_packs_it() {
    let Some(mut python) = source::python("tests/support/encoder.py on an f32 weight") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (src, out) = (dir.path().join("src"), dir.path().join("out"));
    std::fs::create_dir(&src).unwrap();
    let values = tq4::synthetic::weight(&mut tq4::synthetic::Rng::new(9), 96, 1024);
    let bytes = bytemuck::cast_slice(&values);
    let view = TensorView::new(Dtype::F32, vec![96, 1024], bytes).unwrap();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize([("l.up_proj.weight", view)], Some(metadata)).unwrap();
    std::fs::write(src.join("model.safetensors"), file).unwrap();
    let run = quantize(&src, &out, &["--sign-seed", "python-hash"]);
    assert!(run.status.success(), "{}", stderr(&run));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/encoder.py");
    let run = python
        .env("PYTHONHASHSEED", "0")
        .args([&script, &src, &out])
        .output()
        .unwrap();
    assert_eq!(stdout(&run), "1 weights equal\n", "{}", stderr(&run));
}

#[test]
fn the_real_tensors_signs_come_out() {
    let Some(seed) = seed_case() else { return };
    let model = TqModel::open(&seed.join("tq-model")).unwrap();
    let base = "model.language_model.layers.1.mlp.gate_proj";
    let tensor = model.rows(base, 0..8).unwrap();
    assert_eq!(SignSeed::PythonHash.signs(base, 4096), tensor.signs());
}

#[test]
fn globs_choose_and_what_does_not_fit_is_left_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    source::write(&src, 1, 4, 64);
    let run = quantize(&src, &dir.path().join("a"), &["--format", "json"]);
    let report: Value = serde_json::from_str(&stdout(&run)).unwrap();
    assert_eq!(
        report["left"][0]["tensor_base"],
        "model.layers.0.mlp.gate_proj"
    );
    assert_eq!(
        report["left"][0]["reason"],
        "64 columns, not a multiple of 128; group size 64 would do"
    );
    let options = [
        "--group-size",
        "64",
        "--include",
        "*embed*",
        "--include",
        "*_proj",
    ];
    let more = [&options[..], &["--exclude", "*.q_proj", "--format", "json"]].concat();
    let run = quantize(&src, &dir.path().join("b"), &more);
    let report: Value = serde_json::from_str(&stdout(&run)).unwrap();
    let names: Vec<&str> = report["weights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["tensor_base"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "model.layers.0.embed_tokens",
            "model.layers.0.mlp.gate_proj"
        ]
    );
    let out = dir.path().join("c");
    refused(
        &quantize(&src, &out, &["--include", "model.layers.0.self_attn.q_prj"]),
        "q_prj\" matches no weight of the model; nearest names: model.layers.0.self_attn.q_proj",
    );
    refused(
        &quantize(&src, &out, &["--exclude", "*_proj"]),
        "no weight to quantise",
    );
    refused(&quantize(&src, &out, &["--bits", "5"]), "bits = 5 found");
    assert!(!out.exists());
}

#[test]
fn weights_that_cannot_be_encoded_are_refused_by_place() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value, what) in [
        ("nan", f32::NAN, "value NaN at row 2, column 200"),
        ("inf", f32::INFINITY, "value inf at row 2, column 200"),
        (
            "big",
            1e6,
            "the norm of the group at row 2, column 128 is beyond f16",
        ),
    ] {
        let (src, out) = (dir.path().join(name), dir.path().join(format!("{name}-tq")));
        let mut values = vec![bf16::from_f32(0.01); 4 * 256];
        values[2 * 256 + 200] = bf16::from_f32(value);
        let mut model = Model::source();
        let data = bytemuck::cast_slice(&values).to_vec();
        model.set("b.q_proj", "weight", Dtype::BF16, &[4, 256], data);
        model.write(&src);
        refused(&quantize(&src, &out, &[]), what);
        assert!(!out.exists(), "{name}");
        let run = quantize(&src, &out, &["--exclude", "b.q_proj"]);
        assert!(run.status.success(), "{}", stderr(&run));
    }
}

#[test]
fn f16_and_f32_weights_are_encoded_as_the_same_values_in_bf16() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<bf16> = (0..4 * 256)
        .map(|i| bf16::from_f32((i % 37) as f32 / 64.0 - 0.25))
        .collect();
    let single: Vec<f32> = values.iter().map(|v| v.to_f32()).collect();
    let half: Vec<half::f16> = single.iter().map(|v| half::f16::from_f32(*v)).collect();
    let mut found = Vec::new();
    for (name, dtype, bytes) in [
        ("bf16", Dtype::BF16, bytemuck::cast_slice::<_, u8>(&values)),
        ("f16", Dtype::F16, bytemuck::cast_slice(&half)),
        ("f32", Dtype::F32, bytemuck::cast_slice(&single)),
    ] {
        let (src, out) = (dir.path().join(name), dir.path().join(format!("{name}-tq")));
        let mut model = Model::source();
        model.tensors.clear();
        model.set("b.q_proj", "weight", dtype, &[4, 256], bytes.to_vec());
        model.write(&src);
        let run = quantize(&src, &out, &[]);
        assert!(run.status.success(), "{}", stderr(&run));
        found.push(std::fs::read(out.join("model.safetensors")).unwrap());
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}

#[test]
fn a_quantised_model_is_not_quantised_again() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("tq");
    Model::valid().write(&src);
    refused(
        &quantize(&src, &dir.path().join("out"), &[]),
        "quantised already",
    );
}
