//! The JSON of the published dump tool.

use crate::checkpoint::read_json_text;
use crate::error::{Error, Result};
use crate::lane::Output;
use crate::record::OutputType;
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
    // This project's own: the published tool writes BF16.
    dtype: Option<OutputType>,
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
        let of = text.dtype.unwrap_or_else(|| likely_type(&values));
        Ok(Self {
            tensor_base: text.tensor_base,
            row_start: text.row_start,
            shape: [rows, cols],
            bits: text.bits,
            group_size: text.group_size,
            values: typed(values, of),
        })
    }
}

/// The type that the values were of before they were written as decimals: BF16 or F16 when nearly all lie
/// where a short decimal of such a value does, so that neither few digits nor a stray value hide it; else f32.
fn likely_type(values: &[f32]) -> OutputType {
    // Four digits keep a BF16 value within an eighth of a step, five an F16 value.
    const NEAR: f32 = 1.0 / 6.0;
    const NEARLY_ALL: f64 = 0.9;
    let told = || {
        values
            .iter()
            .copied()
            .filter(|v| v.is_finite() && *v != 0.0)
    };
    let count = told().count();
    let share = |like: fn(f32) -> bool| told().filter(|v| like(*v)).count() as f64 / count as f64;
    fn like(v: f32, rounded: f32, next: f32) -> bool {
        rounded != 0.0 && (v - rounded).abs() <= NEAR * (next - rounded).abs()
    }
    let like_bf16 = |v: f32| {
        let r = bf16::from_f32(v);
        like(v, r.into(), bf16::from_bits(r.to_bits() + 1).into())
    };
    let like_f16 = |v: f32| {
        let r = f16::from_f32(v);
        like(v, r.into(), f16::from_bits(r.to_bits() + 1).into())
    };
    // Subnormal F16 values are BF16 values as well; the other way round it would be chance.
    let subnormal = |v: f32| v.abs() < f16::MIN_POSITIVE.to_f32() && f16::from_f32(v).to_f32() == v;
    if count > 0 && told().all(subnormal) {
        OutputType::F16
    } else if count == 0 || share(like_bf16) >= NEARLY_ALL {
        OutputType::Bf16
    } else if share(like_f16) >= NEARLY_ALL {
        OutputType::F16
    } else {
        OutputType::F32
    }
}

/// The values, rounded to their type.
fn typed(values: Vec<f32>, of: OutputType) -> Output {
    match of {
        OutputType::Bf16 => Output::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        OutputType::F16 => Output::F16(values.into_iter().map(f16::from_f32).collect()),
        OutputType::F32 => Output::F32(values),
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
    use crate::synthetic::Rng;

    fn written(values: &[f32], digits: usize) -> Vec<f32> {
        let text = |v: &f32| format!("{v:.*e}", digits - 1).parse().unwrap();
        values.iter().map(text).collect()
    }

    #[test]
    fn the_type_is_told_from_few_digits_and_beside_stray_values() {
        let mut rng = Rng::new(1);
        let f32s: Vec<f32> = (0..4096).map(|_| 0.02 * rng.normal()).collect();
        let bf16s: Vec<f32> = f32s.iter().map(|v| bf16::from_f32(*v).to_f32()).collect();
        let f16s: Vec<f32> = f32s.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
        for digits in 4..10 {
            assert_eq!(
                likely_type(&written(&bf16s, digits)),
                OutputType::Bf16,
                "{digits}"
            );
            if digits > 4 {
                assert_eq!(
                    likely_type(&written(&f16s, digits)),
                    OutputType::F16,
                    "{digits}"
                );
                assert_eq!(
                    likely_type(&written(&f32s, digits)),
                    OutputType::F32,
                    "{digits}"
                );
            }
        }
        let mut stray = bf16s.clone();
        stray[..100].copy_from_slice(&f32s[..100]);
        assert_eq!(likely_type(&stray), OutputType::Bf16);
        let tiny: Vec<f32> = f32s
            .iter()
            .map(|v| f16::from_f32(v * 1e-4).to_f32())
            .collect();
        assert_eq!(likely_type(&tiny), OutputType::F16);
        let tiny: Vec<f32> = f32s
            .iter()
            .map(|v| bf16::from_f32(v * 1e-4).to_f32())
            .collect();
        assert_eq!(likely_type(&tiny), OutputType::Bf16);
        assert_eq!(likely_type(&[0.0; 8]), OutputType::Bf16);
    }

    /// What was read is the value that was written, whatever the digits.
    #[test]
    fn few_digits_come_back_as_the_value_that_they_were_written_from() {
        let mut rng = Rng::new(2);
        let values: Vec<f32> = (0..4096)
            .map(|_| bf16::from_f32(rng.normal()).to_f32())
            .collect();
        for digits in 4..10 {
            let read = written(&values, digits);
            let of = likely_type(&read);
            assert_eq!(typed(read, of).single(), values, "{digits}");
        }
    }

    #[test]
    fn constants_of_python_become_null_outside_strings() {
        let text = br#"{"NaN": "a\"NaN", "v": [NaN, -Infinity, Infinity, -1e3]}"#;
        let want = br#"{"NaN": "a\"NaN", "v": [null, null, null, -1e3]}"#;
        assert_eq!(with_nulls(text), want);
    }
}
