//! What the command line takes apart: names and globs, one a line, against a model with awkward names;
//! each line as a partition and as a shape besides.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use tq4::bench::plan::parse_shape;
use tq4::format::TqModel;
use tq4::format::turboquant::{Config, write_tq_model};
use tq4::codebook::Codebook;
use tq4::encode::quantize;
use tq4::record::Partition;
use tq4::tensor::Layout;

fn model() -> &'static TqModel {
    static MODEL: OnceLock<(TempDir, TqModel)> = OnceLock::new();
    let (_, model) = MODEL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(2, 32).unwrap();
        let codebook = Arc::new(Codebook::lloyd_max(2, 32));
        let tensors: Vec<_> = ["a.b.c", "a.b[0]", "a.{x}", "a*", "\u{e9}.proj", "a.b.weight"]
            .iter()
            .map(|base| quantize(base, &[0.5; 32], 32, layout, &[1; 32], &codebook).unwrap())
            .collect();
        write_tq_model(dir.path(), &Config { layout, codebook }, &tensors).unwrap();
        let model = TqModel::open(dir.path()).unwrap();
        (dir, model)
    });
    model
}

fuzz_target!(|text: &str| {
    let patterns: Vec<String> = text.lines().map(str::to_owned).collect();
    match model().select(&patterns) {
        Ok(bases) => assert!(bases.iter().all(|b| model().info(b).is_ok())),
        Err(e) => drop(e.to_string()),
    }
    for line in &patterns {
        if let Ok(p) = line.parse::<Partition>() {
            assert!(p.index >= 1 && p.index <= p.count);
        }
        let layout = Layout::new(4, 128).unwrap();
        if let Ok([rows, cols]) = parse_shape(line, layout) {
            assert!(rows.checked_mul(cols).is_some() && cols % 128 == 0);
        }
    }
});
