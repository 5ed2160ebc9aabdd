//! Where the report of a run goes: files that were asked for, stdout, and the exit code.

use super::console::Console;
use super::lanes::{UserLanes, tell_unmet, tell_warnings};
use super::{Exit, OutputFormat, print, tell};
use crate::checkpoint::write_atomically;
use crate::counted::{are, counted};
use crate::error::{Result, printable};
use crate::format::TqModel;
use crate::journal::Journal;
use crate::lane::{self, Decoded, LaneOutput, Slot};
use crate::metrics::Values;
use crate::record::{self, LaneName, Partition, Record, Run, Status, TensorRecord, missing_lanes};
use crate::report::{Detail, Exporter, JUnit, Json, Markdown, Page, Table, TopErrors, first_line};
use crate::run::Recorder;
use crate::run::{self, Ended, Job, Records, Sink, Target, same_weights};
use std::path::{Path, PathBuf};

/// What a run leaves behind.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    pub format: OutputFormat,
    /// Write the report here, as JSON
    ///
    /// NAME.jsonl has a line for each tensor as it is done, any other name one report at the end.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a page with pictures here
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the verdicts here as JUnit XML, for a CI system
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// A line for every tensor in the terminal, and comparisons drawn
    ///
    /// Each by its error in BF16 steps, and by row and group; of tensors with the same fault the first three.
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
}

impl OutputArgs {
    /// The files that are written, each with its option.
    pub fn files(&self) -> [(&'static str, &Option<PathBuf>); 3] {
        [
            ("--report", &self.report),
            ("--html", &self.html),
            ("--junit", &self.junit),
        ]
    }

    /// Whether the report is one of lines, which can be resumed.
    pub fn lines(&self) -> bool {
        let report = self.report.as_deref();
        report.is_some_and(|p| p.extension().is_some_and(|e| e == "jsonl"))
    }

    /// Tensors whose pictures are kept: of those that are printed each, of those on a page the worst.
    pub fn pictures(&self) -> usize {
        match self.verbose {
            true => usize::MAX,
            false => Page::PICTURES,
        }
    }

    /// Writes a JSONL report that no journal wrote.
    pub fn write_lines(&self, run: &Run) -> Result<()> {
        match self.report.as_deref().filter(|_| self.lines()) {
            Some(path) => write_atomically(path, run.to_lines().as_bytes()),
            None => Ok(()),
        }
    }

    /// Writes the files, prints, and says how it ended.
    pub fn finish(&self, run: &Run, recordings: &[LaneName], console: &Console) -> Result<Exit> {
        let export = |exporter: &dyn Exporter| -> Result<Vec<u8>> {
            let mut text = Vec::new();
            exporter.export(run, &mut text)?;
            Ok(text)
        };
        if let Some(path) = self.report.as_deref().filter(|_| !self.lines()) {
            write_atomically(path, &export(&Json)?)?;
        }
        if let Some(path) = &self.html {
            write_atomically(path, &export(&Page)?)?;
        }
        if let Some(path) = &self.junit {
            write_atomically(path, &export(&JUnit)?)?;
        }
        let text = match self.format {
            OutputFormat::Json => export(&Json)?,
            OutputFormat::Markdown => export(&Markdown::default())?,
            OutputFormat::Table => export(&Table {
                detail: match self.verbose {
                    _ if console.quiet => Some(Detail::Decisions),
                    true => Some(Detail::of_all(run)),
                    false => None,
                },
                pictures: self.verbose,
                screen: console.screen,
            })?,
        };
        print(&String::from_utf8_lossy(&text))?;
        // A part of the tensors need not hold the one that a recording is of.
        if run.model.partition == Partition::WHOLE && unused(recordings, run) {
            return Ok(Exit::LaneBroke);
        }
        let in_full = console.quiet || self.format == OutputFormat::Json;
        Ok(outcome(run, in_full))
    }
}

/// How a run ended, with what is missing on stderr; what broke a lane `in_full` where stdout has no report that says it.
fn outcome(run: &Run, in_full: bool) -> Exit {
    match run.summary.outcome {
        record::Outcome::Passed => Exit::Passed,
        record::Outcome::Failed => Exit::GatesFailed,
        record::Outcome::Broke => {
            tell_broken(run, in_full);
            Exit::LaneBroke
        }
        record::Outcome::RequiredLaneMissing => {
            tell_unmet(&missing_lanes(&run.model, &run.tensors));
            Exit::RequiredLaneMissing
        }
        record::Outcome::NothingCompared => {
            tell(
                "error: nothing was compared: no lane ran beside the reference, and no source was given; \
                 give --source-model, a --recording, a --kernel, an --exec, or a lane that `tq4 devices` lists",
            );
            Exit::NothingCompared
        }
    }
}

/// Tells of the first tensor that is bad input and the first at which a lane broke, and how many there are.
fn tell_broken(run: &Run, in_full: bool) {
    let all = |count: usize, what: &str| {
        if count > 1 {
            tell(&format!("error: {what}: {count}; the report has each"));
        }
    };
    let bad: Vec<_> = run
        .tensors
        .iter()
        .filter_map(|t| t.error.as_ref())
        .collect();
    if let Some(e) = bad.first() {
        let e = e.to_error();
        tell(&format!("error: {e}"));
    }
    all(bad.len(), "tensors that are bad input");
    let broken: Vec<_> = run.tensors.iter().filter(|t| t.broke()).collect();
    if let Some(t) = broken.first() {
        for l in t.lanes.iter().filter(|l| l.status == Status::Failed) {
            let what = l.reason.as_deref().map(|reason| match in_full {
                true => reason,
                false => first_line(reason),
            });
            let help = l.help.as_deref();
            let place = format!("lane {} at {}", l.name, t.tensor_base);
            let e = crate::Error::backend(what.unwrap_or(""), place, help.unwrap_or(""));
            tell(&format!("error: {e}"));
        }
    }
    all(broken.len(), "tensors at which a lane broke");
}

/// Tells of recordings that fit no tensor of the run: the user meant them to.
fn unused(recordings: &[LaneName], run: &Run) -> bool {
    let mut any = false;
    for name in recordings {
        let mut of_lane = run
            .tensors
            .iter()
            .flat_map(|t| &t.lanes)
            .filter(|l| l.name == *name);
        let fits = |l: &record::LaneRecord| matches!(l.status, Status::Recorded | Status::Failed);
        if of_lane.clone().any(fits) {
            continue;
        }
        any = true;
        let reason = of_lane.next().and_then(|l| l.reason.as_deref());
        tell(&format!(
            "error: recording {} was compared with nothing: {}",
            printable(&name.to_string()),
            printable(reason.unwrap_or("no tensor"))
        ));
    }
    any
}

/// Runs a job with everything that `validate` may have asked for besides the report.
#[derive(Default)]
pub struct Extras<'a> {
    /// Resume the JSONL report.
    pub resume: bool,
    /// Recordings that take part.
    pub recordings: Vec<Slot>,
    /// Kernels and programs of the user's that take part.
    pub own: UserLanes,
    /// Where kernel lanes are recorded.
    pub record: Option<&'a Path>,
    /// Where the worst elements go.
    pub top_errors: Option<&'a Path>,
}

