//! The rounds of a benchmark over lanes whose times are known: what is measured in which order, what is
//! made of it, what gets no speed, and how two records compare.

use crate::support::fake::{Fake, Fault, lanes};
use std::time::Duration;
use tq4::bench::baseline::{Outcome, compare};
use tq4::bench::measure::{Job, Options, measure};
use tq4::bench::{Host, Measure, Record, SCHEMA, ShapeRecord, Stopped, Verdict, plan};
use tq4::lane::Lane;
use tq4::report::Tool;
use tq4::tensor::Layout;

fn run(lanes: &mut [Lane], rows: usize) -> ShapeRecord {
    let tensor = plan::synthetic(Layout::new(4, 128).unwrap(), [rows, 256]).unwrap();
    let job = Job {
        name: "test",
        tensor: &tensor,
        rows_asked: rows,
        cut: Vec::new(),
    };
    let options = Options {
        time_limit: Duration::from_secs(60),
        copy_bytes: 1000,
    };
    measure(job, lanes, &options, |_| ()).unwrap()
}

#[test]
fn speeds_follow_from_the_times() {
    // Kernels of 1 and 4 ms, calls of 10 and 40 ms, copies of 2 ms.
    let mut lanes = lanes([Fake::new("a", 1), Fake::new("b", 4)]);
    let r = run(&mut lanes, 16);
    assert_eq!((r.rounds, r.stopped), (10, Stopped::Interval));
    assert_eq!(r.elements, 16 * 256);
    assert_eq!(r.bytes, 16 * (128 + 2 * 2 + 512) + 256);
    let a = r.lanes[0].times.as_ref().unwrap();
    assert_eq!(r.lanes[0].equal, r.elements);
    assert_eq!(a.kernel_cold.clock, "fake clock");
    assert_eq!(a.end_to_end.clock, "wall");
    assert_eq!(a.kernel_cold.median_s, 0.001);
    assert_eq!(a.kernel_cold.mad_s, 0.0);
    assert_eq!(a.kernel_cold.interval_s, Some([0.001, 0.001]));
    assert_eq!(a.kernel_cold.elements_per_s, Some(4096.0 / 0.001));
    assert_eq!(a.copy.gb_per_s, 2000.0 / 0.002 / 1e9);
    assert_eq!(a.end_to_end.median_s, 0.010);
    assert_eq!(a.kernel_cold.samples_s, vec![0.001; 10]);
    let percent = 100.0 * (r.bytes as f64 / 0.001) / (2000.0 / 0.002);
    assert!((a.kernel_warm.percent_of_copy.unwrap() - percent).abs() < 1e-9);
    for ratio in &r.ratios {
        assert_eq!(
            (ratio.lhs.as_str(), ratio.rhs.as_str()),
            ("b", "a"),
            "every pair once"
        );
        assert_eq!(ratio.speed_ratio, 0.25);
        assert_eq!(ratio.interval, Some([0.25, 0.25]));
    }
    assert_eq!(r.ratios.len(), Measure::DECODING.len());
    assert_eq!(r.warnings, [] as [&str; 0]);
}

#[test]
fn lanes_take_turns_and_sets_are_rotated() {
    let (a, b) = (Fake::new("a", 1), Fake::new("b", 1));
    let log = a.log();
    let r = run(&mut lanes([a, b.logging_to(&log)]), 4);
    let calls = log.lock().unwrap().clone();
    // Each round: copy, cold and warm on one set, a call; the lane that begins is the other each time.
    let round = |i: usize| -> Vec<String> {
        let lanes = if i.is_multiple_of(2) {
            ["a", "b"]
        } else {
            ["b", "a"]
        };
        let set = i % 2;
        lanes
            .iter()
            .flat_map(|l| {
                [
                    format!("{l} copy"),
                    format!("{l} kernel {set}"),
                    format!("{l} kernel {set}"),
                    format!("{l} call"),
                ]
            })
            .collect()
    };
    let expected: Vec<String> = (0..r.rounds).flat_map(round).collect();
    // The checks come before the rounds, and nothing after them.
    let (checks, rounds) = calls.split_at(calls.len() - expected.len());
    assert_eq!(rounds, expected);
    assert_eq!(checks.iter().filter(|c| c.ends_with("check")).count(), 2);
}

