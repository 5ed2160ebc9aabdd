//! Recordings and dumps, as untrusted bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tempfile::TempDir;
use tq4::lane::recording::RecordingFile;

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let path = dir.join("recording");
    std::fs::write(&path, data).unwrap();
    let file = match RecordingFile::open(&path) {
        Ok(file) => file,
        Err(e) => return drop(e.to_string()),
    };
    for entry in &file.identity().tensors {
        let (base, [rows, cols], size) = (&entry.tensor_base, entry.shape, file.info().output.size());
        let all = file.rows(base, entry.rows()).unwrap();
        assert_eq!(all.bytes().len(), rows * cols * size);
        let last = entry.rows().end - 1..entry.rows().end;
        assert_eq!(file.rows(base, last).unwrap().bytes(), &all.bytes()[(rows - 1) * cols * size..]);
        assert!(file.rows(base, entry.rows().start..entry.rows().end + 1).is_err());
    }
});
