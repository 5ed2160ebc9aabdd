//! The exit codes: what each stands for, and what is said on stderr.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::recording::recorded;
use crate::support::standin;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tq4::TqModel;

fn models(dir: &Path) -> [PathBuf; 2] {
    let [model, source] = ["m", "s"].map(|name| dir.join(name));
    Model::valid().write(&model);
    Model::source().write(&source);
    [model, source]
}

fn args<'a>(model: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["validate", "--all", "--tq-model", model.to_str().unwrap()];
    args.extend(more);
    args
}

/// The run without any Vulkan or CUDA driver.
fn bare(args: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(args)
        .env("VK_DRIVER_FILES", "/nonexistent/icd.json")
        .env("VK_ICD_FILENAMES", "/nonexistent/icd.json")
        .output()
        .unwrap()
}

fn ends(out: &Output, code: i32, error: &str) {
    let said = stderr(out);
    assert_eq!(out.status.code(), Some(code), "{}{said}", stdout(out));
    // Mesa's Wayland library writes a line of its own.
    let ours = |l: &&str| l.starts_with("error: ") && !l.contains("XDG_RUNTIME_DIR");
    let errors = said.lines().filter(ours);
    let errors: Vec<&str> = errors.collect();
    assert_eq!(errors.len(), usize::from(!error.is_empty()), "{said}");
    assert!(errors.iter().all(|e| e.contains(error)), "{said}");
}

/// A benchmark of one lane that soon ends.
fn bench(lane: &str) -> [&str; 9] {
    [
        "bench",
        "--lanes",
        lane,
        "--shape",
        "8x128",
        "--time-limit",
        "0.05",
        "--copy-size",
        "1",
    ]
}

#[test]
fn nothing_compared_is_3_with_one_line_that_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let [model, source] = models(dir.path());
    let lanes = ["--lanes", "reference"];
    let out = tq4(&args(&model, &lanes));
    ends(
        &out,
        3,
        "nothing was compared: no lane ran beside the reference, and no source was given; give --source-model",
    );
    assert!(
        stdout(&out).contains("decision: NOTHING WAS COMPARED: "),
        "{}",
        stdout(&out)
    );
    if cfg!(target_os = "linux") {
        ends(&bare(&args(&model, &[])), 3, "nothing was compared");
    }
    // With a source the checkpoint was judged.
    let with = [
        "--lanes",
        "reference",
        "--source-model",
        source.to_str().unwrap(),
    ];
    let out = tq4(&args(&model, &with));
    ends(&out, 0, "");
    assert!(
        stdout(&out).contains("decision: only the reference ran, and its error"),
        "{}",
        stdout(&out)
    );
    // A recording is a comparison.
    let file = recorded(&model, "mine", |_, v| half::bf16::from_f32(v));
    let recording = [
        "--lanes",
        "reference",
        "--recording",
        &format!("mine={file}"),
    ];
    ends(&tq4(&args(&model, &recording)), 0, "");
}

#[test]
fn the_demo_may_end_with_the_reference_alone_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("demo");
    let out = bare(&["demo", "--dir", dir.to_str().unwrap()]);
    ends(&out, 0, "");
    if cfg!(target_os = "linux") {
        assert!(
            stdout(&out).contains("decision: only the reference ran"),
            "{}",
            stdout(&out)
        );
    }
}

#[test]
fn a_lane_that_is_named_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let [model, source] = models(dir.path());
    let source = source.to_str().unwrap();
    let said = "lane wgpu is required and did not run on every tensor";
    if cfg!(target_os = "linux") {
        let named = args(&model, &["--lanes", "wgpu", "--source-model", source]);
        ends(&bare(&named), 3, said);
        let shape = bench("wgpu");
        ends(&bare(&shape), 3, "lane wgpu is required and did not run");
    }
    // The reference always runs.
    ends(
        &tq4(&args(
            &model,
            &["--lanes", "reference", "--source-model", source],
        )),
        0,
        "",
    );
}

