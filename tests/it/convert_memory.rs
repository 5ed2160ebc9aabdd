//! Memory does not grow with a tensor: a weight of 128 MiB is converted, recorded and compared under a
//! limit on data that is far less.

use crate::support::cli::{stderr, stdout};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// KiB of private memory that a process may have: heap, and stacks of its threads.
const LIMIT: usize = 120 << 10;
const ROWS: usize = 16384;
const COLS: usize = 4096;

/// A model of one BF16 weight of zeros, sparse on the disk.
fn source(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    let bytes = 2 * ROWS * COLS;
    let header = format!(
        r#"{{"a.q_proj.weight":{{"dtype":"BF16","shape":[{ROWS},{COLS}],"data_offsets":[0,{bytes}]}}}}"#
    );
    let mut file = std::fs::File::create(dir.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + bytes) as u64).unwrap();
}

fn limited(args: &[&str]) -> Output {
    let out = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -d {LIMIT}; exec \"$0\" \"$@\""))
        .arg(env!("CARGO_BIN_EXE_tq4"))
        .args(args)
        .env("RAYON_NUM_THREADS", "4")
        .output()
        .unwrap();
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    out
}

#[test]
fn a_large_weight_needs_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    source(&dir.path().join("src"));
    let (src, tq, plain, file) = (
        path("src"),
        path("tq"),
        path("plain"),
        path("file.safetensors"),
    );
    limited(&["quantize", "--source-model", &src, "--output", &tq]);
    limited(&["dequantize", "--tq-model", &tq, "--output", &plain]);
    let record = ["record", "--tq-model", &tq, "--all", "--lane", "reference"];
    limited(&[&record[..], &["--output", &file]].concat());
    // A dump has no type of its own: its values go by one at a time.
    let (dump, rows) = (path("dump.json"), 4096);
    let zeros = vec!["0"; COLS].join(",");
    let values = vec![zeros; rows].join(",");
    std::fs::write(&dump, format!("{{\"values\":[{values}]}}")).unwrap();
    let (recording, rows) = (format!("mine={dump}"), rows.to_string());
    let validate = [
        "validate",
        "--tq-model",
        &tq,
        "--all",
        "--lanes",
        "reference",
    ];
    let part = ["--row-count", &rows, "--strip", "256"];
    limited(&[&validate[..], &part, &["--recording", &recording]].concat());
}

/// The limit is one: more than it cannot be had.
#[test]
fn the_limit_holds() {
    let out = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -d {LIMIT}; head -c 400000000 /dev/zero | tail -n 1 | wc -c"),
        ])
        .output()
        .unwrap();
    assert_ne!(stdout(&out).trim(), "400000000", "{}", stderr(&out));
}
