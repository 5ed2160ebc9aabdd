//! Recordings: a lane's output saved to a file, to be compared later or on another machine.
//!
//! Two forms are read: the JSON that the published dump tool writes, and this project's own, a
//! safetensors file with the output as `values` and everything that identifies it as metadata.

use crate::backend::Device;
use crate::checkpoint::{Shard, read_json, write_safetensors};
use crate::error::{Error, Result};
use crate::metrics::Values;
use crate::tensor::TqTensor;
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

const FORMAT: &str = "tq4-recording-1";

/// What a recording holds.
#[derive(Debug, Clone, PartialEq)]
enum Data {
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
}

/// A lane's output for some rows of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Name under which it is compared; a lane's name makes it a stand-in for that lane.
    pub name: String,
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// First row.
    pub row_start: usize,
    /// `[rows, cols]` of the recorded values.
    pub shape: [usize; 2],
    /// Who computed it, as far as the file says.
    pub device: Device,
    data: Data,
}

/// The form of the published dump tool.
#[derive(Deserialize)]
struct Dump {
    tensor_base: String,
    #[serde(default)]
    row_start: usize,
    shape: Vec<usize>,
    // Python writes a NaN as `NaN`, which is not JSON; other writers write null.
    values: Vec<Option<f32>>,
}

impl Recording {
    /// Reads a recording in either form and calls it `name`.
    ///
    /// # Errors
    /// When the file is neither form, or its shape does not fit its values.
    pub fn read(name: &str, path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let mut head = Vec::new();
        let meta =
            std::fs::metadata(path).map_err(|e| Error::io("read the recording", path, &e))?;
        if !meta.is_file() {
            return Err(Error::input(
                "not a regular file",
                place,
                "name a recording",
            ));
        }
        std::fs::File::open(path)
            .and_then(|f| f.take(9).read_to_end(&mut head))
            .map_err(|e| Error::io("read the recording", path, &e))?;
        let recording = if head.get(8) == Some(&b'{') && head[7] == 0 {
            Self::from_safetensors(name, path)?
        } else {
            Self::from_dump(name, read_json(path)?)
                .map_err(|e| Error::input(&e.problem().what, &place, &e.problem().help))?
        };
        let expected = recording.shape[0].checked_mul(recording.shape[1]);
        if expected != Some(recording.values().len()) || expected == Some(0) {
            return Err(Error::input(
                format!(
                    "{} values found for shape {:?}",
                    recording.values().len(),
                    recording.shape
                ),
                place,
                "the recording is damaged; record it again",
            ));
        }
        Ok(recording)
    }

    fn from_dump(name: &str, dump: Dump) -> Result<Self> {
        let [rows, cols] = dump.shape[..] else {
            return Err(Error::input(
                format!("shape {:?} found, expected [rows, cols]", dump.shape),
                "",
                "",
            ));
        };
        let values: Vec<f32> = dump
            .values
            .into_iter()
            .map(|v| v.unwrap_or(f32::NAN))
            .collect();
        // BF16 written as decimals comes back exactly; anything else stays f32.
        let is_bf16 = values.iter().all(|v| v.to_bits() & 0xFFFF == 0);
        Ok(Self {
            name: name.to_owned(),
            tensor_base: dump.tensor_base,
            row_start: dump.row_start,
            shape: [rows, cols],
            device: Device {
                lane: name.to_owned(),
                device: "recorded".into(),
                driver: String::new(),
                api: String::new(),
                software: false,
                kernel_variant: String::new(),
                kernel_checksum: String::new(),
            },
            data: if is_bf16 {
                Data::Bf16(values.into_iter().map(bf16::from_f32).collect())
            } else {
                Data::F32(values)
            },
        })
    }

