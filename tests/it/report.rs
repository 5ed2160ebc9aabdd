//! The report is the same whatever the number of threads.

use crate::support::cli::{self, COLS, Model, ROWS};
use crate::support::recording;
use half::bf16;
use std::path::Path;
use tq4::format::TqModel;
use tq4::reference;

/// A model, its source and a recording that truncates in place of rounding.
fn case(dir: &Path) -> Vec<String> {
    let (model, source) = (dir.join("model"), dir.join("source"));
    Model::valid().write(&model);
    Model::source().write(&source);
    let open = TqModel::open(&model).unwrap();
    let tensor = open.rows("a.gate_proj", 0..ROWS).unwrap();
    let values: Vec<bf16> = reference::dequantize(&tensor)
        .iter()
        .map(|v| bf16::from_bits((v.to_bits() >> 16) as u16))
        .collect();
    let dump = recording::dump(&dir.join("dump.json"), "a.gate_proj", [ROWS, COLS], &values);
    [
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--source-model",
        source.to_str().unwrap(),
        "--tensor-base",
        "a.gate_proj",
        "--lanes",
        "reference",
        "--recording",
        &format!("cuda={dump}"),
    ]
    .map(String::from)
    .into()
}

fn report(threads: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(case(dir.path()))
        .args(["--format", "json"])
        .env("RAYON_NUM_THREADS", threads)
        // The device is named alike on every machine; reference_simd.rs has the other paths.
        .env("TQ4_SIMD", "off")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", cli::stderr(&out));
    cli::stdout(&out)
        .replace(dir.path().to_str().unwrap(), "DIR")
        .replace(&format!("CPU, {threads} threads"), "CPU, N threads")
        .lines()
        .filter(|l| !l.contains("seconds\":") && !l.contains("\"kernel_"))
        .collect::<Vec<_>>()
        .join("\n")
        .replace(
            &format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "HOST",
        )
}

#[test]
fn the_report_does_not_depend_on_the_number_of_threads() {
    let one = report("1");
    for threads in ["2", "7"] {
        assert_eq!(report(threads), one, "{threads} threads");
    }
}
