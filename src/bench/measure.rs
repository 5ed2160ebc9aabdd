//! Rounds over all lanes.

use super::{plan, speed, stats, verify, warn};
use crate::error::{Error, Result};
use crate::lane::{Lane, Slot, Timed, decode};
use crate::record::bench::{Checked, INTERVAL, LaneTimes, Measure, ShapeRecord, Stopped, Times};
use crate::record::{LaneName, OutputType};
use crate::strip::Strip;
use crate::tensor::TqTensor;
use std::time::{Duration, Instant};

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
    /// Index among the slots.
    slot: usize,
    times: LaneTimes,
    /// Known once it was checked.
    clock: &'static str,
    output: OutputType,
    /// Hash of the output that was checked.
    hash: String,
    software: bool,
    copy: Vec<Timed>,
    cold: Vec<Timed>,
    warm: Vec<Timed>,
    end_to_end: Vec<f64>,
}

impl Runner {
    fn broke(&mut self, e: &Error) {
        self.times.verdict = Checked::Broke;
        self.times.reason = Some(e.problem().what.clone());
    }

    fn wrong(&mut self, what: Option<String>) {
        if what.is_some() {
            self.times.verdict = Checked::Wrong;
            self.times.reason = what;
        }
    }

    fn runs(&self) -> bool {
        self.times.verdict == Checked::Verified
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
        // A lane without memory of its own copies nothing.
        .filter(|s| !s.is_empty())
        .all(|s| {
            stats::interval(s, stats::CONFIDENCE)
                .is_some_and(|i| stats::relative_width(stats::median(s), i) <= INTERVAL)
        })
    }

    /// Does `work` with the lane; one that fails is broken.
    fn with<T>(
        &mut self,
        slots: &mut [Slot],
        work: impl FnOnce(&mut Self, &mut dyn Lane) -> Result<T>,
    ) -> Option<T> {
        let lane = slots[self.slot].lane().expect("it was there at the start");
        match work(self, lane) {
            Ok(done) => Some(done),
            Err(e) => {
                self.broke(&e);
                None
            }
        }
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
    slots: &mut [Slot],
    options: &Options,
    mut step: impl FnMut(&str),
) -> Result<ShapeRecord> {
    step("loading");
    let mut runners = runners(slots);
    let mut cut = job.cut;
    let strip = load(job.tensor, slots, &mut runners, options, &mut cut)?;
    let tensor = strip.tensor()?;
    for r in runners.iter_mut().filter(|r| r.runs()) {
        step(&format!("checking {}", r.times.lane));
        let checked = r.with(slots, |r, lane| {
            let checked = verify::check(lane, &strip)?;
            r.clock = lane.clock();
            Ok(checked)
        });
        if let Some(checked) = checked {
            r.times.equal = checked.equal;
            r.hash = checked.hash;
            r.wrong(checked.wrong);
        }
    }
    let (rounds, stopped) = rounds(slots, &mut runners, &strip, options, &mut step);
    for r in runners.iter_mut().filter(|r| r.runs() && rounds > 0) {
        step(&format!("checking {} again", r.times.lane));
        let again = r.with(slots, |r, lane| verify::check_again(lane, &strip, &r.hash));
        r.wrong(again.flatten());
    }
    for lane in slots.iter_mut().filter_map(Slot::lane) {
        lane.unload();
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
        finish(r, &mut record);
    }
    for (i, lhs) in record.lanes.iter().enumerate() {
        for rhs in &record.lanes[..i] {
            let ratios = Measure::DECODING.map(|m| speed::ratio(lhs, rhs, m));
            record.ratios.extend(ratios.into_iter().flatten());
        }
    }
    warn::about_rounds(&mut record);
    Ok(record)
}

fn runners(slots: &mut [Slot]) -> Vec<Runner> {
    let live = slots.iter_mut().enumerate();
    live.filter_map(|(slot, s)| Some((slot, s.lane()?)))
        .map(|(slot, lane)| Runner {
            slot,
            times: LaneTimes {
                lane: lane.info().name.clone(),
                verdict: Checked::Verified,
                reason: None,
                equal: 0,
                times: None,
            },
            clock: lane.clock(),
            output: lane.info().output,
            hash: String::new(),
            software: lane.info().software,
            copy: Vec::new(),
            cold: Vec::new(),
            warm: Vec::new(),
            end_to_end: Vec::new(),
        })
        .collect()
}

/// Loads the tensor on every lane, fewer rows of it where one has no memory. A lane that has none even
/// for a few rows is broken, and the others get all rows. Returns what is loaded.
fn load(
    tensor: &TqTensor,
    slots: &mut [Slot],
    runners: &mut [Runner],
    options: &Options,
    cut: &mut Vec<String>,
) -> Result<Strip> {
    let mut rows = tensor.rows();
    let mut halvings = 0;
    let mut reason = None;
    loop {
        // A lane keeps memory that is large enough: that of more rows would be wanting for the copies.
        slots
            .iter_mut()
            .filter_map(Slot::lane)
            .for_each(|lane| lane.unload());
        let strip = Strip::of(tensor.slice_rows(0..rows)?);
        let failed = runners.iter_mut().filter(|r| r.runs()).find_map(|r| {
            let lane = slots[r.slot].lane()?;
            // The first copy makes the buffers, so that they are not wanting later.
            let loaded = lane
                .load(&strip)
                .and_then(|()| lane.copy(options.copy_bytes));
            Some((r, loaded.err()?))
        });
        let Some((runner, e)) = failed else {
            cut.extend(reason);
            return Ok(strip);
        };
        if halvings < HALVINGS && rows > 1 {
            halvings += 1;
            rows /= 2;
            reason = Some(format!(
                "to {rows} rows, lane {}: {}",
                runner.times.lane,
                e.problem().what
            ));
        } else {
            runner.broke(&e);
            (rows, halvings, reason) = (tensor.rows(), 0, None);
        }
    }
}

fn rounds(
    slots: &mut [Slot],
    runners: &mut [Runner],
    strip: &Strip,
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
            if r.runs() {
                r.with(slots, |r, lane| {
                    one_round(r, lane, strip, options.copy_bytes)
                });
            }
        }
        round += 1;
    }
}

