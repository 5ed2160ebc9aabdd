//! `tq4 compare`: reports or recordings of the same input from machines that never meet.

use super::console::Console;
use super::lanes::DeviceArgs;
use super::model::ModelArgs;
use super::output::OutputArgs;
use super::{Exit, check_outputs, named, print, tell};
use crate::Error;
use crate::checkpoint::write_atomically;
use crate::counted::{are, counted};
use crate::error::{Result, printable};
use crate::format::TqModel;
use crate::journal::read_report;
use crate::lane::recording::{Identity, RecordingFile, RecordingPath};
use crate::lane::{Slot, cpu::Cpu, recorded::Recorded};
use crate::record::{LaneName, OutputType, ReportPair, Rows, Run, to_json};
use crate::report::{pair_results, pair_text};
use crate::run::{self, Job, Records, RunOptions, Target};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Two reports, two recordings, or one recording with --lane; NAME= gives a recording another name
    /// than that of its lane
    #[arg(value_name = "[NAME=]FILE[:TYPE]", required = true, num_args = 1..=2)]
    files: Vec<String>,
    /// Lane to run here and compare with the recording: reference, cuda or wgpu
    #[arg(long, value_name = "LANE", requires = "tq_model")]
    lane: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Quantised model that was recorded, a directory or a GGUF file: adds the reference, and a diagnosis on a failure
    #[arg(long, value_name = "PATH")]
    tq_model: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// How far the recordings may be off, as in `tq4 validate`
    #[arg(long, value_name = "rmse=R|atol=A,rtol=R")]
    tolerance: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    fn options(&self) -> Result<RunOptions> {
        let tolerance = self.tolerance.as_deref().map(str::parse).transpose();
        Ok(RunOptions {
            tolerance: named("--tolerance", tolerance)?,
            pictures: self.output.verbose || self.output.html.is_some(),
            ..RunOptions::default()
        })
    }
}

/// A recording with the name that it has here.
struct NamedRecording {
    name: LaneName,
    file: RecordingFile,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let given: Vec<_> = args.files.iter().map(|f| name_and_path(f)).collect();
    let mut inputs: Vec<&Path> = given.iter().map(|(_, g)| &*g.path).collect();
    inputs.extend(args.tq_model.as_deref());
    let outputs = args.output.files();
    check_outputs(&outputs, &inputs)?;
    if let Some([a, b]) = reports(&given)? {
        return reports_side_by_side(args, &a, &b, console);
    }
    let mut files = open(args, &given)?;
    let model = args.tq_model.as_deref();
    let model = model
        .map(|path| args.model.open(path, console))
        .transpose()?;
    fit(&mut files, model.as_ref())?;
    if let [a, b] = &mut files[..]
        && let left @ 1.. = a.file.keep_common(&mut b.file)
    {
        console.note(&format!(
            "note: {} {} in one of the recordings only, and {} left out",
            counted(left, "tensor"),
            are(left),
            are(left)
        ));
    }
    if let [a, b] = &files[..]
        && let Some(what) = a.file.identity().difference(b.file.identity())
    {
        let (a, b) = (a.file.path().display(), b.file.path().display());
        return Err(not_the_same(&what, format!("{a} and {b}")));
    }
    notes(&files, console);
    match &model {
        Some(model) => with_model(args, model, files, console),
        None => recordings_alone(args, files, console),
    }
}

/// The parts of `[NAME=]FILE`; a file that is there is meant as it is written.
fn name_and_path(given: &str) -> (Option<&str>, RecordingPath) {
    match given.split_once('=') {
        Some((name, path)) if !name.is_empty() && !Path::new(given).exists() => {
            (Some(name), RecordingPath::new(path))
        }
        _ => (None, RecordingPath::new(given)),
    }
}

