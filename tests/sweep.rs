//! A sweep compares every tensor, in strips, with the figures of a validation of the whole; one bad
//! tensor or broken lane does not end it.

#[path = "support/big.rs"]
mod big;
#[path = "support/cli.rs"]
mod cli;
#[path = "support/sweep.rs"]
mod sweep;

use cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use half::bf16;
use safetensors::Dtype;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use sweep::{read, timeless};
use tq4::backend::{Backend, Cost, Device, OutMut};
use tq4::checkpoint::{Checkpoint, TqModel};
use tq4::error::{Error, Result};
use tq4::fault::{Fault, emulate};
use tq4::lane::Lane;
use tq4::report::Status;
use tq4::sweep::record::{
    Header, LaneOptions, Partition, PlainStatus, Rows, SweepOutcome, TensorRecord,
};
use tq4::sweep::{Event, Options, Plan, Record, summarise};
use tq4::tensor::TqTensor;
use tq4::validate::{Input, Source, validate};

/// Two tensors of more than one strip and rows that are no whole blocks, one of a single strip.
fn tensors() -> Vec<big::Tensor> {
    [(4100, 1152), (4097, 2048), (33, 256)]
        .into_iter()
        .enumerate()
        .map(|(i, (rows, cols))| big::Tensor {
            base: format!("t{i}"),
            rows,
            cols,
        })
        .collect()
}

fn options() -> Options {
    Options {
        lanes: LaneOptions {
            lanes: Vec::new(),
            require: Vec::new(),
            adapter: None,
            cuda_device: 0,
            nvrtc: false,
        },
        rows: Rows {
            start: 0,
            count: None,
        },
        partition: Partition::WHOLE,
    }
}