#[test]
fn a_wrong_lane_gets_no_speed() {
    for (fault, reason) in [
        (Fault::WrongCall, "rows 0..16: "),
        (Fault::WrongResident, "run again, the kernel returns"),
        (Fault::WrongSecondSet, "run again, the kernel returns"),
        (Fault::WrongEndToEnd, "run again, the kernel returns"),
    ] {
        let mut lanes = lanes([Fake::new("good", 1), Fake::new("bad", 1).with(fault)]);
        let r = run(&mut lanes, 16);
        assert_eq!(r.lanes[0].verdict, Verdict::Verified);
        assert!(r.lanes[0].times.is_some());
        let bad = &r.lanes[1];
        assert_eq!(bad.verdict, Verdict::Wrong, "{fault:?}");
        assert_eq!(bad.times, None, "{fault:?}");
        let found = bad.reason.as_ref().unwrap();
        assert!(found.starts_with(reason), "{fault:?}: {found}");
        assert!(r.ratios.is_empty());
    }
    let mut alone = lanes([Fake::new("bad", 1).with(Fault::WrongCall)]);
    let r = run(&mut alone, 16);
    assert_eq!((r.rounds, r.stopped), (0, Stopped::NothingToTime));
}

#[test]
fn a_lane_that_breaks_gets_no_speed_and_the_others_go_on() {
    for fault in [Fault::NoMemory, Fault::BreaksInRound(3)] {
        let mut lanes = lanes([Fake::new("bad", 1).with(fault), Fake::new("good", 1)]);
        let r = run(&mut lanes, 16);
        assert_eq!(r.lanes[0].verdict, Verdict::Broke, "{fault:?}");
        assert_eq!(r.lanes[0].times, None);
        assert!(r.lanes[0].reason.as_ref().unwrap().contains("fake"));
        assert_eq!(r.lanes[1].verdict, Verdict::Verified);
        assert_eq!(r.shape, [16, 256], "the others get all rows");
        assert!(r.cut.is_empty(), "{:?}", r.cut);
        let times = r.lanes[1].times.as_ref().unwrap();
        assert_eq!(times.copy.samples_s.len(), r.rounds);
    }
}

#[test]
fn too_little_device_memory_cuts_rows_for_every_lane_and_says_so() {
    let mut lanes = lanes([
        Fake::new("small", 1).with(Fault::MostRows(5)),
        Fake::new("large", 1),
    ]);
    let r = run(&mut lanes, 16);
    assert_eq!((r.shape, r.rows_asked), ([4, 256], 16));
    assert_eq!(
        r.cut,
        ["to 4 rows, lane small: the fake has no memory for 8 rows"]
    );
    assert!(r.lanes.iter().all(|l| l.verdict == Verdict::Verified));
    assert_eq!(r.elements, 4 * 256);
}

#[test]
fn timestamps_without_sense_fall_back_to_the_wall_and_say_so() {
    for fault in [Fault::NoTimestamps, Fault::LateTimestamps] {
        let r = run(&mut lanes([Fake::new("a", 1).with(fault)]), 4);
        let times = r.lanes[0].times.as_ref().unwrap();
        // The fake's wall is twice its clock.
        assert_eq!(times.kernel_cold.clock, "wall");
        assert_eq!(times.kernel_cold.median_s, 0.002);
        let about: Vec<_> = r
            .warnings
            .iter()
            .filter(|w| w.contains("timed by the wall"))
            .collect();
        assert_eq!(about.len(), 3, "{:?}", r.warnings);
        assert!(about[0].starts_with("a: 10 of 10 timestamps around the copy"));
    }
}

