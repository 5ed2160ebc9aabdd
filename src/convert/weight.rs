//! One weight, quantised strip by strip.

use super::{RunEvent, strips};
use crate::checkpoint::Shard;
use crate::encode::quantize_rows;
use crate::error::Result;
use crate::format::{Encodes, Matrix, ModelWriter};
use crate::reference;
use crate::strip::copy_rows;
use crate::tensor::base_of;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements per block of the parallel sums; they are added in order, whatever the threads.
const ERROR_BLOCK: usize = 1 << 16;

/// One quantised weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizedWeight {
    /// The name before `.weight`.
    pub tensor_base: String,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// `rmse / rms` of the decoded weight against the source, f32 as the reference decodes it.
    pub rmse_ratio: f64,
    /// Bytes in the source.
    pub bytes_in: u64,
    /// Bytes of codes, scales and signs, where the format stores them.
    pub bytes_out: u64,
}

/// Quantises one weight, strip by strip.
pub(super) fn encode(
    writer: &ModelWriter,
    shard: &Shard,
    matrix: &Matrix,
    format: &dyn Encodes,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<QuantizedWeight> {
    let Matrix {
        name,
        rows,
        cols,
        stored,
        ..
    } = matrix;
    let (rows, cols, stored) = (*rows, *cols, *stored);
    on(RunEvent::Tensor(name));
    let codec = format.codec(name);
    let base = base_of(name);
    let signs = format.signs(name, stored);
    let info = shard.info(name).expect("the plan took it from there");
    let bytes_in = info.bytes;
    let (mut weight, mut decoded, mut padded) = (Vec::new(), Vec::new(), Vec::new());
    let (mut square, mut source_square) = (0.0, 0.0);
    for strip in strips(rows, stored) {
        weight.resize(strip.len() * cols, 0.0);
        decoded.resize(strip.len() * stored, 0.0);
        shard.read_f32(name, strip.start * cols, &mut weight)?;
        if stored != cols {
            padded.resize(strip.len() * stored, 0.0);
            copy_rows(&weight, cols, &mut padded, stored);
        }
        let plain = if stored == cols { &weight } else { &padded };
        let (layout, book) = (codec.layout, &codec.codebook);
        let tensor = quantize_rows(base, strip.start, plain, stored, layout, &signs, book)?;
        for (part, at, bytes) in format.pieces(matrix, strip.start, &tensor) {
            writer.write_at(&part, at, &bytes)?;
        }
        reference::dequantize_into(&tensor, &mut decoded);
        if stored != cols {
            // What pads the rows is not the weight's.
            copy_rows(&decoded, stored, &mut padded[..strip.len() * cols], cols);
        }
        let values = if stored == cols { &decoded } else { &padded };
        let sums: Vec<(f64, f64)> = values[..strip.len() * cols]
            .par_chunks(ERROR_BLOCK)
            .zip(weight.par_chunks(ERROR_BLOCK))
            .map(|(d, w)| {
                d.iter()
                    .zip(w)
                    .fold((0.0, 0.0), |(square, source), (d, w)| {
                        let (e, w) = (f64::from(d - w), f64::from(*w));
                        (square + e * e, source + w * w)
                    })
            })
            .collect();
        for (s, w) in sums {
            square += s;
            source_square += w;
        }
        padded.fill(0.0);
        on(RunEvent::Bytes(bytes_in / rows as u64 * strip.len() as u64));
    }
    let elements = (rows * cols) as f64;
    Ok(QuantizedWeight {
        tensor_base: base.to_owned(),
        shape: [rows, cols],
        rmse_ratio: (square / elements).sqrt() / (source_square / elements).sqrt().max(1e-12),
        bytes_in,
        bytes_out: format.parts(matrix).iter().map(|p| p.bytes).sum(),
    })
}