/// A kernel that is wrong in some rows of one tensor, told by what they hold, and may break.
struct Faulty {
    device: Device,
    fault: Fault,
    base: &'static str,
    wrong: fn(&TqTensor<'_>, usize, usize) -> bool,
    // The call for this tensor at which it breaks.
    breaks_at: usize,
    calls: usize,
}

impl Faulty {
    /// `wrong` is asked of the tensor, the row and the number of the call.
    fn lane(
        name: &str,
        base: &'static str,
        wrong: fn(&TqTensor<'_>, usize, usize) -> bool,
        breaks_at: usize,
    ) -> Lane {
        Lane::new(Box::new(Self {
            device: Device {
                lane: name.into(),
                device: "emulated".into(),
                driver: String::new(),
                api: String::new(),
                software: true,
                kernel_checksum: String::new(),
            },
            fault: Fault::UpperLaneSign(127),
            base,
            wrong,
            breaks_at,
            calls: 0,
        }))
    }
}

impl Backend for Faulty {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, out: OutMut<'_>) -> Result<Cost> {
        let OutMut::Bf16(out) = out else {
            unreachable!("kernel lanes are asked for BF16")
        };
        emulate(tensor, &[], 0, out);
        if tensor.base() == self.base {
            if self.calls == self.breaks_at {
                return Err(Error::backend("out of memory", "lane", "buy some"));
            }
            let mut faulty = vec![bf16::ZERO; out.len()];
            emulate(tensor, &[self.fault], 0, &mut faulty);
            let rows = out
                .chunks_mut(tensor.cols())
                .zip(faulty.chunks(tensor.cols()));
            for (row, (out, faulty)) in rows.enumerate() {
                if (self.wrong)(tensor, row, self.calls) {
                    out.copy_from_slice(faulty);
                }
            }
            self.calls += 1;
        }
        Ok(Cost {
            total: Duration::from_millis(1),
            ..Default::default()
        })
    }
}

const NEVER: usize = usize::MAX;

fn run(dir: &Path, lanes: &mut [Lane]) -> (Header, Vec<TensorRecord>) {
    let model = TqModel::open(&dir.join("tq4")).unwrap();
    let source = Checkpoint::open(&dir.join("source")).unwrap();
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let plan = Plan::new(&model, Some(&source), &bases, &options()).unwrap();
    let mut records = Vec::new();
    let mut work = 0;
    plan.run(lanes, |event| {
        match event {
            Event::Done(Record::Tensor(t)) => records.push(*t),
            Event::Bytes(n) => work += n,
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(work, plan.work(), "the progress bar ends at its end");
    (plan.header, records)
}

#[test]
fn strips_give_the_figures_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    // Wrong in some rows all over the tensor.
    let some =
        |t: &TqTensor<'_>, row: usize, _| t.scales()[row * t.groups_per_row()].to_bits() % 5 == 0;
    let lanes = || {
        [
            Lane::reference(),
            Faulty::lane("cuda", "t0", some, NEVER),
            Faulty::lane("wgpu", "", some, NEVER),
        ]
    };
    let (_, records) = run(dir.path(), &mut lanes());
    let model = TqModel::open(&dir.path().join("tq4")).unwrap();
    let source = Checkpoint::open(&dir.path().join("source")).unwrap();
    assert_eq!(records.len(), 3);
    for (record, t) in records.iter().zip(tensors()) {
        let tensor = model.rows(&t.base, 0..t.rows).unwrap();
        let name = format!("{}.weight", t.base);
        let values = source.rows_f32(&name, [t.rows, t.cols], 0..t.rows).unwrap();
        let source = Source {
            model: "s".into(),
            values,
        };
        let input = Input {
            tq_model: "m",
            tensor: &tensor,
            row_start: 0,
            source: Some(&source),
        };
        let whole = validate(&input, &mut lanes(), |_| ()).unwrap().report;
        assert_eq!(record.metrics.len(), 6);
        assert_eq!(record.metrics, whole.metrics, "{}", t.base);
        assert_eq!(record.decisions, whole.decisions);
        assert_eq!(record.decision, whole.decision);
        assert_eq!(record.fwht_bug_control, whole.fwht_bug_control);
        assert_eq!(record.elements as usize, t.rows * t.cols);
        assert_eq!(record.diagnosis.len(), usize::from(t.base == "t0"));
    }
}

#[test]
fn a_fault_is_named_from_a_slice_of_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let mut lanes = [
        Lane::reference(),
        Faulty::lane("wgpu", "t1", |_, _, _| true, NEVER),
    ];
    let (header, records) = run(dir.path(), &mut lanes);
    let d = &records[1].diagnosis[0];
    assert_eq!(
        (d.lane.as_str(), d.row_start, d.row_count),
        ("wgpu", 0, 2048)
    );
    assert!(
        d.summary.starts_with("diagnosis of wgpu, rows 0..2048: "),
        "{}",
        d.summary
    );
    let named = d.diagnosis.as_ref().unwrap();
    assert_eq!(named.faults[0].name, Fault::UpperLaneSign(127).name(7));
    assert!(records[0].diagnosis.is_empty() && records[2].diagnosis.is_empty());
    let summary = summarise(&header, &records, &[]);
    assert_eq!(summary.outcome, SweepOutcome::Failed);
    assert_eq!(summary.worst_first[0], "t1");
    let wgpu = summary.lanes.iter().find(|l| l.lane == "wgpu").unwrap();
    assert_eq!((wgpu.passed, wgpu.failed, wgpu.not_run), (2, 1, 0));
}

#[test]
fn a_lane_that_breaks_fails_its_tensor_and_goes_on_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    // In the first strip, and in the second.
    for breaks_at in [0, 1] {
        let lane = Faulty::lane("wgpu", "t0", |_, _, _| false, breaks_at);
        let (header, records) = run(dir.path(), &mut [Lane::reference(), lane]);
        let broke = &records[0];
        assert_eq!(broke.lanes[1].status, Status::Failed);
        assert_eq!(broke.lanes[1].reason.as_deref(), Some("out of memory"));
        let pairs: Vec<&str> = broke.metrics.iter().map(|m| m.lhs.as_str()).collect();
        assert_eq!(
            pairs,
            ["reference_dequant"],
            "the others are still compared"
        );
        assert_eq!(records[1].lanes[1].status, Status::Ran);
        assert_eq!(
            summarise(&header, &records, &[]).outcome,
            SweepOutcome::Broke
        );
    }
}

#[test]
fn a_lane_that_does_not_repeat_itself_is_no_panic_and_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    // Wrong in the first pass, so that the quantiles need a second one, which is right.
    let lane = Faulty::lane("wgpu", "t0", |_, _, call| call < 2, NEVER);
    let (header, records) = run(dir.path(), &mut [Lane::reference(), lane]);
    assert_eq!(
        records[0].lanes[1].reason.as_deref(),
        Some("a second run of the same rows gave other values")
    );
    assert_eq!(
        summarise(&header, &records, &[]).outcome,
        SweepOutcome::Broke
    );
    // Of one strip no quantile needs a second run; the diagnosis tells.
    let lane = Faulty::lane("wgpu", "t2", |_, _, call| call == 0, NEVER);
    let (header, records) = run(dir.path(), &mut [Lane::reference(), lane]);
    let d = &records[2].diagnosis[0];
    assert!(
        d.diagnosis.is_none() && d.summary.contains("does not repeat itself"),
        "{}",
        d.summary
    );
    assert_eq!(
        summarise(&header, &records, &[]).outcome,
        SweepOutcome::Failed
    );
}