/// The files where they are two reports; none where no file is one.
fn reports(given: &[(Option<&str>, RecordingPath)]) -> Result<Option<[Run; 2]>> {
    let read = |(_, given): &(_, RecordingPath)| match given.path.is_file() {
        true => read_report(&given.path),
        false => Ok(None),
    };
    let found: Vec<Option<Run>> = given.iter().map(read).collect::<Result<_>>()?;
    let Some(first) = found.iter().position(Option::is_some) else {
        return Ok(None);
    };
    let path = |i: usize| &*given[i].1.path;
    let refused = |i: usize, what: &str, help: &str| {
        Err(Error::input(what, path(i).display().to_string(), help))
    };
    if let Some(i) = (0..given.len()).find(|i| found[*i].is_some() && given[*i].0.is_some()) {
        let what = "a report found, which has no other name: NAME= is for recordings";
        return refused(i, what, "leave NAME= out");
    }
    let another = "name two reports of the same input: `tq4 validate --report FILE` writes one";
    match <[Option<Run>; 2]>::try_from(found) {
        Ok([Some(a), Some(b)]) => Ok(Some([a, b])),
        Ok(_) => match std::fs::metadata(path(1 - first)) {
            Err(e) if !given[1 - first].1.is_stdin() => {
                Err(Error::io("read the second report", path(1 - first), e))
            }
            _ => {
                let what = format!(
                    "no report found, beside the report {}",
                    path(first).display()
                );
                refused(1 - first, &what, another)
            }
        },
        Err(_) => refused(first, "one report found, expected two", another),
    }
}

/// Finds what each recording is of.
fn fit(files: &mut [NamedRecording], model: Option<&TqModel>) -> Result<()> {
    let Some(model) = model else {
        return files.iter_mut().try_for_each(|f| f.file.fit_itself());
    };
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let all = run::wanted(model, &bases, Rows::default())?;
    files.iter_mut().try_for_each(|f| f.file.fit(&all))
}