#[test]
fn noise_drift_and_software_are_said() {
    let of = |fault| run(&mut lanes([Fake::new("a", 1).with(fault)]), 4).warnings;
    let has = |warnings: &[String], text: &str| warnings.iter().any(|w| w.contains(text));
    let noisy = of(Fault::Noisy);
    assert!(has(&noisy, "a: noisy"), "{noisy:?}");
    let throttled = of(Fault::Throttled);
    assert!(has(&throttled, "a: throttled"), "{throttled:?}");
    let software = of(Fault::Software);
    assert_eq!(
        software,
        ["a is a software adapter: its figures say nothing about a GPU"]
    );
}

/// A record of one shape on one lane.
fn record(fake: Fake, rows: usize) -> Record {
    let mut lanes = lanes([fake]);
    Record {
        schema: SCHEMA.into(),
        tool: Tool::this(),
        host: Host {
            cpu: "a CPU".into(),
            threads: 1,
            memory: 0,
        },
        unix_time: 0,
        shapes: vec![run(&mut lanes, rows)],
        lanes: lanes.iter().map(Lane::report).collect(),
        comparison: None,
    }
}

#[test]
fn a_baseline_tells_faster_slower_and_same_per_element() {
    use Outcome::{Faster, NotDecidable, Same, Slower};
    let old = record(Fake::new("a", 2), 16);
    // Kernel and call in ms and rows now, speed ratio of both, outcome.
    for (ms, rows, ratio, outcome) in [
        (2, 16, 1.0, Same),
        (1, 16, 2.0, Faster),
        (4, 16, 0.5, Slower),
        (2, 32, 2.0, Faster),
        (1, 8, 1.0, Same),
    ] {
        let new = record(Fake::new("a", ms), rows);
        let c = compare(&old, &new, 0.05);
        assert_eq!(c.changes.len(), 4);
        assert!(c.left_out.is_empty());
        for change in &c.changes {
            let copy = change.measure == Measure::Copy;
            let (ratio, outcome) = if copy { (1.0, Same) } else { (ratio, outcome) };
            assert!(
                (change.speed_ratio / ratio - 1.0).abs() < 1e-12,
                "{change:?}"
            );
            assert_eq!(change.outcome, outcome, "{change:?}");
            let noted = change.notes.contains(&format!("{rows} rows, were 16"));
            assert_eq!(noted, rows != 16, "{change:?}");
        }
    }
    // Too noisy to tell, whatever the median.
    let noisy = record(Fake::new("a", 1).with(Fault::Noisy), 16);
    let c = compare(&noisy, &record(Fake::new("a", 7), 16), 0.01);
    assert!(c.changes.iter().any(|c| c.outcome == NotDecidable));
}

#[test]
fn a_baseline_says_what_else_has_changed_and_what_it_lacks() {
    let old = record(Fake::new("a", 1), 16);
    let mut new = record(Fake::new("a", 1).with(Fault::NoTimestamps), 16);
    new.lanes[0].device = Some("another".into());
    let c = compare(&old, &new, 0.05);
    assert!(
        c.changes
            .iter()
            .all(|c| c.notes[0] == "device another, was fake")
    );
    let clocks = |m| {
        let change = c.changes.iter().find(|c| c.measure == m).unwrap();
        change
            .notes
            .contains(&"clock wall, was fake clock".to_owned())
    };
    assert!(clocks(Measure::KernelCold));
    assert!(!clocks(Measure::EndToEnd));
    let c = compare(&old, &record(Fake::new("b", 1), 16), 0.05);
    assert!(c.changes.is_empty());
    assert_eq!(c.left_out, ["test: lane b has no time in the baseline"]);
    // A record comes back from its file as it was.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, new.to_json()).unwrap();
    assert_eq!(Record::read(&path).unwrap(), new);
}