#[test]
fn the_report_does_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let report = |threads: &str| {
        let path = dir.path().join(format!("{threads}.jsonl"));
        let out = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tq4"))
            .args(["validate", "--all", "--lanes", "reference", "--tq-model"])
            .arg(dir.path().join("tq4"))
            .arg("--source-model")
            .arg(dir.path().join("source"))
            .arg("--report")
            .arg(&path)
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", stderr(&out));
        timeless(&read(&path)).replace(&format!("CPU, {threads} threads"), "CPU, N threads")
    };
    let one = report("1");
    for threads in ["2", "7"] {
        assert_eq!(report(threads), one, "{threads} threads");
    }
}

/// The summary and the records of a sweep over a model and its source.
fn sweep(dir: &Path, model: &Model, source: &Model, code: i32) -> (String, Vec<Value>) {
    model.write(&dir.join("m"));
    source.write(&dir.join("s"));
    let report = dir.join("r.jsonl");
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let out = tq4(&[
        "validate",
        "--all",
        "--lanes",
        "reference",
        "--tq-model",
        &path("m"),
        "--source-model",
        &path("s"),
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
    let records = read(&report)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    (stdout(&out), records)
}

/// Both models with the same tensors that are not quantised.
fn with_plain() -> (Model, Model) {
    let (mut model, mut source) = (Model::valid(), Model::source());
    for m in [&mut model, &mut source] {
        for base in ["embed", "norm"] {
            let data = (0..2 * 1_500_000).map(|i| (i % 251) as u8).collect();
            m.set(base, "weight", Dtype::BF16, &[1_500_000], data);
        }
    }
    (model, source)
}

#[test]
fn tensors_that_are_not_quantised_are_compared_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (model, source) = with_plain();
    let (text, records) = sweep(dir.path(), &model, &source, 0);
    assert!(
        text.contains(
            "not quantised: 2 as in the source, 0 differ, 0 only here, 0 only in the source"
        ),
        "{text}"
    );
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["record"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["header", "tensor", "tensor", "plain", "plain", "summary"]
    );

    let dir = tempfile::tempdir().unwrap();
    let (mut model, mut source) = with_plain();
    for at in [2_999_999, 1_048_576, 1_048_577] {
        model.tensors.get_mut("embed.weight").unwrap().data[at] ^= 1;
    }
    model.set(
        "norm",
        "weight",
        Dtype::F16,
        &[1_500_000],
        vec![0; 3_000_000],
    );
    model.set("extra", "weight", Dtype::F32, &[1], vec![0; 4]);
    source.set("mtp", "weight", Dtype::BF16, &[2, 2], vec![0; 8]);
    let (text, records) = sweep(dir.path(), &model, &source, 1);
    let plain: Vec<&Value> = records.iter().filter(|r| r["record"] == "plain").collect();
    let status = |s: PlainStatus| serde_json::to_value(s).unwrap();
    for (record, (name, is)) in plain.iter().zip([
        ("embed.weight", PlainStatus::Differs),
        ("extra.weight", PlainStatus::OnlyInTq4),
        ("mtp.weight", PlainStatus::OnlyInSource),
        ("norm.weight", PlainStatus::Differs),
    ]) {
        assert_eq!(
            (&record["name"], &record["status"]),
            (&name.into(), &status(is))
        );
    }
    assert_eq!(plain[0]["differing_bytes"], 3);
    assert_eq!(plain[0]["first_difference"], 1_048_576);
    for line in [
        "embed.weight: 3 of 3000000 bytes differ, the first at 1048576",
        "extra.weight: the source model does not hold it",
        "mtp.weight: the TQ4 model does not hold it",
        "norm.weight: F16 [1500000] found, BF16 [1500000] in the source",
        "not quantised: 0 as in the source, 2 differ, 1 only here, 1 only in the source",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
    }
    assert!(
        text.contains("decision: FAILED: cuda_dequant_not_run"),
        "{text}"
    );
}

#[test]
fn a_bad_tensor_is_reported_and_the_others_are_validated() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::valid();
    let packed = model.tensors.get_mut("a.gate_proj.tq_packed").unwrap();
    packed.data[4 * COLS / 2..5 * COLS / 2].fill(0xFF);
    let (text, records) = sweep(dir.path(), &model, &Model::source(), 2);
    let what = "every packed byte of row 4 is 0xFF, which no working encoder writes";
    assert_eq!(records[1]["error"]["what"], what);
    assert!(
        text.contains(&format!("a.gate_proj: {what} (a.gate_proj.tq_packed)")),
        "{text}"
    );
    assert_eq!(records[2]["tensor_base"], "a.up_proj");
    assert_eq!(records[2]["metrics"][0]["elements"], ROWS * COLS);
    assert_eq!(records[3]["errors"], 1);
    assert_eq!(records[3]["outcome"], "broke");
    assert_eq!(records[3]["worst_first"][0], "a.gate_proj");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let model = dir.path().to_str().unwrap();
    let lines = dir.path().join("r.jsonl");
    let lines = lines.to_str().unwrap();
    for (more, what) in [
        (vec!["--resume"], "no report of lines to go on with"),
        (
            vec!["--resume", "--report", "r.json"],
            "no report of lines to go on with",
        ),
        (
            vec!["--partition", "1/2", "--report", "r.json"],
            "a partition has a report of lines",
        ),
        (
            vec!["--partition", "0/2", "--report", lines],
            "expected i/n with i from 1 to n",
        ),
        (
            vec!["--report", lines, "--record", "out"],
            "--record does not go with a report of lines",
        ),
        (
            vec!["--report", lines, "--recording", "a=b"],
            "--recording does not go with",
        ),
        (
            vec!["--report", lines, "--row-start", "7"],
            "rows 7..7 asked for, the tensor has rows 0..6",
        ),
        (
            vec!["--report", "none/r.jsonl"],
            "the directory does not exist",
        ),
    ] {
        let mut args = vec![
            "validate",
            "--all",
            "--tq-model",
            model,
            "--lanes",
            "reference",
        ];
        args.extend(more);
        let out = tq4(&args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(stderr(&out).starts_with("error: "), "{}", stderr(&out));
        assert!(stderr(&out).contains(what), "{}", stderr(&out));
        assert!(!Path::new(lines).exists());
    }
}
