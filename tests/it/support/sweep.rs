//! Sweeps from the command line.

use super::big;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A source and a TQ4 model of 24 tensors of several sizes, and 24 that are not quantised.
pub struct Case {
    pub dir: tempfile::TempDir,
}

impl Case {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tensors: Vec<big::Tensor> = (0..24)
            .map(|i| big::Tensor {
                base: format!("layers.{i}.proj"),
                rows: 8 + 16 * (i % 5),
                cols: 1024 + 128 * (i % 3),
            })
            .collect();
        big::write_models(dir.path(), &tensors);
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `tq4 validate --all` of the case, with a report.
    pub fn command(&self, report: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("tq4"));
        command
            .args(["validate", "--all", "--lanes", "reference"])
            .arg("--tq-model")
            .arg(self.path("tq4"))
            .arg("--source-model")
            .arg(self.path("source"))
            .arg("--report")
            .arg(report)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, report: &Path, more: &[&str]) -> Output {
        self.command(report, more).output().unwrap()
    }

    /// The report of one run that nothing disturbs.
    pub fn whole(&self) -> String {
        let report = self.path("whole.jsonl");
        let out = self.run(&report, &[]);
        assert!(out.status.success(), "{}", super::cli::stderr(&out));
        read(&report)
    }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A report without what differs between two runs of the same sweep: times, command line.
pub fn timeless(report: &str) -> String {
    fn strip(v: &mut serde_json::Value) {
        match v {
            serde_json::Value::Object(map) => {
                map.retain(|k, _| !k.ends_with("seconds") && k != "command_line");
                map.values_mut().for_each(strip);
            }
            serde_json::Value::Array(all) => all.iter_mut().for_each(strip),
            _ => {}
        }
    }
    report
        .lines()
        .map(|line| {
            let mut v = serde_json::from_str(line).unwrap();
            strip(&mut v);
            format!("{v}\n")
        })
        .collect()
}
