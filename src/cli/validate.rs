//! `tq4 validate`: the main job.

use super::run::Run;
use super::{Format, Outcome};
use std::path::PathBuf;
use tq4::Error;
use tq4::checkpoint::{Checkpoint, TqModel};
use tq4::error::Result;
use tq4::lane::{self, Choice};
use tq4::recording::Recording;

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
    /// Every TQ4 tensor of the model
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
    /// Write the JSON report here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write the 128 worst elements of each tensor here, as CSV
    #[arg(long, value_name = "FILE")]
    top_errors: Option<PathBuf>,
}

/// Which lanes to run.
#[derive(clap::Args)]
pub struct LaneArgs {
    /// Lanes to run: reference, cuda, wgpu; all when left out. The reference always runs
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    lanes: Vec<String>,
    /// Lanes that must run: exit code 3 when one is not available
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

pub fn run(args: &Args) -> Result<Outcome> {
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
    }
    .execute(&mut lanes)
}
