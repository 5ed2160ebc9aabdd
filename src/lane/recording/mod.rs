//! Recordings: a lane's output saved to a file, to be compared later or on another machine.
//!
//! This project's own form is a safetensors file whose metadata say what was computed, from what, by whom and
//! with what. Others are read as they come: any safetensors file, `.npy`, plain values, the JSON that the
//! published dump tool writes. What a form does not say is found from the model: [`RecordingFile::fit`].

mod dump;
mod file;
mod fit;
mod given;
mod guess;
mod identity;
mod input;
mod npy;
mod numbers;
mod values;

pub use file::RecordingFile;
pub use fit::Wanted;
pub use given::RecordingPath;
pub use identity::{Identity, RecordedRows};

use crate::record::{LaneInfo, LaneName, OutputType};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Format of the files that are written.
const FORMAT: &str = "tq4-recording-2";
/// How the format of any version begins.
const ANY_FORMAT: &str = "tq4-recording";

/// Metadata of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordingHeader {
    /// The program that wrote it.
    pub tool: String,
    /// The system that it ran on.
    pub host: String,
    /// Who computed it.
    pub device: LaneInfo,
    /// What it is of.
    pub identity: Identity,
}

impl RecordingHeader {
    /// Of a file that does not say who made it.
    fn unknown() -> Self {
        Self {
            tool: String::new(),
            host: String::new(),
            device: LaneInfo {
                name: LaneName::Named(String::new()),
                device: "recorded".into(),
                driver: String::new(),
                api: String::new(),
                software: false,
                arithmetic: None,
                kernel_variant: String::new(),
                kernel_checksum: String::new(),
                output: OutputType::default(),
                pci: None,
                uuid: None,
            },
            identity: Identity::default(),
        }
    }

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
