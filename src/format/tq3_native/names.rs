//! The quantised tensors of a checkpoint, found by their names and shapes.

use super::config::Config;
use crate::error::{Error, Result};
use crate::tensor::base_of;
use std::collections::BTreeMap;

/// End of the name of a tensor of codes.
pub(super) const PACKED: &str = ".tq_packed";
/// End of the name of a tensor of norms.
pub(super) const NORMS: &str = ".tq_norms";

/// One quantised weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tq3Weight {
    /// Its name as stored, before `.tq_packed` and `.tq_norms`: with `.weight` for most, without for fused
    /// experts and in older checkpoints.
    pub stem: String,
    /// Rows; of fused experts, experts times outputs.
    pub rows: usize,
    /// Groups a row.
    pub groups: usize,
    /// Bits a code: 2, 3 or 4.
    pub bits: u32,
}

impl Tq3Weight {
    /// Name of the codes: U8, `[rows * groups, group_size * bits / 8]`.
    pub(crate) fn packed(&self) -> String {
        format!("{}{PACKED}", self.stem)
    }

    /// Name of the norms: F32, `[rows, groups]`.
    pub(crate) fn norms(&self) -> String {
        format!("{}{NORMS}", self.stem)
    }
}

/// What a checkpoint says of a tensor: its dtype as safetensors writes it, and its shape.
type TensorHeader<'a> = (&'a str, &'a [usize]);

/// The quantised weights among `tensors`, each given as name, dtype and shape, by their names before
/// `.weight`; `place` is what errors call the checkpoint.
///
/// # Errors
/// When a partner is missing, a dtype or shape contradicts the format or the configuration, or a weight is
/// there twice.
pub(crate) fn find<'a>(
    config: &Config,
    place: &str,
    tensors: impl Iterator<Item = (&'a str, &'a str, &'a [usize])>,
) -> Result<BTreeMap<String, Tq3Weight>> {
    let mut parts: BTreeMap<&str, [Option<TensorHeader>; 2]> = BTreeMap::new();
    for (name, dtype, shape) in tensors {
        for (i, suffix) in [PACKED, NORMS].into_iter().enumerate() {
            if let Some(stem) = name.strip_suffix(suffix) {
                parts.entry(stem).or_default()[i] = Some((dtype, shape));
            }
        }
    }
    let mut found: BTreeMap<String, Tq3Weight> = BTreeMap::new();
    for (stem, [packed, norms]) in parts {
        let missing = |suffix, other| {
            Error::input(
                format!("{stem}{other} found, but no {stem}{suffix}"),
                place,
                "a tq3_native weight is two tensors, .tq_packed and .tq_norms; copy the model again",
            )
        };
        let packed = packed.ok_or_else(|| missing(PACKED, NORMS))?;
        let norms = norms.ok_or_else(|| missing(NORMS, PACKED))?;
        let weight = check(config, place, stem, packed, norms)?;
        if let Some(other) = found.insert(base_of(stem).to_owned(), weight) {
            return Err(Error::input(
                format!(
                    "{}{PACKED} and {stem}{PACKED} are the same weight",
                    other.stem
                ),
                place,
                "two checkpoints were copied into one; copy one of them again",
            ));
        }
    }
    Ok(found)
}

