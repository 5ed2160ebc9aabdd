//! Reports that are read back: those of partitions, to be merged, and a benchmark's baseline. An input is
//! one or more files with a line `%%` between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::bench;
use tq4::sweep::{Contents, merge};

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
        if let Err(e) = Contents::read(path) {
            drop(e.to_string());
        }
        if let Ok(record) = bench::Record::read(path) {
            let _ = bench::baseline::compare(&record, &record, 0.01);
            drop(record.to_json());
        }
    }
    match merge(&paths) {
        // What was merged is a report that merges again, to itself.
        Ok(merged) => {
            let path = dir.join("merged.jsonl");
            std::fs::write(&path, &merged.text).unwrap();
            assert_eq!(merge(&[path]).unwrap().text, merged.text);
        }
        Err(e) => drop(e.to_string()),
    }
});
