//! The metadata of a recording file.

use super::identity::{Entry, Identity};
use crate::backend::Device;
use crate::checkpoint::Shard;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Format of files of one tensor, without checksums: read still.
pub(super) const FORMAT_1: &str = "tq4-recording-1";
/// Format of files that are written now.
pub(super) const FORMAT_2: &str = "tq4-recording-2";

/// What a recording holds of each tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every value.
    Full,
    /// Checksums, sketches and a sample.
    Digest,
}

/// Metadata of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub kind: Kind,
    pub tool: String,
    pub host: String,
    pub device: Device,
    pub identity: Identity,
    /// Of a digest; 0 otherwise.
    pub groups_per_block: usize,
}

impl Header {
    /// That of a file of format 1, whose metadata were one text for each.
    pub fn from_format_1(shard: &Shard) -> Result<Self, String> {
        let meta = shard.metadata();
        let text = |key: &str| meta.get(key).cloned().unwrap_or_default();
        let info = shard.info("values").ok_or("no tensor \"values\" found")?;
        let [rows, cols] = info.shape[..] else {
            return Err("values have another shape than [rows, cols]".into());
        };
        Ok(Self {
            kind: Kind::Full,
            tool: text("tool"),
            host: String::new(),
            device: Device {
                lane: text("lane"),
                device: text("device"),
                driver: text("driver"),
                api: text("api"),
                software: text("software") == "true",
                kernel_variant: text("kernel_variant"),
                kernel_checksum: text("kernel_checksum"),
            },
            identity: Identity {
                model: text("model"),
                bits: text("bits").parse().ok(),
                group_size: text("group_size").parse().ok(),
                tensors: vec![Entry {
                    tensor_base: text("tensor_base"),
                    row_start: text("row_start")
                        .parse()
                        .map_err(|_| "row_start is not a number")?,
                    shape: [rows, cols],
                    tensor_checksum: None,
                }],
                ..Identity::default()
            },
            groups_per_block: 0,
        })
    }

    /// As the file has it.
    pub fn to_metadata(&self) -> HashMap<String, String> {
        let json = serde_json::to_string(self).expect("plain data");
        HashMap::from([
            ("format".to_owned(), FORMAT_2.to_owned()),
            ("recording".to_owned(), json),
        ])
    }
}

/// Names of a tensor's parts in a file.
pub(super) fn part(base: &str, part: &str) -> String {
    format!("{base}.{part}")
}
