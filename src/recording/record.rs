//! Recording a lane: strip by strip into a file.

use super::header::{Header, values_of};
use super::identity::{Entry, Identity, TensorSum, model_checksum};
use crate::backend::{Backend, Device, dequantize_bf16};
use crate::checkpoint::{Planned, StreamWriter, TqModel};
use crate::convert::strips;
use crate::error::{Error, Result};
use crate::report::Tool;
use crate::tensor::TqTensor;
use half::bf16;
use safetensors::Dtype;
use std::ops::Range;
use std::path::Path;

/// A checksum that is not known yet: as long as one that is.
const UNKNOWN: &str = "00000000000000000000000000000000";

/// Rows of a tensor to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// The rows.
    pub rows: Range<usize>,
}

/// Runs `lane` on the selected rows and writes what it returns to `path`.
/// `on` is told of every tensor and of every strip's elements.
///
/// # Errors
/// When rows lie outside a tensor, the lane breaks or `path` cannot be written; nothing is left then.
pub fn record(
    path: &Path,
    model: &TqModel,
    model_name: &str,
    selected: &[Selected],
    lane: &mut dyn Backend,
    on: &mut dyn FnMut(&str, u64),
) -> Result<Identity> {
    let layout = model.config().layout;
    let mut identity = of_model(model, model_name, Vec::new());
    for s in selected {
        let [rows, cols] = model.info(&s.tensor_base)?.shape;
        if s.rows.is_empty() || s.rows.end > rows {
            return Err(Error::input(
                format!(
                    "rows {}..{} asked for, the tensor has rows 0..{rows}",
                    s.rows.start, s.rows.end
                ),
                &s.tensor_base,
                "choose --row-start and --row-count inside the tensor",
            ));
        }
        identity.tensors.push(Entry {
            tensor_base: s.tensor_base.clone(),
            row_start: s.rows.start,
            shape: [s.rows.len(), cols],
            tensor_checksum: Some(UNKNOWN.to_owned()),
        });
    }
    let mut header = header(lane.device(), identity);
    let writer = StreamWriter::create(path, planned(&header), Some(header.to_metadata()))?;
    for (i, s) in selected.iter().enumerate() {
        let cols = header.identity.tensors[i].shape[1];
        let mut sum = TensorSum::new();
        let mut signs = Vec::new();
        for strip in strips(s.rows.len(), cols) {
            let rows = s.rows.start + strip.start..s.rows.start + strip.end;
            let tensor = model.rows(&s.tensor_base, rows)?;
            sum.add(&tensor);
            if signs.is_empty() {
                signs = tensor.signs().to_vec();
            }
            let values = dequantize_bf16(lane, &tensor)?;
            writer.write_at(
                &values_of(&s.tensor_base),
                (strip.start * cols * 2) as u64,
                bytemuck::cast_slice(&values),
            )?;
            on(&s.tensor_base, values.len() as u64);
        }
        header.identity.tensors[i].tensor_checksum = Some(sum.finish(layout, &signs));
    }
    writer.rewrite_metadata(header.to_metadata())?;
    writer.sync()?;
    writer.commit()?;
    Ok(header.identity)
}

/// The identity of the same rows in `model`, to be held against that of a recording.
///
/// # Errors
/// When a recorded tensor is not in the model, or its rows are not.
pub fn check_model(model: &TqModel, model_name: &str, identity: &Identity) -> Result<Identity> {
    let layout = model.config().layout;
    let mut tensors = Vec::new();
    for entry in &identity.tensors {
        let [rows, cols] = model.info(&entry.tensor_base)?.shape;
        let end = entry.row_start + entry.shape[0];
        if end > rows || entry.shape[1] != cols {
            return Err(Error::input(
                format!(
                    "rows {}..{end} of {} columns are recorded, the model has rows 0..{rows} of {cols}",
                    entry.row_start, entry.shape[1]
                ),
                &entry.tensor_base,
                "name the model that the recording was made from",
            ));
        }
        let mut sum = TensorSum::new();
        let mut signs = Vec::new();
        for strip in strips(entry.shape[0], cols) {
            let rows = entry.row_start + strip.start..entry.row_start + strip.end;
            let tensor = model.rows(&entry.tensor_base, rows)?;
            sum.add(&tensor);
            signs = tensor.signs().to_vec();
        }
        tensors.push(Entry {
            tensor_checksum: Some(sum.finish(layout, &signs)),
            ..entry.clone()
        });
    }
    Ok(of_model(model, model_name, tensors))
}

fn of_model(model: &TqModel, model_name: &str, tensors: Vec<Entry>) -> Identity {
    let config = model.config();
    Identity {
        model: model_name.to_owned(),
        model_checksum: Some(model_checksum(model)),
        bits: Some(config.layout.bits()),
        group_size: Some(config.layout.group_size()),
        codebook: Some(config.codebook.centroids().to_vec()),
        tensors,
    }
}

/// Writes a lane's BF16 output for one tensor as a recording, with all that identifies it.
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
    let identity = Identity {
        model: model.to_owned(),
        model_checksum: None,
        bits: Some(tensor.layout().bits()),
        group_size: Some(tensor.layout().group_size()),
        codebook: Some(tensor.codebook().centroids().to_vec()),
        tensors: vec![Entry {
            tensor_base: tensor.base().to_owned(),
            row_start,
            shape: [tensor.rows(), tensor.cols()],
            tensor_checksum: Some(super::identity::tensor_checksum(tensor)),
        }],
    };
    let header = header(device, identity);
    let writer = StreamWriter::create(path, planned(&header), Some(header.to_metadata()))?;
    writer.write_at(&values_of(tensor.base()), 0, bytemuck::cast_slice(values))?;
    writer.sync()?;
    writer.commit()
}

fn header(device: &Device, identity: Identity) -> Header {
    let tool = Tool::this();
    Header {
        tool: tool.version,
        host: tool.host,
        device: device.clone(),
        identity,
    }
}

/// The tensors of the file.
fn planned(header: &Header) -> Vec<Planned> {
    let of = |t: &Entry| Planned {
        name: values_of(&t.tensor_base),
        dtype: Dtype::BF16,
        shape: t.shape.to_vec(),
    };
    header.identity.tensors.iter().map(of).collect()
}
