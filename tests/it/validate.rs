//! `tq4 validate` on models of every layout, and what it writes.

use crate::support::cli::{Model, stderr, stdout, tq4};
use serde_json::Value;
use std::path::Path;

fn validate(dir: &Path, more: &[&str]) -> std::process::Output {
    let model = dir.to_str().unwrap();
    let mut args = vec!["validate", "--tq-model", model, "--lanes", "reference"];
    args.extend(more);
    tq4(&args)
}

fn report(out: &std::process::Output) -> Value {
    assert!(out.status.success(), "{}", stderr(out));
    serde_json::from_str(&stdout(out)).unwrap()
}

#[test]
fn sharded_and_unsharded_models_give_the_same_figures() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, source) = (
        dir.path().join("m1"),
        dir.path().join("m2"),
        dir.path().join("s"),
    );
    Model::valid().write(&one);
    Model::valid().write_sharded(&two);
    Model::source().write(&source);
    let args = [
        "--all",
        "--format",
        "json",
        "--source-model",
        source.to_str().unwrap(),
    ];
    let (a, b) = (
        report(&validate(&one, &args)),
        report(&validate(&two, &args)),
    );
    assert_eq!(a["tensors"].as_array().unwrap().len(), 2);
    for i in 0..2 {
        assert_eq!(a["tensors"][i]["metrics"], b["tensors"][i]["metrics"]);
        assert_eq!(a["tensors"][i]["metrics"][0]["rhs"], "bf16_source");
        assert_eq!(a["tensors"][i]["source_model"], "s");
    }
}

#[test]
fn names_and_globs_choose_tensors() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let one = report(&validate(
        dir.path(),
        &["--tensor-base", "a.up_proj", "--format", "json"],
    ));
    assert_eq!(one["tensor_base"], "a.up_proj");
    for globs in [
        vec!["--tensor-base", "*proj"],
        vec!["--tensor-base", "a.up*", "--tensor-base", "*gate*"],
    ] {
        let mut args = globs;
        args.extend(["--format", "json"]);
        let many = report(&validate(dir.path(), &args));
        assert_eq!(many["tensors"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_row_range_is_validated_alone() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let args = [
        "--tensor-base",
        "a.up_proj",
        "--row-start",
        "2",
        "--row-count",
        "3",
        "--format",
        "json",
    ];
    let r = report(&validate(dir.path(), &args));
    assert_eq!(r["row_start"], 2);
    assert_eq!(r["row_count"], 3);
    assert_eq!(r["shape"], serde_json::json!([3, 256]));
}

#[test]
fn the_worst_elements_are_listed_worst_first() {
    let dir = tempfile::tempdir().unwrap();
    let (model, source) = (dir.path().join("m"), dir.path().join("s"));
    Model::valid().write(&model);
    Model::source().write(&source);
    let (csv, json) = (dir.path().join("top.csv"), dir.path().join("r.json"));
    let out = validate(
        &model,
        &[
            "--tensor-base",
            "a.gate_proj",
            "--row-start",
            "1",
            "--source-model",
            source.to_str().unwrap(),
            "--top-errors",
            csv.to_str().unwrap(),
            "--report",
            json.to_str().unwrap(),
        ],
    );
    assert!(out.status.success(), "{}", stderr(&out));
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let mut reader = csv::Reader::from_path(csv).unwrap();
    assert_eq!(
        reader.headers().unwrap().iter().collect::<Vec<_>>(),
        [
            "rank",
            "tensor",
            "row",
            "col",
            "source",
            "reference",
            "lhs",
            "rhs",
            "abs",
            "rel"
        ]
    );
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 128);
    let abs: Vec<f64> = rows.iter().map(|r| r[8].parse().unwrap()).collect();
    assert!(abs.windows(2).all(|w| w[0] >= w[1]));
    let max = report["metrics"][0]["max_abs"].as_f64().unwrap();
    assert!((abs[0] - max).abs() <= 1e-6 * max);
    assert!(rows.iter().all(|r| r[2].parse::<usize>().unwrap() >= 1));
}

#[test]
fn a_required_lane_that_is_absent_is_exit_code_3_and_never_a_pass() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let out = validate(dir.path(), &["--all", "--require", "cuda"]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert!(
        stdout(&out).contains("cuda_dequant_not_run"),
        "{}",
        stdout(&out)
    );
    assert!(
        stderr(&out).contains("cuda is required and did not run"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn tables_fit_100_columns_and_end_with_the_decision() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let out = validate(dir.path(), &["--all"]);
    let text = stdout(&out);
    let (tables, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(last.starts_with("decision: "), "{text}");
    for line in tables.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert!(!text.contains('\u{1b}'), "no escape codes into a pipe");
}

#[test]
fn markdown_is_made_of_markdown_tables() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let source = dir.path().join("s");
    Model::source().write(&source);
    let out = validate(
        dir.path(),
        &[
            "--tensor-base",
            "*",
            "--format",
            "markdown",
            "--source-model",
            source.to_str().unwrap(),
        ],
    );
    let text = stdout(&out);
    assert!(text.contains("### a.gate_proj"), "{text}");
    assert!(text.contains("| comparison"), "{text}");
    assert!(text.contains("|---"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let exe = assert_cmd::cargo::cargo_bin!("tq4");
    let out = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{} validate --tq-model {} --all --lanes reference --format json | true",
            exe.display(),
            dir.path().display()
        ))
        .output()
        .unwrap();
    assert_eq!(stderr(&out), "");
}
