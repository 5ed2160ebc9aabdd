//! `tq4 compare` of two reports: same input, same verdicts, the same bits?

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::recording::recorded;
use half::bf16;
use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// Validates rows of every tensor in `dir/model`, 2 of them, on the reference and the recordings, as
/// `dir/report`, and returns that path.
fn validated(dir: &Path, model: &str, report: &str, more: &[&str]) -> String {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (tq, report) = (path(model), path(report));
    let mut args = vec!["validate", "--all", "--lanes", "reference"];
    args.extend(["--tq-model", &tq, "--report", &report]);
    args.extend(more);
    let out = tq4(&args);
    // 3: without a recording nothing is compared.
    let code = out.status.code();
    assert!(matches!(code, Some(0 | 1 | 3)), "{}", stderr(&out));
    report
}

fn compare(a: &str, b: &str, more: &[&str]) -> Output {
    tq4(&[&["compare", a, b], more].concat())
}

#[test]
fn two_runs_of_one_input_are_bit_identical_whatever_the_form() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    Model::valid().write(&dir.join("m"));
    let mine = recorded(&dir.join("m"), "mine", |_, v| bf16::from_f32(v));
    let mine = format!("mine={mine}");
    let report = |name: &str| validated(dir, "m", name, &["--recording", &mine]);
    let (one, two) = (report("one.jsonl"), report("two.jsonl"));
    let (three, four) = (report("three.json"), report("four.json"));
    for (a, b) in [(&one, &two), (&three, &four), (&one, &four)] {
        let out = compare(a, b, &[]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        for what in ["same input: 2 tensors", "same verdicts: yes", "4 of 4"] {
            assert!(stdout(&out).contains(what), "{}", stdout(&out));
        }
    }
    let file = dir.join("pair.json");
    let more = ["--format", "json", "--report", file.to_str().unwrap()];
    let out = compare(&one, &four, &more);
    assert_eq!(std::fs::read_to_string(file).unwrap(), stdout(&out));
    let pair: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let lanes = pair["tensors"][1]["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 2);
    for lane in lanes {
        assert_eq!(lane["passed"], serde_json::json!([true, true]));
        assert!(lane["output_hash"][0].is_string());
        assert_eq!(lane["output_hash"][0], lane["output_hash"][1]);
    }
    // A lane that only one of them has is no difference.
    let without = validated(dir, "m", "without.jsonl", &[]);
    let out = compare(&one, &without, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let told = "mine only in the first: 2 passed, 0 failed";
    assert!(stdout(&out).contains(told), "{}", stdout(&out));
    assert!(stdout(&out).contains("2 of 2"), "{}", stdout(&out));
}

#[test]
fn other_bits_are_told_and_another_verdict_is_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = dir.join("m");
    Model::valid().write(&model);
    let report = |name: &str, recording: String| {
        let given = format!("mine={recording}");
        validated(dir, "m", &format!("{name}.jsonl"), &["--recording", &given])
    };
    let right = report("a", recorded(&model, "right", |_, v| bf16::from_f32(v)));
    let wrong = report("b", recorded(&model, "wrong", |_, v| bf16::from_f32(-v)));
    let also_wrong = report(
        "c",
        recorded(&model, "also", |_, v| bf16::from_f32(2.0 * v)),
    );
    for (first, other, code, verdicts) in [
        (&wrong, also_wrong, 0, "same verdicts: yes"),
        (&right, wrong.clone(), 1, "same verdicts: NO"),
    ] {
        for (a, b) in [(first, &other), (&other, first)] {
            let out = compare(a, b, &[]);
            assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
            let text = stdout(&out);
            assert!(text.contains(verdicts), "{text}");
            assert!(text.contains("bit-identical: 2 of 4"), "{text}");
        }
    }
}

#[test]
fn reports_of_another_input_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut model = Model::valid();
    model.write(&dir.join("m"));
    let one = validated(dir, "m", "one.jsonl", &[]);
    model.tensors.get_mut("a.up_proj.tq_packed").unwrap().data[9] ^= 1;
    model.write(&dir.join("other"));
    let other = |ending: &str| validated(dir, "other", &format!("other.{ending}"), &[]);
    let rows = validated(dir, "m", "rows.jsonl", &["--row-count", "3"]);
    // A run that was stopped after its first tensor.
    let text = std::fs::read_to_string(&one).unwrap();
    let stopped = dir.join("stopped.jsonl");
    let lines: String = text.split_inclusive('\n').take(2).collect();
    std::fs::write(&stopped, lines).unwrap();
    for (other, what) in [
        (
            other("jsonl"),
            "a.up_proj: checksum of codes, scales and signs",
        ),
        (
            other("json"),
            "a.up_proj: checksum of codes, scales and signs",
        ),
        (
            rows,
            "a.gate_proj: rows: rows 0..6 of 256 columns and rows 0..3",
        ),
        (
            stopped.to_str().unwrap().to_owned(),
            "tensor a.up_proj is in one of them only",
        ),
    ] {
        let out = compare(&one, &other, &[]);
        assert_eq!(out.status.code(), Some(2), "{}", stdout(&out));
        let what = format!("error: not of the same input: {what}");
        assert!(stderr(&out).starts_with(&what), "{}", stderr(&out));
    }
}

#[test]
fn what_makes_no_pair_of_reports_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    Model::valid().write(&dir.join("m"));
    let one = validated(dir, "m", "one.jsonl", &[]);
    let recording = recorded(&dir.join("m"), "mine", |_, v| bf16::from_f32(v));
    let missing = dir.join("missing.json").to_str().unwrap().to_owned();
    let named = format!("a={one}");
    let beside = format!("no report found, beside the report {one}");
    let again = "`tq4 validate --report FILE` writes one";
    for (files, what, place, help) in [
        (vec![&one], "one report found, expected two", &one, again),
        (vec![&one, &recording], &beside, &recording, again),
        (vec![&recording, &one], &beside, &recording, again),
        (
            vec![&one, &missing],
            "cannot read the second report: ",
            &missing,
            "check the path",
        ),
        (
            vec![&one, &named],
            "a report found, which has no other name",
            &one,
            "leave NAME= out",
        ),
    ] {
        let args: Vec<&str> = files.iter().map(|f| f.as_str()).collect();
        let out = tq4(&[&["compare"], &args[..]].concat());
        assert_eq!(out.status.code(), Some(2));
        let said = stderr(&out);
        assert!(said.starts_with(&format!("error: {what}")), "{said}");
        assert!(
            said.contains(&format!("\n  where: {place}\n  help: ")),
            "{said}"
        );
        assert!(said.trim_end().ends_with(help), "{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
    }
    // Not a word of what was read is written over.
    let before = std::fs::read(&one).unwrap();
    let out = compare(&one, &one, &["--report", &one]);
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(std::fs::read(&one).unwrap(), before);
    // Two runs that were stopped at once: nothing is compared, which is no pass.
    let text = std::fs::read_to_string(&one).unwrap();
    let empty = dir.join("empty.jsonl");
    std::fs::write(&empty, text.split_inclusive('\n').next().unwrap()).unwrap();
    let empty = empty.to_str().unwrap();
    let out = compare(empty, empty, &[]);
    assert_eq!(out.status.code(), Some(3), "{}", stdout(&out));
    assert!(
        stderr(&out).contains("error: nothing was compared"),
        "{}",
        stderr(&out)
    );
}
