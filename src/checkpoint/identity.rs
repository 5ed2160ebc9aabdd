//! Which checkpoint this is, by its contents.

use super::{Checkpoint, hex};
use crate::error::Result;
use crate::record::ModelIdentity;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes of a tensor that are read whole; of a longer one [`SAMPLES`] pieces of [`PIECE`] bytes, evenly
/// spread, the first and the last among them.
const WHOLE: usize = SAMPLES * PIECE;
const SAMPLES: usize = 16;
const PIECE: usize = 4096;

impl Checkpoint {
    /// The identity, from names, dtypes, shapes and contents, whatever the shards. It reads at most
    /// 64 KiB of each tensor: what differs elsewhere alone is found by the checksum in each tensor's
    /// record, which takes every byte.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub fn identity(&self) -> Result<ModelIdentity> {
        let mut hash = Sha256::new();
        let mut bytes = vec![0; WHOLE];
        for name in self.names() {
            let shard = self
                .shard_of(name)
                .expect("the names are those of the shards");
            let info = shard.info(name).expect("the shard holds it");
            hash.update(format!("{name:?} {:?} {:?}\n", info.dtype, info.shape));
            let length = info.bytes as usize;
            if length <= WHOLE {
                shard.read_into(name, 0, &mut bytes[..length])?;
                hash.update(&bytes[..length]);
                continue;
            }
            for i in 0..SAMPLES {
                let at = (length - PIECE) / (SAMPLES - 1) * i;
                let at = if i + 1 == SAMPLES { length - PIECE } else { at };
                shard.read_into(name, at, &mut bytes[..PIECE])?;
                hash.update(&bytes[..PIECE]);
            }
        }
        let mut fingerprint = hex(&hash.finalize());
        fingerprint.truncate(32);
        Ok(ModelIdentity {
            name: dir_name(self.dir()),
            fingerprint,
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
