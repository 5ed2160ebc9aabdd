//! `tq4 validate`: the main job.

use super::pictures::Pictures;
use super::run::Run;
use super::{Format, Outcome, check_outputs, sweep, tell};
use std::path::{Path, PathBuf};
use tq4::Error;
use tq4::checkpoint::{Checkpoint, TqModel};
use tq4::error::{Result, printable};
use tq4::lane::{self, Choice};
use tq4::recording::Recording;
use tq4::sweep::record::{LaneOptions, Partition, PlainStatus, Rows};
use tq4::sweep::{Options, Plan, compare_plain};

/// Lanes that can be named.
const LANES: [&str; 3] = ["reference", "cuda", "wgpu"];

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the TQ4 model
    #[arg(long, value_name = "DIR")]
    tq_model: PathBuf,
    /// Directory of the model that it was made from, to compare with the original weights
    #[arg(long, value_name = "DIR")]
    source_model: Option<PathBuf>,
    /// Tensor name without `.weight`, or a glob; may be repeated
    #[arg(long, value_name = "NAME")]
    tensor_base: Vec<String>,
    /// Every TQ4 tensor of the model; with --source-model also every tensor that is not quantised, byte
    /// for byte. Prints a line for each, the worst first
    #[arg(long, conflicts_with = "tensor_base")]
    all: bool,
    /// First row
    #[arg(long, value_name = "N", default_value_t = 0)]
    row_start: usize,
    /// Number of rows; all when left out
    #[arg(long, value_name = "N")]
    row_count: Option<usize>,
    #[command(flatten)]
    lanes: LaneArgs,
    /// A saved output to compare; named `cuda` or `wgpu` it stands in for that lane
    #[arg(long, value_name = "NAME=FILE")]
    recording: Vec<String>,
    /// Save every kernel lane's output in this directory
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write the report here: NAME.jsonl for a line per tensor as it is done, else JSON at the end
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Go on with the --report NAME.jsonl of an earlier run; starts it when it is not there
    #[arg(long)]
    resume: bool,
    /// Validate one of N parts of the tensors, of about the same bytes each; see `tq4 merge`
    #[arg(long, value_name = "I/N")]
    partition: Option<String>,
    /// Write the 128 worst elements of each tensor here, as CSV
    #[arg(long, value_name = "FILE")]
    top_errors: Option<PathBuf>,
    /// Write a page with pictures here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Draw each comparison in the terminal: error in BF16 steps, and by row and group
    #[arg(short, long)]
    verbose: bool,
}

/// Which lanes to run.
#[derive(clap::Args)]
pub struct LaneArgs {
    /// Lanes to run, with commas between: reference, cuda, wgpu; all when left out. The reference always
    /// runs
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    lanes: Vec<String>,
    /// Lanes that must run, with commas between: exit code 3 when one is not available
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    pub require: Vec<String>,
    /// wgpu adapter: index, part of its name, or `all` for each as its own lane
    #[arg(long, value_name = "NAME|INDEX|all")]
    adapter: Option<String>,
    /// Index of the CUDA device
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    cuda_device: usize,
    /// Compile the CUDA kernel for the device's own architecture, with NVRTC
    #[arg(long)]
    nvrtc: bool,
    /// Variant of the wgpu shader: with subgroups, through workgroup memory, or both, as two lanes; with
    /// subgroups where the adapter has them when left out
    #[arg(long, value_enum, value_name = "VARIANT")]
    shader_variant: Option<ShaderVariant>,
}

/// Variants of the wgpu shader.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ShaderVariant {
    Subgroup,
    Workgroup,
    Both,
}

impl LaneArgs {
    /// Checks the names.
    pub fn choice(&self) -> Result<Choice> {
        for lane in self.lanes.iter().chain(&self.require) {
            if !LANES.contains(&lane.as_str()) {
                return Err(Error::input(
                    format!("no lane {lane:?}"),
                    "--lanes, --require",
                    format!("lanes are {}", LANES.join(", ")),
                ));
            }
        }
        Ok(Choice {
            lanes: self.lanes.clone(),
            adapter: self.adapter.clone(),
            cuda_device: self.cuda_device,
            nvrtc: self.nvrtc,
            subgroups: match self.shader_variant {
                Some(ShaderVariant::Subgroup) => Some(true),
                Some(ShaderVariant::Workgroup) => Some(false),
                Some(ShaderVariant::Both) | None => None,
            },
            both_variants: self.shader_variant == Some(ShaderVariant::Both),
        })
    }
}

impl Args {
    fn partition(&self) -> Result<Partition> {
        self.partition
            .as_deref()
            .map_or(Ok(Partition::WHOLE), str::parse)
    }