/// Runs the job, or what an earlier run left of it, on the lanes of its header.
pub fn execute(
    mut job: Job<'_>,
    output: &OutputArgs,
    extras: Extras<'_>,
    console: &Console,
) -> Result<Exit> {
    let mut records = Records {
        pictures: output.pictures(),
        ..Records::default()
    };
    let mut finished = false;
    let mut journal = None;
    let lines = output.report.as_deref().filter(|_| output.lines());
    if let Some(path) = lines {
        if extras.resume && path.exists() {
            let (open, contents) = Journal::resume(path, &job.header)?;
            journal = Some(open);
            if let Some(contents) = contents {
                finished = contents.summary.is_some();
                let (done, plain) = (contents.done(), contents.plain_done());
                records.tensors = contents.tensors;
                records.plain = contents.plain;
                records.tensors.retain(|t| done.contains(&t.tensor_base));
                same_weights(&job, &records.tensors, &records.plain)?;
                job.header = contents.header;
                job.without(&done, &plain);
                let finished = done.len() + plain.len();
                let left = job.targets.len() + job.plain.len();
                console.note(&format!(
                    "resuming: {} {} done, {left} {} left",
                    counted(finished, "tensor"),
                    are(finished),
                    are(left)
                ));
            }
        } else {
            Journal::check_new(path)?;
        }
    }
    // Devices are opened before a new report is begun: an adapter that is not there leaves no file.
    let recordings: Vec<LaneName> = extras.recordings.iter().map(|s| s.name().clone()).collect();
    let mut slots = open_slots(&job, extras.own, extras.recordings, console)?;
    if let (None, Some(path)) = (&journal, lines) {
        journal = Some(Journal::create(path, &job.header)?);
    }
    let mut recorder = match extras.record {
        Some(dir) => Some(Recorder::to_directory(dir, &job, kernels(&slots))?),
        None => None,
    };
    let mut worst = extras
        .top_errors
        .map(|_| WorstElements::new(&slots, job.source.is_some()));
    let mut sinks: Vec<&mut dyn Sink> = Vec::new();
    sinks.push(&mut records);
    sinks.extend(recorder.as_mut().map(|r| r as &mut dyn Sink));
    sinks.extend(worst.as_mut().map(|w| w as &mut dyn Sink));
    // The journal last: what it calls done is done in every other file.
    sinks.extend(journal.as_mut().map(|j| j as &mut dyn Sink));
    job.stop_when_lost = output.lines();
    let bar = console.progress();
    let ran = run::run(&job, &mut slots, &mut sinks, &mut |e| bar.on(e));
    drop(bar);
    let ended = ran?;
    if let Some(recorder) = recorder {
        recorder.finish()?;
    }
    if let (Some(path), Some(worst)) = (extras.top_errors, worst) {
        write_atomically(path, &worst.top.finish()?)?;
    }
    let run = Run::new(job.header, records.tensors, records.plain);
    // A report that is to be resumed has no summary.
    if let (Some(journal), false, Ended::Done) = (&mut journal, finished, ended) {
        journal.append(&Record::Summary(Box::new(run.summary.clone())))?;
    }
    let outcome = output.finish(&run, &recordings, console)?;
    if ended == Ended::Lost {
        tell(
            "error: a lane lost its device, which comes back when the program starts again: run again with --resume",
        );
    }
    Ok(outcome)
}

