//! Recordings: a lane's output saved to a file, to be compared later or on another machine.
//!
//! Two forms are read: the JSON that the published dump tool writes, and this project's own, a
//! safetensors file whose metadata say what was computed, from what, by whom and with what.

mod dump;
mod file;
mod identity;
mod write;

pub use file::RecordingFile;
pub use identity::{Entry, Identity};
pub use write::{Recorder, file_name};

use crate::record::LaneInfo;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Format of the files that are written.
const FORMAT: &str = "tq4-recording-2";

/// Metadata of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    /// The program that wrote it.
    tool: String,
    /// The system that it ran on.
    host: String,
    /// Who computed it.
    device: LaneInfo,
    /// What it is of.
    identity: Identity,
}

impl Header {
    /// As metadata of a safetensors file.
    fn to_metadata(&self) -> HashMap<String, String> {
        let text = serde_json::to_string(self).expect("plain data");
        HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("recording".to_owned(), text),
        ])
    }
}

/// Name of the values of a tensor in the file.
fn values_of(base: &str) -> String {
    format!("{base}.values")
}
