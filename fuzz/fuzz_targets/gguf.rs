//! GGUF files, one or the two parts of a split one, as untrusted bytes.
//!
//! An input is up to two files with `\n%%\n` between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tempfile::TempDir;

const SEPARATOR: &[u8] = b"\n%%\n";

fuzz_target!(|data: &[u8]| {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let at = data.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
    let path = match at {
        Some(at) => {
            let second = dir.join("m-00002-of-00002.gguf");
            std::fs::write(second, &data[at + SEPARATOR.len()..]).unwrap();
            let first = dir.join("m-00001-of-00002.gguf");
            std::fs::write(&first, &data[..at]).unwrap();
            first
        }
        None => {
            let single = dir.join("m.gguf");
            std::fs::write(&single, data).unwrap();
            single
        }
    };
    if let Err(e) = tq4::fuzz_gguf(&path) {
        drop(e.to_string());
    }
});
