//! `tq4 record` and `tq4 compare`: outputs of machines that never meet.

use crate::support::cli::{Model, record, seed_case, stderr, stdout, tq4};
use crate::support::not_run;
use crate::support::recording::recorded;
use half::bf16;
use safetensors::Dtype;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tq4::codebook::Codebook;
use tq4::format::turboquant::{Config, write_tq_model};
use tq4::synthetic::{self, ScaleDistribution};
use tq4::tensor::Layout;

/// A model of one tensor, `[64, 1024]` in groups of 128: 512 groups.
fn model(dir: &Path) -> PathBuf {
    let layout = Layout::new(4, 128).unwrap();
    let tensor = synthetic::tensor(
        &mut synthetic::Rng::new(3),
        layout,
        64,
        1024,
        ScaleDistribution::Usual,
    )
    .unwrap();
    let codebook = std::sync::Arc::new(Codebook::lloyd_max(4, 128));
    let path = dir.join("model");
    write_tq_model(&path, &Config { layout, codebook }, &[tensor]).unwrap();
    path
}

fn compare(args: &[&str]) -> Output {
    tq4(&[&["compare"], args].concat())
}

/// The record of the first tensor in a report.
fn first(out: &Output) -> Value {
    let text = stdout(out);
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", stderr(out)));
    report["tensors"][0].clone()
}

fn right(_: usize, v: f32) -> bf16 {
    bf16::from_f32(v)
}

fn truncated(_: usize, v: f32) -> bf16 {
    bf16::from_bits((v.to_bits() >> 16) as u16)
}

/// One step of BF16 away in one element of 2,000.
fn last_bit(i: usize, v: f32) -> bf16 {
    let v = bf16::from_f32(v);
    bf16::from_bits(v.to_bits() + u16::from(i % 2000 == 7))
}

/// Wrong in group 5 of row 9.
fn one_group(i: usize, v: f32) -> bf16 {
    let wrong = i / 128 == 9 * 8 + 5;
    bf16::from_f32(if wrong { -v } else { v })
}

fn one_nan(i: usize, v: f32) -> bf16 {
    if i == 40_000 {
        bf16::NAN
    } else {
        bf16::from_f32(v)
    }
}

#[test]
fn two_recordings_are_held_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    type Alter = fn(usize, f32) -> bf16;
    let cases: [(&str, Alter, bool); 5] = [
        ("right", right, true),
        ("last_bit", last_bit, false),
        ("truncated", truncated, false),
        ("one_group", one_group, false),
        ("one_nan", one_nan, false),
    ];
    let good = recorded(&model, "cuda", right);
    for (name, f, passes) in cases {
        let other = recorded(&model, name, f);
        let out = compare(&[&other, &good, "--format", "json"]);
        let report = first(&out);
        assert_eq!(report["decisions"].as_array().unwrap().len(), 1);
        let decision = &report["decisions"][0];
        assert_eq!(decision["passed"], passes, "{name} {decision}");
        assert_eq!(out.status.code(), Some(i32::from(!passes)), "{name}");
        let word = if passes { "matches" } else { "differs_from" };
        assert_eq!(decision["decision"], format!("{name}_{word}_cuda"));
        if name == "last_bit" {
            let out = compare(&[
                &other,
                &good,
                "--tolerance",
                "rmse=0.005",
                "--format",
                "json",
            ]);
            let decision = &first(&out)["decisions"][0];
            assert_eq!(decision["verdict"], "within_tolerance", "{decision}");
            assert_eq!(out.status.code(), Some(0));
            let out = compare(&[&other, &good, "--tolerance", "rmse=1e-9"]);
            assert_eq!(out.status.code(), Some(1));
        }
    }
}

#[test]
fn with_the_model_values_get_the_report_of_validate_and_a_diagnosis() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let tq = model.to_str().unwrap();
    let good = recorded(&model, "cuda", right);
    let bad = recorded(&model, "wgpu", truncated);
    let out = compare(&[&good, &bad, "--tq-model", tq, "--format", "json"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let report = first(&out);
    assert_eq!(report["decision"], "wgpu_dequant_differs_from_reference");
    let pairs: Vec<String> = report["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            format!(
                "{} {}",
                m["lhs"].as_str().unwrap(),
                m["rhs"].as_str().unwrap()
            )
        })
        .collect();
    assert!(
        pairs.contains(&"wgpu_dequant cuda_dequant".to_owned()),
        "{pairs:?}"
    );
    assert_eq!(report["diagnosis"][0]["lane"], "wgpu");
    assert_eq!(report["diagnosis"][0]["explained"], true);
    // The same figures as validate gives for the same files.
    let (a, b) = (format!("cuda={good}"), format!("wgpu={bad}"));
    let validated = tq4(&[
        "validate",
        "--tq-model",
        tq,
        "--recording",
        &a,
        "--recording",
        &b,
        "--format",
        "json",
    ]);
    let validated = first(&validated);
    for key in ["metrics", "decisions", "diagnosis", "decision"] {
        assert_eq!(report[key], validated[key], "{key}");
    }
}

