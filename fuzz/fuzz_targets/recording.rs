//! Recordings and dumps, as untrusted bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::recording::Recording;

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let file = dir.join("recording");
    std::fs::write(&file, data).unwrap();
    match Recording::read("x", &file) {
        Ok(r) => assert_eq!(r.values().len(), r.shape[0] * r.shape[1]),
        Err(e) => drop(e.to_string()),
    }
});
