//! Recordings: a lane's output saved to a file, to be compared later or on another machine.
//!
//! Two forms are read: the JSON that the published dump tool writes, and this project's own, a
//! safetensors file whose metadata say what was computed, from what, by whom and with what.

mod dump;
mod file;
mod identity;

pub use file::RecordingFile;
pub use identity::{Entry, Identity};

use crate::record::LaneInfo;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Format of the files that are written.
const FORMAT: &str = "tq4-recording-2";

/// Metadata of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The program that wrote it.
    pub tool: String,
    /// The system that it ran on.
    pub host: String,
    /// Who computed it.
    pub device: LaneInfo,
    /// What it is of.
    pub identity: Identity,
}

impl Header {
    /// As metadata of a safetensors file.
    pub fn to_metadata(&self) -> HashMap<String, String> {
        let text = serde_json::to_string(self).expect("plain data");
        HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("recording".to_owned(), text),
        ])
    }
}

/// Name of the values of a tensor in the file.
pub(crate) fn values_of(base: &str) -> String {
    format!("{base}.values")
}
