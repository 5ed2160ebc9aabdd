//! Recording a lane: strip by strip into a file.

use super::digest::{Cut, Digest, Digester, Plan, SKETCHES};
use super::header::{Header, Kind, part};
use super::identity::{Entry, Identity, TensorSum, model_checksum};
use crate::backend::{Backend, Device, dequantize_bf16};
use crate::checkpoint::{Dtype, Planned, StreamWriter, TqModel};
use crate::convert::strips;
use crate::error::{Error, Result};
use crate::report::Tool;
use crate::tensor::TqTensor;
use half::bf16;
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

impl Selected {
    /// Elements in them, given the columns.
    fn elements(&self, cols: usize) -> usize {
        self.rows.len() * cols
    }
}

/// Runs `lane` on the selected rows and writes what it returns to `path`: every value, or a digest.
/// `on` is told of every tensor and of every strip's elements.
///
/// # Errors
/// When rows lie outside a tensor, the lane breaks or `path` cannot be written; nothing is left then.
pub fn record(
    path: &Path,
    kind: Kind,
    model: &TqModel,
    model_name: &str,
    selected: &[Selected],
    lane: &mut dyn Backend,
    on: &mut dyn FnMut(&str, u64),
) -> Result<Identity> {
    let layout = model.config().layout;
    let group_size = layout.group_size();
    let mut identity = Identity {
        model: model_name.to_owned(),
        model_checksum: Some(model_checksum(model)),
        bits: Some(layout.bits()),
        group_size: Some(group_size),
        codebook: Some(model.config().codebook.centroids().to_vec()),
        tensors: Vec::new(),
    };
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
    let groups: Vec<usize> = selected
        .iter()
        .zip(&identity.tensors)
        .map(|(s, e)| s.elements(e.shape[1]) / group_size)
        .collect();
    let plan = Plan::new(&groups);
    let mut header = header(kind, lane.device(), identity, &plan);
    let planned = planned(&header, &groups, &plan);
    let writer = StreamWriter::create(path, planned, Some(header.to_metadata()))?;
    for (i, s) in selected.iter().enumerate() {
        let cols = header.identity.tensors[i].shape[1];
        let mut sum = TensorSum::new();
        let mut digester =
            (kind == Kind::Digest).then(|| Digester::new(groups[i], plan.cut(group_size, i)));
        let mut signs = Vec::new();
        for strip in strips(s.rows.len(), cols) {
            let rows = s.rows.start + strip.start..s.rows.start + strip.end;
            let tensor = model.rows(&s.tensor_base, rows)?;
            sum.add(&tensor);
            if signs.is_empty() {
                signs = tensor.signs().to_vec();
            }
            let values = dequantize_bf16(lane, &tensor)?;
            match &mut digester {
                Some(digester) => digester.push(&values),
                None => writer.write_at(
                    &part(&s.tensor_base, "values"),
                    (strip.start * cols * 2) as u64,
                    bytemuck::cast_slice(&values),
                )?,
            }
            on(&s.tensor_base, values.len() as u64);
        }
        if let Some(digester) = digester {
            write_digest(&writer, &s.tensor_base, &digester.finish())?;
        }
        header.identity.tensors[i].tensor_checksum = Some(sum.finish(layout, &signs));
    }
    writer.rewrite_metadata(header.to_metadata())?;
    writer.sync()?;
    writer.commit()?;
    Ok(header.identity)
}

/// Digest of what `lane` returns for the rows in `entry`.
pub(super) fn digest_lane(
    model: &TqModel,
    entry: &Entry,
    lane: &mut dyn Backend,
    cut: Cut,
) -> Result<Digest> {
    let [rows, cols] = entry.shape;
    let mut digester = Digester::new(rows * cols / cut.group_size, cut);
    for strip in strips(rows, cols) {
        let rows = entry.row_start + strip.start..entry.row_start + strip.end;
        let tensor = model.rows(&entry.tensor_base, rows)?;
        digester.push(&dequantize_bf16(lane, &tensor)?);
    }
    Ok(digester.finish())
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
    Ok(Identity {
        model: model_name.to_owned(),
        model_checksum: Some(model_checksum(model)),
        bits: Some(layout.bits()),
        group_size: Some(layout.group_size()),
        codebook: Some(model.config().codebook.centroids().to_vec()),
        tensors,
    })
}

/// Writes a lane's BF16 output for one tensor as a recording, with all that identifies it.
///
/// # Errors
/// When `path` cannot be written.
pub fn write(
    path: &Path,
    model: &str,
    tensor: &TqTensor,
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
    let plan = Plan::new(&[tensor.groups()]);
    let header = header(Kind::Full, device, identity, &plan);
    let planned = planned(&header, &[tensor.groups()], &plan);
    let writer = StreamWriter::create(path, planned, Some(header.to_metadata()))?;
    writer.write_at(
        &part(tensor.base(), "values"),
        0,
        bytemuck::cast_slice(values),
    )?;
    writer.sync()?;
    writer.commit()
}

fn header(kind: Kind, device: &Device, identity: Identity, plan: &Plan) -> Header {
    let tool = Tool::this();
    Header {
        kind,
        tool: tool.version,
        host: tool.host,
        device: device.clone(),
        identity,
        groups_per_block: match kind {
            Kind::Full => 0,
            Kind::Digest => plan.groups_per_block,
        },
    }
}

/// The tensors of the file.
fn planned(header: &Header, groups: &[usize], plan: &Plan) -> Vec<Planned> {
    let mut planned = Vec::new();
    let group_size = header.identity.group_size.unwrap_or(0);
    for (i, t) in header.identity.tensors.iter().enumerate() {
        let mut add = |suffix, dtype, shape: &[usize]| {
            planned.push(Planned {
                name: part(&t.tensor_base, suffix),
                dtype,
                shape: shape.to_vec(),
            });
        };
        if header.kind == Kind::Full {
            add("values", Dtype::BF16, &t.shape);
            continue;
        }
        let blocks = groups[i].div_ceil(plan.groups_per_block);
        add("sums", Dtype::U64, &[blocks]);
        add("sketches", Dtype::F32, &[blocks, SKETCHES]);
        add("squares", Dtype::F32, &[blocks]);
        add("sample", Dtype::BF16, &[plan.sampled[i], group_size]);
    }
    planned
}

fn write_digest(writer: &StreamWriter, base: &str, digest: &Digest) -> Result<()> {
    for (suffix, bytes) in [
        ("sums", bytemuck::cast_slice::<_, u8>(&digest.sums)),
        ("sketches", bytemuck::cast_slice(&digest.sketches)),
        ("squares", bytemuck::cast_slice(&digest.squares)),
        ("sample", bytemuck::cast_slice(&digest.sample)),
    ] {
        writer.write_at(&part(base, suffix), 0, bytes)?;
    }
    Ok(())
}