/// The lanes of a job, a recording named after a lane in its place.
fn open_slots(
    job: &Job<'_>,
    own: UserLanes,
    recordings: Vec<Slot>,
    console: &Console,
) -> Result<Vec<Slot>> {
    if job.targets.is_empty() {
        return Ok(Vec::new());
    }
    let mut config = job.header.model.lanes.clone();
    let replaced = |kind| recordings.iter().any(|r| r.name().kind() == Some(kind));
    if config.lanes.is_empty() {
        config.lanes = record::LaneKind::ALL.to_vec();
    }
    config.lanes.retain(|kind| !replaced(*kind));
    // The reference always runs, and an empty list would ask for every lane.
    config.lanes.push(record::LaneKind::Reference);
    let mut slots = lane::open(&config)?;
    slots.retain(|s| s.name().kind().is_none_or(|kind| !replaced(kind)));
    own.open(&config, &mut slots)?;
    tell_warnings(&slots, console);
    slots.extend(recordings);
    Ok(slots)
}

/// The lanes that compute here, but for the reference.
fn kernels(slots: &[Slot]) -> Vec<(usize, record::LaneInfo)> {
    let live = slots.iter().enumerate().filter_map(|(i, slot)| match slot {
        Slot::Live(lane) if lane.info().name != LaneName::Reference => {
            Some((i, lane.info().clone()))
        }
        _ => None,
    });
    live.collect()
}

/// A sink that gathers the worst elements of each tensor.
struct WorstElements {
    top: TopErrors,
    lanes: Vec<LaneName>,
    ranked: Vec<(LaneName, LaneName)>,
}

impl WorstElements {
    /// Kernel lanes and recordings rank against the reference, and the reference against the source when
    /// nothing else is there.
    fn new(slots: &[Slot], with_source: bool) -> Self {
        let lanes: Vec<LaneName> = slots.iter().map(|s| s.name().clone()).collect();
        let there = slots
            .iter()
            .filter(|s| !matches!(s, Slot::Absent(_)))
            .map(Slot::name);
        let others: Vec<_> = there
            .clone()
            .filter(|name| **name != LaneName::Reference)
            .map(|name| (name.clone(), LaneName::Reference))
            .collect();
        let ranked = if others.is_empty() && with_source {
            vec![(LaneName::Reference, LaneName::Source)]
        } else {
            others
        };
        let mut columns = vec![LaneName::Source];
        columns.truncate(usize::from(with_source));
        columns.extend(there.clone().cloned());
        Self {
            top: TopErrors::new(&columns),
            lanes,
            ranked,
        }
    }
}

impl Sink for WorstElements {
    fn strip(&mut self, target: &Target, decoded: &Decoded) -> Result<()> {
        let mut values: Vec<(LaneName, Values<'_>)> = Vec::new();
        let source = decoded.strip.source.as_deref();
        values.extend(source.map(|v| (LaneName::Source, Values::F32(v))));
        for (name, output) in self.lanes.iter().zip(&decoded.outputs) {
            if let LaneOutput::Values(v, _) = output {
                values.push((name.clone(), v.values()));
            }
        }
        let (first, cols) = (decoded.strip.rows.start, decoded.strip.cols);
        self.top
            .push(&target.base, first, cols, &values, &self.ranked);
        Ok(())
    }

    fn tensor(&mut self, _: &Target, _: &TensorRecord) -> Result<()> {
        self.top.end_tensor();
        Ok(())
    }
}

/// The tensors that patterns choose; all of them for `all`.
pub fn select(model: &TqModel, patterns: &[String], all: bool) -> Result<Vec<String>> {
    let every = ["*".to_owned()];
    let count = model.bases().count();
    let patterns = if all || (patterns.is_empty() && count == 1) {
        &every
    } else {
        patterns
    };
    if patterns.is_empty() {
        let names: Vec<&str> = model.bases().take(3).collect();
        return Err(crate::Error::input(
            format!("the model holds {count} TQ4 tensors"),
            model.checkpoint().dir().display().to_string(),
            format!(
                "choose with --tensor-base or take --all; the first are {}",
                names.join(", ")
            ),
        ));
    }
    model.select(patterns)
}
