//! `tq4 fixture`: models on which a kernel can be tested without a checkpoint.

use crate::support::cli::{stderr, stdout, tq4};
use std::path::Path;
use tq4::format::TqModel;

#[test]
fn every_layout_is_a_model_that_validates() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = tq4(&["fixture", &path("f")]);
    assert!(out.status.success(), "{}", stderr(&out));
    let models: Vec<String> = stdout(&out)
        .lines()
        .map(|l| l.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(models.len(), 12);
    for model in &models {
        assert_eq!(TqModel::open(Path::new(model)).unwrap().bases().count(), 6);
    }
    // A recording of the reference, judged on all of it.
    let recording = path("r.safetensors");
    let model = &models[0];
    let record = [
        "record",
        "--tq-model",
        model,
        "--all",
        "--lane",
        "reference",
    ];
    let out = tq4(&[&record[..], &["--output", &recording]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let mine = format!("mine={recording}");
    let lanes = ["--all", "--lanes", "reference", "--recording", &mine];
    let out = tq4(&[&["validate", "--tq-model", model], &lanes[..]].concat());
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));

    let again = tq4(&["fixture", &path("f")]);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("there already"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn one_layout_is_the_same_on_every_run() {
    let dir = tempfile::tempdir().unwrap();
    let weights = |name: &str| {
        let path = dir.path().join(name);
        let options = ["--bits", "3", "--group-size", "64"];
        let out = tq4(&[&["fixture", path.to_str().unwrap()], &options[..]].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        std::fs::read(path.join("b3_g64/model.safetensors")).unwrap()
    };
    assert_eq!(weights("a"), weights("b"));
    let out = tq4(&[
        "fixture",
        dir.path().join("c").to_str().unwrap(),
        "--bits",
        "5",
    ]);
    assert_eq!(out.status.code(), Some(2));
    assert!(!dir.path().join("c").exists());
}
