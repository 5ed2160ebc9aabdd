//! `tq4 demo`: a synthetic model, written and validated.

use super::console::Console;
use super::lanes::{LaneArgs, required};
use super::output::{Extras, OutputArgs, execute};
use super::{Exit, check_outputs, print};
use crate::Error;
use crate::checkpoint::{Checkpoint, PlainTensor, write_plain_model};
use crate::codebook::Codebook;
use crate::encode::quantize;
use crate::error::Result;
use crate::format::TqModel;
use crate::format::turboquant::{Config, write_tq_model};
use crate::run::{Job, RunOptions};
use crate::synthetic::{self, Rng};
use crate::tensor::Layout;
use half::bf16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Seed of the synthetic weights.
const SEED: u64 = 0x7104;

/// Name and shape of each weight.
const TENSORS: [(&str, [usize; 2]); 3] = [
    ("model.layers.0.mlp.gate_proj", [256, 4096]),
    ("model.layers.0.mlp.down_proj", [129, 11008]),
    ("model.layers.0.self_attn.q_proj", [64, 1024]),
];

#[derive(clap::Args)]
pub struct Args {
    /// Folder for the two models
    #[arg(long, value_name = "DIR", default_value = "tq4-demo")]
    dir: PathBuf,
    #[command(flatten)]
    lanes: LaneArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Refuses to write over a model that is not an earlier demo's.
fn only_a_demo(dir: &Path) -> Result<()> {
    let empty = std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_none());
    if empty || !dir.exists() {
        return Ok(());
    }
    let foreign = |name: &str| !TENSORS.iter().any(|(base, _)| name.starts_with(base));
    match Checkpoint::open(dir) {
        Ok(model) if !model.names().any(foreign) => Ok(()),
        _ => Err(Error::input(
            "the directory holds something other than a demo's model",
            dir.display().to_string(),
            "name another with --dir",
        )),
    }
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let outputs = args.output.files();
    check_outputs(&outputs, &[])?;
    let lanes = args.lanes.config()?;
    let own = args.lanes.own()?;
    required(&lanes, |name| own.has(name))?;
    let (source_dir, tq_dir) = (args.dir.join("source"), args.dir.join("tq4"));
    let layout = Layout::new(4, 128)?;
    let codebook = Arc::new(Codebook::encoder(4, 128));
    let mut rng = Rng::new(SEED);
    let (mut plain, mut quantised) = (Vec::new(), Vec::new());
    for (base, [rows, cols]) in TENSORS {
        let values: Vec<bf16> = synthetic::weight(&mut rng, rows, cols)
            .into_iter()
            .map(bf16::from_f32)
            .collect();
        let weight: Vec<f32> = values.iter().map(|v| v.to_f32()).collect();
        let signs = rng.signs(cols);
        quantised.push(quantize(base, &weight, cols, layout, &signs, &codebook)?);
        plain.push(PlainTensor {
            name: format!("{base}.weight"),
            shape: [rows, cols],
            values,
        });
    }
    if Checkpoint::open(&args.dir).is_ok() {
        return Err(Error::input(
            "a model is there",
            args.dir.display().to_string(),
            "name another directory with --dir",
        ));
    }
    only_a_demo(&source_dir)?;
    only_a_demo(&tq_dir)?;
    write_plain_model(&source_dir, &plain)?;
    write_tq_model(&tq_dir, &Config { layout, codebook }, &quantised)?;
    if let (Some(style), false) = (console.style(args.output.format), console.quiet) {
        let wrote = style.paragraph(&format!(
            "wrote a synthetic model to {} and its TQ4 form to {}",
            source_dir.display(),
            tq_dir.display()
        ));
        print(&(wrote + style.blank()))?;
    }
    check_outputs(&outputs, &[&source_dir, &tq_dir])?;
    let model = TqModel::open(&tq_dir)?;
    let source = Checkpoint::open(&source_dir)?;
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let options = RunOptions {
        lanes,
        programs: own.programs.clone(),
        kernels: own.hashes(),
        pictures: args.output.verbose || args.output.html.is_some(),
        ..RunOptions::default()
    };
    let job = Job::new(&model, Some(&source), &bases, &options)?;
    let extras = Extras {
        own,
        ..Extras::default()
    };
    execute(job, &args.output, extras, console)
}
