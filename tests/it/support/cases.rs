//! Pages of what a kernel engineer meets: a lost tile, a permutation, the sign bug, a damaged checkpoint, a
//! pass. Each is written by the command itself.

use super::{cli, pages, recording, source};
use half::bf16;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::Path;
use tq4::synthetic::Rng;

/// The tensor that the pages are about; of [`ROWS`] rows and four groups of 128.
pub const BASE: &str = "model.layers.0.self_attn.q_proj";
/// Its rows: each has its own row of cells in a heat map.
pub const ROWS: usize = 48;
/// The rows of it that are lost.
pub const LOST: std::ops::Range<usize> = 8..40;

/// Writes `NAME.html` into `dir` for each name that it returns.
pub fn write_all(dir: &Path) -> [&'static str; 5] {
    let path = |name: &str| dir.join(name).display().to_string();
    let (source, model) = (path("source"), path("model"));
    source::write_rows(Path::new(&source), &[ROWS, ROWS], 256);
    let out = cli::tq4(&["quantize", "--source-model", &source, "--output", &model]);
    assert!(out.status.success(), "{}", cli::stderr(&out));

    let (good, shape) = recording::rounded(Path::new(&model), BASE);
    assert_eq!(shape, [ROWS, 512]);
    let of = |f: &dyn Fn(usize) -> bf16| -> Vec<bf16> { (0..good.len()).map(f).collect() };
    let lost = |i: usize| match LOST.contains(&(i / shape[1])) {
        true => bf16::ZERO,
        false => good[i],
    };
    for (name, values) in [
        ("tile", of(&lost)),
        ("swap", of(&|i| good[i ^ 1])),
        ("pass", good.clone()),
    ] {
        recording::dump(&dir.join(format!("{name}.json")), BASE, shape, &values);
    }
    pages::write_bug(Path::new(&model), BASE, &dir.join("sign.json"), None);
    for (name, code) in [("tile", 1), ("swap", 1), ("sign", 1), ("pass", 0)] {
        let recording = format!("mine={}", path(&format!("{name}.json")));
        let more = ["--tensor-base", BASE, "--recording", &recording];
        validate(
            [&model, &source],
            &more,
            &path(&format!("{name}.html")),
            code,
        );
    }

    randomise(Path::new(&model), &format!("{BASE}.tq_packed"));
    validate([&model, &source], &["--all"], &path("damaged.html"), 1);
    ["tile", "swap", "sign", "pass", "damaged"]
}

fn validate([model, source]: [&str; 2], more: &[&str], page: &str, code: i32) {
    let mut args = vec!["validate", "--tq-model", model, "--source-model", source];
    args.extend(["--lanes", "reference", "--html", page]);
    args.extend(more);
    let out = cli::tq4(&args);
    assert_eq!(out.status.code(), Some(code), "{}", cli::stderr(&out));
}

/// Puts random bytes in the place of a tensor's.
fn randomise(model: &Path, name: &str) {
    let mut rng = Rng::new(5);
    let files = std::fs::read_dir(model).unwrap().map(|f| f.unwrap().path());
    let mut found = 0;
    for file in files.filter(|f| f.extension().is_some_and(|e| e == "safetensors")) {
        let bytes = std::fs::read(&file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let Ok(damaged) = tensors.tensor(name) else {
            continue;
        };
        found += 1;
        let random: Vec<u8> = damaged
            .data()
            .iter()
            .map(|_| rng.next_u64() as u8)
            .collect();
        let views = tensors.iter().map(|(n, view)| {
            let data = if n == name { &random } else { view.data() };
            let view = TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap();
            (n.to_owned(), view)
        });
        let written = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
        std::fs::write(&file, written).unwrap();
    }
    assert_eq!(found, 1, "{name}");
}
