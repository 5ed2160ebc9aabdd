//! Recordings in both forms, as stand-ins and under their own names, good and broken.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use crate::support::fake::{Fake, slots};
use crate::support::not_run;
use crate::support::recording::{dump, recorded, rounded};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::path::Path;
use tq4::format::TqModel;
use tq4::lane::Output;
use tq4::lane::recording::RecordingFile;
use tq4::record::{LaneInfo, LaneName, OutputType, Rows, StripSize};
use tq4::reference;
use tq4::run::Recorder;
use tq4::run::{Job, RunOptions, run};

const BASE: &str = "a.gate_proj";

/// A dump of what is right.
fn good(dir: &Path) -> String {
    let (values, shape) = rounded(dir, BASE);
    dump(&dir.join("dump.json"), BASE, shape, &values)
}

/// Exit code and the tensor's record.
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
    let report: Value = serde_json::from_str(&text).unwrap();
    (out.status.code(), report["tensors"][0].clone())
}

#[test]
fn a_stand_in_takes_the_place_of_its_lane() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let file = good(dir.path());
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
    let file = good(dir.path());
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
    let (good, shape) = rounded(dir.path(), BASE);
    let poison = bf16::from_bits(tq4::lane::POISON_BF16);
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
        let file = dump(&dir.path().join("dump.json"), BASE, shape, &values);
        let (code, report) = compare(dir.path(), &format!("cuda={file}"));
        assert_eq!(code, Some(1), "{what}");
        assert_eq!(
            report["decision"], "cuda_dequant_differs_from_reference",
            "{what}"
        );
    }
}

#[test]
fn a_recording_of_more_rows_serves_and_one_of_fewer_is_not_compared() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let (values, [rows, cols]) = rounded(dir.path(), BASE);
    let path = dir.path().join("dump.json");
    let file = dump(&path, BASE, [rows - 1, cols], &values[..(rows - 1) * cols]);
    let run = |count: &str| {
        tq4(&[
            "validate",
            "--tq-model",
            dir.path().to_str().unwrap(),
            "--tensor-base",
            BASE,
            "--row-count",
            count,
            "--lanes",
            "reference",
            "--recording",
            &format!("cuda={file}"),
        ])
    };
    let out = run("2");
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(stdout(&out).contains("cuda_dequant_matches_reference"));
    // The user named it: a run that did not look at it is no pass.
    let out = run("6");
    assert_eq!(out.status.code(), Some(2));
    let what = "error: recording cuda was compared with nothing: the recording holds rows 0..5";
    assert!(stderr(&out).contains(what), "{}", stderr(&out));
    for what in ["cuda_dequant_not_run", "the recording holds rows 0..5"] {
        assert!(stdout(&out).contains(what), "{}", stdout(&out));
    }
}

