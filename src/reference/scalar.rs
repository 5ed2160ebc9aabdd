//! The scalar rendering: the same four steps, in the same order and words, as
//! `kernels/tq4_dequant_sm80.cu` and `shaders/tq4_dequant.wgsl`.

use crate::fwht;
use crate::tensor::TqTensor;

/// Decodes the groups from `first_group` on, as many as `out` holds; `out` is whole groups.
pub(super) fn groups(tensor: &TqTensor, first_group: usize, out: &mut [f32]) {
    let n = tensor.layout().group_size();
    let groups_per_row = tensor.groups_per_row();
    let packed_group = tensor.layout().packed_group();
    let sqrt_n = (n as f64).sqrt();
    let mut centroids = [0.0; 16];
    centroids[..tensor.layout().levels()].copy_from_slice(tensor.codebook().centroids());

    for (i, x) in out.chunks_exact_mut(n).enumerate() {
        let group = first_group + i;
        let packed = &tensor.packed()[group * packed_group..][..packed_group];
        let scale = tensor.scales()[group].to_f32();
        let signs = &tensor.signs()[group % groups_per_row * n..][..n];

        // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
        if tensor.layout().stored_bits() == 2 {
            for (x, byte) in x.chunks_exact_mut(4).zip(packed) {
                for (k, x) in x.iter_mut().enumerate() {
                    *x = centroids[(byte >> (2 * k) & 3) as usize] * scale;
                }
            }
        } else {
            for (x, byte) in x.chunks_exact_mut(2).zip(packed) {
                x[0] = centroids[(byte & 15) as usize] * scale;
                x[1] = centroids[(byte >> 4) as usize] * scale;
            }
        }

        // 4. inverse FWHT: butterflies, division by sqrt(n), sign
        fwht::butterflies(x);
        for (x, sign) in x.iter_mut().zip(signs) {
            *x = (f64::from(*x) / sqrt_n) as f32 * f32::from(*sign);
        }
    }
}
