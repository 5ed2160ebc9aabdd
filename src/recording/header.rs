//! The metadata of a recording file.

use super::identity::Identity;
use crate::backend::Device;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Format of the files.
pub(super) const FORMAT: &str = "tq4-recording-2";

/// Metadata of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub tool: String,
    pub host: String,
    pub device: Device,
    pub identity: Identity,
}

impl Header {
    /// As the file has it.
    pub fn to_metadata(&self) -> HashMap<String, String> {
        let json = serde_json::to_string(self).expect("plain data");
        HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("recording".to_owned(), json),
        ])
    }
}

/// Name of a tensor's values in a file.
pub(super) fn values_of(base: &str) -> String {
    format!("{base}.values")
}