fn check(
    config: &Config,
    place: &str,
    stem: &str,
    (packed_type, packed): TensorHeader,
    (norms_type, norms): TensorHeader,
) -> Result<Tq3Weight> {
    let bad = |part: &str, what: String, help: &str| {
        Err(Error::input(what, format!("{stem}{part} in {place}"), help))
    };
    for (part, found, expected) in [(PACKED, packed_type, "U8"), (NORMS, norms_type, "F32")] {
        if found != expected {
            let what = format!("{found} found, expected {expected}");
            return bad(part, what, "this is another project's format");
        }
    }
    let &[rows, groups] = norms else {
        let what = format!("shape {norms:?} found, expected [rows, groups]");
        return bad(NORMS, what, "this is another project's format");
    };
    if rows == 0 || groups == 0 {
        return bad(NORMS, format!("shape {norms:?} holds no element"), "");
    }
    let (group, bits) = (config.group_size(), config.bits_of(stem));
    let bytes = group * bits as usize / 8;
    match *packed {
        [all, width] if Some(all) == rows.checked_mul(groups) && width == bytes => Ok(Tq3Weight {
            stem: stem.to_owned(),
            rows,
            groups,
            bits,
        }),
        [all, width] if Some(all) == rows.checked_mul(groups) => {
            let stored = (2..=4).find(|b| group * b / 8 == width);
            let what = match stored {
                Some(b) => format!("codes of {b} bits found, expected {bits}"),
                None => format!("{width} bytes a group found, expected {bytes}"),
            };
            let what = format!("{what} for groups of {group} by the configuration");
            let help = "look at bits, sensitive_bits and sensitive_patterns of tq_config.json; if they are right, the configuration is of another model";
            bad(PACKED, what, help)
        }
        _ => {
            let what = format!(
                "shape {packed:?} found, expected [{}, {bytes}] beside norms of {norms:?}",
                rows as u128 * groups as u128
            );
            bad(PACKED, what, "the file is damaged; copy it again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tensor = (&'static str, &'static str, &'static [usize]);

    fn with(config: &str, tensors: &[Tensor]) -> Result<BTreeMap<String, Tq3Weight>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(super::super::config::CONFIG), config).unwrap();
        let config = Config::read(dir.path()).unwrap();
        find(&config, "model", tensors.iter().copied())
    }

    const MIXED: &str =
        r#"{"format": "tq3_native", "bits": 3, "group_size": 128, "sensitive_bits": 4}"#;

    fn refused(tensors: &[Tensor]) -> String {
        with(MIXED, tensors).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_of_name_is_found() {
        let found = with(
            MIXED,
            &[
                ("l.q_proj.weight.tq_packed", "U8", &[24, 48]),
                ("l.q_proj.weight.tq_norms", "F32", &[8, 3]),
                ("l.q_proj.bias", "F16", &[8]),
                ("l.mlp.experts.gate_up_proj.tq_norms", "F32", &[64, 1]),
                ("l.mlp.experts.gate_up_proj.tq_packed", "U8", &[64, 48]),
                ("l.down_proj.tq_packed", "U8", &[2, 64]),
                ("l.down_proj.tq_norms", "F32", &[1, 2]),
                ("l.norm.weight", "F16", &[384]),
            ],
        )
        .unwrap();
        let of: Vec<_> = found
            .iter()
            .map(|(base, w)| (base.as_str(), w.rows, w.groups, w.bits))
            .collect();
        assert_eq!(
            of,
            [
                ("l.down_proj", 1, 2, 4),
                ("l.mlp.experts.gate_up_proj", 64, 1, 3),
                ("l.q_proj", 8, 3, 3),
            ]
        );
        assert_eq!(found["l.q_proj"].packed(), "l.q_proj.weight.tq_packed");
        assert_eq!(found["l.down_proj"].norms(), "l.down_proj.tq_norms");
        assert!(with(MIXED, &[]).unwrap().is_empty());
    }

    #[test]
    fn the_missing_partner_is_named() {
        let e = refused(&[("a.weight.tq_packed", "U8", &[1, 48])]);
        assert!(e.contains("but no a.weight.tq_norms"), "{e}");
        let e = refused(&[("a.weight.tq_norms", "F32", &[1, 1])]);
        assert!(e.contains("but no a.weight.tq_packed"), "{e}");
    }

    #[test]
    fn other_bits_than_the_configurations_are_said() {
        let pair = |name: [&'static str; 2], width: &'static [usize]| {
            refused(&[(name[0], "U8", width), (name[1], "F32", &[3, 2])])
        };
        let plain = ["a.weight.tq_packed", "a.weight.tq_norms"];
        let e = pair(plain, &[6, 64]);
        assert!(e.contains("codes of 4 bits found, expected 3"), "{e}");
        let e = pair(plain, &[6, 32]);
        assert!(e.contains("codes of 2 bits found, expected 3"), "{e}");
        let sensitive = ["o_proj.weight.tq_packed", "o_proj.weight.tq_norms"];
        let e = pair(sensitive, &[6, 48]);
        assert!(e.contains("codes of 3 bits found, expected 4"), "{e}");
        let e = pair(plain, &[6, 50]);
        assert!(e.contains("50 bytes a group found, expected 48"), "{e}");
    }

    #[test]
    fn contradictions_are_refused() {
        let pair = |packed: (&'static str, &'static [usize]),
                    norms: (&'static str, &'static [usize])| {
            refused(&[
                ("a.tq_packed", packed.0, packed.1),
                ("a.tq_norms", norms.0, norms.1),
            ])
        };
        let e = pair(("U8", &[5, 48]), ("F32", &[3, 2]));
        assert!(e.contains("expected [6, 48]"), "{e}");
        pair(("U8", &[288]), ("F32", &[3, 2]));
        let e = pair(("U32", &[6, 48]), ("F32", &[3, 2]));
        assert!(e.contains("U32 found, expected U8"), "{e}");
        let e = pair(("U8", &[6, 48]), ("F16", &[3, 2]));
        assert!(e.contains("F16 found, expected F32"), "{e}");
        pair(("U8", &[6, 48]), ("F32", &[6]));
        pair(("U8", &[0, 48]), ("F32", &[0, 2]));
        let large = &[usize::MAX, usize::MAX];
        pair(("U8", large), ("F32", large));
        let e = refused(&[
            ("a.tq_packed", "U8", &[1, 48]),
            ("a.tq_norms", "F32", &[1, 1]),
            ("a.weight.tq_packed", "U8", &[1, 48]),
            ("a.weight.tq_norms", "F32", &[1, 1]),
        ]);
        assert!(e.contains("are the same weight"), "{e}");
    }
}
