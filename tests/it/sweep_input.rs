//! What a run over a model makes of its input: tensors that are not quantised, bad tensors, options.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use safetensors::Dtype;
use serde_json::Value;
use std::path::Path;
use tq4::record::PlainStatus;

/// The summary and the records of a sweep over a model and its source.
fn sweep(dir: &Path, model: &Model, source: &Model, code: i32) -> (String, Vec<Value>) {
    model.write(&dir.join("m"));
    source.write(&dir.join("s"));
    let report = dir.join("r.jsonl");
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let out = tq4(&[
        "validate",
        "--all",
        "--lanes",
        "reference",
        "--tq-model",
        &path("m"),
        "--source-model",
        &path("s"),
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
    let records = std::fs::read_to_string(&report)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    (stdout(&out), records)
}

/// Both models with the same tensors that are not quantised.
fn with_plain() -> (Model, Model) {
    let (mut model, mut source) = (Model::valid(), Model::source());
    for m in [&mut model, &mut source] {
        for base in ["embed", "norm"] {
            let data = (0..2 * 1_500_000).map(|i| (i % 251) as u8).collect();
            m.set(base, "weight", Dtype::BF16, &[1_500_000], data);
        }
    }
    (model, source)
}

#[test]
fn tensors_that_are_not_quantised_are_compared_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (model, source) = with_plain();
    let (text, records) = sweep(dir.path(), &model, &source, 0);
    assert!(
        text.contains(
            "not quantised: 2 as in the source, 0 differ, 0 only here, 0 only in the source"
        ),
        "{text}"
    );
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["record"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["header", "tensor", "tensor", "plain", "plain", "summary"]
    );

    let dir = tempfile::tempdir().unwrap();
    let (mut model, mut source) = with_plain();
    for at in [2_999_999, 1_048_576, 1_048_577] {
        model.tensors.get_mut("embed.weight").unwrap().data[at] ^= 1;
    }
    // Of another shape: of another type alone it would be held to the source's values, cast.
    model.set(
        "norm",
        "weight",
        Dtype::F16,
        &[3, 500_000],
        vec![0; 3_000_000],
    );
    model.set("extra", "weight", Dtype::F32, &[1], vec![0; 4]);
    source.set("mtp", "weight", Dtype::BF16, &[2, 2], vec![0; 8]);
    let (text, records) = sweep(dir.path(), &model, &source, 1);
    let plain: Vec<&Value> = records.iter().filter(|r| r["record"] == "plain").collect();
    let status = |s: PlainStatus| serde_json::to_value(s).unwrap();
    for (record, (name, is)) in plain.iter().zip([
        ("embed.weight", PlainStatus::Differs),
        ("extra.weight", PlainStatus::OnlyInTq4),
        ("mtp.weight", PlainStatus::OnlyInSource),
        ("norm.weight", PlainStatus::Differs),
    ]) {
        assert_eq!(
            (&record["name"], &record["status"]),
            (&name.into(), &status(is))
        );
    }
    assert_eq!(plain[0]["differing_bytes"], 3);
    assert_eq!(plain[0]["first_difference"], 1_048_576);
    for line in [
        "embed.weight: 3 of 3000000 bytes differ, the first at 1048576",
        "extra.weight: the source model does not hold it",
        "mtp.weight: the TQ4 model does not hold it",
        "norm.weight: F16 [3, 500000] found, BF16 [1500000] in the source",
        "not quantised: 0 as in the source, 2 differ, 1 only here, 1 only in the source",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
    }
    assert!(
        text.contains("decision: FAILED: not quantised, and not the source's: embed.weight (3 of 3000000 bytes differ"),
        "{text}"
    );

    // In the other form of report too.
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = tq4(&[
        "validate",
        "--all",
        "--format",
        "json",
        "--lanes",
        "reference",
        "--tq-model",
        &path("m"),
        "--source-model",
        &path("s"),
    ]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let in_lines = plain.into_iter().map(|line| {
        let mut record = line.clone();
        record.as_object_mut().unwrap().remove("record");
        record
    });
    assert_eq!(report["plain"], in_lines.collect::<Value>());
    assert_eq!(report["summary"]["outcome"], "failed");
}

#[test]
fn a_bad_tensor_is_reported_and_the_others_are_validated() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::valid();
    let packed = model.tensors.get_mut("a.gate_proj.tq_packed").unwrap();
    packed.data[4 * COLS / 2..5 * COLS / 2].fill(0xFF);
    let (text, records) = sweep(dir.path(), &model, &Model::source(), 2);
    let what = "every packed byte of row 4 is 0xFF, which no working encoder writes";
    assert_eq!(records[1]["error"]["what"], what);
    assert!(
        text.contains(&format!("\n{what} (a.gate_proj: packed in ")),
        "{text}"
    );
    assert_eq!(records[2]["tensor_base"], "a.up_proj");
    assert_eq!(records[2]["metrics"][0]["elements"], ROWS * COLS);
    assert_eq!(records[3]["errors"], 1);
    assert_eq!(records[3]["outcome"], "broke");
    assert_eq!(records[3]["worst_first"][0], "a.gate_proj");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let model = model.to_str().unwrap();
    let lines = dir.path().join("r.jsonl");
    let lines = lines.to_str().unwrap();
    for (more, what) in [
        (vec!["--resume"], "no JSONL report to resume"),
        (
            vec!["--resume", "--report", "r.json"],
            "no JSONL report to resume",
        ),
        (
            vec!["--partition", "0/2", "--report", lines],
            "expected i/n with i from 1 to n",
        ),
        (
            vec!["--report", lines, "--row-start", "7"],
            "rows 7..7 asked for, the tensor has rows 0..6",
        ),
        (
            vec!["--report", "none/r.jsonl"],
            "the directory does not exist",
        ),
    ] {
        let mut args = vec![
            "validate",
            "--all",
            "--tq-model",
            model,
            "--lanes",
            "reference",
        ];
        args.extend(more);
        let out = tq4(&args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(stderr(&out).starts_with("error: "), "{}", stderr(&out));
        assert!(stderr(&out).contains(what), "{}", stderr(&out));
        assert!(!Path::new(lines).exists());
    }
}

#[test]
fn every_output_goes_with_a_report_of_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    Model::valid().write(&dir.path().join("m"));
    Model::source().write(&dir.path().join("s"));
    let args = [
        "validate",
        "--all",
        "--tq-model",
        &path("m"),
        "--source-model",
        &path("s"),
        "--lanes",
        "reference",
        "--partition",
        "1/2",
        "--report",
        &path("r.jsonl"),
        "--record",
        &path("recorded"),
        "--top-errors",
        &path("t.csv"),
        "--html",
        &path("p.html"),
        "-v",
        "--format",
    ];
    let run = |format: &str| {
        let _ = std::fs::remove_file(path("r.jsonl"));
        let out = tq4(&[&args[..], &[format]].concat());
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        stdout(&out)
    };
    let text = run("table");
    assert!(
        text.contains("elements by distance in BF16 steps"),
        "{text}"
    );
    let printed: Value = serde_json::from_str(&run("json")).unwrap();
    let lines = std::fs::read_to_string(path("r.jsonl")).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines[0]["model"], printed["model"]);
    assert_eq!(lines[1]["metrics"], printed["tensors"][0]["metrics"]);
    assert_eq!(
        printed["tensors"].as_array().unwrap().len(),
        1,
        "one of two"
    );
    let rows = std::fs::read_to_string(path("t.csv")).unwrap();
    assert!(rows.lines().count() > 100, "{rows}");
    assert!(dir.path().join("recorded").is_dir());
    let page = std::fs::read_to_string(path("p.html")).unwrap();
    assert!(page.contains("a.gate_proj") || page.contains("a.up_proj"));
}
