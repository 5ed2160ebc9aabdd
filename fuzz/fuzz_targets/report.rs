//! Reports that are read back: those of partitions, to be merged and shown, and a benchmark's baseline. An
//! input is one or more files with a line `%%` between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::bench::baseline;
use tq4::journal::{merge, read_report};
use tq4::record::bench::Bench;
use tq4::record::{ReportPair, Run, to_json};
use tq4::report::{Exporter, Json, Markdown, Page, Table, bench_page};

/// The page is drawn, which takes long, of this many tensors at most.
const DRAWN: usize = 4;

fn show(run: &Run) {
    let exporters: [&dyn Exporter; 4] = [&Json, &Markdown::default(), &Table::default(), &Page];
    for exporter in &exporters[..if run.tensors.len() <= DRAWN { 4 } else { 3 }] {
        exporter.export(run, &mut std::io::sink()).unwrap();
    }
}

fuzz_target!(|text: &str| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let paths: Vec<PathBuf> = text
        .split("%%\n")
        .take(3)
        .enumerate()
        .map(|(i, part)| {
            let path = dir.join(format!("{i}.jsonl"));
            std::fs::write(&path, part).unwrap();
            path
        })
        .collect();
    for path in &paths {
        match read_report(path) {
            Ok(Some(run)) => {
                show(&run);
                if let Ok(pair) = ReportPair::new(&run, &run) {
                    assert!(!pair.verdicts_differ());
                }
            }
            Ok(None) => {}
            Err(e) => drop(e.to_string()),
        }
        if let Ok(record) = Bench::read(path) {
            let _ = baseline::compare(&record, &record, 0.01);
            drop((to_json(&record), bench_page(&record)));
        }
    }
    match merge(&paths) {
        // What was merged is a report that merges again, to itself.
        Ok(merged) => {
            show(&merged);
            let path = dir.join("merged.jsonl");
            let text = merged.to_lines();
            std::fs::write(&path, &text).unwrap();
            assert_eq!(merge(&[path]).unwrap().to_lines(), text);
        }
        Err(e) => drop(e.to_string()),
    }
});
