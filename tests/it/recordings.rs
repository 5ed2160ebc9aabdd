//! Recordings in both forms, as stand-ins and under their own names, good and broken.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use crate::support::not_run;
use half::bf16;
use serde_json::Value;
use std::path::Path;
use tq4::checkpoint::TqModel;
use tq4::reference;

fn rounded(dir: &Path) -> Vec<bf16> {
    let model = TqModel::open(dir).unwrap();
    let tensor = model.rows("a.gate_proj", 0..ROWS).unwrap();
    reference::dequantize(&tensor)
        .into_iter()
        .map(bf16::from_f32)
        .collect()
}

fn dump(dir: &Path, values: &[bf16]) -> String {
    let values: Vec<Option<f32>> = values
        .iter()
        .map(|v| Some(v.to_f32()).filter(|v| !v.is_nan()))
        .collect();
    let json = serde_json::json!({
        "tensor_base": "a.gate_proj", "row_start": 0, "row_count": ROWS, "shape": [ROWS, COLS],
        "bits": 4, "group_size": 128, "values": values,
    });
    let path = dir.join("dump.json");
    std::fs::write(&path, json.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn compare(dir: &Path, recording: &str) -> (Option<i32>, Value) {
    let out = tq4(&[
        "validate",
        "--tq-model",
        dir.to_str().unwrap(),
        "--tensor-base",
        "a.gate_proj",
        "--lanes",
        "reference",
        "--format",
        "json",
        "--recording",
        recording,
    ]);
    let text = stdout(&out);
    assert!(!text.is_empty(), "{}", stderr(&out));
    (out.status.code(), serde_json::from_str(&text).unwrap())
}

#[test]
fn a_stand_in_takes_the_place_of_its_lane() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let file = dump(dir.path(), &rounded(dir.path()));
    let (code, report) = compare(dir.path(), &format!("cuda={file}"));
    assert_eq!(code, Some(0));
    assert_eq!(
        report["decision"],
        "cuda_dequant_matches_reference_with_bf16_rounding"
    );
    let lane = report["lanes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["name"] == "cuda")
        .unwrap();
    assert_eq!(lane["status"], "recorded");
    assert!(report["fwht_bug_control"].is_object());
}

#[test]
fn another_name_gets_its_own_decision() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let file = dump(dir.path(), &rounded(dir.path()));
    let (code, report) = compare(dir.path(), &format!("macbook={file}"));
    assert_eq!(code, Some(0));
    assert_eq!(report["decision"], "cuda_dequant_not_run");
    let all = report["decisions"].as_array().unwrap();
    let own = all.iter().find(|d| d["lane"] == "macbook").unwrap();
    assert_eq!(
        own["decision"],
        "macbook_dequant_matches_reference_with_bf16_rounding"
    );
    assert_eq!(report["metrics"][0]["lhs"], "macbook");
}

#[test]
fn broken_outputs_fail() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let good = rounded(dir.path());
    let poison = bf16::from_bits(tq4::backend::POISON_BF16);
    let mut unwritten_tail = good.clone();
    unwritten_tail[ROWS * COLS - 1] = poison;
    let truncated: Vec<bf16> = {
        let model = TqModel::open(dir.path()).unwrap();
        let tensor = model.rows("a.gate_proj", 0..ROWS).unwrap();
        reference::dequantize(&tensor)
            .iter()
            .map(|v| bf16::from_bits((v.to_bits() >> 16) as u16))
            .collect()
    };
    let cases = [
        ("all NaN", vec![bf16::NAN; good.len()]),
        ("all zero", vec![bf16::ZERO; good.len()]),
        ("unwritten", vec![poison; good.len()]),
        ("one unwritten", unwritten_tail),
        ("truncated", truncated),
        ("negated", good.iter().map(|v| -v).collect()),
    ];
    for (what, values) in cases {
        let file = dump(dir.path(), &values);
        let (code, report) = compare(dir.path(), &format!("cuda={file}"));
        assert_eq!(code, Some(1), "{what}");
        assert_eq!(
            report["decision"], "cuda_dequant_differs_from_reference",
            "{what}"
        );
    }
}

