//! Words that lead a new user: which file, which type, what to give instead.

use crate::support::cli::{COLS, Model, ROWS, record, stderr, stdout, tq4, unfolded};
use crate::support::recording::rounded;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::path::Path;
use tq4::format::TqModel;
use tq4::reference;

const BASE: &str = "a.gate_proj";

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A folder with a model in `m`.
fn model() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(&dir.path().join("m"));
    let model = text(&dir.path().join("m"));
    (dir, model)
}

/// Writes one tensor.
fn safetensors(path: &Path, dtype: Dtype, data: &[u8]) {
    let view = TensorView::new(dtype, vec![ROWS, COLS], data).unwrap();
    safetensors::serialize_to_file([(BASE, view)], None, path).unwrap();
}

fn validate(model: &str, more: &[&str]) -> std::process::Output {
    let args = [
        "validate",
        "--lanes",
        "reference",
        "--tq-model",
        model,
        "--tensor-base",
        BASE,
    ];
    tq4(&[&args[..], more].concat())
}

#[test]
fn an_output_that_is_not_bf16_is_told_with_its_type() {
    let (dir, model) = model();
    let tensor = TqModel::open(model.as_ref())
        .unwrap()
        .rows(BASE, 0..ROWS)
        .unwrap();
    let values = reference::dequantize(&tensor);
    let half: Vec<u8> = values
        .iter()
        .flat_map(|v| f16::from_f32(*v).to_le_bytes())
        .collect();
    let whole: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for (dtype, data, name, words) in [
        (Dtype::F16, half, "f16", "_with_f16_rounding"),
        (Dtype::F32, whole, "f32", "_in_f32"),
    ] {
        let file = dir.path().join(format!("{name}.safetensors"));
        safetensors(&file, dtype, &data);
        let html = text(&dir.path().join("page.html"));
        let recording = format!("mine={}", text(&file));
        let run = |more: &[&str]| {
            let out = validate(
                &model,
                &[&["--recording", &recording, "--html", &html], more].concat(),
            );
            assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
            stdout(&out)
        };
        let row = format!("mine ({name}) vs reference");
        let decision = format!("mine_dequant_matches_reference{words}");
        let page = || std::fs::read_to_string(&html).unwrap();
        for said in [run(&[]), run(&["--format", "markdown"]), page()] {
            assert!(said.contains(&row) && said.contains(&decision), "{said}");
            assert!(!said.contains("bf16_rounding"), "{said}");
            // F32 has its distance in another type's steps.
            assert_eq!(said.contains("0 BF16"), name == "f32", "{said}");
        }
        let json = run(&["--format", "json"]);
        let published = "mine_dequant_matches_reference_with_bf16_rounding";
        assert!(
            json.contains(published),
            "the published string stays: {json}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_lane_that_broke_has_failed_with_all_of_its_lines_once() {
    let (dir, model) = model();
    let script = dir.path().join("fail.sh");
    let traceback =
        "Traceback:\\n  File \"k.py\", line 7\\n    x = [1\\n        ^\\nSyntaxError\\n";
    std::fs::write(&script, format!("printf '{traceback}' >&2; exit 1")).unwrap();
    let exec = format!("bad=sh {}", text(&script));
    let html = text(&dir.path().join("page.html"));
    let run = |more: &[&str]| {
        let out = validate(
            &model,
            &[&["--exec", &exec, "--html", &html], more].concat(),
        );
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        (stdout(&out), stderr(&out))
    };
    let (table, errors) = run(&[]);
    assert!(
        table.contains("\n  |     x = [1\n  |         ^\n  | SyntaxError\n"),
        "{table}"
    );
    assert_eq!(table.matches("x = [1").count(), 1, "{table}");
    assert!(table.contains("\ndecision: bad failed: "), "{table}");
    assert!(
        !table.contains("not_run") && !table.contains("\\n"),
        "{table}"
    );
    assert!(!errors.contains("x = [1"), "stdout has it: {errors}");
    let (few, errors) = run(&["-q"]);
    assert!(
        few.contains("decision: bad failed: ") && !few.contains("x = [1"),
        "{few}"
    );
    assert!(errors.contains("\n  |         ^\n"), "{errors}");
    let (markdown, _) = run(&["--format", "markdown"]);
    assert!(
        markdown.contains("\n        x = [1\n            ^\n"),
        "{markdown}"
    );
    assert!(markdown.contains("**bad failed**: "), "{markdown}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(
        page.contains("    x = [1\n        ^\nSyntaxError</pre>"),
        "{page}"
    );
    // Published strings and verdicts stay.
    let report: Value = serde_json::from_str(&run(&["--format", "json"]).0).unwrap();
    let decisions = report["tensors"][0]["decisions"].as_array().unwrap();
    let bad = decisions.iter().find(|d| d["lane"] == "bad").unwrap();
    assert_eq!(
        (&bad["decision"], &bad["verdict"]),
        (&"bad_dequant_not_run".into(), &"broke".into())
    );
}

#[test]
fn recordings_without_a_lane_are_called_as_their_files() {
    let (dir, model) = model();
    let (values, _) = rounded(model.as_ref(), BASE);
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let files = ["before", "after"].map(|n| dir.path().join(format!("{n}.safetensors")));
    for file in &files {
        safetensors(file, Dtype::BF16, &data);
    }
    let [a, b] = files.map(|f| text(&f));
    let out = tq4(&["compare", &a, &b]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let table = stdout(&out);
    assert!(table.contains("before vs after"), "{table}");
    assert!(table.contains("before_matches_after"), "{table}");
    // Of one name in two folders, each has its own.
    let folder = dir.path().join("other");
    std::fs::create_dir(&folder).unwrap();
    let copy = text(&folder.join("before.safetensors"));
    std::fs::copy(&a, &copy).unwrap();
    let table = stdout(&tq4(&["compare", &a, &copy]));
    assert!(table.contains("before vs before-recorded"), "{table}");
}

#[test]
fn a_weight_that_is_not_quantised_is_said_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::valid();
    model.set("norm", "weight", Dtype::BF16, &[4], vec![0; 8]);
    model.write(&dir.path().join("m"));
    let model = text(&dir.path().join("m"));
    for name in ["norm", "norm.weight"] {
        let out = tq4(&["validate", "--tq-model", &model, "--tensor-base", name]);
        assert_eq!(out.status.code(), Some(2));
        let said = "error: norm.weight is there, stored as BF16 and not quantised\n";
        assert!(stderr(&out).starts_with(said), "{}", stderr(&out));
    }
}

#[test]
fn a_report_is_no_baseline_and_few_rounds_are_a_reason() {
    let (dir, model) = model();
    let report = |name: &str| {
        let file = text(&dir.path().join(name));
        let out = validate(
            &model,
            &[
                "--report",
                &file,
                "--recording",
                &format!("m={}", {
                    let (values, shape) = rounded(model.as_ref(), BASE);
                    crate::support::recording::dump(
                        &dir.path().join("dump.json"),
                        BASE,
                        shape,
                        &values,
                    )
                }),
            ],
        );
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        file
    };
    let bench = |more: &[&str]| {
        let args = [
            "bench",
            "--shape",
            "32x256",
            "--lanes",
            "reference",
            "--time-limit",
            "0.2",
        ];
        tq4(&[&args[..], &["--copy-size", "1"], more].concat())
    };
    for file in [report("r.json"), report("r.jsonl")] {
        let out = bench(&["--baseline", &file]);
        assert_eq!(out.status.code(), Some(2));
        let said = "error: a report of tq4 validate, which holds no speeds\n";
        assert!(stderr(&out).starts_with(said), "{}", stderr(&out));
    }
    let record = dir.path().join("bench.json");
    let out = bench(&["--json", &text(&record)]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let mut old: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    let times = old["shapes"][0]["lanes"][0]["times"]
        .as_object_mut()
        .unwrap();
    for speed in times.values_mut() {
        speed["samples_s"].as_array_mut().unwrap().truncate(3);
    }
    std::fs::write(&record, old.to_string()).unwrap();
    let told = unfolded(&stdout(&bench(&["--baseline", &text(&record)])));
    let said = "against bench.json is not decidable: the baseline has 3 rounds, 7 are needed";
    assert!(told.contains(said), "{told}");
    assert!(
        told.contains("wall-clock time") && !told.contains("by the wall"),
        "{told}"
    );
}

#[test]
fn help_has_its_options_under_headings_and_is_short() {
    let short = stdout(&tq4(&["validate", "-h"]));
    let headings = ["Input:", "Lanes:", "Your kernel:", "Output:", "Options:"];
    let heads: Vec<&str> = short.lines().filter(|l| headings.contains(l)).collect();
    assert_eq!(heads.len(), headings.len(), "{short}");
    let of = |option: &str| {
        let named = short.find(&format!("      {option} "));
        let at = named.unwrap_or_else(|| panic!("{option}: {short}"));
        let mut before = short[..at].lines().rev();
        before.find(|l| headings.contains(l)).unwrap()
    };
    assert_eq!(of("--tq-model"), "Input:");
    assert_eq!(of("--adapter"), "Lanes:");
    assert_eq!(of("--recording"), "Your kernel:");
    assert_eq!(of("--junit"), "Output:");
    let long = stdout(&tq4(&["validate", "--help"]));
    assert!(long.contains("FILE is a safetensors") && !short.contains("FILE is a safetensors"));
    assert!(short.lines().count() < 80, "{short}");
}

#[test]
fn one_tensor_is_not_called_tensors() {
    let (dir, model) = model();
    let out = text(&dir.path().join("out.safetensors"));
    let args = ["record", "--tq-model", &model, "--tensor-base", BASE];
    let out = tq4(&[&args[..], &["--lane", "reference", "--output", &out]].concat());
    assert!(
        stdout(&out).contains("output of 1 tensor by reference"),
        "{}",
        stdout(&out)
    );
}

#[test]
fn a_recording_is_written_under_no_other_ending() {
    let (dir, model) = model();
    for name in ["x.npy", "x", "safetensors"] {
        let path = dir.path().join(name);
        let out = record(&model, &text(&path));
        assert_eq!(out.status.code(), Some(2), "{name}");
        let said = stderr(&out);
        let place = format!("where: --output {}", path.display());
        for part in ["a safetensors file", &place, "ends in .safetensors"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!path.exists());
    }
}