    /// Whether this is a sweep: a report of lines, or all tensors with nothing that takes whole outputs.
    fn sweeps(&self) -> Result<Option<sweep::Output<'_>>> {
        let lines = self
            .report
            .as_deref()
            .is_some_and(|p| p.extension().is_some_and(|e| e == "jsonl"));
        let whole = [
            ("--recording", !self.recording.is_empty()),
            ("--record", self.record.is_some()),
            ("--top-errors", self.top_errors.is_some()),
            ("-v", self.verbose),
        ];
        let whole = whole.iter().find(|(_, given)| *given);
        if let (true, Some((option, _))) = (lines, whole) {
            return Err(Error::input(
                format!("{option} does not go with a report of lines"),
                "--report",
                "choose the tensors with --tensor-base, and a --report NAME.json",
            ));
        }
        if self.resume && !lines {
            return Err(Error::input(
                "no report of lines to go on with",
                "--resume",
                "give --report NAME.jsonl",
            ));
        }
        let table = self.report.is_none() && self.format != Format::Json && whole.is_none();
        if lines || (self.all && table) {
            return Ok(Some(sweep::Output {
                report: self.report.as_deref(),
                resume: self.resume,
                format: self.format,
                html: self.html.as_deref(),
            }));
        }
        if self.partition.is_some() {
            return Err(Error::input(
                "a partition is part of a sweep",
                "--partition",
                "give --all, or a --report NAME.jsonl",
            ));
        }
        Ok(None)
    }
}

impl Args {
    /// Refuses to write over what is read.
    fn keep_apart(&self) -> Result<()> {
        let recordings = self.recording.iter().filter_map(|r| r.split_once('='));
        let inputs: Vec<&Path> = [Some(self.tq_model.as_path()), self.source_model.as_deref()]
            .into_iter()
            .flatten()
            .chain(recordings.map(|(_, path)| Path::new(path)))
            .collect();
        let recorded = self.record.as_ref().map(|dir| dir.join("recording"));
        let outputs = [
            ("--report", &self.report),
            ("--html", &self.html),
            ("--top-errors", &self.top_errors),
            ("--record", &recorded),
        ];
        check_outputs(&outputs, &inputs)
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    args.partition()?;
    args.sweeps()?;
    args.keep_apart()?;
    let choice = args.lanes.choice()?;
    let recordings = args
        .recording
        .iter()
        .map(|given| match given.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                if name == "reference" {
                    return Err(Error::input(
                        "a recording cannot stand in for the reference",
                        format!("--recording {given}"),
                        "give it another name",
                    ));
                }
                Recording::read(name, path.as_ref())
            }
            _ => Err(Error::input(
                format!("{given:?} found, expected NAME=FILE"),
                "--recording",
                "",
            )),
        })
        .collect::<Result<Vec<_>>>()?;
    for (i, r) in recordings.iter().enumerate() {
        if recordings[..i].iter().any(|other| other.name == r.name) {
            return Err(Error::input(
                format!("two recordings are named {:?}", r.name),
                "--recording",
                "give each its own name",
            ));
        }
    }
    let model = TqModel::open(&args.tq_model)?;
    let source = args
        .source_model
        .as_deref()
        .map(Checkpoint::open)
        .transpose()?;
    let patterns = if args.all || (args.tensor_base.is_empty() && model.bases().count() == 1) {
        vec!["*".to_owned()]
    } else {
        args.tensor_base.clone()
    };
    if patterns.is_empty() {
        let names: Vec<&str> = model.bases().take(3).collect();
        return Err(Error::input(
            format!("the model holds {} TQ4 tensors", model.bases().count()),
            args.tq_model.display().to_string(),
            format!(
                "choose with --tensor-base or take --all; the first are {}",
                names.join(", ")
            ),
        ));
    }
    let bases = model.select(&patterns)?;
    // Shapes are checked before a device is opened: bad input must not wait for a driver.
    for base in &bases {
        model.info(base)?;
    }
    if let Some(output) = args.sweeps()? {
        let options = Options {
            lanes: LaneOptions {
                lanes: choice.lanes.clone(),
                require: args.lanes.require.clone(),
                adapter: choice.adapter.clone(),
                cuda_device: choice.cuda_device,
                nvrtc: choice.nvrtc,
            },
            rows: Rows {
                start: args.row_start,
                count: args.row_count,
            },
            partition: args.partition()?,
        };
        let plan = Plan::new(&model, source.as_ref(), &bases, &options)?;
        return sweep::execute(plan, &choice, &output);
    }
    let mut lanes = lane::open(&choice, recordings)?;
    Run {
        model: &model,
        source: source.as_ref(),
        bases: &bases,
        row_start: args.row_start,
        row_count: args.row_count,
        require: &args.lanes.require,
        format: args.format,
        report: args.report.as_deref(),
        top_errors: args.top_errors.as_deref(),
        record: args.record.as_deref(),
        pictures: Pictures {
            page: args.html.as_deref(),
            verbose: args.verbose,
        },
    }
    .execute(&mut lanes)
    .and_then(|outcome| match (&source, args.all) {
        (Some(source), true) if !plain_tensors_equal(&model, source)? => Ok(match outcome {
            Outcome::Passed | Outcome::RequiredLaneMissing => Outcome::GatesFailed,
            worse => worse,
        }),
        _ => Ok(outcome),
    })
}

/// Compares the tensors that are not quantised with the source's, and tells of those that differ.
fn plain_tensors_equal(model: &TqModel, source: &Checkpoint) -> Result<bool> {
    let mut differing = compare_plain(model, source)?;
    differing.retain(|p| p.status != PlainStatus::Equal);
    for p in &differing {
        tell(&format!(
            "error: tensor {} is not the source's: {}",
            printable(&p.name),
            printable(p.reason.as_deref().unwrap_or("it differs"))
        ));
    }
    Ok(differing.is_empty())
}