/// Opens the recordings and gives each its name.
fn open(args: &Args, given: &[(Option<&str>, RecordingPath)]) -> Result<Vec<NamedRecording>> {
    if given.iter().filter(|(_, g)| g.is_stdin()).count() > 1 {
        return Err(Error::input(
            "two recordings from standard input",
            "-",
            "give one as a file",
        ));
    }
    let mut files: Vec<NamedRecording> = Vec::new();
    for (name, given) in given {
        let file = RecordingFile::open(given)?;
        let lane = file.info().name.to_string();
        let stem = stem(given);
        let mut name = match name {
            Some(name) => (*name).to_owned(),
            None if lane.is_empty() => stem.clone(),
            None => lane,
        };
        let named = |n: &str| files.iter().any(|f| f.name.to_string() == n);
        let taken = |n: &str| {
            ["reference", "source"].contains(&n) || args.lane.as_deref() == Some(n) || named(n)
        };
        if named(&name) && name != stem {
            name = format!("{name}-{stem}");
        }
        if taken(&name) {
            name += "-recorded";
        }
        if taken(&name) {
            name += "-2";
        }
        files.push(NamedRecording {
            name: name.into(),
            file,
        });
    }
    match (files.len(), &args.lane) {
        (1, None) => Err(Error::input(
            "one recording found, expected two, or --lane",
            &args.files[0],
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

/// What a recording's file is called, without its ending.
fn stem(given: &RecordingPath) -> String {
    match given.path.file_stem() {
        Some(stem) if !given.is_stdin() => stem.to_string_lossy().into_owned(),
        _ => "recorded".into(),
    }
}

fn not_the_same(what: &str, place: String) -> Error {
    Error::input(
        format!("not of the same input: {what}"),
        place,
        "give the same rows of the same model on both machines",
    )
}

/// Tells what the files do not say, or say differently without harm.
fn notes(files: &[NamedRecording], console: &Console) {
    for f in files {
        let mut tensors = f.file.identity().tensors.iter();
        if tensors.any(|t| t.tensor_checksum.is_none()) {
            console.note(&format!(
                "note: {} holds no checksum of its input: only names and shapes are held against it",
                printable(&f.name.to_string())
            ));
        }
    }
    if let [a, b] = files {
        let note = other_model(&a.name, a.file.identity(), b.file.identity());
        note.iter().for_each(|note| console.note(note));
    }
}

/// The note that two models differ in other tensors than those that are compared.
fn other_model(name: &LaneName, a: &Identity, b: &Identity) -> Option<String> {
    let (x, y) = (a.model_checksum.as_ref()?, b.model_checksum.as_ref()?);
    (x != y).then(|| {
        format!(
            "note: {} is of the model {} ({x}), which is not {} ({y}), but these tensors are the same in both",
            printable(&name.to_string()),
            printable(&a.model),
            printable(&b.model)
        )
    })
}

/// Every recording, and the live lane, against the reference and each other, as in `tq4 validate`.
fn with_model(
    args: &Args,
    model: &TqModel,
    files: Vec<NamedRecording>,
    console: &Console,
) -> Result<Exit> {
    let entries = files[0].file.identity().tensors.clone();
    let bases: Vec<String> = entries.iter().map(|e| e.tensor_base.clone()).collect();
    let mut options = args.options()?;
    let mut slots = vec![Slot::Live(Box::new(Cpu::new(OutputType::F32)))];
    if let Some(name) = &args.lane {
        let Some((slot, config)) = args.device.open_one(name, console)? else {
            return Ok(Exit::RequiredLaneMissing);
        };
        options.lanes = config;
        if *slot.name() != LaneName::Reference {
            slots.push(slot);
        }
    }
    let mut job = Job::new(model, None, &bases, &options)?;
    for e in &entries {
        job.narrow(&e.tensor_base, e.rows())?;
    }
    let here = job.header.model.tq.as_ref().expect("a job of a model");
    let here = Identity {
        model: here.name.clone(),
        model_checksum: Some(here.fingerprint.clone()),
        ..Identity::default()
    };
    let notes = files
        .iter()
        .map(|f| other_model(&f.name, f.file.identity(), &here));
    let notes: Vec<String> = notes.flatten().collect();
    let outcome = judge(args, job, slots, files, console)?;
    // A recording of other weights has broken the lane.
    if outcome != Exit::LaneBroke {
        notes.iter().for_each(|note| console.note(note));
    }
    Ok(outcome)
}

/// Two recordings against each other: the second is what the first is held to.
fn recordings_alone(
    args: &Args,
    mut files: Vec<NamedRecording>,
    console: &Console,
) -> Result<Exit> {
    let options = args.options()?;
    if options.tolerance.is_some_and(|t| t.by_element()) {
        return Err(Error::input(
            "atol and rtol are of the distance from the reference, which takes the model",
            "--tolerance",
            "give --tq-model, or rmse=R alone",
        ));
    }
    files.reverse();
    let targets = files[0].file.identity().tensors.iter().map(|e| Target {
        base: e.tensor_base.clone(),
        shape: [e.row_start + e.shape[0], e.shape[1]],
        info: None,
        rows: e.rows(),
        bytes: 0,
    });
    let job = Job::of_recordings(targets.collect(), &options);
    judge(args, job, Vec::new(), files, console)
}

fn judge(
    args: &Args,
    job: Job<'_>,
    mut slots: Vec<Slot>,
    files: Vec<NamedRecording>,
    console: &Console,
) -> Result<Exit> {
    let names: Vec<LaneName> = files.iter().map(|f| f.name.clone()).collect();
    let recorded = files.into_iter().map(|f| Recorded::new(f.name, f.file));
    slots.extend(recorded.map(|lane| Slot::Recorded(Box::new(lane))));
    let mut records = Records {
        pictures: args.output.pictures(),
        ..Records::default()
    };
    let bar = console.progress();
    let ran = run::run(&job, &mut slots, &mut [&mut records], &mut |e| bar.on(e));
    drop(bar);
    ran?;
    let run = Run::new(job.header, records.tensors, records.plain);
    args.output.write_lines(&run)?;
    args.output.finish(&run, &names, console)
}

/// Two reports: same input, same verdicts, the same bits?
fn reports_side_by_side(args: &Args, a: &Run, b: &Run, console: &Console) -> Result<Exit> {
    for (option, path) in &args.output.files()[1..] {
        if path.is_some() {
            let help = "give it where a report is made";
            return Err(Error::input("two reports make none", *option, help));
        }
    }
    let place = args.files.join(" and ");
    let pair = ReportPair::new(a, b).map_err(|what| not_the_same(&what, place))?;
    if let Some(path) = &args.output.report {
        write_atomically(path, to_json(&pair).as_bytes())?;
    }
    print(&match console.style(args.output.format) {
        None => to_json(&pair),
        Some(style) if console.results_only(args.output.format) => pair_results(&pair, style),
        Some(style) => pair_text(&pair, style, args.output.verbose),
    })?;
    if pair.bit_identical()[1] == 0 {
        tell("error: nothing was compared: no lane has an output in both reports");
        return Ok(Exit::NothingCompared);
    }
    Ok(match pair.verdicts_differ() {
        true => Exit::GatesFailed,
        false => Exit::Passed,
    })
}
