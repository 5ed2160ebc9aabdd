//! The script that makes the figures of a card, on the stand-in driver.

use crate::support::{root, source, standin};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The script with a driver's folder, to write to `out`; `None` with a notice where there is no Python.
fn script(driver: &Path, out: &Path) -> Option<Command> {
    let mut python = source::python("the figures of a card")?;
    python
        .arg(root().join("docs/measurements/measure.py"))
        .args(["--tq4", env!("CARGO_BIN_EXE_tq4"), "--lanes", "cuda"])
        .args(["--shape", "32x256", "--out"])
        .arg(out)
        .env("LD_LIBRARY_PATH", driver);
    Some(python)
}

#[test]
fn the_script_keeps_what_every_command_says() {
    let dir = tempfile::tempdir().unwrap();
    let script = standin::right().and_then(|driver| script(driver, dir.path()));
    let Some(mut script) = script else {
        return;
    };
    let out = script
        .args(["--allow-software", "--time-limit", "0.1"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{log}");
    let mut files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    let [json, markdown] = &files[..] else {
        panic!("{files:?}");
    };
    assert!(json.ends_with(markdown.with_extension("json").file_name().unwrap()));
    let record = std::fs::read_to_string(json).unwrap();
    let markdown = std::fs::read_to_string(markdown).unwrap();
    for text in [&record, &markdown] {
        let dir = std::env::temp_dir();
        assert!(
            !text.contains(&*dir.join("tmp").to_string_lossy()),
            "{text}"
        );
        assert!(!text.contains(env!("CARGO_BIN_EXE_tq4")), "{text}");
    }
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["device"], "tq4 stand-in (emulated)");
    for run in [
        "devices",
        "demo",
        "a large tensor in one launch",
        "bench",
        "selftest",
    ] {
        assert!(
            record["runs"][run]["command"]
                .as_str()
                .unwrap()
                .starts_with("tq4 "),
            "{run}"
        );
        assert!(markdown.contains(&format!("\n## {run}\n")), "{run}");
    }
    let large = &record["runs"]["a large tensor in one launch"]["json"];
    let decision = "cuda_dequant_matches_reference_with_bf16_rounding";
    assert_eq!(large["summary"]["decision"], decision);
    assert_eq!(large["tensors"][0]["elements"], 32 * 256);
}

#[test]
fn a_command_that_fails_leaves_no_figures() {
    let dir = tempfile::tempdir().unwrap();
    // No such lane runs here: nothing is kept.
    let Some(mut script) = script(dir.path(), dir.path()) else {
        return;
    };
    let out = script.env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
    assert!(!out.status.success());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
