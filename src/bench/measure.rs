//! Rounds over all lanes.

use super::plan;
use super::record::{LaneTimes, Measure, Ratio, ShapeRecord, Speed, Stopped, Times, Verdict};
use super::stats;
use super::{verify, warn};
use crate::backend::{Timed, Timing};
use crate::error::{Error, Result};
use crate::lane::{Lane, State};
use crate::tensor::TqTensor;
use half::bf16;
use std::time::{Duration, Instant};

/// Sets of a tensor on a device, used in turn.
pub const SETS: usize = 2;

/// Rounds end when every interval is within this of its median.
pub const INTERVAL: f64 = 0.01;

/// The rule by which rounds end is asked from this round on.
const MIN_ROUNDS: usize = 10;

/// And never more rounds than this.
const MAX_ROUNDS: usize = 2000;

/// How often the rows are halved when a lane has no memory for them.
const HALVINGS: u32 = 6;

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most time for the rounds of one shape; the round that is under way is finished.
    pub time_limit: Duration,
    /// Bytes of the buffer that is copied.
    pub copy_bytes: u64,
}

/// What is measured.
#[derive(Debug)]
pub struct Job<'a> {
    /// The tensor's name, or the shape that was asked for.
    pub name: &'a str,
    /// The rows to decode.
    pub tensor: &'a TqTensor,
    /// Rows that were asked for.
    pub rows_asked: usize,
    /// Why there are fewer.
    pub cut: Vec<String>,
}

/// A lane on its way through the rounds.
struct Runner {
    lane: usize,
    times: LaneTimes,
    clock: &'static str,
    copy: Vec<Timed>,
    cold: Vec<Timed>,
    warm: Vec<Timed>,
    end_to_end: Vec<f64>,
}

impl Runner {
    fn broke(&mut self, e: &Error) {
        self.times.verdict = Verdict::Broke;
        self.times.reason = Some(e.problem().what.clone());
    }

    fn runs(&self) -> bool {
        self.times.verdict == Verdict::Verified
    }

    /// Whether every interval is narrow enough.
    fn settled(&self) -> bool {
        let series = |t: &[Timed]| warn::series(self.clock, t).0;
        [
            &series(&self.copy),
            &series(&self.cold),
            &series(&self.warm),
            &self.end_to_end,
        ]
        .into_iter()
        .all(|s| {
            stats::interval(s, stats::CONFIDENCE)
                .is_some_and(|i| stats::relative_width(stats::median(s), i) <= INTERVAL)
        })
    }
}

/// Loads, verifies and times every lane that is there. `step` is called with a few words before each
/// piece of work.
///
/// A lane that breaks or gives a wrong result is recorded as such; the others go on.
///
/// # Errors
/// When the tensor cannot be cut to rows, which is a fault of this program.
pub fn measure(
    job: Job<'_>,
    lanes: &mut [Lane],
    options: &Options,
    mut step: impl FnMut(&str),
) -> Result<ShapeRecord> {
    step("loading");
    let mut runners = runners(lanes);
    let mut cut = job.cut;
    let fewer = load(job.tensor, lanes, &mut runners, options, &mut cut)?;
    let tensor = fewer.as_ref().unwrap_or(job.tensor);
    let mut out = vec![bf16::ZERO; tensor.elements()];
    for r in runners.iter_mut().filter(|r| r.runs()) {
        step(&format!("checking {}", r.times.lane));
        let State::Ready(backend) = lanes[r.lane].state_mut() else {
            continue;
        };
        match verify::check(&r.times.lane, &mut **backend, tensor, SETS, &mut out) {
            Err(e) => r.broke(&e),
            Ok(checked) => {
                r.times.equal = checked.equal;
                if checked.wrong.is_some() {
                    r.times.verdict = Verdict::Wrong;
                    r.times.reason = checked.wrong;
                }
            }
        }
    }
    let (rounds, stopped) = rounds(lanes, &mut runners, tensor, &mut out, options, &mut step);
    for lane in lanes.iter_mut() {
        if let Some(timing) = timing(lane) {
            timing.unload();
        }
    }

    let mut record = ShapeRecord {
        name: job.name.to_owned(),
        shape: [tensor.rows(), tensor.cols()],
        rows_asked: job.rows_asked,
        cut,
        bits: tensor.layout().bits(),
        group_size: tensor.layout().group_size(),
        elements: tensor.elements() as u64,
        bytes_per_element: plan::bytes_per_element(tensor.layout()),
        bytes: plan::least_bytes(tensor),
        copy_bytes: options.copy_bytes,
        rounds,
        stopped,
        lanes: Vec::new(),
        ratios: Vec::new(),
        warnings: Vec::new(),
    };
    for r in runners {
        finish(r, lanes, &mut record);
    }
    for (i, lhs) in record.lanes.iter().enumerate() {
        for rhs in &record.lanes[..i] {
            let ratios = Measure::DECODING.map(|m| Ratio::new(lhs, rhs, m));
            record.ratios.extend(ratios.into_iter().flatten());
        }
    }
    warn::about_rounds(&mut record);
    Ok(record)
}

fn timing(lane: &mut Lane) -> Option<&mut dyn Timing> {
    match lane.state_mut() {
        State::Ready(backend) => backend.timing(),
        _ => None,
    }
}

