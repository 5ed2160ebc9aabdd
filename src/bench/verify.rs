//! Whether a lane's output is right. A wrong one gets no speed.

use crate::error::Result;
use crate::judge::{Judge, JudgeOptions, blank};
use crate::lane::cpu::Cpu;
use crate::lane::{Decoded, Lane, LaneOutput, Output, Timed, checksum, decode};
use crate::record::{LaneRecord, OutputType, Status, TensorRecord};
use crate::strip::Strip;
use std::sync::Arc;
use std::time::Duration;

/// Elements judged at a time: bounds the memory for the reference.
const VERIFY_STRIP: usize = 1 << 23;

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputCheck {
    /// Elements that equal the rounded reference.
    pub equal: u64,
    /// What is wrong; `None` when nothing is.
    pub wrong: Option<String>,
    /// Hash of the output.
    pub hash: String,
}

/// Runs the lane on what it has loaded and judges the output as one tensor.
pub(super) fn check(lane: &mut dyn Lane, strip: &Strip) -> Result<OutputCheck> {
    lane.run()?;
    let mut out = Output::zeroed(lane.info().output, strip.elements());
    lane.read(out.bytes_mut())?;
    let record = judge(lane, strip, &out)?;
    let name = &lane.info().name;
    // There is no decision about the reference: it must be itself.
    let decision = record.decisions.iter().find(|d| d.lane == *name);
    let metrics = record.metrics.iter().find(|m| m.lhs == *name);
    let equal = metrics.map_or(record.elements, |m| m.bit_equal);
    let wrong = match decision {
        Some(d) => (d.verdict.passed() != Some(true)).then(|| d.reason.clone()),
        None => (equal != record.elements).then(|| "its rounded values are others".into()),
    };
    Ok(OutputCheck {
        equal,
        wrong,
        hash: checksum(out.bytes()),
    })
}

/// Reads what the last run left, runs once more on the same memory, and says how either differs from what
/// was checked.
pub(super) fn check_again(
    lane: &mut dyn Lane,
    strip: &Strip,
    hash: &str,
) -> Result<Option<String>> {
    let mut out = Output::zeroed(lane.info().output, strip.elements());
    let mut other = |lane: &mut dyn Lane| {
        lane.read(out.bytes_mut())?;
        Ok(checksum(out.bytes()) != hash)
    };
    if other(lane)? {
        let what = "after the rounds the output is another than the one that was checked";
        return Ok(Some(what.into()));
    }
    lane.run()?;
    let what = "run again on the same memory, the kernel returns other values than were checked";
    Ok(other(lane)?.then(|| what.into()))
}

fn judge(lane: &dyn Lane, strip: &Strip, out: &Output) -> Result<TensorRecord> {
    let mut reference = Cpu::new(OutputType::F32);
    let lanes = vec![
        LaneRecord::of(reference.info(), Status::Ran),
        LaneRecord::of(lane.info(), Status::Ran),
    ];
    let record = blank(&strip.base, &strip.rows, strip.cols);
    let mut judge = Judge::new(record, lanes, JudgeOptions::default());
    let rows = (VERIFY_STRIP / strip.cols).max(1);
    let timed = Timed {
        device: None,
        wall: Duration::ZERO,
    };
    for first in (0..strip.rows.len()).step_by(rows) {
        let last = strip.rows.len().min(first + rows);
        let block = Strip {
            rows: strip.rows.start + first..strip.rows.start + last,
            ..Strip::of(strip.tensor()?.slice_rows(first..last)?)
        };
        let (expected, _) = decode(&mut reference, &block)?;
        let got = out.part(first * strip.cols..last * strip.cols);
        judge.push(&Arc::new(Decoded {
            strip: block,
            outputs: vec![
                LaneOutput::Values(expected, timed),
                LaneOutput::Values(got, timed),
            ],
        }));
    }
    Ok(judge.finish(None))
}
