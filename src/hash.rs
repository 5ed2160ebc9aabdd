//! Checksums as they are written, lower-case hexadecimal: BLAKE3 of what is read and decoded, of which there is much,
//! and SHA-256 of files, which anyone can recompute.

use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The first 32 digits, as checksums in reports and recordings have them.
pub(crate) fn short(hash: &blake3::Hasher) -> String {
    hex(&hash.finalize().as_bytes()[..16])
}

/// A reader with the SHA-256 of all that was read from it.
pub(crate) struct Hashing<R> {
    from: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            hash: Sha256::new(),
        }
    }

    /// The digest of what was read, whole.
    pub(crate) fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(out)?;
        self.hash.update(&out[..n]);
        Ok(n)
    }
}
