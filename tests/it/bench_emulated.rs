//! `tq4 bench` with the CUDA lane on the stand-in driver.

use crate::bench::{QUICK, check_record};
use crate::support::cli::{stderr, stdout};
use crate::support::standin;
use serde_json::Value;
use std::path::Path;

/// Runs the command with the driver in this folder.
fn emulated(driver: &Path, args: &[&str], env: &[(&str, &str)]) -> std::process::Output {
    standin::command(driver, &[&["bench"], &QUICK[..], args].concat())
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

const CUDA: [&str; 7] = [
    "--shape",
    "16x256",
    "--lanes",
    "cuda",
    "--allow-software",
    "--format",
    "json",
];

#[test]
fn the_cuda_lane_is_timed_and_called_software() {
    let Some(right) = standin::right() else {
        return;
    };
    let out = emulated(right, &CUDA, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let record: Value = serde_json::from_slice(&out.stdout).unwrap();
    check_record(&record);
    let cuda = &record["shapes"][0]["lanes"][1];
    assert_eq!(cuda["lane"], "cuda");
    for measure in ["copy", "kernel_cold", "kernel_warm"] {
        assert_eq!(cuda["times"][measure]["clock"], "CUDA events");
    }
    assert_eq!(record["lanes"][1]["device"], "tq4 stand-in (emulated)");
    assert_eq!(record["lanes"][1]["kernel_variant"], "PTX 8.0, compute_80");
    let software = "cuda is a software adapter: its figures say nothing about a GPU";
    let warnings = record["shapes"][0]["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w == software), "{warnings:?}");
}

#[test]
fn a_wrong_kernel_is_printed_as_fail_without_a_speed() {
    let args = [&CUDA[..5], &["--csv", "-"]].concat();
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("a.csv").to_str().unwrap().to_owned();
    let args: Vec<&str> = args
        .iter()
        .map(|a| if *a == "-" { csv.as_str() } else { a })
        .collect();
    let Some(wrong) = standin::wrong() else {
        return;
    };
    let out = emulated(wrong, &args, &[]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = stdout(&out);
    let line = text.lines().find(|l| l.contains(" FAIL ")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["cuda", "FAIL", "-", "-", "-", "-", "-", "-", "-"]
    );
    assert!(text.contains("\ncuda: not allowed: "), "{text}");
    assert!(!text.contains("speed ratio"));
    let csv = std::fs::read_to_string(csv).unwrap();
    let line = csv.lines().find(|l| l.contains(",cuda,")).unwrap();
    assert!(
        line.ends_with(&format!("wrong{}", ",".repeat(11))),
        "{line}"
    );
}

#[test]
fn a_driver_that_fails_or_has_little_memory_is_said() {
    let fail = [("TQ4_STANDIN_FAIL", "cuMemcpyDtoDAsync_v2:700:2")];
    let Some(right) = standin::right() else {
        return;
    };
    let out = emulated(right, &CUDA, &fail);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    let record: Value = serde_json::from_slice(&out.stdout).unwrap();
    let cuda = &record["shapes"][0]["lanes"][1];
    assert_eq!(cuda["verdict"], "broke");
    assert_eq!(cuda["times"], Value::Null);
    let reason = cuda["reason"].as_str().unwrap();
    assert!(reason.starts_with("cuMemcpyDtoDAsync failed"), "{reason}");

    // Two buffers of 1 MiB to copy between leave memory for fewer rows than 4000.
    let args = [&["--shape", "4000x256"], &CUDA[2..]].concat();
    let little = [("TQ4_STANDIN_FREE", "4000000")];
    let out = emulated(right, &args, &little);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let record: Value = serde_json::from_slice(&out.stdout).unwrap();
    check_record(&record);
    assert_eq!(record["shapes"][0]["rows_asked"], 4000);
    assert_eq!(record["shapes"][0]["shape"], serde_json::json!([2000, 256]));
    let cut = record["shapes"][0]["cut"][0].as_str().unwrap();
    assert!(
        cut.starts_with("to 2000 rows, lane cuda: ") && cut.contains("out of memory"),
        "{cut}"
    );

    let out = emulated(right, &CUDA, &[("TQ4_STANDIN_ELAPSED", "-1")]);
    let record: Value = serde_json::from_slice(&out.stdout).unwrap();
    check_record(&record);
    assert_eq!(
        record["shapes"][0]["lanes"][1]["times"]["kernel_cold"]["clock"],
        "wall"
    );
    assert!(record.to_string().contains("run backwards"));
}
