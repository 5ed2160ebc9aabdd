//! A sweep needs no more memory for a large model than for a small one.
//!
//! `TQ4_MEMORY_GIB=4 cargo test --release --test it sweep_memory -- --nocapture` does it with a model of 4
//! GiB of BF16 weights, whose two forms take 5.1 GiB in the temporary directory while it runs; `TQ4_LANES`
//! chooses the lanes.

use crate::support::big;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Most anonymous memory in MiB.
const BOUND: u64 = 300;
/// The same with every lane, whose drivers have memory of their own.
const BOUND_ALL: u64 = 600;

/// Anonymous resident memory of a process in KiB; `None` when it has ended.
fn rss_anon(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn memory_does_not_grow_with_the_model() {
    let gib: Option<usize> = std::env::var("TQ4_MEMORY_GIB")
        .ok()
        .map(|v| v.parse().expect("TQ4_MEMORY_GIB is a number"));
    let lanes = std::env::var("TQ4_LANES").unwrap_or("reference".into());
    // One tensor of 512 MiB as BF16, or several of 1 GiB.
    let tensors = match gib {
        None => big::tensors(1, 32 << 10, 8 << 10),
        Some(n) => big::tensors(n, 64 << 10, 8 << 10),
    };
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("tq4"))
        .args(["validate", "--all", "--allow-software", "--lanes", &lanes])
        .args([
            "--tq-model",
            &path("tq4"),
            "--source-model",
            &path("source"),
        ])
        .args(["--report", &path("r.jsonl")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        if let Some(now) = rss_anon(child.id()) {
            peak = peak.max(now);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success());
    let report = std::fs::read_to_string(path("r.jsonl")).unwrap();
    assert_eq!(report.lines().count(), 2 * tensors.len() + 2);
    let bytes: usize = tensors.iter().map(|t| 2 * t.rows * t.cols).sum();
    let (peak, decoded) = (peak >> 10, bytes >> 20);
    println!("{lanes}: {peak} MiB of anonymous memory at most, for {decoded} MiB of BF16 weights");
    let bound = if lanes == "reference" {
        BOUND
    } else {
        BOUND_ALL
    };
    assert!(peak > 0 && peak <= bound, "{peak} MiB, more than {bound}");
}
