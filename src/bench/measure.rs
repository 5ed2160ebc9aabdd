//! Rounds over all lanes.

use super::series::RoundTimes;
use super::{plan, speed, verify, warn};
use crate::error::{Error, Result};
use crate::lane::{Lane, Round, Slot, decode};
use crate::record::bench::{Checked, LaneTimes, Measure, ShapeRecord, Stopped};
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
pub struct BenchOptions {
    /// Most time for the rounds of one shape; the round that is under way is finished.
    pub time_limit: Duration,
    /// Bytes of the buffer that is copied.
    pub copy_bytes: u64,
    /// Rounds that there are at least, whatever the time limit.
    pub least_rounds: usize,
    /// Least time of copies before a round on a device, to bring up its clocks.
    pub warm_up: Duration,
}

/// What is measured.
#[derive(Debug)]
pub struct BenchJob<'a> {
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
pub(super) struct Runner {
    /// Index among the slots.
    slot: usize,
    pub(super) times: LaneTimes,
    /// Known once it was checked.
    clock: &'static str,
    output: OutputType,
    /// Hash of the output that was checked.
    hash: String,
    software: bool,
    /// Whether it computes on the CPU, whose clock is the wall.
    cpu: bool,
    pub(super) series: RoundTimes,
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

    /// Whether what is timed of its kernel is the kernel alone, not the launch or files as well.
    fn times_the_kernel(&self) -> bool {
        self.cpu || !self.series.is_by_wall(self.clock)
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
    job: BenchJob<'_>,
    slots: &mut [Slot],
    options: &BenchOptions,
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
    for r in &mut runners {
        finish(r, &mut record);
    }
    for (i, lhs) in runners.iter().enumerate() {
        for rhs in &runners[..i] {
            ratios(lhs, rhs, &mut record);
        }
    }
    record.lanes = runners.into_iter().map(|r| r.times).collect();
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
            cpu: lane.info().api == "CPU",
            series: RoundTimes::default(),
        })
        .collect()
}

/// Loads the tensor on every lane, fewer rows of it where one has no memory. A lane that has none even
/// for a few rows is broken, and the others get all rows. Returns what is loaded.
fn load(
    tensor: &TqTensor,
    slots: &mut [Slot],
    runners: &mut [Runner],
    options: &BenchOptions,
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
    options: &BenchOptions,
    step: &mut impl FnMut(&str),
) -> (usize, Stopped) {
    let start = Instant::now();
    let mut round = 0;
    loop {
        let running = || runners.iter().filter(|r| r.runs());
        if running().next().is_none() {
            return (round, Stopped::NothingToTime);
        }
        if round >= MIN_ROUNDS && running().all(|r| r.series.settled()) {
            return (round, Stopped::Interval);
        }
        // A lane whose clock was given up has its first time later.
        let enough = round >= options.least_rounds && running().all(|r| r.series.has_begun());
        if enough && start.elapsed() >= options.time_limit {
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
                r.with(slots, |r, lane| one_round(r, lane, strip, options));
            }
        }
        round += 1;
    }
}

fn one_round(
    r: &mut Runner,
    lane: &mut dyn Lane,
    strip: &Strip,
    options: &BenchOptions,
) -> Result<()> {
    if !r.cpu && !r.software {
        warm_up(lane, options)?;
    }
    if r.series.is_by_wall(r.clock) {
        // One by one: each is waited for.
        r.series.push_wall(&Round {
            copy: lane.copy(options.copy_bytes)?,
            cold: lane.run()?,
            warm: lane.run()?,
        });
    } else {
        r.series.push_device(&lane.round(options.copy_bytes)?);
    }
    let (_, call) = decode(lane, strip)?;
    r.series.push_end_to_end(call);
    Ok(())
}

/// Copies until two copies take the same time, within 2 %, for at least the time that is asked for and at
/// most four times as long. A lane that cannot copy is left as it is.
fn warm_up(lane: &mut dyn Lane, options: &BenchOptions) -> Result<()> {
    let start = Instant::now();
    let mut last = f64::INFINITY;
    while start.elapsed() < 4 * options.warm_up {
        let Some(copy) = lane.copy(options.copy_bytes)? else {
            return Ok(());
        };
        let now = copy.device.unwrap_or(copy.wall).as_secs_f64();
        if start.elapsed() >= options.warm_up && (now - last).abs() <= 0.02 * last {
            return Ok(());
        }
        last = now;
    }
    Ok(())
}

/// How two lanes compare. A kernel is not compared with a launch.
fn ratios(lhs: &Runner, rhs: &Runner, record: &mut ShapeRecord) {
    if lhs.times.times.is_none() || rhs.times.times.is_none() {
        return;
    }
    let alike = lhs.times_the_kernel() == rhs.times_the_kernel();
    for measure in Measure::DECODING {
        if alike || measure == Measure::EndToEnd {
            record.ratios.extend(speed::ratio(lhs, rhs, measure));
        }
    }
    if !alike {
        let (l, r) = (&lhs.times.lane, &rhs.times.lane);
        record.warnings.push(format!(
            "{l} and {r}: one kernel is timed by its device's clock, the other by wall-clock time, which has the \
             launch as well: no quotient of the two"
        ));
    }
}

/// Turns a lane's samples into speeds.
fn finish(r: &mut Runner, record: &mut ShapeRecord) {
    if r.runs() && record.rounds > 0 {
        // The least bytes of the record are those of BF16.
        let more = (r.output.size() - OutputType::Bf16.size()) as u64 * record.elements;
        let (bytes, copied) = (record.bytes + more, 2 * record.copy_bytes);
        r.times.times = r.series.times(r.clock, bytes, record.elements, copied);
        let lane = &r.times.lane;
        let warning = r.series.warning().map(|w| format!("{lane}: {w}"));
        record.warnings.extend(warning);
        if r.times.times.as_ref().is_some_and(|t| t.copy.is_none()) {
            let clock = match r.clock {
                "wall" => "the wall",
                other => other,
            };
            record.warnings.push(format!(
                "{lane}: timed by {clock} clock; its device cannot be told to copy: caches are not flushed before \
                 the cold kernel, and its bandwidth is not known"
            ));
        }
        if r.software && *lane != LaneName::Reference {
            record.warnings.push(format!(
                "{lane} is a software adapter: its figures say nothing about a GPU"
            ));
        }
    }
}
