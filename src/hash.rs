//! SHA-256 as it is written: lower-case hexadecimal, whole or its first digits.

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The first 32 digits, as checksums in reports and recordings have them.
pub(crate) fn short(hash: Sha256) -> String {
    hex(&hash.finalize()[..16])
}