#[test]
fn software_meets_a_requirement_only_where_it_is_allowed() {
    let Some(driver) = standin::right() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [model, _] = models(dir.path());
    let said = "lane cuda is required and ran only on a software adapter (tq4 stand-in (emulated)); give --allow-software to accept it";
    for option in ["--lanes", "--require"] {
        ends(
            &standin::tq4(driver, &args(&model, &[option, "cuda"])),
            3,
            said,
        );
        let allowed = args(
            &model,
            &[option, "cuda", "--allow-software", "--format", "json"],
        );
        let out = standin::tq4(driver, &allowed);
        ends(&out, 0, "");
        let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
        assert_eq!(report["model"]["lanes"]["allow_software"], true);
    }
    let shape = bench("cuda");
    ends(&standin::tq4(driver, &shape), 3, said);
    let allowed: Vec<&str> = shape.into_iter().chain(["--allow-software"]).collect();
    ends(&standin::tq4(driver, &allowed), 0, "");
}

#[test]
fn the_decision_line_says_software() {
    let Some(driver) = standin::right() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [model, _] = models(dir.path());
    for (format, decision) in [("table", "decision: "), ("markdown", "- \u{2714} ")] {
        let more = ["--lanes", "cuda", "--allow-software", "--format", format];
        let text = stdout(&standin::tq4(driver, &args(&model, &more)));
        let line = "cuda_dequant_matches_reference_with_bf16_rounding (software: tq4 stand-in (emulated); ";
        assert!(text.contains(&format!("{decision}{line}")), "{text}");
    }
}

#[test]
fn a_stand_in_frees_a_lane_that_is_named_and_not_one_that_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let [model, _] = models(dir.path());
    let file = recorded(&model, "cuda", |_, v| half::bf16::from_f32(v));
    let recording = format!("cuda={file}");
    let named = ["--lanes", "cuda", "--recording", &recording];
    ends(&tq4(&args(&model, &named)), 0, "");
    let required = ["--require", "cuda", "--recording", &recording];
    ends(
        &bare(&args(&model, &required)),
        3,
        "lane cuda is required and did not run",
    );
}

#[test]
fn a_recording_that_is_required_has_to_hold_every_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let [model, _] = models(dir.path());
    let whole = recorded(&model, "whole", |_, v| half::bf16::from_f32(v));
    let part = dir.path().join("part.safetensors");
    let [model_path, part] = [&model, &part].map(|p| p.to_str().unwrap());
    let base = TqModel::open(&model)
        .unwrap()
        .bases()
        .next()
        .unwrap()
        .to_owned();
    let record = ["record", "--tq-model", model_path, "--tensor-base", &base];
    let to = ["--lane", "reference", "--output", part];
    ends(&tq4(&[&record[..], &to].concat()), 0, "");
    let recordings = [
        ("whole", &*whole, 0, ""),
        (
            "part",
            part,
            3,
            "lane mine is required and did not run on every tensor",
        ),
    ];
    for (name, file, code, error) in recordings {
        let recording = format!("mine={file}");
        let given = ["--lanes", "reference", "--recording", &recording];
        ends(&bare(&args(&model, &given)), 0, "");
        let required = [&given[..], &["--require", "mine"]].concat();
        ends(&bare(&args(&model, &required)), code, error);
        let other = [&given[..], &["--require", name]].concat();
        ends(
            &bare(&args(&model, &other)),
            2,
            &format!("no lane {name:?}"),
        );
    }
}

#[test]
fn the_decision_is_failed_when_any_lane_failed() {
    let Some(driver) = standin::right() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [model, _] = models(dir.path());
    let file = recorded(&model, "mine", |i, v| {
        half::bf16::from_f32(if i % 2 == 0 { -v } else { v })
    });
    let recording = format!("mine={file}");
    let more = [
        "--lanes",
        "cuda",
        "--allow-software",
        "--recording",
        &recording,
        "--format",
        "json",
    ];
    let out = standin::tq4(driver, &args(&model, &more));
    ends(&out, 1, "");
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let failed = "mine_dequant_differs_from_reference";
    assert_eq!(report["summary"]["decision"], failed);
    for t in report["tensors"].as_array().unwrap() {
        assert_eq!(t["decision"], failed);
        let lanes: Vec<&Value> = t["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| &d["passed"])
            .filter(|passed| !passed.is_null())
            .collect();
        assert_eq!(lanes, [&Value::Bool(true), &Value::Bool(false)]);
    }
}