fn runners(lanes: &mut [Lane]) -> Vec<Runner> {
    let mut runners = Vec::new();
    for (i, lane) in lanes.iter_mut().enumerate() {
        let name = lane.name().to_owned();
        let Some(timing) = timing(lane) else { continue };
        runners.push(Runner {
            lane: i,
            times: LaneTimes {
                lane: name,
                verdict: Verdict::Verified,
                reason: None,
                equal: 0,
                times: None,
            },
            clock: timing.clock(),
            copy: Vec::new(),
            cold: Vec::new(),
            warm: Vec::new(),
            end_to_end: Vec::new(),
        });
    }
    runners
}

/// Loads the tensor on every lane, fewer rows of it where one has no memory. A lane that has none even
/// for a few rows is broken, and the others get all rows. Returns the rows where they are fewer.
fn load(
    tensor: &TqTensor,
    lanes: &mut [Lane],
    runners: &mut [Runner],
    options: &Options,
    cut: &mut Vec<String>,
) -> Result<Option<TqTensor>> {
    let mut fewer = None;
    let mut halvings = 0;
    let mut reason = None;
    loop {
        let part = fewer.as_ref().unwrap_or(tensor);
        let failed = runners.iter_mut().filter(|r| r.runs()).find_map(|r| {
            let timing = timing(&mut lanes[r.lane])?;
            let e = timing.load(part, SETS, options.copy_bytes).err()?;
            Some((r, e))
        });
        let Some((runner, e)) = failed else {
            if let Some(reason) = reason {
                cut.push(reason);
            }
            return Ok(fewer);
        };
        if halvings < HALVINGS && part.rows() > 1 {
            halvings += 1;
            let rows = part.rows() / 2;
            reason = Some(format!(
                "to {rows} rows, lane {}: {}",
                runner.times.lane,
                e.problem().what
            ));
            fewer = Some(tensor.slice_rows(0..rows)?);
        } else {
            runner.broke(&e);
            (fewer, halvings, reason) = (None, 0, None);
        }
    }
}

fn rounds(
    lanes: &mut [Lane],
    runners: &mut [Runner],
    tensor: &TqTensor,
    out: &mut [bf16],
    options: &Options,
    step: &mut impl FnMut(&str),
) -> (usize, Stopped) {
    let start = Instant::now();
    let mut round = 0;
    loop {
        if !runners.iter().any(Runner::runs) {
            return (round, Stopped::NothingToTime);
        }
        if round >= MIN_ROUNDS && runners.iter().filter(|r| r.runs()).all(Runner::settled) {
            return (round, Stopped::Interval);
        }
        if round > 0 && start.elapsed() >= options.time_limit {
            return (round, Stopped::TimeLimit);
        }
        if round == MAX_ROUNDS {
            return (round, Stopped::Rounds);
        }
        step(&format!("round {}", round + 1));
        // No lane is always the one after the same other.
        let count = runners.len();
        for i in 0..count {
            let r = &mut runners[(i + round) % count];
            if !r.runs() {
                continue;
            }
            let Some(timing) = timing(&mut lanes[r.lane]) else {
                continue;
            };
            if let Err(e) = one_round(r, timing, round % SETS, tensor, out) {
                r.broke(&e);
            }
        }
        round += 1;
    }
}

fn one_round(
    r: &mut Runner,
    timing: &mut dyn Timing,
    set: usize,
    tensor: &TqTensor,
    out: &mut [bf16],
) -> Result<()> {
    r.copy.push(timing.copy()?);
    r.cold.push(timing.kernel(set)?);
    r.warm.push(timing.kernel(set)?);
    let cost = timing.end_to_end(tensor, out)?;
    r.end_to_end.push(cost.total.as_secs_f64());
    Ok(())
}

/// Turns a lane's samples into speeds.
fn finish(mut r: Runner, lanes: &[Lane], record: &mut ShapeRecord) {
    if r.runs() && record.rounds > 0 {
        let mut take = |what: &str, timed: &[Timed]| {
            let (samples, clock, bad) = warn::series(r.clock, timed);
            if bad > 0 {
                record.warnings.push(format!(
                    "{}: {bad} of {} timestamps around the {what} are missing, tie, run backwards or \
                     exceed the wall: timed by the wall",
                    r.times.lane,
                    timed.len()
                ));
            }
            (samples, clock)
        };
        let (copy, copy_clock) = take("copy", &r.copy);
        let (cold, cold_clock) = take("cold kernel", &r.cold);
        let (warm, warm_clock) = take("warm kernel", &r.warm);
        let copy = Speed::of_copy(copy_clock, copy, 2 * record.copy_bytes);
        let job =
            |clock, samples| Speed::of_job(clock, samples, record.bytes, record.elements, &copy);
        r.times.times = Some(Times {
            kernel_cold: job(cold_clock, cold),
            kernel_warm: job(warm_clock, warm),
            end_to_end: job("wall", r.end_to_end),
            copy,
        });
        if matches!(lanes[r.lane].state(), State::Ready(b) if b.device().software) {
            record.warnings.push(format!(
                "{} is a software adapter: its figures say nothing about a GPU",
                r.times.lane
            ));
        }
    }
    record.lanes.push(r.times);
}
