//! What is printed at a terminal: its width, its colours, how much of it, and in which order.

use crate::support::cli::{stderr, stdout};
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use tq4::format::TqModel;
use tq4::reference;
use tq4::synthetic::{self, Rng};

/// Tensors of the model: more than are told of one by one, and more than a summary names.
const TENSORS: usize = 26;

fn base(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.down_proj")
}

/// A source, its quantised form, and recordings of all its tensors.
struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let source = case.path("src");
        std::fs::create_dir(&source).unwrap();
        let mut rng = Rng::new(5);
        let random = |rng: &mut Rng, rows, cols| -> Vec<u8> {
            let weight = synthetic::weight(rng, rows, cols);
            let values = weight.iter().map(|v| bf16::from_f32(*v));
            values.flat_map(|v| v.to_le_bytes()).collect()
        };
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (0..TENSORS)
            .map(|i| {
                (
                    format!("{}.weight", base(i)),
                    vec![8, 256],
                    random(&mut rng, 8, 256),
                )
            })
            .collect();
        // One that is left as it is, and two that are not linear layers.
        tensors.push((
            "odd.down_proj.weight".into(),
            vec![2, 192],
            random(&mut rng, 2, 192),
        ));
        for name in ["norm.2", "norm.10"] {
            tensors.push((
                format!("{name}.weight"),
                vec![1, 64],
                random(&mut rng, 1, 64),
            ));
        }
        let views = tensors.iter().map(|(name, shape, data)| {
            (
                name,
                TensorView::new(Dtype::BF16, shape.clone(), data).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &source.join("model.safetensors")).unwrap();
        std::fs::write(source.join("config.json"), "{}").unwrap();
        let out = case.run(
            &[],
            &["quantize", "--source-model", "src", "--output", "tq"],
        );
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `tq4` in the directory with these variables and no others that change what is printed.
    fn run(&self, environment: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = assert_cmd::Command::cargo_bin("tq4").unwrap();
        for name in ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied());
        command
            .current_dir(self.dir.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// What `tq4` prints, which ends with this code.
    fn printed(&self, code: i32, args: &[&str]) -> String {
        let out = self.run(&[], args);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", stderr(&out));
        stdout(&out)
    }

    /// A recording in which the tensors of so many layers are wrong.
    fn recording(&self, file: &str, wrong: usize) {
        let model = TqModel::open(&self.path("tq")).unwrap();
        let values: Vec<(String, Vec<u8>)> = (0..TENSORS)
            .map(|i| {
                let right = reference::dequantize(&model.rows(&base(i), 0..8).unwrap());
                let value = |v: &f32| bf16::from_f32(if i < wrong { -v } else { *v });
                let bytes = right.iter().flat_map(|v| value(v).to_le_bytes());
                (base(i), bytes.collect())
            })
            .collect();
        let view = |data| TensorView::new(Dtype::BF16, vec![8, 256], data).unwrap();
        let views = values.iter().map(|(name, data)| (name, view(data)));
        safetensors::serialize_to_file(views, None, &self.path(file)).unwrap();
    }
}

/// `tq4 validate --all` on the reference alone, with a recording.
fn sweep<'a>(recording: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let with = ["--source-model", "src", "--recording", recording];
    validate_all(&[&with, more].concat())
}

/// Every tensor on the reference.
fn validate_all<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let all = [
        "validate",
        "--tq-model",
        "tq",
        "--all",
        "--lanes",
        "reference",
    ];
    [&all, more].concat()
}

