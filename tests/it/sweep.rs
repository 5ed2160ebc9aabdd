//! A run over a model compares every tensor; a lane that is wrong or breaks does not end it.

use crate::support::big;
use crate::support::cli::stderr;
use crate::support::fake::{Call, Fake, beside_reference};
use crate::support::sweep::{read, run, tensors, timeless};
use std::sync::mpsc;
use std::time::Duration;
use tq4::format::TqModel;
use tq4::record::{LaneConfig, LaneKind, LaneName, Outcome, Run, Status, StripSize};
use tq4::run::{Job, Records, RunEvent, RunOptions};

const FAULT: &str = "fwht_upper_lane_sign";

/// A kernel with the fault in some calls for one tensor.
fn faulty(base: &'static str, calls: fn(&Call<'_>) -> bool) -> Fake {
    Fake::new("wgpu", 1).faulty(FAULT, move |call, _| call.strip.base == base && calls(call))
}

/// The report of three tensors, the first two of two strips, with a lane beside the reference.
fn with_lane(lane: Fake) -> Run {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    run(dir.path(), &mut beside_reference([lane]), StripSize::Auto)
}

#[test]
fn a_fault_is_named_from_the_worst_strip() {
    let run = with_lane(faulty("t1", |_| true));
    let d = &run.tensors[1].diagnosis[0];
    assert_eq!((d.strip_start, d.strip_rows), (0, 2048));
    let summary = d.summary(2100);
    assert!(
        summary.starts_with("diagnosis of wgpu, rows 0..2048: "),
        "{summary}"
    );
    assert_eq!(d.diagnosis.faults[0].name, FAULT);
    let others = [&run.tensors[0], &run.tensors[2]];
    assert!(others.iter().all(|t| t.diagnosis.is_empty()));
    assert_eq!(run.summary.outcome, Outcome::Failed);
    assert_eq!(run.summary.worst_first[0], "t1");
    let lanes = &run.summary.lanes;
    let wgpu = lanes.iter().find(|l| l.lane == LaneName::Wgpu).unwrap();
    assert_eq!((wgpu.passed, wgpu.failed, wgpu.not_run), (2, 1, 0));
}

#[test]
fn a_lane_that_breaks_fails_its_tensor_and_goes_on_with_the_next() {
    // In the first strip, and in the second.
    for start in [0, 3584] {
        let breaks = move |c: &Call<'_>| c.strip.base == "t0" && c.strip.rows.start == start;
        let run = with_lane(Fake::new("wgpu", 1).breaks(breaks));
        let broke = &run.tensors[0];
        assert_eq!(broke.lanes[1].status, Status::Failed);
        assert_eq!(broke.lanes[1].reason.as_deref(), Some("the fake broke"));
        assert_eq!(broke.lanes[1].output_hash, None, "of a part of the rows");
        let pairs: Vec<&LaneName> = broke.metrics.iter().map(|m| &m.lhs).collect();
        assert_eq!(
            pairs,
            [&LaneName::Reference],
            "the others are still compared"
        );
        assert_eq!(run.tensors[1].lanes[1].status, Status::Ran);
        assert_eq!(run.summary.outcome, Outcome::Broke);
    }
}

#[test]
fn a_lane_that_is_wrong_once_fails_by_what_it_returned_then() {
    let run = with_lane(faulty("t2", |call| call.load == 5));
    let d = &run.tensors[2].diagnosis[0];
    assert_eq!(d.diagnosis.faults[0].name, FAULT);
    assert_eq!(run.summary.outcome, Outcome::Failed);
}

#[test]
fn a_bad_row_in_a_later_strip_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let row = 3650 * 1152 / 2;
    big::overwrite(
        &dir.path().join("tq4"),
        "t0.tq_packed",
        row,
        &[0xFF; 1152 / 2],
    );
    let mut lanes = beside_reference([Fake::new("wgpu", 1)]);
    let run = run(dir.path(), &mut lanes, StripSize::Auto);
    let error = run.tensors[0].error.as_ref().unwrap();
    assert!(
        error
            .what
            .starts_with("every packed byte of row 66 is 0xFF"),
        "{}",
        error.what
    );
    let [start, end] = [
        "t0: packed in ",
        "model.safetensors (rows counted from row 3584)",
    ];
    let place = &error.place;
    assert!(place.starts_with(start) && place.ends_with(end), "{place}");
    assert!(run.tensors[0].metrics.is_empty());
    let wgpu = |t: usize| run.tensors[t].decision_of(&LaneName::Wgpu).unwrap();
    assert_eq!(wgpu(0).reason, "the tensor is bad input");
    assert_eq!(wgpu(1).verdict.passed(), Some(true));
    assert_eq!(run.summary.outcome, Outcome::Broke);
}

#[test]
fn lanes_run_while_an_earlier_strip_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let model = TqModel::open(&dir.path().join("tq4")).unwrap();
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let job = Job::new(&model, None, &bases, &RunOptions::default()).unwrap();
    let (tell, told) = mpsc::channel();
    let telling = Fake::new("wgpu", 1).wrong(move |_, _| {
        let _ = tell.send(());
    });
    let mut records = Records::default();
    let mut strips = 0;
    let mut lanes = beside_reference([telling]);
    tq4::run::run(&job, &mut lanes, &mut [&mut records], &mut |event| {
        if let RunEvent::Bytes(_) = event {
            strips += 1;
            // Strip 2 is computed before this returns, that is while strip 1 is held up here.
            let calls = if strips == 1 { 2 } else { 0 };
            for _ in 0..calls {
                told.recv_timeout(Duration::from_secs(300))
                    .expect("the lane goes on with the next strip");
            }
        }
    })
    .unwrap();
    assert_eq!((strips, records.tensors.len()), (5, 3));
}

#[test]
fn strips_are_smaller_where_the_reference_runs_alone() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let model = TqModel::open(&dir.path().join("tq4")).unwrap();
    let strips = |lanes: Vec<LaneKind>, recordings: Vec<String>| {
        let options = RunOptions {
            lanes: LaneConfig {
                lanes,
                ..LaneConfig::default()
            },
            recordings,
            ..RunOptions::default()
        };
        let job = Job::new(&model, None, &["t0".to_owned(), "t2".to_owned()], &options).unwrap();
        let mut strips = 0;
        let mut count =
            |event: RunEvent<'_>| strips += usize::from(matches!(event, RunEvent::Bytes(_)));
        let mut records = Records::default();
        let mut lanes = beside_reference([]);
        tq4::run::run(&job, &mut lanes, &mut [&mut records], &mut count).unwrap();
        strips
    };
    // 3,700 rows by 3,584, or by 512; and a tensor that is one strip.
    assert_eq!(strips(vec![LaneKind::Reference], Vec::new()), 8 + 1);
    assert_eq!(strips(vec![], Vec::new()), 2 + 1);
    let recording = vec!["mine=ab".to_owned()];
    assert_eq!(strips(vec![LaneKind::Reference], recording), 2 + 1);
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
