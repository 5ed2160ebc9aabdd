//! `tq4 record`: a lane's output into a file.

use super::console::Console;
use super::lanes::DeviceArgs;
use super::model::ModelArgs;
use super::output::select;
use super::progress::size;
use super::{Exit, print};
use crate::checkpoint::keep_apart;
use crate::counted::counted;
use crate::error::{Error, Result, printable};
use crate::lane::Slot;
use crate::record::Rows;
use crate::report::Style;
use crate::run::Recorder;
use crate::run::{self, Job, RunOptions};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Quantised model: a directory, or a GGUF file
    #[arg(long, value_name = "PATH")]
    tq_model: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Tensor name without `.weight`, or a glob; may be repeated
    #[arg(long, value_name = "NAME")]
    tensor_base: Vec<String>,
    /// Every TQ4 tensor of the model
    #[arg(long, conflicts_with = "tensor_base")]
    all: bool,
    /// First row of each tensor
    #[arg(long, value_name = "N", default_value_t = 0)]
    row_start: usize,
    /// Number of rows of each tensor; all when left out
    #[arg(long, value_name = "N")]
    row_count: Option<usize>,
    /// Lane to record: reference, cuda or wgpu
    #[arg(long, value_name = "LANE")]
    lane: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// File for the recording, which ends in .safetensors
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    if args.output.extension().is_none_or(|e| e != "safetensors") {
        return Err(Error::input(
            "a recording is a safetensors file, and this name ends otherwise",
            format!("--output {}", args.output.display()),
            "name a file that ends in .safetensors",
        ));
    }
    let model = args.model.open(&args.tq_model, console)?;
    keep_apart(&args.output, &[&args.tq_model])?;
    let bases = select(&model, &args.tensor_base, args.all)?;
    let options = RunOptions {
        rows: Rows {
            start: args.row_start,
            count: args.row_count,
        },
        ..RunOptions::default()
    };
    let mut job = Job::new(&model, None, &bases, &options)?;
    let Some((slot, config)) = args.device.open_one(&args.lane, console)? else {
        return Ok(Exit::RequiredLaneMissing);
    };
    job.header.model.lanes = config;
    job.whole = false;
    let Slot::Live(lane) = &slot else {
        unreachable!("a lane that is not there was told of")
    };
    let info = lane.info().clone();
    let mut recorder = Recorder::to_file(&args.output, &job, 0, &info);
    let bar = console.progress();
    let ran = run::run(&job, &mut [slot], &mut [&mut recorder], &mut |e| bar.on(e));
    drop(bar);
    ran?;
    recorder.finish()?;
    let written = std::fs::metadata(&args.output).map_or(0, |m| m.len());
    let done = format!(
        "output of {} by {} ({}) in {}, {}",
        counted(job.targets.len(), "tensor"),
        info.name,
        printable(&info.device),
        args.output.display(),
        size(written)
    );
    print(&Style::Terminal(console.screen).paragraph(&done))?;
    Ok(Exit::Passed)
}
