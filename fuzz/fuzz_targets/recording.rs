//! Recordings and dumps, as untrusted bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::recording::{Recording, RecordingFile};

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let path = dir.join("recording");
    std::fs::write(&path, data).unwrap();
    match Recording::read("x", &path) {
        Ok(r) => assert_eq!(r.values().len(), r.shape[0] * r.shape[1]),
        Err(e) => drop(e.to_string()),
    }
    match RecordingFile::open(&path) {
        Ok(file) => {
            for entry in &file.identity().tensors {
                if let Ok(r) = file.recording("x", &entry.tensor_base) {
                    assert_eq!(r.values().len(), r.shape[0] * r.shape[1]);
                }
            }
        }
        Err(e) => drop(e.to_string()),
    }
});
