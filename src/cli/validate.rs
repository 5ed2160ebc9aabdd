//! `tq4 validate`: the main job.

use super::console::Console;
use super::lanes::{LaneArgs, UserLanes, required};
use super::model::ModelArgs;
use super::output::{Extras, OutputArgs, execute, select};
use super::{Exit, check_outputs, named};
use crate::Error;
use crate::checkpoint::same_place;
use crate::error::Result;
use crate::format::open_plain;
use crate::lane::recording::RecordingPath;
use crate::lane::{Slot, recorded::Recorded};
use crate::record::{LaneName, Partition, Rows, StripSize};
use crate::run::{Job, RunOptions, wanted};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(next_help_heading = "Input")]
pub struct Args {
    /// Quantised model: a directory, or a GGUF file
    #[arg(long, value_name = "PATH")]
    tq_model: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Model that it was made from: a directory, or a GGUF file
    ///
    /// The weights are compared with the original ones, and so is the checkpoint.
    #[arg(long, value_name = "PATH")]
    source_model: Option<PathBuf>,
    /// Tensor name without `.weight`, or a glob; may be repeated
    #[arg(long, value_name = "NAME")]
    tensor_base: Vec<String>,
    /// Every TQ4 tensor of the model
    ///
    /// With --source-model also every tensor that is not quantised, byte for byte.
    #[arg(long, conflicts_with = "tensor_base")]
    all: bool,
    /// First row
    #[arg(long, value_name = "N", default_value_t = 0)]
    row_start: usize,
    /// Number of rows; all when left out
    #[arg(long, value_name = "N")]
    row_count: Option<usize>,
    /// Validate one of N parts of the tensors, of about the same bytes each; see `tq4 merge`
    #[arg(long, value_name = "I/N")]
    partition: Option<String>,
    /// Rows that go through the lanes at a time
    ///
    /// A number, `whole` for one launch a tensor, or `auto`: whole for a single tensor that fits.
    #[arg(
        long,
        value_name = "ROWS|whole|auto",
        default_value = "auto",
        help_heading = "Lanes"
    )]
    strip: String,
    #[command(flatten)]
    lanes: LaneArgs,
    /// A saved output to compare; may be repeated
    ///
    /// Named `cuda` or `wgpu` it stands in for that lane. FILE is a safetensors file or a directory of them (tensors
    /// named BASE or BASE.weight), .npy, JSON, a recording of this program, or plain values as FILE:bf16, FILE:f16 or
    /// FILE:f32; `-` is standard input.
    #[arg(long, value_name = "NAME=FILE[:TYPE]", help_heading = "Your kernel")]
    recording: Vec<String>,
    /// How far kernels may be off that are lossy by intent
    ///
    /// By int8 codebooks or f16 accumulation, say: rmse=R over the rms of the reference, atol=A,rtol=R for each element,
    /// or all three.
    #[arg(
        long,
        value_name = "rmse=R|atol=A,rtol=R",
        help_heading = "Your kernel"
    )]
    tolerance: Option<String>,
    /// Save every kernel lane's output in this directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    record: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Resume the --report NAME.jsonl of an earlier run; starts it when it is not there
    #[arg(long, help_heading = "Output")]
    resume: bool,
    /// Write the 128 worst elements of each tensor here, as CSV
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    top_errors: Option<PathBuf>,
}

impl Args {
    fn options(&self) -> Result<RunOptions> {
        let partition = self.partition.as_deref().map(str::parse).transpose();
        Ok(RunOptions {
            lanes: self.lanes.config()?,
            recordings: Vec::new(),
            programs: Vec::new(),
            kernels: Vec::new(),
            tolerance: named(
                "--tolerance",
                self.tolerance.as_deref().map(str::parse).transpose(),
            )?,
            rows: Rows {
                start: self.row_start,
                count: self.row_count,
            },
            strip: named("--strip", self.strip.parse::<StripSize>())?,
            partition: named("--partition", partition)?.unwrap_or(Partition::WHOLE),
            pictures: self.output.verbose || self.output.html.is_some(),
        })
    }

