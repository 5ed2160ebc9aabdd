//! The real tensor: every published figure comes out.

use crate::support::cli::{self, seed_case, stdout, tq4};
use serde_json::Value;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn published_cuda_output_matches_with_every_published_figure() {
    let Some(seed) = seed_case() else { return };
    let published = json(&seed.join("published-report.json"));
    let recording = format!("cuda={}", seed.join("arle-cuda-dequant.json").display());
    let model = seed.join("tq-model");
    let out = tq4(&[
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--recording",
        &recording,
        "--lanes",
        "reference",
        "--format",
        "json",
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", cli::stderr(&out));
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let report = &report["tensors"][0];
    assert_eq!(
        report["decision"],
        "cuda_dequant_matches_reference_with_bf16_rounding"
    );

    let ours = &report["metrics"][0];
    assert_eq!(ours["lhs"], "cuda_dequant");
    assert_eq!(ours["rhs"], "reference_dequant");
    let exact = [
        "max_abs", "max_rel", "rel_p50", "rel_p90", "rel_p95", "rel_p99", "rel_p999",
    ];
    let close = |key: &str, ours: &Value, theirs: &Value| {
        let (a, b) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
        let bound = if exact.contains(&key) { 1e-7 } else { 1e-5 };
        assert!(
            (a - b).abs() <= bound * b.abs(),
            "{key}: {a}, published {b}"
        );
    };
    let theirs = published["metrics"][2].as_object().unwrap();
    assert!(theirs.len() >= 17);
    for (key, value) in theirs.iter().filter(|(_, v)| v.is_number()) {
        close(key, &ours[key], value);
    }
    for (key, value) in published["fwht_bug_control"].as_object().unwrap() {
        if value.is_number() {
            close(key, &report["fwht_bug_control"][key], value);
        }
    }
    assert_eq!(ours["bit_equal"], 32764);
    assert_eq!(ours["max_ulp"], 1);

    let (a, b) = (
        &report["centroids_config_vs_cuda"],
        &published["centroids_config_vs_cuda"],
    );
    for key in ["max_abs", "mean_abs"] {
        assert!(
            (a[key].as_f64().unwrap() - b[key].as_f64().unwrap()).abs() < 1e-9,
            "{key}"
        );
    }
    assert_eq!(a["cuda"], b["cuda"]);
    assert_eq!(a["config"], b["config"]);
    for key in [
        "tensor_base",
        "row_start",
        "row_count",
        "shape",
        "bits",
        "group_size",
    ] {
        assert_eq!(report[key], published[key], "{key}");
    }
}

/// Validates `values` as a stand-in for the CUDA lane, in place of those of the published dump.
fn verdict(seed: &Path, values: impl Iterator<Item = f32>) -> Value {
    let mut dump = json(&seed.join("arle-cuda-dequant.json"));
    dump["values"] = values.map(f64::from).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.json");
    std::fs::write(&file, dump.to_string()).unwrap();
    let out = tq4(&[
        "validate",
        "--tq-model",
        seed.join("tq-model").to_str().unwrap(),
        "--recording",
        &format!("cuda={}", file.display()),
        "--lanes",
        "reference",
        "--format",
        "json",
    ]);
    assert_eq!(out.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let report = &report["tensors"][0];
    assert_eq!(report["decision"], "cuda_dequant_differs_from_reference");
    report.clone()
}

#[test]
fn the_published_sign_bug_fails_with_its_published_ratio_and_is_named() {
    let Some(seed) = seed_case() else { return };
    let dump = json(&seed.join("arle-cuda-dequant.json"));
    let values = dump["values"].as_array().unwrap();
    let flipped = values.iter().enumerate().map(|(i, v)| {
        let v = v.as_f64().unwrap() as f32;
        if (i % 128).count_ones() % 2 == 1 {
            -v
        } else {
            v
        }
    });
    let report = verdict(&seed, flipped);
    let ratio = report["metrics"][0]["rmse_over_rhs_rms"].as_f64().unwrap();
    assert!((ratio - 1.40933).abs() < 1e-4, "{ratio}");
    let diagnosis = &report["diagnosis"][0];
    assert_eq!(diagnosis["faults"][0]["name"], "fwht_upper_lane_sign");
    // All but the four elements that the last-bit rule moves.
    assert_eq!(diagnosis["reproduced"], 32764, "{diagnosis}");
}

#[test]
fn a_truncating_kernel_passes_the_published_gate_and_is_named() {
    let Some(seed) = seed_case() else { return };
    let model = tq4::format::TqModel::open(&seed.join("tq-model")).unwrap();
    let base = model.bases().next().unwrap().to_owned();
    let reference = tq4::reference::dequantize(&model.rows(&base, 0..8).unwrap());
    let truncated = reference
        .iter()
        .map(|v| f32::from_bits(v.to_bits() & 0xFFFF_0000));
    let report = verdict(&seed, truncated);
    let gates = report["decisions"][0]["gates"].as_array().unwrap();
    let passed = |name: &str| gates.iter().find(|g| g["name"] == name).unwrap()["passed"].clone();
    assert_eq!(
        (passed("rmse_ratio"), passed("allowed")),
        (true.into(), false.into())
    );
    let diagnosis = &report["diagnosis"][0];
    assert_eq!(diagnosis["faults"][0]["name"], "bf16_truncation");
    assert_eq!(diagnosis["reproduced"], 32768, "{diagnosis}");
}
