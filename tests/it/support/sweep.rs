//! Runs over whole models, from the command line and in this process.

use super::big;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tq4::checkpoint::Checkpoint;
use tq4::format::TqModel;
use tq4::lane::Slot;
use tq4::record::{Run, StripSize};
use tq4::run::{Job, Records, RunEvent, RunOptions};

/// Two tensors of more than one strip and rows that are no whole blocks, one of a single strip.
pub fn tensors() -> Vec<big::Tensor> {
    [(3700, 1152), (2100, 2048), (33, 256)]
        .into_iter()
        .enumerate()
        .map(|(i, (rows, cols))| big::Tensor {
            base: format!("t{i}"),
            rows,
            cols,
        })
        .collect()
}

/// The report on the models in `dir`.
pub fn run(dir: &Path, lanes: &mut [Slot], strip: StripSize) -> Run {
    let model = TqModel::open(&dir.join("tq4")).unwrap();
    let source = Checkpoint::open(&dir.join("source")).unwrap();
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let options = RunOptions {
        strip,
        ..RunOptions::default()
    };
    let job = Job::new(&model, Some(&source), &bases, &options).unwrap();
    let mut records = Records::default();
    let mut left = job.work();
    tq4::run::run(&job, lanes, &mut [&mut records], &mut |event| {
        if let RunEvent::Bytes(n) = event {
            left -= n;
        }
    })
    .unwrap();
    assert_eq!(left, 0, "the progress bar ends at its end");
    Run::new(job.header, records.tensors, records.plain)
}

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
        Self::of(dir, &tensors)
    }

    /// A case of other tensors.
    pub fn of(dir: tempfile::TempDir, tensors: &[big::Tensor]) -> Self {
        big::write_models(dir.path(), tensors);
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
