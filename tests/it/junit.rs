//! `--junit`: the verdicts as CI systems read them.

use crate::support::cli::{Model, stderr, tq4};
use crate::support::recording::{dump, rounded};
use half::bf16;
use roxmltree::{Document, Node};
use std::path::Path;

const BASE: &str = "a.gate_proj";

/// Exit code and the file, for the model in `dir/m`.
fn validate(dir: &Path, values: &[bf16], shape: [usize; 2]) -> (Option<i32>, String) {
    let model = dir.join("m");
    let recording = dump(&dir.join("dump.json"), BASE, shape, values);
    let junit = dir.join("junit.xml");
    let out = tq4(&[
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--tensor-base",
        BASE,
        "--lanes",
        "reference",
        "--recording",
        &format!("<mine>={recording}"),
        "--junit",
        junit.to_str().unwrap(),
    ]);
    let text = std::fs::read_to_string(&junit).unwrap_or_else(|_| panic!("{}", stderr(&out)));
    (out.status.code(), text)
}

fn suite<'a>(document: &'a Document<'_>, name: &str) -> Node<'a, 'a> {
    let found = find_suite(document, name);
    found.unwrap()
}

fn find_suite<'a>(document: &'a Document<'_>, name: &str) -> Option<Node<'a, 'a>> {
    let mut suites = document
        .descendants()
        .filter(|n| n.has_tag_name("testsuite"));
    suites.find(|n| n.attribute("name") == Some(name))
}

#[test]
fn a_lane_that_passes_differs_or_did_not_run_is_a_case_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let (right, shape) = rounded(&model, BASE);
    let (code, text) = validate(dir.path(), &right, shape);
    let document = Document::parse(&text).unwrap();
    assert_eq!(code, Some(0));
    let mine = suite(&document, "<mine>");
    assert_eq!(mine.attribute("tests"), Some("1"));
    assert_eq!(mine.attribute("failures"), Some("0"));
    let case = mine
        .children()
        .find(|n| n.has_tag_name("testcase"))
        .unwrap();
    assert_eq!(case.attribute("name"), Some(BASE));
    // What was not asked for is not there.
    assert!(find_suite(&document, "wgpu").is_none());

    let wrong: Vec<bf16> = right.iter().map(|v| -*v).collect();
    let (code, text) = validate(dir.path(), &wrong, shape);
    let document = Document::parse(&text).unwrap();
    assert_eq!(code, Some(1));
    let mine = suite(&document, "<mine>");
    assert_eq!(mine.attribute("failures"), Some("1"));
    let failure = mine
        .descendants()
        .find(|n| n.has_tag_name("failure"))
        .unwrap();
    assert!(
        failure
            .attribute("message")
            .unwrap()
            .starts_with("not allowed: ")
    );
    assert!(failure.text().unwrap().contains("signs_inverted"), "{text}");
}

#[test]
fn the_checkpoint_and_plain_tensors_are_suites() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    Model::valid().write(&dir.path().join("tq4"));
    Model::source().write(&dir.path().join("source"));
    let args = [
        "--tq-model",
        &path("tq4"),
        "--source-model",
        &path("source"),
    ];
    let out = tq4(&[
        &[
            "validate",
            "--all",
            "--lanes",
            "reference",
            "--junit",
            &path("j.xml"),
        ],
        &args[..],
    ]
    .concat());
    let text =
        std::fs::read_to_string(path("j.xml")).unwrap_or_else(|_| panic!("{}", stderr(&out)));
    let document = Document::parse(&text).unwrap();
    let checkpoint = suite(&document, "checkpoint");
    assert_eq!(checkpoint.attribute("failures"), Some("0"), "{text}");
    assert!(
        checkpoint
            .children()
            .any(|n| n.attribute("name") == Some(BASE))
    );
}

/// Without a lane beside the reference there is no other suite to tell it.
#[test]
fn bad_input_is_an_error_of_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut model = Model::valid();
    let scales = model.tensors.get_mut(&format!("{BASE}.tq_scales"));
    scales.unwrap().data[6..8].copy_from_slice(&half::f16::NAN.to_le_bytes());
    model.write(&dir.path().join("m"));
    let (tq, xml) = (path("m"), path("j.xml"));
    let given = ["--tq-model", &tq, "--junit", &xml];
    let out = tq4(&[&["validate", "--all", "--lanes", "reference"], &given[..]].concat());
    assert_eq!(out.status.code(), Some(2));
    let text = std::fs::read_to_string(&xml).unwrap_or_else(|_| panic!("{}", stderr(&out)));
    let document = Document::parse(&text).unwrap();
    let checkpoint = suite(&document, "checkpoint");
    let counts = ["tests", "errors"].map(|key| checkpoint.attribute(key));
    assert_eq!(counts, [Some("1"); 2], "{text}");
    assert!(text.contains("NaN"), "{text}");
}

#[test]
fn two_reports_make_no_junit() {
    let out = tq4(&["compare", "a.json", "b.json", "--junit", "."]);
    assert_eq!(out.status.code(), Some(2));
}
