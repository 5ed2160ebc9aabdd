//! `tq_config.json`.

use crate::error::{Error, Result};
use crate::format::model::read_config;
use crate::tensor::Layout;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// File name of the configuration, which marks the format.
pub(crate) const CONFIG: &str = "tq_config.json";

/// Its `format`.
const FORMAT: &str = "tq3_native";

/// Seed of the signs where the file gives none.
pub(super) const SEED: u64 = 42;

/// Layers of other bits where the file gives none: `weight_quant.py`, `_SENSITIVE_PATTERNS`.
const SENSITIVE: [&str; 2] = ["o_proj", "down_proj"];

#[derive(Serialize, Deserialize)]
struct Raw {
    format: String,
    bits: u32,
    group_size: usize,
    quantizer_seed: Option<u64>,
    // For people; readers pass them over.
    #[serde(default, skip_deserializing)]
    compressed_layers: usize,
    #[serde(default, skip_deserializing)]
    original_model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensitive_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensitive_patterns: Option<Vec<String>>,
}

/// The checked configuration of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    bits: u32,
    group_size: usize,
    seed: u64,
    sensitive: Option<Sensitive>,
}

/// Layers that have other bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sensitive {
    bits: u32,
    /// Parts of a name; one of them in it is enough.
    patterns: Vec<String>,
}

impl Config {
    /// Reads and checks the configuration in the model directory `dir`.
    ///
    /// # Errors
    /// When it is missing, damaged or of another format, its bits are not 2 to 4 or its group size is not 32,
    /// 64, 128 or 256.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        read_config(
            dir,
            CONFIG,
            "name a tq3_native model directory; this may be its source",
            Self::check,
        )
    }

    fn check(raw: Raw) -> Result<Self> {
        if raw.format != FORMAT {
            return Err(Error::input(
                format!("format {:?} found, expected {FORMAT:?}", raw.format),
                "format",
                "this is another project's format",
            ));
        }
        Layout::new(raw.bits, raw.group_size)?;
        if let Some(bits) = raw.sensitive_bits.filter(|b| !(2..=4).contains(b)) {
            return Err(Error::input(
                format!("sensitive_bits = {bits} found, expected 2, 3 or 4"),
                "sensitive_bits",
                "",
            ));
        }
        Ok(Self {
            bits: raw.bits,
            group_size: raw.group_size,
            seed: raw.quantizer_seed.unwrap_or(SEED),
            sensitive: raw.sensitive_bits.map(|bits| Sensitive {
                bits,
                patterns: raw.sensitive_patterns.unwrap_or_else(usual),
            }),
        })
    }

    /// A model that is written: with `sensitive_bits`, layers have them whose names hold one of `patterns`, the
    /// usual ones where there is none.
    pub(super) fn new(
        bits: u32,
        group_size: usize,
        sensitive_bits: Option<u32>,
        patterns: &[String],
    ) -> Self {
        let patterns = match patterns {
            [] => usual(),
            given => given.to_vec(),
        };
        Self {
            bits,
            group_size,
            seed: SEED,
            sensitive: sensitive_bits.map(|bits| Sensitive { bits, patterns }),
        }
    }

    /// The configuration as the file has it.
    pub(super) fn to_json(&self, original_model: &str, compressed_layers: usize) -> String {
        let sensitive = self.sensitive.as_ref();
        let raw = Raw {
            format: FORMAT.to_owned(),
            bits: self.bits,
            group_size: self.group_size,
            quantizer_seed: Some(self.seed),
            compressed_layers,
            original_model: original_model.to_owned(),
            sensitive_bits: sensitive.map(|s| s.bits),
            sensitive_patterns: sensitive.map(|s| s.patterns.clone()),
        };
        serde_json::to_string_pretty(&raw).expect("numbers and strings")
    }

    /// Elements a group: 32, 64, 128 or 256.
    pub(crate) fn group_size(&self) -> usize {
        self.group_size
    }

    /// Seed of the signs.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Bits of the weight with this name: 2, 3 or 4.
    pub(crate) fn bits_of(&self, name: &str) -> u32 {
        match &self.sensitive {
            Some(s) if s.patterns.iter().any(|p| name.contains(p.as_str())) => s.bits,
            _ => self.bits,
        }
    }
}

/// The source's patterns.
fn usual() -> Vec<String> {
    SENSITIVE.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), json).unwrap();
        Config::read(dir.path())
    }

    fn refused(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn a_file_as_written() {
        let config = read(
            r#"{"format": "tq3_native", "bits": 3, "group_size": 128, "quantizer_seed": 7,
                "compressed_layers": 197, "original_model": "org/name", "sensitive_bits": 4,
                "sensitive_patterns": ["o_proj", "experts"]}"#,
        )
        .unwrap();
        assert_eq!((config.bits, config.group_size()), (3, 128));
        assert_eq!(config.seed(), 7);
        for (name, bits) in [
            ("model.layers.0.self_attn.o_proj.weight", 4),
            ("model.layers.0.self_attn.q_proj.weight", 3),
            ("model.layers.0.mlp.experts.gate_up_proj", 4),
            ("model.layers.0.mlp.down_proj.weight", 3),
        ] {
            assert_eq!(config.bits_of(name), bits, "{name}");
        }
    }

    #[test]
    fn what_is_left_out_has_the_sources_values() {
        let least = r#"{"format": "tq3_native", "bits": 2, "group_size": 64"#;
        let config = read(&format!("{least}}}")).unwrap();
        assert_eq!(config.seed(), 42);
        assert_eq!(config.bits_of("a.down_proj.weight"), 2);
        let config = read(&format!("{least}, \"sensitive_bits\": 3}}")).unwrap();
        assert_eq!(config.bits_of("a.down_proj.weight"), 3);
        assert_eq!(config.bits_of("a.o_proj.weight"), 3);
        assert_eq!(config.bits_of("a.up_proj.weight"), 2);
        let null =
            r#", "quantizer_seed": null, "sensitive_bits": null, "sensitive_patterns": null}"#;
        assert_eq!(
            read(&format!("{least}{null}")).unwrap(),
            read(&format!("{least}}}")).unwrap()
        );
    }

    #[test]
    fn others_are_refused_with_what_is_read() {
        let with = |bits, group, more: &str| {
            refused(&format!(
                r#"{{"format": "tq3_native", "bits": {bits}, "group_size": {group}{more}}}"#
            ))
        };
        let e = with(5, 128, "");
        assert!(e.contains("bits = 5 found, expected 2, 3 or 4"), "{e}");
        assert!(e.contains(CONFIG), "{e}");
        let e = with(3, 96, "");
        assert!(
            e.contains("group_size = 96 found, expected 32, 64, 128 or 256"),
            "{e}"
        );
        let e = with(3, 128, r#", "sensitive_bits": 8"#);
        assert!(
            e.contains("sensitive_bits = 8 found, expected 2, 3 or 4"),
            "{e}"
        );
        let e = refused(r#"{"format": "tq5", "bits": 3, "group_size": 128}"#);
        assert!(
            e.contains(r#"format "tq5" found, expected "tq3_native""#),
            "{e}"
        );
        for damaged in ["", "[]", "{}", r#"{"format": "tq3_native", "bits": -3}"#] {
            refused(damaged);
        }
        let empty = tempfile::tempdir().unwrap();
        let e = Config::read(empty.path()).unwrap_err().to_string();
        assert!(e.contains("no tq_config.json found"), "{e}");
    }
}
