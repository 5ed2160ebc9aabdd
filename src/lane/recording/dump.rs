//! The JSON of the published dump tool.

use crate::checkpoint::read_json_text;
use crate::error::{Error, Result};
use crate::lane::Output;
use half::{bf16, f16};
use serde::Deserialize;
use std::path::Path;

/// A dump as it is written.
#[derive(Deserialize)]
struct Text {
    tensor_base: String,
    #[serde(default)]
    row_start: usize,
    shape: Vec<usize>,
    bits: Option<u32>,
    group_size: Option<usize>,
    // Python writes a NaN as `NaN`, which is not JSON; other writers write null.
    values: Vec<Option<f32>>,
}

/// A dump of one tensor whose shape fits its values.
#[derive(Debug, Clone)]
pub(super) struct Dump {
    pub(super) tensor_base: String,
    pub(super) row_start: usize,
    pub(super) shape: [usize; 2],
    pub(super) bits: Option<u32>,
    pub(super) group_size: Option<usize>,
    pub(super) values: Output,
}

impl Dump {
    /// Reads a dump.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let text = read_text(path)?;
        let [rows, cols] = text.shape[..] else {
            let what = format!("shape {:?} found, expected [rows, cols]", text.shape);
            return Err(Error::input(what, place(), ""));
        };
        let found = text.values.len();
        let fits = rows.checked_mul(cols) == Some(found) && found > 0;
        if !fits || text.row_start.checked_add(rows).is_none() {
            return Err(Error::input(
                format!("{found} values found for shape [{rows}, {cols}]"),
                place(),
                "the recording is damaged; record it again",
            ));
        }
        let values = text.values.into_iter().map(|v| v.unwrap_or(f32::NAN));
        let values: Vec<f32> = values.collect();
        Ok(Self {
            tensor_base: text.tensor_base,
            row_start: text.row_start,
            shape: [rows, cols],
            bits: text.bits,
            group_size: text.group_size,
            values: narrowest(values),
        })
    }
}

/// Half types written as decimals come back exactly: the values are of the first type that holds them all.
fn narrowest(values: Vec<f32>) -> Output {
    let held = |by: fn(f32) -> f32| {
        let mut values = values.iter();
        values.all(|v| v.is_nan() || by(*v).to_bits() == v.to_bits())
    };
    if held(|v| bf16::from_f32(v).to_f32()) {
        Output::Bf16(values.into_iter().map(bf16::from_f32).collect())
    } else if held(|v| f16::from_f32(v).to_f32()) {
        Output::F16(values.into_iter().map(f16::from_f32).collect())
    } else {
        Output::F32(values)
    }
}

/// Python writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have: they are read as null, which
/// stands for NaN. No value that is not finite passes a gate.
fn read_text(path: &Path) -> Result<Text> {
    let text = read_json_text(path)?;
    serde_json::from_slice(&text)
        .or_else(|e| serde_json::from_slice(&with_nulls(&text)).map_err(|_| e))
        .map_err(|e| {
            Error::input(
                format!("not the JSON expected here: {e}"),
                path.display().to_string(),
                "a dump is {\"tensor_base\", \"row_start\", \"shape\": [rows, cols], \"values\": [...]}, the \
                 values one flat list of numbers",
            )
        })
}

/// `text` with null in place of Python's constants, strings left alone.
fn with_nulls(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let [first, ..] = rest {
        let taken = match first {
            b'"' => {
                in_string = !in_string;
                1
            }
            b'\\' if in_string => 2.min(rest.len()),
            _ if in_string => 1,
            _ => {
                let constant = [&b"NaN"[..], b"Infinity", b"-Infinity"]
                    .into_iter()
                    .find(|c| rest.starts_with(c));
                if let Some(constant) = constant {
                    out.extend(b"null");
                    rest = &rest[constant.len()..];
                    continue;
                }
                1
            }
        };
        out.extend(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_python_become_null_outside_strings() {
        let text = br#"{"NaN": "a\"NaN", "v": [NaN, -Infinity, Infinity, -1e3]}"#;
        let want = br#"{"NaN": "a\"NaN", "v": [null, null, null, -1e3]}"#;
        assert_eq!(with_nulls(text), want);
    }
}
