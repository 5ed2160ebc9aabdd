//! `tq4 merge`: the reports of partitions into one.

use super::console::Console;
use super::output::OutputArgs;
use super::{Exit, check_outputs};
use crate::error::Result;
use crate::journal::merge;
use crate::record::LaneName;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Reports of the partitions of one run, in any order
    #[arg(required = true, value_name = "FILE.jsonl")]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let inputs: Vec<&Path> = args.reports.iter().map(PathBuf::as_path).collect();
    let outputs = args.output.files();
    check_outputs(&outputs, &inputs)?;
    let run = merge(&args.reports)?;
    args.output.write_lines(&run)?;
    let recordings = run
        .model
        .recordings
        .iter()
        .filter_map(|r| r.rsplit_once('='));
    let recordings: Vec<LaneName> = recordings.map(|(name, _)| name.into()).collect();
    args.output.finish(&run, &recordings, console)
}
