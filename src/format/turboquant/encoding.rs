//! Plain weights in this format.

use super::{CONFIG, Config, NAME, SignSeed};
use crate::checkpoint::Dtype;
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::error::Result;
use crate::format::encoding::{
    BITS, Choices, Encodes, GROUP_SIZE, Matrix, OutputTensor, TensorSlice, fixed,
};
use crate::tensor::{Layout, TqTensor, base_of};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// The published encoder's files.
#[derive(Debug)]
pub(in crate::format) struct Encoder {
    config: Config,
    sign_seed: SignSeed,
}

impl Encoder {
    /// # Errors
    /// When bits or group size are not the format's, or layers are to have bits of their own.
    pub(in crate::format) fn new(choices: &Choices) -> Result<Self> {
        let sensitive = choices.sensitive_bits.map(|b| b.to_string());
        fixed(sensitive, "sensitive bits", NAME, "none")?;
        let bits = choices.bits.unwrap_or(BITS);
        let layout = Layout::new(bits, choices.group_size.unwrap_or(GROUP_SIZE))?;
        Ok(Self {
            config: Config {
                layout,
                codebook: Arc::new(Codebook::encoder(bits, layout.group_size())),
            },
            sign_seed: choices.sign_seed.unwrap_or(SignSeed::Name),
        })
    }
}

/// Names of codes, scales and signs of the weight `name`.
fn parts(name: &str) -> [String; 3] {
    let base = base_of(name);
    super::PARTS.map(|part| format!("{base}.{part}"))
}

impl Encodes for Encoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> serde_json::Value {
        let layout = self.config.layout;
        serde_json::json!({
            "format": NAME,
            "bits": layout.bits(),
            "group_size": layout.group_size(),
            "sign_seed": format!("{:?}", self.sign_seed),
        })
    }

    fn codec(&self, _: &str) -> Codec {
        Codec {
            layout: self.config.layout,
            codebook: Arc::clone(&self.config.codebook),
        }
    }

    fn signs(&self, name: &str, cols: usize) -> Vec<i8> {
        self.sign_seed.signs(base_of(name), cols)
    }

    fn takes_experts(&self) -> bool {
        false
    }

    fn parts(&self, weight: &Matrix) -> Vec<OutputTensor> {
        let layout = self.config.layout;
        let (rows, cols) = (weight.rows, weight.cols);
        let [packed, scales, signs] = parts(&weight.name);
        vec![
            OutputTensor::new(packed, Dtype::U8, vec![rows, layout.packed_len(cols)]),
            OutputTensor::new(scales, Dtype::F16, vec![rows, cols / layout.group_size()]),
            OutputTensor::new(signs, Dtype::I8, vec![cols]),
        ]
    }

    fn pieces<'t>(
        &self,
        weight: &Matrix,
        first_row: usize,
        rows: &'t TqTensor,
    ) -> Vec<TensorSlice<'t>> {
        let layout = self.config.layout;
        let [packed, scales, signs] = parts(&weight.name);
        let at = |per_row: usize| (first_row * per_row) as u64;
        let mut pieces = vec![
            (
                packed,
                at(layout.packed_len(weight.cols)),
                rows.packed().into(),
            ),
            (
                scales,
                at(2 * (weight.cols / layout.group_size())),
                rows.scales().le_bytes().into(),
            ),
        ];
        if first_row == 0 {
            let of_columns = Cow::Borrowed(bytemuck::cast_slice(rows.signs()));
            pieces.push((signs, 0, of_columns));
        }
        pieces
    }

    fn configuration(&self, _: &Path, _: usize) -> Option<(&'static str, String)> {
        Some((CONFIG, self.config.to_json()))
    }
}
