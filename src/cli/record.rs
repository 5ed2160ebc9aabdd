//! `tq4 record`: a lane's output into a file.

use super::device::DeviceArgs;
use super::transfer::{Transfer, size};
use super::{Outcome, print};
use std::path::PathBuf;
use tq4::Error;
use tq4::checkpoint::{TqModel, keep_apart};
use tq4::convert::Event;
use tq4::error::{Result, printable};
use tq4::recording::{self, Selected};

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the TQ4 model
    #[arg(long, value_name = "DIR")]
    tq_model: PathBuf,
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
    /// File for the recording
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let model = TqModel::open(&args.tq_model)?;
    keep_apart(&args.output, &[&args.tq_model])?;
    let patterns = if args.all {
        vec!["*".to_owned()]
    } else {
        args.tensor_base.clone()
    };
    if patterns.is_empty() {
        return Err(Error::input(
            "no tensor chosen",
            args.tq_model.display().to_string(),
            "choose with --tensor-base or take --all",
        ));
    }
    let mut elements = 0;
    let mut selected = Vec::new();
    for base in model.select(&patterns)? {
        let [rows, cols] = model.info(&base)?.shape;
        let end = match args.row_count {
            Some(count) => args.row_start.saturating_add(count),
            None => rows,
        };
        elements += end.saturating_sub(args.row_start) as u64 * cols as u64;
        selected.push(Selected {
            tensor_base: base,
            rows: args.row_start..end,
        });
    }
    let Some(mut lane) = args.device.backend(&args.lane)? else {
        return Ok(Outcome::RequiredLaneMissing);
    };
    let bar = Transfer::new();
    // The bar counts the BF16 bytes that come out of the lane.
    bar.on(Event::Total(2 * elements));
    let name = super::run::dir_name(&args.tq_model);
    let identity = recording::record(
        &args.output,
        &model,
        &name,
        &selected,
        &mut *lane,
        &mut |base, elements| {
            bar.on(Event::Tensor(base));
            bar.on(Event::Bytes(2 * elements));
        },
    )?;
    drop(bar);
    let written = std::fs::metadata(&args.output).map_or(0, |m| m.len());
    print(&format!(
        "output of {} tensors by {} ({}) in {}, {}\n",
        identity.tensors.len(),
        printable(&lane.device().lane),
        printable(&lane.device().device),
        args.output.display(),
        size(written)
    ))?;
    Ok(Outcome::Passed)
}