    /// Refuses to write over what is read, or two files into one.
    fn check_outputs(&self) -> Result<()> {
        let recordings = self.recording.iter().filter_map(|r| r.split_once('='));
        let recordings: Vec<RecordingPath> = recordings
            .map(|(_, file)| RecordingPath::new(file))
            .collect();
        let recordings: Vec<&Path> = recordings.iter().map(|given| &*given.path).collect();
        let mut inputs = vec![self.tq_model.as_path()];
        inputs.extend(self.source_model.as_deref());
        inputs.extend(&recordings);
        let recorded = self.record.as_ref().map(|dir| dir.join("recording"));
        let mut outputs = self.output.files().to_vec();
        outputs.extend([("--top-errors", &self.top_errors), ("--record", &recorded)]);
        if let Some(dir) = &self.record {
            let within = |path: &&&Path| {
                let parent = path.parent().map(|p| match p.as_os_str().is_empty() {
                    true => Path::new("."),
                    false => p,
                });
                parent.is_some_and(|p| same_place(p, dir))
            };
            if let Some(path) = recordings.iter().find(within) {
                return Err(Error::input(
                    format!("{} is read from there", path.display()),
                    "--record",
                    "name another directory",
                ));
            }
        }
        check_outputs(&outputs, &inputs)
    }

    /// The recordings by name, before any of them is opened; none is named as one of the user's lanes.
    fn recordings(&self, own: &UserLanes) -> Result<Vec<(LaneName, RecordingPath)>> {
        let mut all: Vec<(LaneName, RecordingPath)> = Vec::new();
        for text in &self.recording {
            let bad = |what: String, help: &str| {
                Err(Error::input(what, format!("--recording {text}"), help))
            };
            let (name, given) = match text.split_once('=') {
                Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                    (LaneName::from(name), RecordingPath::new(file))
                }
                _ => return bad(format!("{text:?} found, expected NAME=FILE"), ""),
            };
            if matches!(name, LaneName::Reference | LaneName::Source) {
                let what = format!("a recording cannot stand in for the {name}");
                return bad(what, "give it another name");
            }
            if all.iter().any(|(n, _)| *n == name) {
                let what = format!("two recordings are named {:?}", name.to_string());
                return bad(what, "give each its own name");
            }
            if own.has(&name) {
                let what = format!(
                    "a kernel or program is named {:?} as well",
                    name.to_string()
                );
                return bad(what, "give each its own name");
            }
            if given.is_stdin() && all.iter().any(|(_, g)| g.is_stdin()) {
                return bad(
                    "two recordings from standard input".into(),
                    "give one as a file",
                );
            }
            all.push((name, given));
        }
        Ok(all)
    }
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let mut options = args.options()?;
    if args.resume && !args.output.lines() {
        return Err(Error::input(
            "no JSONL report to resume",
            "--resume",
            "give --report NAME.jsonl",
        ));
    }
    let besides = [
        ("--top-errors", args.top_errors.is_some()),
        ("--record", args.record.is_some()),
    ];
    if let (true, Some((option, _))) = (args.resume, besides.iter().find(|(_, given)| *given)) {
        return Err(Error::input(
            "it would hold only the tensors that are left",
            *option,
            "leave it out, or start a new report",
        ));
    }
    args.check_outputs()?;
    let own = args.lanes.own()?;
    let given = args.recordings(&own)?;
    let is_own = |name: &LaneName| own.has(name) || given.iter().any(|(n, _)| n == name);
    required(&options.lanes, is_own)?;
    options.programs.clone_from(&own.programs);
    options.kernels = own.hashes();
    let model = args.model.open(&args.tq_model, console)?;
    let source = args.source_model.as_deref().map(open_plain).transpose()?;
    let bases = select(&model, &args.tensor_base, args.all)?;
    let wanted = wanted(&model, &bases, options.rows)?;
    let mut recordings = Vec::new();
    for (name, given) in given {
        let lane = Recorded::open(name.clone(), &given, &wanted)?;
        let hash = lane.file().sha256()?;
        options.recordings.push(format!("{name}={}", &hash[..32]));
        recordings.push(Slot::Recorded(Box::new(lane)));
    }
    // Shapes are checked before a device is opened: bad input must not wait for a driver.
    let job = Job::new(&model, source.as_ref(), &bases, &options)?;
    let extras = Extras {
        resume: args.resume,
        recordings,
        own,
        record: args.record.as_deref(),
        top_errors: args.top_errors.as_deref(),
    };
    execute(job, &args.output, extras, console)
}
