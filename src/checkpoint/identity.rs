//! Which checkpoint this is, by its contents.

use super::Checkpoint;
use crate::error::Result;
use crate::hash::short;
use crate::record::ModelIdentity;
use blake3::Hasher;
use std::path::Path;

/// Pieces of a tensor that are read where it is not read whole, evenly spread, the first and the last
/// among them.
const SAMPLES: usize = 16;
/// Bytes read of all tensors together, and least and most of one.
const BUDGET: usize = 1 << 30;
const LEAST: usize = 1 << 16;
const MOST: usize = 1 << 20;

impl Checkpoint {
    /// The identity, from names, dtypes, shapes and contents, whatever the shards. It reads at most 1 MiB
    /// of each tensor, 64 KiB where there are many: what differs elsewhere alone is found by the checksum
    /// in each tensor's record, which takes every byte.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub fn identity(&self) -> Result<ModelIdentity> {
        let mut hash = Hasher::new();
        let whole = (BUDGET / self.names().count().max(1)).clamp(LEAST, MOST);
        let piece = whole / SAMPLES;
        let mut bytes = vec![0; whole];
        for name in self.names() {
            let shard = self
                .shard_of(name)
                .expect("the names are those of the shards");
            let info = shard.info(name).expect("the shard holds it");
            let entry = format!("{name:?} {:?} {:?}\n", info.dtype, info.shape);
            hash.update(entry.as_bytes());
            let length = info.bytes as usize;
            if length <= whole {
                shard.read_into(name, 0, &mut bytes[..length])?;
                hash.update(&bytes[..length]);
                continue;
            }
            for i in 0..SAMPLES {
                let at = (length - piece) / (SAMPLES - 1) * i;
                let at = if i + 1 == SAMPLES { length - piece } else { at };
                shard.read_into(name, at, &mut bytes[..piece])?;
                hash.update(&bytes[..piece]);
            }
        }
        Ok(ModelIdentity {
            name: dir_name(self.dir()),
            fingerprint: short(&hash),
        })
    }
}

/// Last part of a directory's path.
pub fn dir_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    full.file_name().map_or_else(
        || dir.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    )
}
