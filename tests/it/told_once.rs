//! What many tensors have in common is told once, in every form of report, and hides nothing.

use crate::support::cli::{COLS, Model, stderr, stdout, tq4, unfolded};
use crate::support::recording::recorded;
use half::bf16;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

const LAYERS: usize = 26;
/// Layers from which on tensors are in the second file.
const SECOND: usize = 6;
const FILE: &str = "model-00002-of-00002.safetensors";

fn layer(name: &str) -> usize {
    name.split('.').nth(1).unwrap().parse().unwrap()
}

/// A model of two files in `m`, its source in `s`, and a recording that is wrong where `wrong` says so.
struct Case {
    dir: tempfile::TempDir,
    recording: String,
}

impl Case {
    fn new(wrong: impl Fn(usize, f32) -> bf16 + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m");
        Model::valid()
            .of_layers(LAYERS)
            .write_shards(&model, |n| layer(n) < SECOND);
        Model::source()
            .of_layers(LAYERS)
            .write(&dir.path().join("s"));
        let recording = recorded(&model, "mine", wrong);
        Self { dir, recording }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `tq4 validate --all` with the recording.
    fn validate(&self, more: &[&str]) -> Output {
        let (model, source) = (self.path("m"), self.path("s"));
        let recording = format!("mine={}", self.recording);
        let args = [
            "validate",
            "--all",
            "--lanes",
            "reference",
            "--tq-model",
            model.to_str().unwrap(),
            "--source-model",
            source.to_str().unwrap(),
            "--recording",
            &recording,
        ];
        tq4(&[&args[..], more].concat())
    }
}

fn page(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_damaged_file_is_named_once_and_hides_no_wrong_output() {
    // One element of the first tensor, and nothing else.
    let case = Case::new(|i, v| bf16::from_f32(if i == 3 { 9.0 } else { v }));
    let mut model = Model::valid().of_layers(LAYERS);
    for (name, raw) in &mut model.tensors {
        if name.ends_with("packed") && layer(name) >= SECOND {
            raw.data[4 * COLS / 2..5 * COLS / 2].fill(0xFF);
        }
    }
    model.write_shards(&case.path("m"), |n| layer(n) < SECOND);
    let html = case.path("page.html");
    let out = case.validate(&["--html", html.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    let text = unfolded(&stdout(&out));
    let title = format!("{} tensors of {FILE}", LAYERS - SECOND);
    let first = "first l.6.proj: every packed byte of row 4 is 0xFF, which no working encoder writes (l.6.proj: packed in ";
    assert!(
        text.contains(&format!("{title}: bad input; {first}")),
        "{text}"
    );
    assert!(
        text.contains(&format!("decision: BROKE: bad input: {title}\n")),
        "{text}"
    );
    // The wrong output has its row, its diagnosis and its decision.
    let row = text.lines().find(|l| l.starts_with(" l.0.proj")).unwrap();
    assert!(row.contains("FAIL"), "{row}");
    assert!(text.contains("l.0.proj: diagnosis of mine: "), "{text}");
    assert!(
        text.contains("decision: mine_dequant_differs_from_reference"),
        "{text}"
    );
    assert!(!text.contains("l.7.proj"), "{text}");
    // The file that an error is about is in the report, too.
    let json = stdout(&case.validate(&["--format", "json"]));
    let report: Value = serde_json::from_str(&json).unwrap();
    let error = &report["tensors"][7]["error"];
    assert!(error["file"].as_str().unwrap().ends_with(FILE), "{error}");
    assert!(error["place"].as_str().unwrap().ends_with(FILE), "{error}");

    let markdown = stdout(&case.validate(&["--format", "markdown"]));
    assert!(
        markdown.contains(&format!("**{title}**: bad input; first l.6.proj")),
        "{markdown}"
    );
    assert!(markdown.contains("### l.0.proj") && !markdown.contains("### l.7.proj"));
    assert!(
        markdown.contains(&format!("**BROKE**: bad input: {title}\n")),
        "{markdown}"
    );
    let page = page(&html).replace("<wbr/>", "");
    assert!(page.contains(&title), "the page names the file");
    let failed = &page[page.find("id=\"failed\"").unwrap()..page.find("id=\"all\"").unwrap()];
    assert!(
        failed.contains("l.0.proj") && !failed.contains("l.7.proj"),
        "{failed}"
    );
    assert!(
        page.contains("<strong>BROKE</strong>"),
        "decisions of the run are on the page"
    );
}

#[test]
fn decisions_of_the_run_are_the_same_in_every_form() {
    let case = Case::new(|_, v| bf16::from_f32(v));
    let mut source = Model::source().of_layers(LAYERS);
    source.set(
        "mtp",
        "weight",
        safetensors::Dtype::BF16,
        &[2, 2],
        vec![0; 8],
    );
    source.write(&case.path("s"));
    let html = case.path("page.html");
    let out = case.validate(&["--html", html.to_str().unwrap()]);
    let said = "not quantised, and not the source's: mtp.weight (the TQ4 model does not hold it)";
    let text = unfolded(&stdout(&out));
    assert!(
        text.contains(&format!("decision: FAILED: {said}")),
        "{text}"
    );
    let markdown = stdout(&case.validate(&["--format", "markdown"]));
    assert!(
        markdown.contains(&format!("**FAILED**: {said}")),
        "{markdown}"
    );
    let page = page(&html).replace("&#39;", "'");
    assert!(
        page.contains(&format!("<strong>FAILED</strong>: {said}")),
        "{page}"
    );
}

#[test]
fn another_models_weights_are_told_once() {
    let case = Case::new(|_, v| bf16::from_f32(v));
    let mut source = Model::source().of_layers(LAYERS);
    for raw in source.tensors.values_mut() {
        // The elements in another order are another weight of the same size.
        let mut values: Vec<[u8; 2]> = raw.data.chunks(2).map(|v| [v[0], v[1]]).collect();
        values.reverse();
        raw.data = values.concat();
    }
    source.write(&case.path("s"));
    let said = format!(
        "all {LAYERS} tensors are as far from the source as another model's weights would be"
    );
    let out = case.validate(&[]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = unfolded(&stdout(&out));
    assert!(
        text.contains(&format!("decision: FAILED: {said}")),
        "{text}"
    );
    assert_eq!(text.matches("another model's").count(), 1, "{text}");
    assert!(!text.contains("checkpoint: "), "{text}");
    let markdown = stdout(&case.validate(&["--format", "markdown"]));
    assert!(
        markdown.contains(&said) && !markdown.contains("### l."),
        "{markdown}"
    );
    // One tensor that is the source's: then the others are told of one by one.
    let right = Model::source().of_layers(1).tensors["l.0.proj.weight"].clone();
    source.tensors.insert("l.0.proj.weight".into(), right);
    source.write(&case.path("s"));
    let text = stdout(&case.validate(&[]));
    assert!(
        !text.contains(&said) && text.contains("l.1.proj: checkpoint: "),
        "{text}"
    );
}

#[test]
fn tensors_with_the_same_fault_are_drawn_and_told_of_for_the_first_few() {
    let case = Case::new(|_, v| bf16::from_f32(-v));
    let report = case.path("r.json");
    let out = case.validate(&["-v", "--report", report.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = unfolded(&stdout(&out));
    let more = format!(
        "and {} tensors more with the same fault of mine: output_negated\n",
        LAYERS - 3
    );
    assert!(text.contains(&more), "{text}");
    assert_eq!(
        text.matches("diagnosis of mine: output_negated").count(),
        3,
        "{text}"
    );
    assert_eq!(text.matches(", furthest off first").count(), 3, "{text}");
    let lines = text.lines().filter(|l| l.starts_with(" l.")).count();
    assert_eq!(lines, LAYERS, "every tensor has its line: {text}");
    let report: Value = serde_json::from_str(&page(&report)).unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    let named = |t: &&Value| t["diagnosis"][0]["faults"][0]["name"] == "output_negated";
    assert_eq!(tensors.iter().filter(named).count(), LAYERS);
}

#[test]
fn a_lane_that_breaks_at_every_tensor_is_told_once() {
    // One element of one tensor is wrong as well: that one keeps its row.
    let right = AtomicBool::new(true);
    let case = Case::new(move |i, v| {
        let wrong = i == 3 && right.swap(false, Ordering::Relaxed);
        bf16::from_f32(if wrong { 9.0 } else { v })
    });
    let html = case.path("page.html");
    let program = "bad=sh -c 'echo no memory >&2; exit 3'";
    let out = case.validate(&["--exec", program, "--html", html.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    let text = unfolded(&stdout(&out));
    let title = format!("bad at {LAYERS} tensors");
    let reason = "it ended with exit status: 3; it printed: no memory";
    assert!(
        text.contains(&format!("{title}: broke; first l.0.proj: {reason}\n")),
        "{text}"
    );
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with(" l.")).collect();
    assert!(
        rows.len() == 1 && rows[0].starts_with(" l.0.proj"),
        "{text}"
    );
    let markdown = stdout(&case.validate(&["--exec", program, "--format", "markdown"]));
    assert!(
        markdown.contains(&format!("**{title}**: broke; first l.0.proj: {reason}")),
        "{markdown}"
    );
    assert!(markdown.contains("### l.0.proj") && !markdown.contains("### l.1.proj"));
    let page = page(&html).replace("<wbr/>", "");
    let failed = &page[page.find("id=\"failed\"").unwrap()..page.find("id=\"all\"").unwrap()];
    assert!(
        failed.contains(&title) && failed.contains("l.0.proj") && !failed.contains("l.1.proj"),
        "{failed}"
    );
}

#[test]
fn a_fault_without_a_name_is_told_once_where_it_is_alike() {
    let case = Case::new(|i, v| bf16::from_f32(if i == 3 { 9.0 } else { v }));
    let text = unfolded(&stdout(&case.validate(&["-v"])));
    let kind = "not in the catalogue: wrong at position 3 of the group, only in the first row";
    let more = LAYERS - 3;
    assert!(
        text.contains(&format!(
            "and {more} tensors more with a fault of mine that is alike: {kind}\n"
        )),
        "{text}"
    );
    let told = text.matches("the largest error at row 0").count();
    assert_eq!(told, 1, "in full once: {text}");
    let again = ".proj: diagnosis of mine: not in the catalogue: 1 of 1536 elements, in 1 group\n";
    assert_eq!(text.matches(again).count(), 2, "{text}");
    assert_eq!(text.matches(", furthest off first").count(), 3, "{text}");
}

#[test]
fn a_picture_stands_under_the_name_of_its_tensor() {
    let case = Case::new(|_, v| bf16::from_f32(v));
    let text = unfolded(&stdout(&case.validate(&["-v"])));
    let drawn = "mine vs reference: elements by distance";
    assert_eq!(text.matches(drawn).count(), LAYERS, "{text}");
    for layer in 0..LAYERS {
        let heading = format!("\nl.{layer}.proj\n");
        let at = text
            .find(&heading)
            .unwrap_or_else(|| panic!("{layer}: {text}"));
        let next = text[at + heading.len()..].split("\nl.").next().unwrap();
        assert!(next.contains(drawn), "{layer}: {text}");
    }
}

#[test]
fn figures_of_any_size_have_few_digits_in_every_form() {
    // Twice what is right in one row, and near the largest f32 in another.
    let case = Case::new(|i, v| {
        bf16::from_f32(match i / COLS {
            1 => 2.0 * v,
            2 => 2e38,
            _ => v,
        })
    });
    let html = case.path("page.html");
    let text = stdout(&case.validate(&["-v", "--html", html.to_str().unwrap()]));
    let markdown = stdout(&case.validate(&["--format", "markdown"]));
    for (form, text) in [
        ("table", &text),
        ("markdown", &markdown),
        ("page", &page(&html)),
    ] {
        assert!(
            text.contains("e38") || text.contains("e+38"),
            "{form}: {text}"
        );
        // A figure in full may have many decimals; a checksum is none, it has letters.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let whole = words.map(|w| w.split('.').next().unwrap());
        let long = whole.filter(|w| w.len() > 18 && w.bytes().all(|b| b.is_ascii_digit()));
        assert_eq!(long.collect::<Vec<_>>(), [""; 0], "{form}");
    }
}

#[test]
fn why_a_lane_did_not_run_is_told_once() {
    let case = Case::new(|_, v| bf16::from_f32(v));
    let model = case.path("m");
    let out = tq4(&[
        "validate",
        "--all",
        "--lanes",
        "reference,cuda",
        "--cuda-device",
        "63",
        "--tq-model",
        model.to_str().unwrap(),
        "--format",
        "table",
    ]);
    let text = unfolded(&stdout(&out));
    assert_eq!(out.status.code(), Some(3), "{text}");
    let row = text.lines().find(|l| l.starts_with(" cuda ")).unwrap();
    let reason = row
        .split("NOT RUN")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .trim();
    let start: String = reason.chars().take(24).collect();
    assert_eq!(text.matches(&start).count(), 1, "{start}: {text}");
    assert!(text.contains("decision: cuda_dequant_not_run\n"), "{text}");
    assert!(!text.contains("cuda: 26 not run"), "{text}");
}