#[test]
fn a_recording_of_other_rows_is_not_compared() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let file = dump(dir.path(), &rounded(dir.path()));
    let out = tq4(&[
        "validate",
        "--tq-model",
        dir.path().to_str().unwrap(),
        "--tensor-base",
        "a.gate_proj",
        "--row-count",
        "2",
        "--lanes",
        "reference",
        "--recording",
        &format!("cuda={file}"),
    ]);
    // The user named it: a run that did not look at it is no pass.
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out)
            .contains("error: recording cuda was compared with nothing: the recording holds"),
        "{}",
        stderr(&out)
    );
    assert!(
        stdout(&out).contains("cuda_dequant_not_run"),
        "{}",
        stdout(&out)
    );
    assert!(
        stdout(&out).contains("the recording holds rows 0..6"),
        "{}",
        stdout(&out)
    );
}

#[test]
fn our_own_form_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let model = TqModel::open(dir.path()).unwrap();
    let tensor = model.rows("a.gate_proj", 1..4).unwrap();
    let values: Vec<bf16> = reference::dequantize(&tensor)
        .into_iter()
        .map(bf16::from_f32)
        .collect();
    let device = tq4::backend::Device {
        lane: "cuda".into(),
        device: "Some GPU".into(),
        driver: "1.2".into(),
        api: "CUDA".into(),
        software: false,
        kernel_variant: "PTX 8.0".into(),
        kernel_checksum: "0123456789abcdef".into(),
    };
    let path = dir.path().join("rec.safetensors");
    tq4::recording::write(&path, "m", &tensor, 1, &device, &values).unwrap();
    let back = tq4::recording::Recording::read("cuda", &path).unwrap();
    assert_eq!(back.device, device);
    assert_eq!((back.row_start, back.shape), (1, [3, COLS]));
    assert!((0..values.len()).all(|i| back.values().bf16(i) == values[i]));
    assert_eq!(back.mismatch(&tensor, 1), None);
    assert!(back.mismatch(&tensor, 0).is_some());
}

#[test]
fn what_record_writes_is_read_back_as_the_same_lane() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("m"), dir.path().join("rec"));
    Model::valid().write(&model);
    let run = tq4(&[
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--tensor-base",
        "a.gate_proj",
        "--row-start",
        "1",
        "--lanes",
        "wgpu",
        "--record",
        out.to_str().unwrap(),
        "--format",
        "json",
    ]);
    assert!(run.status.success(), "{}", stderr(&run));
    let live: Value = serde_json::from_str(&stdout(&run)).unwrap();
    let file = out.join("a.gate_proj.wgpu.safetensors");
    if !file.exists() {
        let lane = live["lanes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["name"] == "wgpu")
            .unwrap();
        not_run("recording a wgpu lane", lane["reason"].as_str().unwrap());
        return;
    }
    let again = tq4(&[
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--tensor-base",
        "a.gate_proj",
        "--row-start",
        "1",
        "--lanes",
        "reference",
        "--format",
        "json",
        "--recording",
        &format!("wgpu={}", file.display()),
    ]);
    assert!(again.status.success(), "{}", stderr(&again));
    let recorded: Value = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(recorded["metrics"], live["metrics"]);
    let lane = |v: &Value| {
        v["lanes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["name"] == "wgpu")
            .unwrap()
            .clone()
    };
    for key in [
        "device",
        "driver",
        "api",
        "software",
        "kernel_variant",
        "kernel_checksum",
    ] {
        assert_eq!(lane(&recorded)[key], lane(&live)[key], "{key}");
    }
    assert_eq!(lane(&recorded)["status"], "recorded");
}

#[test]
fn tensors_with_like_names_are_recorded_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("m"), dir.path().join("rec"));
    let mut model = Model::valid();
    for (part, raw) in model.tensors.clone() {
        let Some(suffix) = part.strip_prefix("a.gate_proj") else {
            continue;
        };
        for base in ["a/b", "a_b"] {
            model.tensors.insert(format!("{base}{suffix}"), raw.clone());
        }
    }
    model.write(&path);
    let bases = ["a/b", "a_b"];
    let run = tq4(&[
        "validate",
        "--tq-model",
        path.to_str().unwrap(),
        "--tensor-base",
        bases[0],
        "--tensor-base",
        bases[1],
        "--lanes",
        "wgpu",
        "--record",
        out.to_str().unwrap(),
    ]);
    if !out.join("a_b.wgpu.safetensors").exists() {
        lane::not_run("recording a wgpu lane", &stdout(&run));
        return;
    }
    assert!(run.status.success(), "{}", stderr(&run));
    for (base, file) in bases.iter().zip(["a%2Fb", "a_b"]) {
        let file = out.join(format!("{file}.wgpu.safetensors"));
        let recording = tq4::recording::Recording::read("wgpu", &file).unwrap();
        assert_eq!(recording.tensor_base, *base);
    }
}
