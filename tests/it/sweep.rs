//! A sweep compares every tensor, in strips, with the figures of a validation of the whole; a lane that
//! is wrong or breaks does not end it.

use crate::support::big;
use crate::support::cli::stderr;
use crate::support::sweep::{read, timeless};
use half::bf16;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use tq4::backend::{Backend, Cost, Device, OutMut};
use tq4::checkpoint::{Checkpoint, TqModel};
use tq4::error::{Error, Result};
use tq4::fault::{Fault, emulate};
use tq4::lane::Lane;
use tq4::report::Status;
use tq4::sweep::record::{Header, LaneOptions, Partition, Rows, SweepOutcome, TensorRecord};
use tq4::sweep::{Event, Options, Plan, Record, summarise};
use tq4::tensor::TqTensor;
use tq4::validate::{Input, Source, validate};

/// Two tensors of more than one strip and rows that are no whole blocks, one of a single strip.
fn tensors() -> Vec<big::Tensor> {
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

fn device(lane: &str) -> Device {
    Device {
        lane: lane.into(),
        device: "emulated".into(),
        driver: String::new(),
        api: String::new(),
        software: true,
        kernel_variant: String::new(),
        kernel_checksum: String::new(),
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
            device: device(name),
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
    let mut left = plan.work();
    plan.run(lanes, |event| {
        match event {
            Event::Done(Record::Tensor(t)) => records.push(*t),
            Event::Bytes(n) => left -= n,
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(left, 0, "the progress bar ends at its end");
    (plan.header, records)
}

#[test]
fn strips_give_the_figures_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    // Wrong in some rows all over the tensor.
    let some = |t: &TqTensor<'_>, row: usize, _| {
        t.scales()[row * t.groups_per_row()]
            .to_bits()
            .is_multiple_of(5)
    };
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
fn a_bad_row_in_a_later_strip_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let path = dir.path().join("tq4/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let parsed: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = parsed["t0.tq_packed"]["data_offsets"][0].as_u64().unwrap() as usize;
    let row = 8 + header + at + 3650 * 1152 / 2;
    bytes[row..row + 1152 / 2].fill(0xFF);
    std::fs::write(&path, bytes).unwrap();
    let lane = Faulty::lane("wgpu", "", |_, _, _| false, NEVER);
    let (header, records) = run(dir.path(), &mut [Lane::reference(), lane]);
    let error = records[0].error.as_ref().unwrap();
    assert!(
        error
            .what
            .starts_with("every packed byte of row 66 is 0xFF"),
        "{}",
        error.what
    );
    assert_eq!(error.place, "t0.tq_packed (rows counted from row 3584)");
    assert!(records[0].metrics.is_empty());
    assert_eq!(records[0].decisions[1].reason, "the tensor is bad input");
    assert_eq!(records[1].decisions[1].passed, Some(true));
    assert_eq!(
        summarise(&header, &records, &[]).outcome,
        SweepOutcome::Broke
    );
}

/// A kernel that says when it is called.
struct Telling(Device, mpsc::Sender<()>);

impl Backend for Telling {
    fn device(&self) -> &Device {
        &self.0
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, out: OutMut<'_>) -> Result<Cost> {
        let OutMut::Bf16(out) = out else {
            unreachable!("kernel lanes are asked for BF16")
        };
        let _ = self.1.send(());
        emulate(tensor, &[], 0, out);
        Ok(Cost::default())
    }
}

#[test]
fn lanes_run_while_an_earlier_strip_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let model = TqModel::open(&dir.path().join("tq4")).unwrap();
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let plan = Plan::new(&model, None, &bases, &options()).unwrap();
    let (tell, told) = mpsc::channel();
    let lane = Lane::new(Box::new(Telling(device("wgpu"), tell)));
    let mut strips = 0;
    plan.run(&mut [Lane::reference(), lane], |event| {
        if let Event::Bytes(_) = event {
            strips += 1;
            // Strip 2 is computed before this returns, that is while strip 1 is held up here.
            let calls = if strips == 1 { 2 } else { 0 };
            for _ in 0..calls {
                told.recv_timeout(Duration::from_secs(300))
                    .expect("the lane goes on with the next strip");
            }
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(strips, 5);
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
