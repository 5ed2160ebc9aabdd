//! Options of `tq4 validate` that go together: what is printed and saved besides changes no decision.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::recording::{dump, recorded, rounded};
use crate::support::standin;
use half::bf16;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The lines of a report that are of tensors.
fn tensors(report: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(report).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    lines.filter(|v: &Value| v["record"] == "tensor").collect()
}

/// A table whose rows may be of any length.
fn table(path: &Path) -> Vec<csv::StringRecord> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_path(path)
        .unwrap();
    reader.records().map(Result::unwrap).collect()
}

#[test]
fn what_is_saved_and_printed_besides_changes_no_decision() {
    let (Some(right), Some(wrong)) = (standin::right(), standin::wrong()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (model, source) = (path("m"), path("s"));
    Model::valid().write(model.as_ref());
    Model::source().write(source.as_ref());
    let mine = recorded(model.as_ref(), "mine", |_, v| bf16::from_f32(-v));
    for (driver, name, passed) in [(right, "right", true), (wrong, "wrong", false)] {
        let [plain, full, csv, saved] =
            ["plain.jsonl", "full.jsonl", "csv", "rec"].map(|end| path(&format!("{name}-{end}")));
        let args = [
            "validate",
            "--all",
            "--lanes",
            "cuda",
            "--allow-software",
            "--tq-model",
            &model,
            "--source-model",
            &source,
            "--report",
        ];
        let without = standin::tq4(driver, &[&args[..], &[&plain]].concat());
        assert_eq!(without.status.code(), Some(i32::from(!passed)));
        let given = format!("mine={mine}");
        let more = [
            &full,
            "-v",
            "--top-errors",
            &csv,
            "--record",
            &saved,
            "--recording",
            &given,
        ];
        let with = standin::tq4(driver, &[&args[..], &more].concat());
        // The recording is wrong.
        assert_eq!(with.status.code(), Some(1), "{}", stderr(&with));
        let (plain, full) = (tensors(plain.as_ref()), tensors(full.as_ref()));
        assert_eq!((plain.len(), full.len()), (2, 2));
        for (plain, full) in plain.iter().zip(&full) {
            for key in ["tensor_base", "checksum", "checkpoint", "fwht_bug_control"] {
                assert_eq!(plain[key], full[key], "{key}");
            }
            // All that is not about the recording.
            for key in ["metrics", "decisions", "diagnosis"] {
                let mut others = full[key].as_array().unwrap().clone();
                others.retain(|v| ["lane", "lhs", "rhs"].iter().all(|k| v[k] != "mine"));
                assert_eq!(*plain[key].as_array().unwrap(), others, "{key}");
            }
            let decisions = full["decisions"].as_array().unwrap();
            let of = |lane: &str| decisions.iter().find(|d| d["lane"] == lane).unwrap();
            assert_eq!(of("cuda")["passed"], passed);
            assert_eq!(of("mine")["passed"], false);
            // The recording failed, and so did the kernel where it is the wrong one.
            let failed = if passed { "mine" } else { "cuda" };
            assert_eq!(full["decision"], of(failed)["decision"]);
            // What was saved is what was judged.
            let base = full["tensor_base"].as_str().unwrap();
            let file = format!("cuda={saved}/{base}.cuda.safetensors");
            let again = tq4(&[
                "validate",
                "--tensor-base",
                base,
                "--tq-model",
                &model,
                "--recording",
                &file,
                "--lanes",
                "reference",
                "--format",
                "json",
            ]);
            let again: Value = serde_json::from_str(&stdout(&again)).unwrap();
            let hash = |v: &Value| {
                let lanes = v["lanes"].as_array().unwrap();
                let lane = lanes.iter().find(|l| l["name"] == "cuda").unwrap();
                lane["output_hash"].clone()
            };
            assert!(hash(full).is_string());
            assert_eq!(hash(&again["tensors"][0]), hash(full));
        }
        // A picture of each tensor is printed.
        assert!(stdout(&with).len() > 2 * stdout(&without).len());
        let names: BTreeSet<String> = table(csv.as_ref())[1..]
            .iter()
            .map(|r| r[1].to_owned())
            .collect();
        assert!(names.iter().eq(["a.gate_proj", "a.up_proj"]));
    }
}

#[test]
fn worst_elements_have_every_column_where_a_recording_fits_one_tensor_only() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let given = [("mine", "a.gate_proj"), ("yours", "a.up_proj")].map(|(name, base)| {
        let (values, shape) = rounded(&model, base);
        let file = dir.path().join(format!("{name}.json"));
        format!("{name}={}", dump(&file, base, shape, &values))
    });
    let csv = dir.path().join("top.csv");
    let out = tq4(&[
        "validate",
        "--all",
        "--lanes",
        "reference",
        "--tq-model",
        model.to_str().unwrap(),
        "--recording",
        &given[0],
        "--recording",
        &given[1],
        "--top-errors",
        csv.to_str().unwrap(),
    ]);
    assert!(out.status.success(), "{}", stderr(&out));
    let rows = table(&csv);
    let head = "rank,tensor,row,col,reference,mine,yours,lhs,rhs,abs,rel";
    assert_eq!(rows[0].iter().collect::<Vec<_>>().join(","), head);
    assert_eq!(rows.len(), 1 + 2 * 128);
    for row in &rows[1..] {
        assert_eq!(row.len(), rows[0].len(), "{row:?}");
        let of_mine = &row[1] == "a.gate_proj";
        assert_eq!((row[5].is_empty(), row[6].is_empty()), (!of_mine, of_mine));
    }
}

#[test]
fn a_stand_in_asks_for_no_other_lane() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let given = format!(
        "cuda={}",
        recorded(&model, "cuda", |_, v| bf16::from_f32(v))
    );
    let out = tq4(&[
        "validate",
        "--tensor-base",
        "a.gate_proj",
        "--tq-model",
        model.to_str().unwrap(),
        "--lanes",
        "cuda",
        "--recording",
        &given,
        "--format",
        "json",
    ]);
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let lanes = report["tensors"][0]["lanes"].as_array().unwrap();
    let status = |name: &str| {
        let lane = lanes.iter().find(|l| l["name"] == name).unwrap();
        lane["status"].clone()
    };
    assert_eq!(status("cuda"), "recorded", "{}", stderr(&out));
    assert_eq!(status("wgpu"), "skipped");
}

#[test]
fn a_reader_that_leaves_early_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let given = format!(
        "mine={}",
        recorded(&model, "mine", |_, v| bf16::from_f32(-v))
    );
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tq4"))
        .args([
            "validate",
            "--all",
            "--lanes",
            "reference",
            "--recording",
            &given,
        ])
        .arg("--tq-model")
        .arg(&model)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