#[test]
fn our_own_form_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    Model::valid().write(&path);
    let model = TqModel::open(&path).unwrap();
    let rows = Rows {
        start: 1,
        count: Some(3),
    };
    let options = RunOptions {
        rows,
        strip: StripSize::Rows(2),
        ..RunOptions::default()
    };
    let job = Job::new(&model, None, &[BASE.to_owned()], &options).unwrap();
    let info = LaneInfo {
        name: LaneName::Cuda,
        device: "Some GPU".into(),
        driver: "1.2".into(),
        api: "CUDA".into(),
        software: false,
        arithmetic: None,
        kernel_variant: "PTX 8.0".into(),
        kernel_checksum: "0123456789abcdef".into(),
        output: OutputType::Bf16,
        pci: None,
        uuid: None,
    };
    let file = dir.path().join("rec.safetensors");
    let mut recorder = Recorder::to_file(&file, &job, 0, &info);
    let mut lanes = slots([Fake::new("cuda", 1)]);
    run(&job, &mut lanes, &mut [&mut recorder], &mut |_| ()).unwrap();
    recorder.finish().unwrap();
    let back = RecordingFile::open(&file.as_path().into()).unwrap();
    assert_eq!(*back.info(), info);
    let entry = back.identity().entry(BASE).unwrap();
    assert_eq!((entry.row_start, entry.shape), (1, [3, COLS]));
    let (values, _) = rounded(&path, BASE);
    let values = Output::Bf16(values[COLS..4 * COLS].to_vec());
    assert_eq!(back.rows(BASE, 1..4).unwrap(), values);
    let tensor = model.rows(BASE, 1..4).unwrap();
    assert_eq!(back.identity().mismatch(&tensor), None);
    assert!(back.rows(BASE, 0..3).is_err());
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
        "--allow-software",
        "--record",
        out.to_str().unwrap(),
        "--format",
        "json",
    ]);
    // 3: this machine has no adapter.
    assert!(matches!(run.status.code(), Some(0 | 3)), "{}", stderr(&run));
    let live: Value = serde_json::from_str(&stdout(&run)).unwrap();
    let live = &live["tensors"][0];
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
    let recorded = &recorded["tensors"][0];
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
        assert_eq!(lane(recorded)[key], lane(live)[key], "{key}");
    }
    assert_eq!(lane(recorded)["status"], "recorded");
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
        "--allow-software",
        "--record",
        out.to_str().unwrap(),
    ]);
    if !out.join("a_b.wgpu.safetensors").exists() {
        not_run("recording a wgpu lane", &stdout(&run));
        return;
    }
    assert!(run.status.success(), "{}", stderr(&run));
    for (base, file) in bases.iter().zip(["a%2Fb", "a_b"]) {
        let file = out.join(format!("{file}.wgpu.safetensors"));
        let recording = RecordingFile::open(&file.as_path().into()).unwrap();
        assert_eq!(recording.identity().tensors[0].tensor_base, *base);
    }
}

#[test]
fn no_damage_makes_the_reader_panic() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let good = std::fs::read(recorded(&model, "cuda", |_, v| bf16::from_f32(v))).unwrap();
    let path = dir.path().join("damaged.safetensors");
    let strategy = (
        prop::collection::vec((0..1500usize, any::<u8>()), 1..4),
        prop::option::of(0..2000usize),
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(500));
    runner
        .run(&strategy, |(flips, cut)| {
            let mut bytes = good.clone();
            for (at, value) in flips {
                bytes[at] = value;
            }
            bytes.truncate(cut.unwrap_or(bytes.len()));
            std::fs::write(&path, bytes).unwrap();
            if let Ok(file) = RecordingFile::open(&path.as_path().into()) {
                // What opens can be read whole.
                for entry in &file.identity().tensors {
                    let values = file.rows(&entry.tensor_base, entry.rows()).unwrap();
                    prop_assert_eq!(values.values().len(), entry.shape[0] * entry.shape[1]);
                }
                prop_assert_eq!(file.identity().difference(file.identity()), None);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn damaged_recordings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let path = dir.path().join("damaged.safetensors");
    let good = std::fs::read(recorded(&model, "cuda", |_, v| bf16::from_f32(v))).unwrap();
    let text = |from: &str, to: &str| {
        let head = String::from_utf8_lossy(&good[8..]).into_owned();
        assert_eq!(from.len(), to.len());
        let at = head
            .find(from)
            .unwrap_or_else(|| panic!("{from} in {head:.300}"));
        let mut bytes = good.clone();
        bytes[8 + at..8 + at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let damaged = [
        good[..good.len() - 1].to_vec(),
        good[..100].to_vec(),
        text("tq4-recording-2", "tq4-recording-1"),
        text(r#"\"shape\":[6,256]"#, r#"\"shape\":[9,256]"#),
        text(r#"\"shape\":[6,256]"#, r#"\"shape\":[0,256]"#),
        text(r#"\"row_start\":0"#, r#"\"row_start\":x"#),
        text(
            r#"\"tensor_base\":\"a.gate_proj"#,
            r#"\"tensor_base\":\"a.gate_prok"#,
        ),
    ];
    for (i, bytes) in damaged.iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let out = tq4(&["compare", path.to_str().unwrap(), path.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(2), "{i}: {}", stdout(&out));
        assert!(stderr(&out).starts_with("error: "), "{}", stderr(&out));
    }
}
