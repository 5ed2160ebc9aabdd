//! `tq4 validate` on models of every layout, and what it writes.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use serde_json::Value;
use std::path::Path;
use tq4::error::printable;

fn validate(dir: &Path, more: &[&str]) -> std::process::Output {
    let model = dir.to_str().unwrap();
    let mut args = vec!["validate", "--tq-model", model, "--lanes", "reference"];
    args.extend(more);
    tq4(&args)
}

fn report(out: &std::process::Output) -> Value {
    // Without a source the reference alone is compared with nothing.
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", stderr(out));
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
    assert_eq!(one["tensors"][0]["tensor_base"], "a.up_proj");
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
    let r = &r["tensors"][0];
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
    let max = report["tensors"][0]["metrics"][0]["max_abs"]
        .as_f64()
        .unwrap();
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
    let last = text.lines().rfind(|l| !l.starts_with("  ")).unwrap();
    assert!(last.starts_with("decision: "), "{text}");
    for line in text.lines() {
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
    let source = dir.path().join("s");
    Model::source().write(&source);
    let exe = assert_cmd::cargo::cargo_bin!("tq4");
    let out = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{} validate --tq-model {} --source-model {} --all --lanes reference --format json | true",
            exe.display(),
            dir.path().display(),
            source.display()
        ))
        .output()
        .unwrap();
    assert_eq!(stderr(&out), "");
}

/// A model with a tensor of this name beside the usual two.
fn with_name(dir: &Path, name: &str) {
    let mut model = Model::valid();
    for part in ["tq_packed", "tq_scales", "tq_signs"] {
        let raw = model.tensors[&format!("a.gate_proj.{part}")].clone();
        model.tensors.insert(format!("{name}.{part}"), raw);
    }
    model.write(dir);
}

#[test]
fn a_name_is_itself_before_it_is_a_glob() {
    for name in ["a\\..\\b", "a[0]", "a{b", "*"] {
        let dir = tempfile::tempdir().unwrap();
        with_name(dir.path(), name);
        let given = format!("--tensor-base={name}");
        let out = validate(dir.path(), &[&given, "--format", "json"]);
        assert_eq!(report(&out)["tensors"][0]["tensor_base"], name);
    }
}

#[test]
fn names_in_a_csv_are_no_formulas_and_numbers_are_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, source) = (dir.path().join("top.csv"), dir.path().join("s"));
    for name in ["=1+1", "+a", "-a", "@a", "\ta"] {
        let model = dir.path().join("m");
        with_name(&model, name);
        let mut plain = Model::source();
        let raw = plain.tensors["a.gate_proj.weight"].clone();
        plain.tensors.insert(format!("{name}.weight"), raw);
        plain.write(&source);
        let out = validate(
            &model,
            &[
                &format!("--tensor-base={name}"),
                "--source-model",
                source.to_str().unwrap(),
                "--top-errors",
                csv.to_str().unwrap(),
            ],
        );
        assert!(out.status.success(), "{}", stderr(&out));
        let mut reader = csv::Reader::from_path(&csv).unwrap();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert!(rows.iter().all(|r| r[1] == format!("'{}", printable(name))));
        let values: Vec<f64> = rows.iter().map(|r| r[4].parse().unwrap()).collect();
        assert!(values.iter().any(|v| *v < 0.0));
    }
}

#[test]
fn a_dump_of_other_bits_or_groups_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let dump = dir.path().join("dump.json");
    let given = format!("mine={}", dump.display());
    for (bits, group_size, refused) in [(4, 128, false), (2, 128, true), (4, 999, true)] {
        let values = vec![0.0; ROWS * COLS];
        let json = serde_json::json!({
            "tensor_base": "a.gate_proj", "shape": [ROWS, COLS], "values": values,
            "bits": bits, "group_size": group_size,
        });
        std::fs::write(&dump, json.to_string()).unwrap();
        let out = validate(
            &model,
            &["--tensor-base", "a.gate_proj", "--recording", &given],
        );
        assert_eq!(out.status.code(), Some(if refused { 2 } else { 1 }));
        let what = format!(
            "the recording is of {bits} bits in groups of {group_size}, the model of 4 in groups of 128"
        );
        assert_eq!(stderr(&out).contains(&what), refused, "{}", stderr(&out));
    }
}

#[test]
fn two_outputs_in_one_file_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (file, dotted) = (at("r"), at("./new/../r"));
    std::fs::create_dir(at("new")).unwrap();
    #[allow(unused_mut)]
    let mut others = vec![file.clone(), dotted];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path(), at("link")).unwrap();
        others.push(at("link/r"));
    }
    for other in &others {
        for (command, options) in [
            (
                "validate --tq-model none",
                ["--report", "--html", "--top-errors"].as_slice(),
            ),
            ("compare none none", &["--report", "--html"]),
            ("merge none", &["--report", "--html"]),
            ("demo", &["--report", "--html"]),
            ("bench", &["--json", "--csv", "--markdown", "--html"]),
        ] {
            for pair in options.windows(2) {
                let mut args: Vec<&str> = command.split(' ').collect();
                args.extend([pair[0], &file, pair[1], other]);
                let out = tq4(&args);
                assert_eq!(out.status.code(), Some(2), "{args:?}");
                let what = format!("error: {} and {} name one file", pair[0], pair[1]);
                assert!(
                    stderr(&out).starts_with(&what),
                    "{args:?}: {}",
                    stderr(&out)
                );
                assert!(!Path::new(&file).exists());
            }
        }
    }
}

#[test]
fn an_absurd_number_of_threads_is_cut_and_nonsense_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let source = dir.path().join("s");
    Model::source().write(&source);
    let run = |threads: &str| {
        assert_cmd::Command::cargo_bin("tq4")
            .unwrap()
            .env("RAYON_NUM_THREADS", threads)
            .args(["validate", "--all", "--lanes", "reference", "--tq-model"])
            .arg(dir.path())
            .arg("--source-model")
            .arg(&source)
            .output()
            .unwrap()
    };
    for threads in ["0", "", "3"] {
        let out = run(threads);
        assert!(out.status.success());
        assert!(!stderr(&out).contains("RAYON"), "{}", stderr(&out));
    }
    for threads in ["100000000", "99999999999999999999999"] {
        let out = run(threads);
        assert!(out.status.success(), "{}", stderr(&out));
        assert!(
            stderr(&out).starts_with("note: RAYON_NUM_THREADS"),
            "{}",
            stderr(&out)
        );
    }
    for threads in ["abc", "-1", "1.5"] {
        let out = run(threads);
        assert_eq!(out.status.code(), Some(2));
        assert!(
            stderr(&out).contains("expected a number of threads"),
            "{}",
            stderr(&out)
        );
    }
}
