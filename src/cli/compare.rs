//! `tq4 compare`: recordings of the same input from machines that never meet.

use super::device::DeviceArgs;
use super::pair_text::{PairReport, note_lines, pair_text};
use super::pictures::Pictures;
use super::run::dir_name;
use super::transfer::Transfer;
use super::{Format, Outcome, print};
use std::path::{Path, PathBuf};
use tq4::Error;
use tq4::backend::Backend;
use tq4::checkpoint::{TqModel, keep_apart, write_atomically};
use tq4::convert::Event;
use tq4::error::Result;
use tq4::lane::Lane;
use tq4::recording::{Entry, Identity, RecordingFile, check_model, compare_pair};
use tq4::report::html::{compare_page, recordings_page};
use tq4::report::{LaneReport, Report, Status, Style, Tool, lanes_table, markdown, tensor_table};
use tq4::validate::{Input, validate};

#[derive(clap::Args)]
pub struct Args {
    /// Two recordings, or one with --lane; NAME= gives it another name than that of its lane
    #[arg(value_name = "[NAME=]FILE", required = true, num_args = 1..=2)]
    recordings: Vec<String>,
    /// Lane to run here and compare with the recording: reference, cuda or wgpu
    #[arg(long, value_name = "LANE", requires = "tq_model")]
    lane: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Directory of the TQ4 model that was recorded: adds the reference, and a diagnosis on a failure
    #[arg(long, value_name = "DIR")]
    tq_model: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write the JSON report here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write a page here: the machines side by side, with pictures where a reference takes part
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A recording with the name that it has here.
struct Named {
    name: String,
    file: RecordingFile,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let files = open(args)?;
    for path in args.report.iter().chain(&args.html) {
        let mut inputs: Vec<&Path> = files.iter().map(|f| f.file.path()).collect();
        inputs.extend(args.tq_model.as_deref());
        keep_apart(path, &inputs)?;
    }
    let model = args.tq_model.as_deref().map(TqModel::open).transpose()?;
    let first = files[0].file.identity();
    if let [a, b] = &files[..]
        && let Some(what) = a.file.identity().difference(b.file.identity())
    {
        let place = format!(
            "{} and {}",
            a.file.path().display(),
            b.file.path().display()
        );
        return Err(not_the_same(&what, place));
    }
    let mut notes = notes(&files);
    if let (Some(model), Some(dir)) = (&model, &args.tq_model) {
        let here = check_model(model, &dir_name(dir), first)?;
        for f in &files {
            if let Some(what) = f.file.identity().difference(&here) {
                let place = format!("{} and {}", f.file.path().display(), dir.display());
                return Err(not_the_same(&what, place));
            }
            notes.extend(other_model(&f.name, f.file.identity(), &here));
        }
    }
    let live = match &args.lane {
        None => None,
        Some(name) => match args.device.backend(name)? {
            Some(backend) => Some(backend),
            None => return Ok(Outcome::RequiredLaneMissing),
        },
    };
    match (&model, &files[..]) {
        (None, [a, b]) => pairs(args, a, b, notes),
        (Some(model), _) => with_reference(args, model, &files, live, &notes),
        (None, _) => unreachable!("a lane is compared with the help of the model"),
    }
}

/// Opens the recordings and gives each its name.
fn open(args: &Args) -> Result<Vec<Named>> {
    let mut files: Vec<Named> = Vec::new();
    for given in &args.recordings {
        let (name, path) = match given.split_once('=') {
            Some((name, path)) if !name.is_empty() && !Path::new(given).exists() => {
                (Some(name.to_owned()), path)
            }
            _ => (None, given.as_str()),
        };
        let file = RecordingFile::open(path.as_ref())?;
        let lane = file.device().lane.clone();
        let mut name = name.unwrap_or(if lane.is_empty() {
            "recorded".into()
        } else {
            lane
        });
        let taken = |n: &str| {
            n == "reference" || args.lane.as_deref() == Some(n) || files.iter().any(|f| f.name == n)
        };
        if taken(&name) {
            name += "-recorded";
        }
        if taken(&name) {
            name += "-2";
        }
        files.push(Named { name, file });
    }
    match (files.len(), &args.lane) {
        (1, None) => Err(Error::input(
            "one recording found, expected two, or --lane",
            &args.recordings[0],
            "name another recording, or a lane to run here with --tq-model",
        )),
        (2, Some(_)) => Err(Error::input(
            "two recordings and a lane found, expected two of them",
            "--lane",
            "leave one out",
        )),
        _ => Ok(files),
    }
}

fn not_the_same(what: &str, place: String) -> Error {
    Error::input(
        format!("not of the same input: {what}"),
        place,
        "record the same rows of the same model on both machines",
    )
}

/// What the files do not say, or say differently without harm.
fn notes(files: &[Named]) -> Vec<String> {
    let mut notes: Vec<String> = files
        .iter()
        .filter(|f| {
            f.file
                .identity()
                .tensors
                .iter()
                .any(|t| t.tensor_checksum.is_none())
        })
        .map(|f| {
            format!(
                "{} holds no checksum of its input: only names and shapes are held against it",
                f.name
            )
        })
        .collect();
    if let [a, b] = files {
        notes.extend(other_model(&a.name, a.file.identity(), b.file.identity()));
    }
    notes
}

fn other_model(name: &str, a: &Identity, b: &Identity) -> Option<String> {
    match (&a.model_checksum, &b.model_checksum) {
        (Some(x), Some(y)) if x != y => Some(format!(
            "{name} is of the model {} ({x}), which is not {} ({y}), but these tensors are the same in both",
            a.model, b.model
        )),
        _ => None,
    }
}

fn recorded(f: &Named) -> LaneReport {
    let d = f.file.device();
    let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    LaneReport {
        name: f.name.clone(),
        status: Status::Recorded,
        reason: None,
        help: None,
        device: some(&d.device),
        driver: some(&d.driver),
        api: some(&d.api),
        software: Some(d.software),
        kernel_variant: some(&d.kernel_variant),
        kernel_checksum: some(&d.kernel_checksum),
        seconds: None,
        kernel_seconds: None,
    }
}

/// Every recording, and the live lane, against the reference and each other, as in `tq4 validate`.
fn with_reference(
    args: &Args,
    model: &TqModel,
    files: &[Named],
    live: Option<Box<dyn Backend>>,
    notes: &[String],
) -> Result<Outcome> {
    let mut lanes = vec![Lane::reference()];
    let live = live.filter(|lane| lane.device().lane != "reference");
    lanes.extend(live.map(Lane::new));
    let fixed = lanes.len();
    let tq_model = dir_name(model.checkpoint().dir());
    let mut reports = Vec::new();
    let asked = Pictures {
        page: args.html.as_deref(),
        verbose: false,
    };
    let mut pictures = asked.gather();
    let bar = Transfer::new();
    let tensors = &files[0].file.identity().tensors;
    bar.on(Event::Total(bytes(tensors)));
    for entry in tensors {
        let base = &entry.tensor_base;
        bar.on(Event::Tensor(base));
        let tensor = model.rows(base, entry.row_start..entry.row_start + entry.shape[0])?;
        lanes.truncate(fixed);
        for f in files {
            lanes.push(Lane::recorded(f.file.recording(&f.name, base)?));
        }
        let input = Input {
            tq_model: &tq_model,
            tensor: &tensor,
            row_start: entry.row_start,
            source: None,
        };
        let outcome = validate(&input, &mut lanes, |_| ())?;
        pictures.add(&outcome, &input, &lanes);
        reports.push(outcome.report);
        bar.on(Event::Bytes(bytes(std::slice::from_ref(entry))));
    }
    drop(bar);
    let report = Report::new(reports);
    if let Some(path) = &args.report {
        write_atomically(path, report.to_json().as_bytes())?;
    }
    let here = &report.tensors()[0].lanes;
    pictures.write_page(&report, here, recordings_page)?;
    let decisions = || report.tensors().iter().flat_map(|t| &t.decisions);
    let ran = report.tensors().iter().flat_map(|t| &t.lanes);
    let broke = ran.clone().any(|l| l.status == Status::Failed);
    let failed = decisions().any(|d| d.passed == Some(false));
    match args.format {
        Format::Json => print(&report.to_json())?,
        Format::Markdown => print(&(markdown(&report, here) + "\n" + &note_lines(notes)))?,
        Format::Table => {
            let mut text: String = report
                .tensors()
                .iter()
                .map(|t| tensor_table(t, Style::Terminal) + "\n")
                .collect();
            text += &lanes_table(here, Style::Terminal);
            text += &note_lines(notes);
            text += &report.decision_line();
            text.push('\n');
            print(&text)?;
        }
    }
    Ok(match (broke, failed) {
        (true, _) => Outcome::LaneBroke,
        (false, true) => Outcome::GatesFailed,
        (false, false) => Outcome::Passed,
    })
}

/// Two recordings against each other.
fn pairs(args: &Args, a: &Named, b: &Named, notes: Vec<String>) -> Result<Outcome> {
    let identity = a.file.identity();
    let mut tensors = Vec::new();
    let bar = Transfer::new();
    bar.on(Event::Total(bytes(&identity.tensors)));
    for entry in &identity.tensors {
        bar.on(Event::Tensor(&entry.tensor_base));
        tensors.push(compare_pair(entry, (&a.name, &a.file), (&b.name, &b.file))?);
        bar.on(Event::Bytes(bytes(std::slice::from_ref(entry))));
    }
    drop(bar);
    let lanes = vec![recorded(a), recorded(b)];
    let report = PairReport {
        tensors,
        notes,
        lanes,
        tool: Tool::this(),
    };
    let json = serde_json::to_string_pretty(&report).expect("plain data") + "\n";
    if let Some(path) = &args.report {
        write_atomically(path, json.as_bytes())?;
    }
    if let Some(path) = &args.html {
        let page = compare_page(&report.tensors, &report.notes, &report.lanes, &report.tool);
        write_atomically(path, page.as_bytes())?;
    }
    match style(args.format) {
        None => print(&json)?,
        Some(style) => print(&pair_text(&report, style))?,
    }
    let failed = report
        .tensors
        .iter()
        .any(|t| t.decision.passed != Some(true));
    Ok(if failed {
        Outcome::GatesFailed
    } else {
        Outcome::Passed
    })
}

fn style(format: Format) -> Option<Style> {
    match format {
        Format::Json => None,
        Format::Table => Some(Style::Terminal),
        Format::Markdown => Some(Style::Markdown),
    }
}

/// Bytes of the recorded values as BF16.
fn bytes(tensors: &[Entry]) -> u64 {
    tensors
        .iter()
        .map(|t| 2 * t.shape[0] as u64 * t.shape[1] as u64)
        .sum()
}
