//! `tq4 merge`: the reports of partitions into one.

use super::{Format, Outcome, check_outputs, sweep};
use std::path::{Path, PathBuf};
use tq4::checkpoint::write_atomically;
use tq4::error::Result;
use tq4::sweep::merge;

#[derive(clap::Args)]
pub struct Args {
    /// Reports of the partitions of one sweep, in any order
    #[arg(required = true, value_name = "FILE.jsonl")]
    reports: Vec<PathBuf>,
    /// Write the merged report here, as one run would have written it
    #[arg(long, value_name = "FILE.jsonl")]
    report: Option<PathBuf>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write a page with every tensor here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let inputs: Vec<&Path> = args.reports.iter().map(PathBuf::as_path).collect();
    check_outputs(
        &[("--report", &args.report), ("--html", &args.html)],
        &inputs,
    )?;
    let merged = merge(&args.reports)?;
    if let Some(path) = &args.report {
        write_atomically(path, merged.text.as_bytes())?;
    }
    sweep::show(
        &merged.header,
        &merged.tensors,
        &merged.plain,
        &merged.summary,
        args.format,
        args.html.as_deref(),
    )
}
