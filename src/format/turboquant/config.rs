//! `turboquant_config.json`.

use crate::codebook::Codebook;
use crate::error::{Error, Result};
use crate::format::model::read_config;
use crate::tensor::Layout;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// File name of the configuration inside a TQ4 model directory.
pub const CONFIG: &str = "turboquant_config.json";

#[derive(Serialize, Deserialize)]
struct Raw {
    quant_type: String,
    bits: u32,
    group_size: usize,
    rotation: String,
    centroids: Option<Vec<f64>>,
    boundaries: Option<Vec<f64>>,
}

/// The checked configuration of a TQ4 model.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bits and group size.
    pub layout: Layout,
    /// The codebook that the model was encoded with.
    pub codebook: Arc<Codebook>,
}

impl Config {
    /// Reads and checks the configuration in the model directory `dir`.
    ///
    /// # Errors
    /// When it is missing, is another quantisation's, or its codebook is missing, unsorted or not
    /// `2^bits` long.
    pub fn read(dir: &Path) -> Result<Self> {
        read_config(
            dir,
            CONFIG,
            "name a TQ4 model directory; this may be its source",
            Self::check,
        )
    }

    fn check(raw: Raw) -> Result<Self> {
        for (key, found, expected) in [
            ("quant_type", &raw.quant_type, "turboquant"),
            ("rotation", &raw.rotation, "hadamard"),
        ] {
            if found != expected {
                return Err(Error::input(
                    format!("{key} {found:?} found, expected {expected:?}"),
                    key,
                    "this is another project's format",
                ));
            }
        }
        let layout = Layout::new(raw.bits, raw.group_size)?;
        let Some(centroids) = raw.centroids else {
            return Err(Error::input(
                format!("no centroids found, expected {}", layout.levels()),
                "centroids",
                "write the codebook that the model was encoded with",
            ));
        };
        let single = |v: Vec<f64>| -> Vec<f32> { v.into_iter().map(|x| x as f32).collect() };
        let codebook = Codebook::new(single(centroids), raw.boundaries.map(single))?;
        if codebook.centroids().len() != layout.levels() {
            return Err(Error::input(
                format!(
                    "{} centroids found, expected {} (2^{} bits)",
                    codebook.centroids().len(),
                    layout.levels(),
                    layout.bits()
                ),
                "centroids",
                "write the codebook that the model was encoded with",
            ));
        }
        Ok(Self {
            layout,
            codebook: Arc::new(codebook),
        })
    }

    /// The configuration as the file has it.
    pub fn to_json(&self) -> String {
        let double = |v: &[f32]| Some(v.iter().map(|x| f64::from(*x)).collect());
        let raw = Raw {
            quant_type: "turboquant".into(),
            bits: self.layout.bits(),
            group_size: self.layout.group_size(),
            rotation: "hadamard".into(),
            centroids: double(self.codebook.centroids()),
            boundaries: double(self.codebook.boundaries()),
        };
        serde_json::to_string_pretty(&raw).expect("finite numbers and strings")
    }
}