#[test]
fn every_table_and_paragraph_fits_the_width() {
    let case = Case::new();
    case.recording("right.safetensors", 0);
    case.recording("wrong.safetensors", TENSORS);
    let one = base(3);
    let (right, wrong) = ("mine=right.safetensors", "mine=wrong.safetensors");
    let record = |lane| vec!["record", "--tq-model", "tq", "--all", "--lane", lane];
    let bench = [
        "bench",
        "--shape",
        "8x256",
        "--time-limit",
        "0.2",
        "--lanes",
        "reference",
    ];
    for width in [60, 80, 100] {
        let fresh = |name: &str| format!("{name}-{width}.jsonl");
        let [quantised, plain, demo, report] = ["quantised", "plain", "demo", "report"].map(fresh);
        let commands: Vec<Vec<&str>> = vec![
            vec!["demo", "--dir", &demo, "--lanes", "reference"],
            vec!["devices"],
            vec!["quantize", "--source-model", "src", "--output", &quantised],
            // Finished by now, which is said.
            vec![
                "quantize",
                "--source-model",
                "src",
                "--output",
                &quantised,
                "-v",
            ],
            vec!["dequantize", "--tq-model", "tq", "--output", &plain, "-v"],
            vec!["validate", "--tq-model", "tq", "--all"],
            sweep(right, &["--report", &report]),
            sweep(right, &["-v"]),
            sweep(wrong, &[]),
            sweep(wrong, &["-v"]),
            sweep(wrong, &["-q"]),
            vec![
                "validate",
                "--tq-model",
                "tq",
                "--tensor-base",
                &one,
                "--recording",
                wrong,
                "-v",
            ],
            vec!["merge", &report],
            vec!["compare", &report, &report, "-v"],
            [
                record("reference"),
                vec!["--output", "reference.safetensors"],
            ]
            .concat(),
            vec!["compare", "reference.safetensors", "wrong.safetensors"],
            vec![
                "compare",
                "--tq-model",
                "tq",
                "a=reference.safetensors",
                right,
                "-v",
            ],
            [&bench[..], &["--json", "bench.json"]].concat(),
            [&bench[..], &["--baseline", "bench.json"]].concat(),
            [&bench[..], &["-q"]].concat(),
        ];
        for command in commands {
            let out = case.run(&[("COLUMNS", &width.to_string())], &command);
            let text = stdout(&out);
            assert!(!text.is_empty(), "{command:?}: {}", stderr(&out));
            for line in text.lines() {
                assert!(
                    line.chars().count() <= width,
                    "{width}: {command:?}:\n{line}\n{text}"
                );
            }
        }
    }
    // Neither a terminal nor a width.
    let text = case.printed(1, &sweep(wrong, &[]));
    assert!(
        text.lines()
            .any(|l| (81..=100).contains(&l.chars().count())),
        "{text}"
    );
}

#[test]
fn a_sweep_in_which_all_is_well_is_a_summary() {
    let case = Case::new();
    case.recording("right.safetensors", 0);
    let right = "mine=right.safetensors";
    let text = case.printed(0, &sweep(right, &[]));
    assert!(text.lines().count() < 25, "{text}");
    assert!(text.contains("mine: 26 identical\n"), "{text}");
    assert!(text.contains("total: 26 tensors, 53248 elements"), "{text}");
    assert!(
        text.contains("\nreference vs source: largest rmse ratio 0.1"),
        "{text}"
    );
    assert_eq!(
        text.matches("rmse ratio: against the reference").count(),
        1,
        "{text}"
    );
    // The name of a report changes nothing.
    for report in ["a.json", "a.jsonl"] {
        assert_eq!(
            case.printed(0, &sweep(right, &["--report", report])),
            text,
            "{report}"
        );
    }
    assert_eq!(case.printed(0, &["merge", "a.jsonl"]), text);
    let every = case.printed(0, &sweep(right, &["-v"]));
    let at = |i: usize| {
        every
            .find(&base(i))
            .unwrap_or_else(|| panic!("{i}: {every}"))
    };
    assert!((1..TENSORS).all(|i| at(i - 1) < at(i)), "{every}");

    let pair = case.printed(0, &["compare", "a.jsonl", "a.jsonl"]);
    assert_eq!(
        pair,
        "same input: 26 tensors\nsame verdicts: yes\nbit-identical: 52 of 52 outputs that both have\n"
    );
    let pair = case.printed(0, &["compare", "a.jsonl", "a.jsonl", "-v"]);
    assert_eq!(pair.matches("identical").count(), 53, "{pair}");
}

