//! Partitions of a run, made as processes of their own, merge into the report of one run.

use crate::support::big;
use crate::support::cli::{stderr, stdout, tq4};
use crate::support::sweep::{Case, read, timeless};
use std::path::PathBuf;

/// Runs `count` partitions at the same time.
fn partitions(case: &Case, count: usize) -> Vec<PathBuf> {
    let children: Vec<_> = (1..=count)
        .map(|i| {
            let report = case.path(&format!("part-{i}-of-{count}.jsonl"));
            let part = format!("{i}/{count}");
            let child = case.command(&report, &["--partition", &part]).spawn();
            (report, child.unwrap())
        })
        .collect();
    let mut reports = Vec::new();
    for (report, child) in children {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", stderr(&out));
        reports.push(report);
    }
    reports
}

fn merge(reports: &[PathBuf], more: &[&str]) -> std::process::Output {
    let mut args = vec!["merge"];
    args.extend(reports.iter().map(|r| r.to_str().unwrap()));
    args.extend(more);
    tq4(&args)
}

#[test]
fn four_processes_give_the_report_of_one() {
    let case = Case::new();
    let whole_report = case.path("whole.jsonl");
    let one = case.run(&whole_report, &[]);
    let mut reports = partitions(&case, 4);
    for report in &reports {
        // A header, a summary, and about a quarter of 24 tensors of either kind.
        assert!((10..=16).contains(&read(report).lines().count()));
    }
    reports.reverse();
    let merged = case.path("merged.jsonl");
    let out = merge(&reports, &["--report", merged.to_str().unwrap()]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(timeless(&read(&merged)), timeless(&read(&whole_report)));
    assert_eq!(stdout(&out), stdout(&one));
}

#[test]
fn more_partitions_than_tensors_are_valid() {
    let case = Case::new();
    let whole = case.whole();
    let reports = partitions(&case, 26);
    assert_eq!(
        read(&reports[25]).lines().count(),
        2,
        "a header and a summary"
    );
    let merged = case.path("merged.jsonl");
    let out = merge(&reports, &["--report", merged.to_str().unwrap()]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(timeless(&read(&merged)), timeless(&whole));
}

#[test]
fn gaps_overlaps_and_foreign_reports_are_refused() {
    let case = Case::new();
    let reports = partitions(&case, 3);
    let merged = case.path("merged.jsonl");
    let refused = |reports: &[PathBuf], what: &str, help: &str| {
        let out = merge(reports, &["--report", merged.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(2));
        let text = stderr(&out);
        assert!(text.contains(what) && text.contains(help), "{text}");
        assert_eq!(stdout(&out), "");
        assert!(!merged.exists());
    };
    refused(
        &reports[..2],
        "tensors are in no report",
        "run or resume partition 3/3, and merge all",
    );
    let twice = [&reports[..], &reports[1..2]].concat();
    refused(&twice, "is in two reports", "merge each partition once");
    let overlap = [&reports[..], &partitions(&case, 2)[..1]].concat();
    refused(&overlap, "is in two reports", "");

    // One that was killed: its last line is torn, and tensors are missing.
    let torn = case.path("torn.jsonl");
    let text = read(&reports[1]);
    std::fs::write(&torn, &text[..text.len() * 2 / 3]).unwrap();
    let with_torn = [reports[0].clone(), torn, reports[2].clone()];
    refused(&with_torn, "in no report", "resume partition 2/3");

    let rows = case.path("rows.jsonl");
    let out = case.run(&rows, &["--row-count", "4"]);
    assert!(out.status.success(), "{}", stderr(&out));
    let foreign = [&reports[..], &[rows]].concat();
    refused(
        &foreign,
        "of different runs: rows: ",
        "the same models, options",
    );

    let nothing = case.path("empty.jsonl");
    std::fs::write(&nothing, "").unwrap();
    refused(
        &[nothing],
        "not even a header found",
        "run this partition again",
    );
}

#[test]
fn other_weights_and_other_options_are_not_merged() {
    let case = Case::new();
    let part = |name: &str, part: &str, more: &[&str]| {
        let report = case.path(name);
        let out = case.run(&report, &[&["--partition", part], more].concat());
        assert!(out.status.success(), "{}", stderr(&out));
        report
    };
    let first = part("first.jsonl", "1/2", &[]);
    let refused = |second: PathBuf, what: &str| {
        let out = merge(&[first.clone(), second], &[]);
        assert_eq!(out.status.code(), Some(2), "{what}");
        let text = stderr(&out);
        assert!(
            text.contains(&format!("of different runs: {what}")),
            "{text}"
        );
        assert_eq!(stdout(&out), "");
    };
    for (i, (more, what)) in [
        (["--strip", "8"], "rows: "),
        (["--adapter", "0"], "lanes: "),
    ]
    .into_iter()
    .enumerate()
    {
        refused(part(&format!("other-{i}.jsonl"), "2/2", &more), what);
    }
    // The same names and shapes, one byte in the middle of one tensor.
    let name = "layers.3.proj.tq_packed";
    let byte = big::overwrite(&case.path("tq4"), name, 12_000, &[0])[0];
    big::overwrite(&case.path("tq4"), name, 12_000, &[byte ^ 0x10]);
    refused(part("bytes.jsonl", "2/2", &[]), "model: ");
    big::overwrite(&case.path("tq4"), name, 12_000, &[byte]);
    let second = part("second.jsonl", "2/2", &[]);
    let out = merge(&[first.clone(), second], &[]);
    assert!(out.status.success(), "{}", stderr(&out));
}

#[test]
fn a_merged_report_does_not_replace_one_of_its_parts() {
    let case = Case::new();
    let reports = partitions(&case, 2);
    let before = read(&reports[0]);
    let out = merge(&reports, &["--report", reports[0].to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("would be written into the input"),
        "{}",
        stderr(&out)
    );
    assert_eq!(read(&reports[0]), before);
}

#[test]
fn a_required_lane_that_did_not_run_is_exit_code_3_after_the_merge_as_well() {
    let case = Case::new();
    let reports: Vec<PathBuf> = (1..=2)
        .map(|i| {
            let report = case.path(&format!("required-{i}.jsonl"));
            let part = format!("{i}/2");
            // The lane is required and was not asked for: it cannot have run.
            let out = case.run(&report, &["--partition", &part, "--require", "cuda"]);
            assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
            report
        })
        .collect();
    let out = merge(&reports, &[]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("lane cuda is required"),
        "{}",
        stderr(&out)
    );
}
