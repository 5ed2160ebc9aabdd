//! JUnit XML, which every CI system reads: a suite for each lane, a case for each tensor.

use super::Exporter;
use super::words::{first_line, lines_of, problem};
use crate::error::{Error, Result};
use crate::record::{Decision, LaneRecord, PlainRecord, PlainStatus, Run, TensorRecord, Verdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// The report as JUnit XML.
///
/// A lane that differs is a failure, one that broke an error, one that did not run is skipped, one that was not
/// asked for is not there. The
/// checkpoint against its source and the tensors that are not quantised are suites of their own.
#[derive(Debug, Clone, Copy)]
pub struct JUnit;

impl Exporter for JUnit {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        let mut report = Report::new("tq4");
        for lane in run.asked_for() {
            let mut suite = TestSuite::new(lane.lane.to_string());
            let decided = run.tensors.iter();
            let decided = decided.filter_map(|t| Some((t, t.decision_of(&lane.lane)?)));
            suite.add_test_cases(decided.map(|(t, d)| case_of_lane(t, d)));
            report.add_test_suite(suite);
        }
        let judged = run.tensors.iter().filter_map(case_of_checkpoint);
        add(&mut report, "checkpoint", judged.collect());
        let plain = run.plain.iter().map(case_of_plain);
        add(&mut report, "not quantised", plain.collect());
        report
            .serialize(to)
            .map_err(|e| Error::io("write the report", Path::new(""), std::io::Error::other(e)))
    }
}

/// Adds a suite that has cases.
fn add(report: &mut Report, name: &str, cases: Vec<TestCase>) {
    if cases.is_empty() {
        return;
    }
    let mut suite = TestSuite::new(name);
    suite.add_test_cases(cases);
    report.add_test_suite(suite);
}

fn wrong(kind: NonSuccessKind, message: &str, more: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    if !more.is_empty() {
        status.set_description(more);
    }
    status
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(why);
    status
}

fn case_of_lane(t: &TensorRecord, d: &Decision) -> TestCase {
    let lane = t.lanes.iter().find(|l| l.name == d.lane);
    let status = match d.verdict {
        _ if t.error.is_some() => {
            let error = t.error.as_ref().map(problem).unwrap_or_default();
            wrong(NonSuccessKind::Error, &error, "")
        }
        Verdict::Identical | Verdict::Allowed | Verdict::WithinTolerance => {
            TestCaseStatus::success()
        }
        Verdict::Differs => {
            let mut of_lane = t.diagnosis.iter();
            let lane = d.lane.to_string();
            let diagnosis = of_lane.find(|s| s.diagnosis.lane == lane);
            let diagnosis = diagnosis.map(|s| s.summary(t.row_count));
            wrong(
                NonSuccessKind::Failure,
                &d.reason,
                &diagnosis.unwrap_or_default(),
            )
        }
        Verdict::Broke => {
            let help = lane.and_then(|l| l.help.clone());
            let lines = lines_of(Some(&d.reason)).unwrap_or_default();
            let more: Vec<String> = lines.into_iter().chain(help).collect();
            wrong(
                NonSuccessKind::Error,
                first_line(&d.reason),
                &more.join("\n"),
            )
        }
        Verdict::NotRun => skipped(&d.reason),
    };
    let mut case = TestCase::new(t.tensor_base.as_str(), status);
    case.set_classname(d.published());
    if let Some(seconds) = lane.and_then(seconds) {
        case.set_time(seconds);
    }
    case
}

fn seconds(lane: &LaneRecord) -> Option<Duration> {
    Duration::try_from_secs_f64(lane.seconds?).ok()
}

/// What is bad input is an error here too: there may be no lane to tell it.
fn case_of_checkpoint(t: &TensorRecord) -> Option<TestCase> {
    let status = match (&t.error, &t.checkpoint) {
        (Some(error), _) => wrong(NonSuccessKind::Error, &problem(error), ""),
        (None, Some(of)) if of.damaged() => wrong(NonSuccessKind::Failure, &of.reason, ""),
        (None, Some(_)) => TestCaseStatus::success(),
        (None, None) => return None,
    };
    let mut case = TestCase::new(t.tensor_base.as_str(), status);
    case.set_classname("checkpoint");
    Some(case)
}

fn case_of_plain(p: &PlainRecord) -> TestCase {
    let status = match p.status {
        PlainStatus::Equal | PlainStatus::Cast => TestCaseStatus::success(),
        PlainStatus::NotDecoded => TestCaseStatus::skipped(),
        PlainStatus::Differs | PlainStatus::OnlyInTq4 | PlainStatus::OnlyInSource => {
            let reason = p.reason.as_deref().unwrap_or_default();
            wrong(NonSuccessKind::Failure, reason, "")
        }
    };
    let mut case = TestCase::new(p.name.as_str(), status);
    case.set_classname("not quantised");
    case
}
