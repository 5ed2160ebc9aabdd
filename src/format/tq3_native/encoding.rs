//! Plain weights in this format.

use super::config::{CONFIG, Config, SEED};
use super::shape::Widths;
use super::{NAME, codec, names, signs};
use crate::checkpoint::{Dtype, dir_name};
use crate::codec::Codec;
use crate::error::Result;
use crate::format::encoding::{
    BITS, Choices, Encodes, GROUP_SIZE, Matrix, OutputTensor, TensorSlice, fixed,
};
use crate::tensor::{TqTensor, base_of};
use std::path::Path;

/// A model as turboquant-vllm's own program writes it.
#[derive(Debug)]
pub(in crate::format) struct Encoder {
    config: Config,
    codec: Codec,
    sensitive: Option<Codec>,
}

impl Encoder {
    /// # Errors
    /// When bits or group size are not the format's, or signs are to come from another place.
    pub(in crate::format) fn new(choices: &Choices) -> Result<Self> {
        let seed = choices.sign_seed.map(|s| format!("{s:?}"));
        fixed(seed, "sign seed", NAME, &SEED.to_string())?;
        let bits = choices.bits.unwrap_or(BITS);
        let group_size = choices.group_size.unwrap_or(GROUP_SIZE);
        let sensitive = choices.sensitive_bits;
        let of = |bits| codec(bits, group_size, SEED);
        Ok(Self {
            config: Config::new(bits, group_size, sensitive, &choices.sensitive),
            codec: of(bits)?,
            sensitive: sensitive.map(of).transpose()?,
        })
    }

    /// Names of codes and norms.
    fn parts_of(name: &str) -> [String; 2] {
        [names::PACKED, names::NORMS].map(|part| format!("{name}{part}"))
    }
}

impl Encodes for Encoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> serde_json::Value {
        serde_json::json!({"format": NAME, "config": format!("{:?}", self.config)})
    }

    fn codec(&self, name: &str) -> Codec {
        let bits = self.config.bits_of(name);
        let sensitive = self.sensitive.as_ref();
        let other = sensitive.filter(|s| s.layout.bits() == bits);
        other.unwrap_or(&self.codec).clone()
    }

    fn signs(&self, _: &str, cols: usize) -> Vec<i8> {
        signs(SEED, self.config.group_size(), cols)
    }

    fn pads(&self) -> bool {
        true
    }

    /// Floating numbers are cast, as the source does.
    fn rest(&self, dtype: Dtype) -> Dtype {
        if dtype.is_plain() { Dtype::F16 } else { dtype }
    }

    fn parts(&self, weight: &Matrix) -> Vec<OutputTensor> {
        let layout = self.codec(&weight.name).layout;
        let groups = weight.stored / layout.group_size();
        let [packed, norms] = Self::parts_of(&weight.name);
        let shape = vec![weight.rows * groups, layout.packed_group()];
        vec![
            OutputTensor::new(packed, Dtype::U8, shape),
            OutputTensor::new(norms, Dtype::F32, vec![weight.rows, groups]),
        ]
    }

    fn pieces<'t>(
        &self,
        weight: &Matrix,
        first_row: usize,
        rows: &'t TqTensor,
    ) -> Vec<TensorSlice<'t>> {
        let layout = rows.layout();
        let [packed, norms] = Self::parts_of(&weight.name);
        let group = first_row * (weight.stored / layout.group_size());
        let at = |per_group: usize| (group * per_group) as u64;
        vec![
            (packed, at(layout.packed_group()), rows.packed().into()),
            (norms, at(4), rows.scales().le_bytes().into()),
        ]
    }

    fn configuration(&self, source: &Path, weights: usize) -> Option<(&'static str, String)> {
        Some((CONFIG, self.config.to_json(&dir_name(source), weights)))
    }

    fn notes(&self, source: &Path, weights: &[&Matrix]) -> Result<Vec<String>> {
        let widths = Widths::read(source)?;
        let group = self.config.group_size();
        let untold: Vec<&&Matrix> = weights
            .iter()
            .filter(|w| {
                let told = widths.of(base_of(&w.name), w.stored, group);
                told.unwrap_or(w.stored) != w.cols
            })
            .collect();
        Ok(match untold.first() {
            None => Vec::new(),
            Some(first) => vec![format!(
                "config.json does not tell the width of {} of the weights, such as {} of {} columns: readers decode \
                 them with what pads them, {} columns",
                untold.len(),
                first.name,
                first.cols,
                first.stored
            )],
        })
    }
}
