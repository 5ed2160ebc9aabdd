//! The rounds of a benchmark over lanes whose times are known: what is measured in which order, what is
//! made of it, what gets no speed, and how two records compare.

use crate::support::fake::{Clock, Fake, Log, Step, slots};
use half::bf16;
use std::time::Duration;
use tq4::bench::baseline::compare;
use tq4::bench::measure::{BenchJob, BenchOptions, measure};
use tq4::bench::plan;
use tq4::lane::Slot;
use tq4::record::bench::{Bench, Change, Checked, Host, Measure, SCHEMA, ShapeRecord, Stopped};
use tq4::record::{Tool, to_json};
use tq4::tensor::Layout;

fn run(lanes: &mut [Slot], rows: usize) -> ShapeRecord {
    let tensor = plan::synthetic(Layout::new(4, 128).unwrap(), [rows, 256]).unwrap();
    let job = BenchJob {
        name: "test",
        tensor: &tensor,
        rows_asked: rows,
        cut: Vec::new(),
    };
    let options = BenchOptions {
        time_limit: Duration::from_secs(60),
        copy_bytes: 1000,
        least_rounds: 1,
        warm_up: Duration::ZERO,
    };
    measure(job, lanes, &options, |_| ()).unwrap()
}

/// Warnings without those about the whole way alone, which is timed by this machine's clock.
fn by_fake_clock(r: &ShapeRecord) -> Vec<&str> {
    let all = r.warnings.iter().map(String::as_str);
    all.filter(|w| !w.contains(": end_to_end ")).collect()
}

#[test]
fn speeds_follow_from_the_times() {
    // Kernels of 1 and 4 ms, copies of 2 ms.
    let r = run(&mut slots([Fake::new("a", 1), Fake::new("b", 4)]), 16);
    assert!(r.rounds >= 10, "{} rounds", r.rounds);
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
    assert_eq!(a.copy.as_ref().unwrap().gb_per_s, 2000.0 / 0.002 / 1e9);
    assert_eq!(a.end_to_end.samples_s.len(), r.rounds);
    assert_eq!(a.kernel_cold.samples_s, vec![0.001; r.rounds]);
    let percent = 100.0 * (r.bytes as f64 / 0.001) / (2000.0 / 0.002);
    assert!((a.kernel_warm.percent_of_copy.unwrap() - percent).abs() < 1e-9);
    for ratio in &r.ratios {
        let pair = [&ratio.lhs, &ratio.rhs].map(ToString::to_string);
        assert_eq!(pair, ["b", "a"], "every pair once");
        if ratio.measure != Measure::EndToEnd {
            assert_eq!(ratio.speed_ratio, 0.25);
            assert_eq!(ratio.interval, Some([0.25, 0.25]));
        }
    }
    assert_eq!(r.ratios.len(), Measure::DECODING.len());
    assert_eq!(by_fake_clock(&r), [] as [&str; 0]);
}

#[test]
fn lanes_take_turns() {
    let log = Log::default();
    let both = ["a", "b"].map(|name| Fake::new(name, 1).logging_to(&log));
    let r = run(&mut slots(both), 4);
    let calls = log.lock().unwrap().clone();
    let of = |lane: &str, steps: &[&str]| -> Vec<String> {
        steps.iter().map(|step| format!("{lane} {step}")).collect()
    };
    // A copy, the kernel cold and warm, and the whole way; the lane that begins is the other each time.
    let round = |i: usize| {
        let lanes = if i.is_multiple_of(2) {
            ["a", "b"]
        } else {
            ["b", "a"]
        };
        lanes.map(|l| of(l, &["copy", "run", "run", "load", "run", "read"]))
    };
    let mut expected: Vec<String> = ["a", "b"].map(|l| of(l, &["load", "copy"])).concat();
    expected.extend(["a", "b"].map(|l| of(l, &["run", "read"])).concat());
    expected.extend((0..r.rounds).flat_map(round).flatten());
    // What the last round left, and what one more run on the same memory does.
    expected.extend(["a", "b"].map(|l| of(l, &["read", "run", "read"])).concat());
    assert_eq!(calls, expected);
}

/// A lane that is wrong where this says so: at this load and this run since it.
fn wrong_at(at: fn(usize, usize) -> bool) -> Fake {
    Fake::new("bad", 1).wrong(move |call, out| {
        if at(call.load, call.run) {
            out[..256].fill(bf16::ZERO);
        }
    })
}

