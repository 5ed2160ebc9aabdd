//! The encoder's inner loop: eight groups side by side.
//!
//! Element `k` of all eight is one array, so that every step is the same operation on eight lanes and
//! the compiler makes vector instructions of it. Each lane sees the operations of the plain encoder in
//! their order, so the bits are the same.

use crate::codebook::Codebook;
use crate::tensor::Layout;
use half::f16;

/// Smallest group norm the encoder divides by.
const MIN_NORM: f32 = 1e-10;
/// Groups side by side.
const LANES: usize = 8;

/// One element of every group.
type Lanes = [f32; LANES];

/// Encodes whole groups: `weight` into `packed` and `scales`. The first group starts in column
/// `first_col` of its row; `signs` holds the sign of each column of the whole row.
pub(super) fn encode(
    weight: &[f32],
    first_col: usize,
    layout: Layout,
    signs: &[i8],
    codebook: &Codebook,
    packed: &mut [u8],
    scales: &mut [f16],
) {
    let n = layout.group_size();
    let interior = &codebook.boundaries()[1..layout.levels()];
    let mut x = vec![[0.0; LANES]; n];
    let mut codes = vec![[0; LANES]; n];
    let mut col = first_col;
    for ((packed, scales), weight) in packed
        .chunks_mut(LANES * layout.packed_group())
        .zip(scales.chunks_mut(LANES))
        .zip(weight.chunks(LANES * n))
    {
        // The last round may have fewer groups; the lanes left over hold older values, unused.
        for (lane, group) in weight.chunks_exact(n).enumerate() {
            for ((x, w), s) in x.iter_mut().zip(group).zip(&signs[col..col + n]) {
                x[lane] = w * f32::from(*s);
            }
            col = (col + n) % signs.len();
        }
        forward(&mut x);
        // Not `max`, which would hide a NaN.
        let norms = sum_of_squares(&x).map(|s| match s.sqrt() {
            small if small < MIN_NORM => MIN_NORM,
            norm => norm,
        });
        for (scale, norm) in scales.iter_mut().zip(norms) {
            *scale = f16::from_f32(norm);
        }
        for (code, x) in codes.iter_mut().zip(&x) {
            *code = search(interior, x, &norms);
        }
        pack(&codes, layout, packed);
    }
}

/// Butterflies with strides 1, 2, 4, ..., lower minus upper, then a division by f32 `sqrt(n)`.
fn forward(x: &mut [Lanes]) {
    let mut stride = 1;
    while stride < x.len() {
        for block in x.chunks_exact_mut(2 * stride) {
            let (lower, upper) = block.split_at_mut(stride);
            for (l, u) in lower.iter_mut().zip(upper) {
                for (l, u) in l.iter_mut().zip(u) {
                    let (a, b) = (*l, *u);
                    *l = a + b;
                    *u = a - b;
                }
            }
        }
        stride *= 2;
    }
    let root = (x.len() as f32).sqrt();
    for v in x.iter_mut().flatten() {
        *v /= root;
    }
}

/// NumPy's pairwise sum of squares: blocks of up to 128 values in eight running sums over stride 8,
/// larger arrays halved.
fn sum_of_squares(x: &[Lanes]) -> Lanes {
    let add = |a: Lanes, b: Lanes| -> Lanes { std::array::from_fn(|l| a[l] + b[l]) };
    if x.len() > 128 {
        let (low, high) = x.split_at(x.len() / 2);
        return add(sum_of_squares(low), sum_of_squares(high));
    }
    let mut r = [[0.0f32; LANES]; 8];
    for eight in x.chunks_exact(8) {
        for (r, v) in r.iter_mut().zip(eight) {
            for (r, v) in r.iter_mut().zip(v) {
                *r += v * v;
            }
        }
    }
    add(
        add(add(r[0], r[1]), add(r[2], r[3])),
        add(add(r[4], r[5]), add(r[6], r[7])),
    )
}

/// The codes of one element of every group: the number of interior boundaries below `x / norm`.
fn search(interior: &[f32], x: &Lanes, norms: &Lanes) -> [u8; LANES] {
    let v: Lanes = std::array::from_fn(|l| x[l] / norms[l]);
    let mut below = [0u32; LANES];
    for b in interior {
        for (n, v) in below.iter_mut().zip(&v) {
            *n += u32::from(b < v);
        }
    }
    below.map(|n| n as u8)
}

/// Packs codes, low bits first, into as many groups as `packed` holds.
fn pack(codes: &[[u8; LANES]], layout: Layout, packed: &mut [u8]) {
    let bits = layout.stored_bits();
    let per_byte = 8 / bits as usize;
    for (lane, packed) in packed.chunks_exact_mut(layout.packed_group()).enumerate() {
        for (byte, codes) in packed.iter_mut().zip(codes.chunks_exact(per_byte)) {
            *byte = codes.iter().rev().fold(0, |byte, c| byte << bits | c[lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fwht;
    use proptest::prelude::*;

    /// One group after another, as the published encoder is written.
    fn plain(weight: &[f32], signs: &[i8], layout: Layout, book: &Codebook) -> (Vec<u8>, Vec<f16>) {
        let n = layout.group_size();
        let (mut packed, mut scales) = (Vec::new(), Vec::new());
        for (g, group) in weight.chunks(n).enumerate() {
            let start = g * n % signs.len();
            let mut x: Vec<f32> = group
                .iter()
                .zip(&signs[start..])
                .map(|(w, s)| w * f32::from(*s))
                .collect();
            fwht::forward(&mut x);
            let sums: Vec<f32> = x
                .chunks(128)
                .map(|x| {
                    let mut r = [0.0f32; 8];
                    for (i, v) in x.iter().enumerate() {
                        r[i % 8] += v * v;
                    }
                    ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
                })
                .collect();
            let norm = sums.into_iter().reduce(|a, b| a + b).unwrap().sqrt();
            let norm = norm.max(1e-10);
            scales.push(f16::from_f32(norm));
            let codes: Vec<u8> = x.iter().map(|v| book.encode(v / norm)).collect();
            match layout.stored_bits() {
                2 => packed.extend(
                    codes
                        .chunks(4)
                        .map(|c| c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6),
                ),
                _ => packed.extend(codes.chunks(2).map(|c| c[0] | c[1] << 4)),
            }
        }
        (packed, scales)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn eight_groups_side_by_side_give_the_bytes_of_one_after_another(
            bits in 2u32..=4,
            log in 5u32..=8,
            groups in 1usize..40,
            per_row in 1usize..5,
            exponent in -30i32..5,
            seed in any::<u64>(),
        ) {
            let layout = Layout::new(bits, 1 << log).unwrap();
            let n = layout.group_size();
            let mut rng = crate::synthetic::Rng::new(seed);
            let signs = rng.signs(per_row * n);
            let book = Codebook::lloyd_max(bits, n);
            let weight: Vec<f32> = (0..groups * n)
                .map(|i| match i / n % 7 {
                    6 => 0.0,
                    _ => rng.normal() * 2f32.powi(exponent),
                })
                .collect();
            let mut packed = vec![0; layout.packed_len(weight.len())];
            let mut scales = vec![f16::ZERO; groups];
            encode(&weight, 0, layout, &signs, &book, &mut packed, &mut scales);
            let expected = plain(&weight, &signs, layout, &book);
            prop_assert_eq!(packed, expected.0);
            prop_assert_eq!(scales, expected.1);
        }
    }
}