fn one_round(r: &mut Runner, lane: &mut dyn Lane, strip: &Strip, copy_bytes: u64) -> Result<()> {
    r.copy.extend(lane.copy(copy_bytes)?);
    r.cold.push(lane.run()?);
    r.warm.push(lane.run()?);
    let (_, call) = decode(lane, strip)?;
    r.end_to_end.push(call.wall.as_secs_f64());
    Ok(())
}

/// Turns a lane's samples into speeds.
fn finish(mut r: Runner, record: &mut ShapeRecord) {
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
        let copy =
            (!copy.is_empty()).then(|| speed::of_copy(copy_clock, copy, 2 * record.copy_bytes));
        // The least bytes of the record are those of BF16.
        let more = (r.output.size() - OutputType::Bf16.size()) as u64 * record.elements;
        let bytes = record.bytes + more;
        let job =
            |clock, samples| speed::of_job(clock, samples, bytes, record.elements, copy.as_ref());
        r.times.times = Some(Times {
            kernel_cold: job(cold_clock, cold),
            kernel_warm: job(warm_clock, warm),
            end_to_end: job("wall", r.end_to_end),
            copy,
        });
        if r.copy.is_empty() {
            let clock = match cold_clock {
                "wall" => "the wall",
                other => other,
            };
            record.warnings.push(format!(
                "{}: timed by {clock} clock; its device cannot be told to copy: caches are not flushed before \
                 the cold kernel, and its bandwidth is not known",
                r.times.lane
            ));
        }
        if r.software && r.times.lane != LaneName::Reference {
            record.warnings.push(format!(
                "{} is a software adapter: its figures say nothing about a GPU",
                r.times.lane
            ));
        }
    }
    record.lanes.push(r.times);
}
