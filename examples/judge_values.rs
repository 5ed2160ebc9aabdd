//! Judges values that another program computed: here the reference's own, with the signs of every second
//! element of a butterfly turned round, as the first bug of this project had them.
//!
//! `cargo run --release --example judge_values -- MODEL_DIR TENSOR ROWS`

use half::bf16;
use std::path::Path;
use tq4::{Output, TqModel, dequantize, judge_values};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, tensor, rows] = &args[..] else {
        return Err("give a model's directory, a tensor's name and a number of rows".into());
    };
    let model = TqModel::open(Path::new(dir))?;
    let tensor = model.rows(tensor, 0..rows.parse()?)?;
    let turned = |i: usize| (i % tensor.layout().group_size()).count_ones() % 2 == 1;
    let values: Vec<bf16> = dequantize(&tensor)
        .into_iter()
        .enumerate()
        .map(|(i, v)| bf16::from_f32(if turned(i) { -v } else { v }))
        .collect();
    let record = judge_values("mine", tensor, Output::Bf16(values))?;
    for d in record.decisions.iter().filter(|d| d.lane == "mine".into()) {
        println!("{}: {}", d.published(), d.reason);
    }
    for d in &record.diagnosis {
        println!("{}", d.summary(record.row_count));
    }
    Ok(())
}
