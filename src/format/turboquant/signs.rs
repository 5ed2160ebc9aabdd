//! Signs from a tensor's name, the same on every machine.

use crate::synthetic::Rng;
use rand_mt::Mt;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// How the signs of a tensor follow from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignSeed {
    /// This project's own: seed = the first 8 bytes of SHA-256 of the name before `.weight`, little
    /// end first; the sign of column `k` is the top bit of output `k` of SplitMix64, 1 for +1.
    Name,
    /// The published encoder's: seed = `hash(name) & 0xffffffff` of the full name with `.weight`, in
    /// CPython 3.11 or later under `PYTHONHASHSEED=0`; signs =
    /// `numpy.random.RandomState(seed).choice([-1, 1], K)`.
    PythonHash,
}

impl SignSeed {
    /// The signs of `BASE.weight`, one for each of `cols` columns.
    pub fn signs(self, base: &str, cols: usize) -> Vec<i8> {
        match self {
            Self::Name => {
                let digest = Sha256::digest(base.as_bytes());
                let first = digest[..8].try_into().expect("eight bytes");
                Rng::new(u64::from_le_bytes(first)).signs(cols)
            }
            Self::PythonHash => {
                let hash = python_hash(&format!("{base}.weight"));
                // A seed is what `hash(name) & 0xffffffff` leaves.
                numpy_signs(hash as u32, cols)
            }
        }
    }
}

/// CPython's `hash(text)` under `PYTHONHASHSEED=0`: SipHash-1-3 with a zero key over the characters as
/// the interpreter holds them, in 1, 2 or 4 bytes each by the widest.
fn python_hash(text: &str) -> i64 {
    let widest = text.chars().max().map_or(0, u32::from);
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    for c in text.chars().map(u32::from) {
        let bytes = c.to_ne_bytes();
        match widest {
            0..=0xFF => hasher.write(&[c as u8]),
            0x100..=0xFFFF => hasher.write(&(c as u16).to_ne_bytes()),
            _ => hasher.write(&bytes),
        }
    }
    match hasher.finish() as i64 {
        // The interpreter has -1 for an error, and nothing at all for an empty text.
        _ if text.is_empty() => 0,
        -1 => -2,
        hash => hash,
    }
}

/// NumPy's `RandomState(seed).choice([-1, 1], n)`: the lowest bit of each output of MT19937 (a choice
/// of two masks one bit and rejects nothing).
fn numpy_signs(seed: u32, n: usize) -> Vec<i8> {
    let mut mt = Mt::new(seed);
    (0..n)
        .map(|_| if mt.next_u32() & 1 == 1 { 1 } else { -1 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // PYTHONHASHSEED=0 python3.11 -c 'print(hash(text))'
    #[test]
    fn hashes_are_those_of_python() {
        for (text, hash) in PYTHON {
            assert_eq!(python_hash(text), hash, "{text:?}");
        }
    }

    // PYTHONHASHSEED=0 python3.11 -c 'print(numpy.random.RandomState(seed).choice([-1, 1], 16))'
    #[test]
    fn signs_are_those_of_numpy() {
        for (seed, signs) in NUMPY {
            assert_eq!(numpy_signs(seed, 16), signs, "{seed}");
        }
    }

    #[test]
    fn own_signs_never_change() {
        let signs = SignSeed::Name.signs("model.layers.0.mlp.gate_proj", 4096);
        let bytes: &[u8] = bytemuck::cast_slice(&signs);
        assert_eq!(crate::lane::checksum(bytes), OWN);
        let plus = signs.iter().filter(|s| **s == 1).count();
        assert!((1900..2200).contains(&plus), "{plus}");
    }

    const PYTHON: [(&str, i64); 6] = [
        ("", 0),
        ("a", 4_644_417_185_603_328_019),
        (
            "model.language_model.layers.1.mlp.gate_proj.weight",
            5_555_010_750_704_453_203,
        ),
        ("poids.caf\u{e9}.weight", -20_737_209_716_777_032),
        ("\u{5c42}.weight", -2_376_605_639_162_489_072),
        ("\u{1f600}.weight", 8_568_182_846_516_198_166),
    ];
    const NUMPY: [(u32, [i8; 16]); 4] = [
        (0, [-1, 1, 1, -1, 1, 1, 1, 1, 1, 1, 1, -1, -1, 1, -1, -1]),
        (1, [1, 1, -1, -1, 1, 1, 1, 1, 1, -1, -1, 1, -1, 1, 1, -1]),
        (
            2_536_965_715,
            [1, -1, -1, -1, -1, -1, -1, 1, 1, -1, 1, -1, 1, 1, -1, 1],
        ),
        (
            4_294_967_295,
            [1, -1, -1, 1, -1, -1, -1, -1, 1, -1, 1, 1, -1, 1, 1, -1],
        ),
    ];
    const OWN: &str = "1e1167af2dd464a5";
}