    fn from_safetensors(name: &str, path: &Path) -> Result<Self> {
        let bad = |what: &str| {
            Error::input(
                what,
                path.display().to_string(),
                "write recordings with --record DIR",
            )
        };
        let shard = Shard::open(path)?;
        let meta = shard.metadata();
        let text = |key: &str| meta.get(key).cloned().unwrap_or_default();
        if text("format") != FORMAT {
            return Err(bad("a safetensors file, but not a tq4 recording"));
        }
        let info = shard
            .info("values")
            .ok_or_else(|| bad("no tensor \"values\" found"))?;
        let bytes = shard
            .data("values")
            .ok_or_else(|| bad("the file is truncated"))?;
        let [rows, cols] = info.shape[..] else {
            return Err(bad("values have another shape than [rows, cols]"));
        };
        let data = match info.dtype {
            Dtype::BF16 => Data::Bf16(
                bytes
                    .chunks_exact(2)
                    .map(|b| bf16::from_le_bytes([b[0], b[1]]))
                    .collect(),
            ),
            Dtype::F32 => Data::F32(
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect(),
            ),
            _ => return Err(bad("values are neither BF16 nor F32")),
        };
        Ok(Self {
            name: name.to_owned(),
            tensor_base: text("tensor_base"),
            row_start: text("row_start")
                .parse()
                .map_err(|_| bad("row_start is not a number"))?,
            shape: [rows, cols],
            device: Device {
                lane: text("lane"),
                device: text("device"),
                driver: text("driver"),
                api: text("api"),
                software: text("software") == "true",
                kernel_variant: text("kernel_variant"),
                kernel_checksum: text("kernel_checksum"),
            },
            data,
        })
    }

    /// The recorded values.
    pub fn values(&self) -> Values<'_> {
        match &self.data {
            Data::Bf16(v) => Values::Bf16(v),
            Data::F32(v) => Values::F32(v),
        }
    }

    /// Why this recording cannot be compared with `tensor` from `row_start`, or `None` when it can.
    pub fn mismatch(&self, tensor: &TqTensor<'_>, row_start: usize) -> Option<String> {
        if self.tensor_base != tensor.base() {
            return Some(format!("the recording is of tensor {}", self.tensor_base));
        }
        let asked = [tensor.rows(), tensor.cols()];
        if self.row_start != row_start || self.shape != asked {
            return Some(format!(
                "the recording holds rows {}..{} of {} columns, asked for are rows {row_start}..{} of {}",
                self.row_start,
                self.row_start + self.shape[0],
                self.shape[1],
                row_start + asked[0],
                asked[1]
            ));
        }
        None
    }
}

/// Writes a lane's BF16 output as a recording, with all that identifies it.
///
/// # Errors
/// When `path` cannot be written.
pub fn write(
    path: &Path,
    model: &str,
    tensor: &TqTensor<'_>,
    row_start: usize,
    device: &Device,
    values: &[bf16],
) -> Result<()> {
    let meta: HashMap<String, String> = [
        ("format", FORMAT.to_owned()),
        ("tool", format!("tq4 {}", env!("CARGO_PKG_VERSION"))),
        ("model", model.to_owned()),
        ("tensor_base", tensor.base().to_owned()),
        ("row_start", row_start.to_string()),
        ("row_count", tensor.rows().to_string()),
        ("bits", tensor.layout().bits().to_string()),
        ("group_size", tensor.layout().group_size().to_string()),
        ("lane", device.lane.clone()),
        ("device", device.device.clone()),
        ("driver", device.driver.clone()),
        ("api", device.api.clone()),
        ("software", device.software.to_string()),
        ("kernel_variant", device.kernel_variant.clone()),
        ("kernel_checksum", device.kernel_checksum.clone()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    let view = TensorView::new(
        Dtype::BF16,
        vec![tensor.rows(), tensor.cols()],
        bytemuck::cast_slice(values),
    )
    .map_err(|e| Error::input(e.to_string(), path.display().to_string(), ""))?;
    write_safetensors(path, &[("values".to_owned(), view)], Some(meta))
}
