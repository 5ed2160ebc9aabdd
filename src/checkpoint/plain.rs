//! Plain weights: BF16, F16 and F32 as f32.

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Elements handed to a thread at a time.
const PER_TASK: usize = 1 << 16;

/// Bytes per element of a plain weight, or `None` for a dtype that is not one.
pub fn element_size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::BF16 | Dtype::F16 => Some(2),
        Dtype::F32 => Some(4),
        _ => None,
    }
}

/// Turns little-endian `bytes` of `dtype` into f32, exactly.
///
/// # Panics
/// When `dtype` is not a plain weight's, or `out` holds another number of elements.
pub fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    let size = element_size(dtype).expect("a plain weight");
    assert_eq!(bytes.len(), out.len() * size, "one output per element");
    out.par_chunks_mut(PER_TASK)
        .zip(bytes.par_chunks(PER_TASK * size))
        .for_each(|(out, bytes)| {
            if size == 4 {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            } else if dtype == Dtype::BF16 {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *o = bf16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            } else {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *o = f16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
        });
}