#[test]
fn a_wrong_lane_gets_no_speed() {
    let after = "after the rounds the output is another";
    for (bad, reason) in [
        (wrong_at(|_, _| true), "not allowed: "),
        // The first load is the one that is checked; every round loads again.
        (wrong_at(|load, _| load > 1), after),
        // A kernel that spoils what it reads is right the first time only.
        (
            wrong_at(|_, run| run > 1),
            "run again on the same memory, the kernel returns other values",
        ),
    ] {
        let r = run(&mut slots([Fake::new("good", 1), bad]), 16);
        assert_eq!(r.lanes[0].verdict, Checked::Verified);
        assert!(r.lanes[0].times.is_some());
        let bad = &r.lanes[1];
        let found = bad.reason.as_ref().expect(reason);
        assert!(found.starts_with(reason), "{reason}: {found}");
        assert_eq!(bad.verdict, Checked::Wrong, "{reason}");
        assert_eq!(bad.times, None, "{reason}");
        assert!(r.ratios.is_empty());
    }
    let r = run(&mut slots([wrong_at(|_, _| true)]), 16);
    assert_eq!((r.rounds, r.stopped), (0, Stopped::NothingToTime));
}

#[test]
fn a_lane_that_breaks_gets_no_speed_and_the_others_go_on() {
    let bad = || Fake::new("bad", 1);
    for (bad, what) in [
        (bad().most_rows(0), "no memory for 1 rows"),
        // In the third round, in the check before the rounds, and in the one after them.
        (
            bad().breaks(|c| c.step == Step::Copy && c.copy == 4),
            "broke",
        ),
        (
            bad().breaks(|c| c.step == Step::Run && c.load == 1),
            "broke",
        ),
        (
            bad().breaks(|c| c.step == Step::Run && c.load > 1 && c.run > 1),
            "broke",
        ),
    ] {
        let r = run(&mut slots([bad, Fake::new("good", 1)]), 16);
        assert_eq!(r.lanes[0].verdict, Checked::Broke, "{what}");
        assert_eq!(r.lanes[0].times, None);
        let reason = r.lanes[0].reason.as_ref().unwrap();
        assert!(
            reason.starts_with("the fake ") && reason.ends_with(what),
            "{reason}"
        );
        assert_eq!(r.lanes[1].verdict, Checked::Verified);
        assert_eq!(r.shape, [16, 256], "the others get all rows");
        assert!(r.cut.is_empty(), "{:?}", r.cut);
        let times = r.lanes[1].times.as_ref().unwrap();
        assert_eq!(times.copy.as_ref().unwrap().samples_s.len(), r.rounds);
    }
}

#[test]
fn too_little_device_memory_cuts_rows_for_every_lane_and_says_so() {
    let small = Fake::new("small", 1).most_rows(5);
    let r = run(&mut slots([small, Fake::new("large", 1)]), 16);
    assert_eq!((r.shape, r.rows_asked), ([4, 256], 16));
    assert_eq!(
        r.cut,
        ["to 4 rows, lane small: the fake has no memory for 8 rows"]
    );
    assert!(r.lanes.iter().all(|l| l.verdict == Checked::Verified));
    assert_eq!(r.elements, 4 * 256);
}

#[test]
fn timestamps_without_sense_fall_back_to_the_wall_and_say_so() {
    for clock in [Clock::Silent, Clock::Late] {
        let r = run(&mut slots([Fake::new("a", 1).with_clock(clock)]), 4);
        let times = r.lanes[0].times.as_ref().unwrap();
        // The fake's wall is twice its clock.
        assert_eq!(times.kernel_cold.clock, "wall");
        assert_eq!(times.kernel_cold.median_s, 0.002);
        let about: Vec<_> = r
            .warnings
            .iter()
            .filter(|w| w.contains("timed by wall-clock time"))
            .collect();
        // After the second round without a sense it is given up.
        let said = format!("a: timestamps of 2 of {} rounds are missing", r.rounds);
        assert_eq!(about.len(), 1, "{:?}", r.warnings);
        assert!(about[0].starts_with(&said), "{}", about[0]);
        assert_eq!(times.kernel_cold.samples_s.len(), r.rounds - 2);
    }
}

