//! Recordings and dumps, as untrusted bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::lane::recording::{RecordingFile, RecordingPath};
use tq4::record::OutputType;

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let path = dir.join("recording");
    std::fs::write(&path, data).unwrap();
    // Plain values and 16 bits without a type are read when the type is told.
    let of = [None, Some(OutputType::Bf16), Some(OutputType::F32)][data.len() % 3];
    let opened = RecordingFile::open(&RecordingPath { path, of });
    let mut file = match opened {
        Ok(file) => file,
        Err(e) => return drop(e.to_string()),
    };
    if let Err(e) = file.fit_itself() {
        return drop(e.to_string());
    }
    assert_eq!(file.sha256().unwrap().len(), 64);
    for entry in &file.identity().tensors {
        let (base, [rows, cols], size) = (&entry.tensor_base, entry.shape, file.output(&entry.tensor_base).unwrap().size());
        let all = file.rows(base, entry.rows()).unwrap();
        assert_eq!(all.bytes().len(), rows * cols * size);
        let last = entry.rows().end - 1..entry.rows().end;
        assert_eq!(file.rows(base, last).unwrap().bytes(), &all.bytes()[(rows - 1) * cols * size..]);
        assert!(file.rows(base, entry.rows().start..entry.rows().end + 1).is_err());
    }
});