#[test]
fn what_is_not_of_the_same_input_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, change: &dyn Fn(&mut Model)| {
        let path = dir.path().join(name);
        let mut model = Model::valid();
        change(&mut model);
        model.write(&path);
        path
    };
    let record = |model: &Path, name: &str, more: &[&str]| {
        let out = dir.path().join(format!("{name}.safetensors"));
        let (tq, path) = (model.to_str().unwrap(), out.to_str().unwrap());
        let mut args = vec![
            "record",
            "--tq-model",
            tq,
            "--lane",
            "reference",
            "--output",
            path,
        ];
        args.extend(if more.is_empty() { &["--all"] } else { more });
        let run = tq4(&args);
        assert!(run.status.success(), "{}", stderr(&run));
        path.to_owned()
    };
    let plain = write("plain", &|_| ());
    let one = record(&plain, "one", &[]);
    let sign = write("sign", &|m| {
        m.tensors.get_mut("a.up_proj.tq_signs").unwrap().data[3] ^= 0xFE;
    });
    let scale = write("scale", &|m| {
        m.tensors.get_mut("a.up_proj.tq_scales").unwrap().data[0] ^= 1;
    });
    let code = write("code", &|m| {
        m.tensors.get_mut("a.gate_proj.tq_packed").unwrap().data[0] ^= 1;
    });
    let book = write("book", &|m| {
        m.config.as_mut().unwrap()["centroids"][15] = 0.5.into();
    });
    for (other, what) in [
        (record(&sign, "r-sign", &[]), "checksum of tensor a.up_proj"),
        (
            record(&scale, "r-scale", &[]),
            "checksum of tensor a.up_proj",
        ),
        (
            record(&code, "r-code", &[]),
            "checksum of tensor a.gate_proj",
        ),
        (record(&book, "r-book", &[]), "codebook"),
        (
            record(&plain, "r-rows", &["--all", "--row-count", "3"]),
            "rows 0..6 of 256 columns and rows 0..3",
        ),
    ] {
        let out = compare(&[&one, &other]);
        assert_eq!(out.status.code(), Some(2), "{other}: {}", stdout(&out));
        let error = stderr(&out);
        assert!(error.contains("not of the same input: "), "{error}");
        assert!(error.contains(what), "{error}");
    }
    // Against a model as well.
    let out = compare(&[
        &one,
        "--lane",
        "reference",
        "--tq-model",
        code.to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(2));
    let error = stderr(&out);
    for what in ["was made from other weights", "at a.gate_proj"] {
        assert!(error.contains(what), "{error}");
    }
    assert!(!error.contains("the same in both"), "{error}");
    // Another tensor in the model does no harm, but is said.
    let more = write("more", &|m| {
        m.set("b.norm", "weight", Dtype::U8, &[1], vec![1])
    });
    let other = record(&more, "r-more", &[]);
    let out = compare(&[&one, &other]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("these tensors are the same in both"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn a_recording_goes_against_a_lane_here() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let tq = model.to_str().unwrap();
    let file = recorded(&model, "cuda", right);
    let args = [
        &file,
        "--lane",
        "wgpu",
        "--tq-model",
        tq,
        "--format",
        "json",
    ];
    let out = compare(&args);
    if out.status.code() == Some(3) {
        return not_run("comparing with a wgpu lane", &stderr(&out));
    }
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let report = first(&out);
    let lanes = report["lanes"].as_array().unwrap();
    let status = |name: &str| {
        let lane = lanes.iter().find(|l| l["name"] == name);
        lane.map(|l| l["status"].clone())
    };
    assert_eq!(status("wgpu"), Some("ran".into()));
    assert_eq!(status("cuda"), Some("recorded".into()));
    let out = compare(&[&file, "--lane", "cuda", "--tq-model", tq]);
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", stderr(&out));
    for (args, what) in [
        (
            vec![file.as_str()],
            "one recording found, expected two, or --lane",
        ),
        (
            vec![&file, &file, "--lane", "cuda", "--tq-model", tq],
            "two recordings and a lane",
        ),
    ] {
        let out = compare(&args);
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(&out).contains(what), "{}", stderr(&out));
    }
}

#[test]
fn the_published_dump_is_a_recording() {
    let Some(seed) = seed_case() else { return };
    let tq = seed.join("tq-model");
    let dump = seed.join("arle-cuda-dequant.json");
    let (tq, dump) = (tq.to_str().unwrap(), dump.to_str().unwrap());
    let given = format!("cuda={dump}");
    let out = compare(&[
        &given,
        "--lane",
        "reference",
        "--tq-model",
        tq,
        "--format",
        "json",
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(
        first(&out)["decision"],
        "cuda_dequant_matches_reference_with_bf16_rounding"
    );
    let out = compare(&[&given, "--lane", "reference", "--tq-model", tq]);
    assert!(
        stderr(&out).contains("note: cuda holds no checksum of its input"),
        "{}",
        stderr(&out)
    );
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("mine.safetensors");
    let mine = mine.to_str().unwrap();
    let run = record(tq, mine);
    assert!(run.status.success(), "{}", stderr(&run));
    let report = first(&compare(&[&given, mine, "--format", "json"]));
    // Four of the published elements are one step off: right by the codes, not equal without them.
    assert_eq!(report["metrics"][0]["bit_equal"], 32764);
    assert_eq!(report["decisions"][0]["verdict"], "differs");
    let with_codes = compare(&[&given, mine, "--tq-model", tq, "--format", "json"]);
    assert_eq!(first(&with_codes)["decisions"][0]["verdict"], "allowed");
}

#[test]
fn nothing_is_written_over_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let tq = model.to_str().unwrap();
    let weights = model.join("model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    let out = record(tq, weights.to_str().unwrap());
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("written into the input"),
        "{}",
        stderr(&out)
    );
    assert_eq!(std::fs::read(&weights).unwrap(), before);
    let file = recorded(&model, "cuda", right);
    let before = std::fs::read(&file).unwrap();
    let out = compare(&[&file, &file, "--report", &file]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("written into the input"),
        "{}",
        stderr(&out)
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
}