#[test]
fn failures_are_named_up_to_a_number() {
    let case = Case::new();
    case.recording("some.safetensors", 3);
    case.recording("all.safetensors", TENSORS);
    let some = case.printed(1, &sweep("mine=some.safetensors", &[]));
    for i in 0..TENSORS {
        let row = format!(" {} ", base(i));
        let named = some.lines().any(|l| l.starts_with(&row));
        assert_eq!(named, i < 3, "{i}: {some}");
    }
    assert!(
        some.contains("mine: 23 identical, 3 differs\n") && !some.contains("more: -v"),
        "{some}"
    );
    let all = case.printed(1, &sweep("mine=all.safetensors", &[]));
    assert!(
        all.contains("and 6 more: -v lists every tensor, --report has all"),
        "{all}"
    );
    // A line each, each with its diagnosis.
    assert_eq!(all.matches("FAIL").count(), 20, "{all}");
    let every = case.printed(1, &sweep("mine=all.safetensors", &["-v"]));
    assert_eq!(every.matches("FAIL").count(), TENSORS, "{every}");
}

#[test]
fn quiet_leaves_the_decisions_and_the_errors() {
    let case = Case::new();
    case.recording("right.safetensors", 0);
    case.recording("wrong.safetensors", 1);
    let quiet = |recording, code| {
        let out = case.run(&[], &sweep(recording, &["-q", "--top-errors", "e.csv"]));
        assert_eq!(
            (out.status.code(), stderr(&out)),
            (Some(code), String::new())
        );
        stdout(&out)
    };
    assert_eq!(
        quiet("mine=right.safetensors", 0),
        "decision: mine_dequant_matches_reference_with_bf16_rounding (26 of 26 tensors, identical in every element)\n"
    );
    let wrong = quiet("mine=wrong.safetensors", 1);
    assert!(
        wrong.starts_with("decision: mine_dequant_differs_from_reference ("),
        "{wrong}"
    );
    // The forms for machines and other readers are as they were.
    let json: Value = serde_json::from_str(&case.printed(
        0,
        &sweep("mine=right.safetensors", &["-q", "--format", "json"]),
    ))
    .unwrap();
    assert_eq!(json["tensors"].as_array().unwrap().len(), TENSORS);
    let markdown = ["--format", "markdown"];
    let whole = case.printed(0, &sweep("mine=right.safetensors", &markdown));
    let more = [&markdown[..], &["-q"]].concat();
    let quiet = case.printed(0, &sweep("mine=right.safetensors", &more));
    // It has the command, which is another.
    assert_eq!(quiet.replace(" -q |", " |"), whole);
    // The option may stand before the command as well.
    let out = case.run(&[], &[&["-q"], &validate_all(&[])[..]].concat());
    assert_eq!(out.status.code(), Some(3));
    assert!(
        stderr(&out).starts_with("error: nothing was compared"),
        "{}",
        stderr(&out)
    );
    let out = case.run(
        &[],
        &[
            "quantize",
            "--source-model",
            "src",
            "--output",
            "quiet",
            "--quiet",
        ],
    );
    assert_eq!(stderr(&out), "");
    assert!(
        stdout(&out).starts_with("26 weights quantised to turboquant"),
        "{}",
        stdout(&out)
    );
    let out = case.run(&[], &sweep("mine=right.safetensors", &["-q", "-v"]));
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn verdicts_are_coloured_where_that_is_wanted() {
    let case = Case::new();
    case.recording("wrong.safetensors", 1);
    let printed = |environment: &[(&str, &str)], more: &[&str]| {
        let out = case.run(environment, &sweep("mine=wrong.safetensors", more));
        assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
        stdout(&out)
    };
    let plain = printed(&[], &[]);
    assert!(!plain.contains('\u{1b}'));
    let forced = [("CLICOLOR_FORCE", "1")];
    let coloured = printed(&forced, &[]);
    let red = "\u{1b}[1m\u{1b}[31mmine_dequant_differs_from_reference\u{1b}[0m (";
    assert!(
        coloured.contains(&format!("decision: {red}")),
        "{coloured:?}"
    );
    assert!(coloured.contains("FAIL\u{1b}["), "{coloured:?}");
    assert_eq!(printed(&[("NO_COLOR", "1")], &[]), plain);
    for form in ["json", "markdown"] {
        let text = printed(&forced, &["--format", form]);
        assert!(!text.contains('\u{1b}'), "{form}");
    }
}

#[test]
fn lanes_that_were_not_asked_for_are_in_the_json_alone() {
    let case = Case::new();
    case.recording("right.safetensors", 0);
    let told = |more: &[&str]| case.printed(0, &sweep("mine=right.safetensors", more));
    let outputs = [
        told(&[]),
        told(&["-v"]),
        told(&["--format", "markdown"]),
        told(&["--junit", "a.xml"]),
        std::fs::read_to_string(case.path("a.xml")).unwrap(),
    ];
    for text in outputs {
        assert!(!text.contains("cuda") && !text.contains("wgpu"), "{text}");
        assert!(text.contains("mine"), "{text}");
    }
    let json = told(&["--format", "json"]);
    assert!(json.contains("cuda_dequant_not_run") && json.contains("\"skipped\""));
}

#[test]
fn names_are_in_natural_order_everywhere() {
    let case = Case::new();
    let model = TqModel::open(&case.path("tq")).unwrap();
    let in_order: Vec<String> = (0..TENSORS).map(base).collect();
    assert_eq!(model.bases().collect::<Vec<_>>(), in_order);
    let json = |args: &[&str]| -> Value { serde_json::from_str(&case.printed(0, args)).unwrap() };
    let source = ["--source-model", "src"];
    let run = json(&validate_all(
        &[&["--format", "json"], &source[..]].concat(),
    ));
    let names = |list: &Value, key: &str| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|t| t[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&run["tensors"], "tensor_base"), in_order);
    assert_eq!(run["model"]["tensors"], serde_json::json!(in_order));
    assert_eq!(run["summary"]["worst_first"], serde_json::json!(in_order));
    assert_eq!(run["model"]["format"], "turboquant");
    let plain = names(&run["plain"], "name");
    assert_eq!(
        plain,
        ["norm.2.weight", "norm.10.weight", "odd.down_proj.weight"]
    );
    let quantize = ["quantize", "--output", "again", "--format", "json"];
    let done = json(&[&quantize[..], &source].concat());
    assert_eq!(names(&done["weights"], "tensor_base"), in_order);
    let done = json(&[
        "dequantize",
        "--tq-model",
        "tq",
        "--output",
        "plain",
        "--format",
        "json",
    ]);
    assert_eq!(names(&done["weights"], "tensor_base"), in_order);
    let parts: Vec<String> = (1..=3).map(|i| format!("{i}.jsonl")).collect();
    for (i, part) in parts.iter().enumerate() {
        let which = format!("{}/3", i + 1);
        let arguments = ["--report", part, "--partition", &which];
        case.printed(0, &validate_all(&[&arguments[..], &source].concat()));
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let merged = json(&[&["merge", "--format", "json"], &parts[..]].concat());
    assert_eq!(
        merged["summary"]["worst_first"],
        run["summary"]["worst_first"]
    );
    assert_eq!(names(&merged["tensors"], "tensor_base"), in_order);
}

#[test]
fn a_report_of_older_versions_is_read() {
    let case = Case::new();
    let arguments = ["--source-model", "src", "--report", "new.json"];
    case.printed(0, &validate_all(&arguments));
    let read = |name: &str| std::fs::read_to_string(case.path(name)).unwrap();
    let mut old: Value = serde_json::from_str(&read("new.json")).unwrap();
    old["tool"].as_object_mut().unwrap().remove("os");
    old["model"].as_object_mut().unwrap().remove("format");
    // Layer 10 came before layer 2.
    let list = old["tensors"].as_array_mut().unwrap();
    list.sort_by_key(|t| t["tensor_base"].as_str().unwrap().to_owned());
    std::fs::write(case.path("old.json"), format!("{old:#}")).unwrap();
    let pair = case.printed(0, &["compare", "old.json", "new.json"]);
    assert!(pair.contains("bit-identical: 26 of 26"), "{pair}");
}
