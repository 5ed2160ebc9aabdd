//! The scalar rendering: the same four steps, in the same order and words, as
//! `kernels/tq4_dequant_sm80.cu` and `shaders/tq4_dequant.wgsl`.

use crate::codec::{Normalisation, Scaling};
use crate::fwht;
use crate::tensor::TqTensor;

/// Decodes the groups from `first_group` on, as many as `out` holds; `out` is whole groups.
pub(super) fn groups(tensor: &TqTensor, first_group: usize, out: &mut [f32]) {
    let layout = tensor.layout();
    let n = layout.group_size();
    let groups_per_row = tensor.groups_per_row();
    let packed_group = layout.packed_group();
    let (shared, scales_per_group) = (layout.scales().elements, layout.scales_per_group());
    let before = layout.scales().scaling == Scaling::Before;
    let sqrt_n = (n as f64).sqrt();
    let inverse = (1.0 / sqrt_n) as f32;
    let mut centroids = [0.0; 16];
    centroids[..layout.levels()].copy_from_slice(tensor.codebook().centroids());

    for (i, x) in out.chunks_exact_mut(n).enumerate() {
        let group = first_group + i;
        let packed = &tensor.packed()[group * packed_group..][..packed_group];
        let scale = |k: usize| tensor.scales().get(group * scales_per_group + k);
        let signs = &tensor.signs()[group % groups_per_row * n..][..n];

        // 1. unpack, 2. centroid lookup
        match layout.stored_bits() {
            2 => {
                for (x, byte) in x.chunks_exact_mut(4).zip(packed) {
                    for (k, x) in x.iter_mut().enumerate() {
                        *x = centroids[(byte >> (2 * k) & 3) as usize];
                    }
                }
            }
            3 => {
                for (x, bytes) in x.chunks_exact_mut(8).zip(packed.chunks_exact(3)) {
                    let eight = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
                    for (k, x) in x.iter_mut().enumerate() {
                        *x = centroids[(eight >> (3 * k) & 7) as usize];
                    }
                }
            }
            _ => {
                for (x, byte) in x.chunks_exact_mut(2).zip(packed) {
                    x[0] = centroids[(byte & 15) as usize];
                    x[1] = centroids[(byte >> 4) as usize];
                }
            }
        }

        // 3. scale (one f32 rounding), sign before the transform
        if before {
            for (k, x) in x.chunks_exact_mut(shared).enumerate() {
                let scale = scale(k);
                x.iter_mut().for_each(|x| *x *= scale);
            }
        }
        if let Some(signs) = layout.signs_before() {
            for (k, x) in x.iter_mut().enumerate() {
                *x *= f32::from(signs.of(k));
            }
        }

        // 4. inverse FWHT: butterflies, normalisation, sign
        fwht::butterflies(x);
        match layout.normalisation() {
            Normalisation::Divide => {
                for (x, sign) in x.iter_mut().zip(signs) {
                    *x = (f64::from(*x) / sqrt_n) as f32 * f32::from(*sign);
                }
            }
            Normalisation::Multiply => {
                for (x, sign) in x.iter_mut().zip(signs) {
                    *x = *x * inverse * f32::from(*sign);
                }
            }
        }

        // 5. scale, where it comes last
        if !before {
            let scale = scale(0);
            x.iter_mut().for_each(|x| *x *= scale);
        }
    }
}