#[test]
fn a_kernel_by_a_clock_and_one_by_the_wall_have_no_quotient() {
    let silent = Fake::new("a", 1).with_clock(Clock::Silent);
    let r = run(&mut slots([silent, Fake::new("b", 1)]), 4);
    let measures: Vec<Measure> = r.ratios.iter().map(|ratio| ratio.measure).collect();
    assert_eq!(measures, [Measure::EndToEnd]);
    let said = "b and a: one kernel is timed by its device's clock, the other by wall-clock time";
    assert!(
        r.warnings.iter().any(|w| w.starts_with(said)),
        "{:?}",
        r.warnings
    );
    let silent = ["a", "b"].map(|name| Fake::new(name, 1).with_clock(Clock::Silent));
    assert_eq!(run(&mut slots(silent), 4).ratios.len(), 3);
}

#[test]
fn a_device_copies_until_its_clocks_are_up() {
    let log = Log::default();
    let tensor = plan::synthetic(Layout::new(4, 128).unwrap(), [4, 256]).unwrap();
    let job = BenchJob {
        name: "test",
        tensor: &tensor,
        rows_asked: 4,
        cut: Vec::new(),
    };
    let options = BenchOptions {
        time_limit: Duration::ZERO,
        copy_bytes: 1000,
        least_rounds: 7,
        warm_up: Duration::from_millis(1),
    };
    let lanes = [
        Fake::new("a", 1).logging_to(&log),
        Fake::new("b", 1).software().logging_to(&log),
    ];
    let r = measure(job, &mut slots(lanes), &options, |_| ()).unwrap();
    assert_eq!(r.rounds, 7);
    let calls = log.lock().unwrap();
    let copies = |lane: &str| {
        calls
            .iter()
            .filter(|c| **c == format!("{lane} copy"))
            .count()
    };
    // Once to make room, and in the round; an adapter in software has no clocks.
    assert_eq!(copies("b"), 8);
    assert!(copies("a") >= 22, "{calls:?}");
}

#[test]
fn noise_drift_and_software_are_said() {
    let has = |fake: Fake, text: &str| {
        let r = run(&mut slots([fake]), 4);
        let of_copy = |w: &&str| w.contains(text) && w.contains("copy ");
        let found = by_fake_clock(&r);
        assert!(found.iter().any(of_copy), "{text}: {:?}", r.warnings);
    };
    let fake = || Fake::new("a", 1);
    has(fake().with_clock(Clock::Noisy), "a: noisy");
    has(fake().with_clock(Clock::Throttled), "a: throttled");
    assert_eq!(
        by_fake_clock(&run(&mut slots([fake().software()]), 4)),
        ["a is a software adapter: its figures say nothing about a GPU"]
    );
}

/// A record of one shape on one lane.
fn record(fake: Fake, rows: usize) -> Bench {
    let mut lanes = slots([fake]);
    Bench {
        schema: SCHEMA.into(),
        tool: Tool::this(),
        host: Host {
            cpu: "a CPU".into(),
            threads: 1,
            memory: 0,
        },
        unix_time: 0,
        shapes: vec![run(&mut lanes, rows)],
        lanes: lanes.iter().map(Slot::record).collect(),
        comparison: None,
    }
}

#[test]
fn a_baseline_tells_faster_slower_and_same_per_element() {
    use Change::{Faster, NotDecidable, Same, Slower};
    let old = record(Fake::new("a", 2), 16);
    // Kernel in ms and rows now, speed ratio of both, outcome.
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
        let by_fake_clock = c.changes.iter().filter(|c| c.measure != Measure::EndToEnd);
        for change in by_fake_clock {
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
    let noisy = record(Fake::new("a", 1).with_clock(Clock::Noisy), 16);
    let c = compare(&noisy, &record(Fake::new("a", 7), 16), 0.01);
    let kernels = c
        .changes
        .iter()
        .filter(|c| c.measure == Measure::KernelCold);
    assert_eq!(
        kernels.map(|c| c.outcome).collect::<Vec<_>>(),
        [NotDecidable]
    );
}

#[test]
fn a_baseline_says_what_else_has_changed_and_what_it_lacks() {
    let old = record(Fake::new("a", 1), 16);
    let mut new = record(Fake::new("a", 1).with_clock(Clock::Silent), 16);
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
    let cold = c.changes.iter().find(|c| c.measure == Measure::KernelCold);
    assert_eq!(cold.unwrap().outcome, Change::NotDecidable);
    let c = compare(&old, &record(Fake::new("b", 1), 16), 0.05);
    assert!(c.changes.is_empty());
    assert_eq!(c.left_out, ["test: lane b has no time in the baseline"]);
    // A record comes back from its file as it was.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, to_json(&new)).unwrap();
    assert_eq!(Bench::read(&path).unwrap(), new);
}
