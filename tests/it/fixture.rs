//! `tq4 fixture`: models on which a kernel can be tested without a checkpoint.

use crate::support::cli::{record, stderr, stdout, tq4};
use crate::support::reader::numpy_agrees;
use serde_json::Value;
use std::path::Path;
use tq4::checkpoint::Checkpoint;
use tq4::format::TqModel;

#[test]
fn every_layout_is_a_model_that_validates() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = tq4(&["fixture", &path("f")]);
    assert!(out.status.success(), "{}", stderr(&out));
    let models: Vec<String> = stdout(&out)
        .lines()
        .map(|l| l.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(models.len(), 12 + 12 + 3 + 2);
    for model in &models {
        let count = TqModel::open(Path::new(model)).unwrap().bases().count();
        let expected = if model.ends_with("native_mixed") {
            3
        } else {
            6
        };
        assert_eq!(count, expected, "{model}");
    }
    // A recording of the reference, judged on all of it.
    for name in [
        "b2_g32",
        "native_b3_g64",
        "native_mixed",
        "tq3_1s.gguf",
        "tq3_4s.gguf",
    ] {
        let recording = path(&format!("{name}.safetensors"));
        let model = &path(&format!("f/{name}"));
        let out = record(model, &recording);
        assert!(out.status.success(), "{}", stderr(&out));
        let mine = format!("mine={recording}");
        let lanes = ["--all", "--lanes", "reference", "--recording", &mine];
        let out = tq4(&[&["validate", "--tq-model", model], &lanes[..]].concat());
        assert_eq!(out.status.code(), Some(0), "{name}: {}", stderr(&out));
    }

    let again = tq4(&["fixture", &path("f")]);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("there already"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn numpy_reads_every_model() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("f");
    let out = tq4(&["fixture", root.to_str().unwrap()]);
    assert!(out.status.success(), "{}", stderr(&out));
    for line in stdout(&out).lines() {
        let (model, what) = line.split_once(": ").unwrap();
        let kinds = ["TQ4_1S", "TQ3_1S", "TQ3_4S"];
        let kind = kinds.into_iter().find(|k| what.contains(k));
        if !numpy_agrees(Path::new(model), kind.unwrap_or("")) {
            return;
        }
    }
}

/// Experts keep their dimensions, padded rows lose what pads them, and blocks of other types have no place.
#[test]
fn every_format_becomes_a_plain_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert!(tq4(&["fixture", &path("f")]).status.success());
    let shape = |model: &str, name: &str| {
        let plain = Checkpoint::open(Path::new(model)).unwrap();
        let info = plain.shard_of(name).map(|s| s.info(name).unwrap().clone());
        info.map(|i| i.shape)
    };
    let plain = |model: &str| {
        let (from, to) = (path(&format!("f/{model}")), path(&format!("{model}-plain")));
        let args = ["dequantize", "--tq-model", &from, "--output", &to];
        let out = tq4(&[&args[..], &["--format", "json"]].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
        (report, stderr(&out), to)
    };
    for model in [
        "tq4_1s.gguf",
        "tq3_1s.gguf",
        "tq3_4s.gguf",
        "split-00001-of-00002.gguf",
    ] {
        let (report, said, to) = plain(model);
        let left = serde_json::json!([{"tensor": "fixture.q8_0.weight", "dtype": "Q8_0"}]);
        assert_eq!(report["left_out"], left);
        assert_eq!(report["copied"], 1);
        let note = "1 tensor is left out, since safetensors does not have their types: \
                    fixture.q8_0.weight (Q8_0)";
        assert!(said.contains(note), "{said}");
        assert_eq!(shape(&to, "fixture.experts.weight"), Some(vec![3, 5, 64]));
        assert_eq!(shape(&to, "fixture.norm.weight"), Some(vec![96]));
        assert_eq!(shape(&to, "fixture.q8_0.weight"), None);
    }
    let (report, _, to) = plain("native_mixed");
    assert_eq!(report["left_out"], serde_json::json!([]));
    let layer = |name: &str| shape(&to, &format!("model.layers.0.{name}"));
    assert_eq!(layer("self_attn.q_proj.weight"), Some(vec![10, 200]));
    assert_eq!(layer("mlp.down_proj.weight"), Some(vec![10, 96]));
    // How many experts there are is not stored.
    assert_eq!(layer("mlp.experts.gate_up_proj"), Some(vec![24, 200]));
    assert!(!Path::new(&to).join("tq_config.json").exists());
}

#[test]
fn one_layout_is_the_same_on_every_run() {
    let dir = tempfile::tempdir().unwrap();
    let weights = |name: &str| {
        let path = dir.path().join(name);
        let options = ["--bits", "3", "--group-size", "64"];
        let out = tq4(&[&["fixture", path.to_str().unwrap()], &options[..]].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        std::fs::read(path.join("b3_g64/model.safetensors")).unwrap()
    };
    assert_eq!(weights("a"), weights("b"));
    let out = tq4(&[
        "fixture",
        dir.path().join("c").to_str().unwrap(),
        "--bits",
        "5",
    ]);
    assert_eq!(out.status.code(), Some(2));
    assert!(!dir.path().join("c").exists());
}
