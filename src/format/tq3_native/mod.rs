//! `tq3_native`, the checkpoints of turboquant-vllm: groups of 2-, 3- or 4-bit codes with an f32 norm each.
//!
//! A file holds codes and norms only. Signs and codebook are recomputed from `tq_config.json`; a row's true
//! width, before it was padded to whole groups, is in the model's `config.json` alone.
//!
//! Decoding a group: `centroid * signs.before`, Walsh-Hadamard transform, division by `sqrt(group)`,
//! `* signs.after`, `* norm`.
//!
//! Source: varjoranta/turboquant-vllm 9311d91, `checkpoint.py`, `torch_ops.py`, `weight_quant.py`.

pub(crate) mod codebook;
pub(crate) mod config;
pub(crate) mod names;
pub(crate) mod shape;
pub(crate) mod signs;

#[cfg(test)]
mod tests {
    use super::codebook::recomputed;
    use super::signs::Signs;
    use crate::fwht::butterflies;

    /// Codes `i mod 8` under a norm of 1, seed 42, as turboquant-vllm decodes them.
    #[test]
    fn a_group_of_3_bit_codes_decodes_as_published() {
        const N: usize = 128;
        let (book, signs) = (recomputed(3, N).unwrap(), Signs::of_seed(42, N));
        let mut x: Vec<f32> = (0..N)
            .map(|i| book.centroids()[i % 8] * f32::from(signs.before[i]))
            .collect();
        butterflies(&mut x);
        let root = (N as f32).sqrt();
        for (v, s) in x.iter_mut().zip(&signs.after) {
            *v = *v / root * f32::from(*s);
        }
        let published = [
            -0.03401416,
            -0.02408139,
            -0.12028204,
            0.02635498,
            -0.1822031,
            -0.0576393,
        ];
        for (i, (found, want)) in x.iter().zip(published).enumerate() {
            assert!((found - want).abs() < 1e-7, "{i}: {found} {want}");
        }
    }
}
