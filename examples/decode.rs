//! Decodes rows of a TQ4 tensor into memory by the CPU reference, and prints the first values.
//!
//! `cargo run --release --example decode -- MODEL_DIR TENSOR ROWS`

use std::path::Path;
use tq4::{TqModel, dequantize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, tensor, rows] = &args[..] else {
        return Err("give a model's directory, a tensor's name and a number of rows".into());
    };
    let model = TqModel::open(Path::new(dir))?;
    let tensor = model.rows(tensor, 0..rows.parse()?)?;
    let values: Vec<f32> = dequantize(&tensor);
    for row in values.chunks(tensor.cols()) {
        println!("{:?} ...", &row[..8]);
    }
    Ok(())
}
