//! Validates a tensor of a TQ4 model on every lane of this machine.
//!
//! `cargo run --release --example validate -- MODEL_DIR TENSOR`

use std::path::Path;
use tq4::{Exporter, Job, LaneConfig, Outcome, Records, Run, RunOptions, Table, TqModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(tensor)) = (args.next(), args.next()) else {
        return Err("give a model's directory and a tensor's name, or a glob".into());
    };
    let model = TqModel::open(Path::new(&dir))?;
    let tensors = model.select(&[tensor])?;
    let job = Job::new(&model, None, &tensors, &RunOptions::default())?;
    let mut lanes = tq4::open(&LaneConfig::default())?;
    let mut records = Records::default();
    tq4::run(&job, &mut lanes, &mut [&mut records], &mut |_| ())?;
    let run = Run::new(job.header, records.tensors, records.plain);
    Table::default().export(&run, &mut std::io::stdout().lock())?;
    match run.summary.outcome {
        Outcome::Passed => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
