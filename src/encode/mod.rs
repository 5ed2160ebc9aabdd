//! The encoder: from a plain weight to codes, scales and signs.
//!
//! For a layout that is [plain](Layout::is_plain) steps and rounding follow the published Python encoder, so that
//! files come out byte for byte as its do: f32 throughout, the transform ends with a division by f32 `sqrt(n)`,
//! and the norm is the square root of NumPy's sum of squares. Every other codec has the encoder of [`fitted`].

mod fitted;
mod groups;

use crate::codebook::Codebook;
use crate::codec::{Codec, MAX_GROUP, Scales, Unit};
use crate::error::{Error, Result};
use crate::fwht;
use crate::tensor::{Layout, Parts, TqTensor};
use crate::widest::widest;
use half::f16;
use rayon::prelude::*;
use std::sync::Arc;

/// Groups handed to a thread at a time.
const GROUPS_PER_TASK: usize = 256;

/// Quantises `weight`, `[rows, cols]` row-major, with one sign (+1 or -1) per column.
///
/// # Errors
/// When the shape does not fit, a value is not finite, or a scale is beyond its type.
pub fn quantize(
    base: &str,
    weight: &[f32],
    cols: usize,
    layout: Layout,
    signs: &[i8],
    codebook: &Arc<Codebook>,
) -> Result<TqTensor> {
    quantize_rows(base, 0, weight, cols, layout, signs, codebook)
}

/// [`quantize`] for some rows of a weight, of which the first has the number `first_row`: errors name
/// the row in the whole weight.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_rows(
    base: &str,
    first_row: usize,
    weight: &[f32],
    cols: usize,
    layout: Layout,
    signs: &[i8],
    codebook: &Arc<Codebook>,
) -> Result<TqTensor> {
    let n = layout.group_size();
    if cols == 0 || !cols.is_multiple_of(n) || !weight.len().is_multiple_of(cols) {
        return Err(Error::input(
            format!(
                "{} values in rows of {cols} cannot be cut into groups of {n}",
                weight.len()
            ),
            base,
            "quantise only weights whose input dimension is a multiple of the group size",
        ));
    }
    if signs.len() != cols || codebook.centroids().len() != layout.levels() {
        return Err(Error::input(
            format!(
                "{} signs and {} centroids found, expected {cols} and {}",
                signs.len(),
                codebook.centroids().len(),
                layout.levels()
            ),
            base,
            "",
        ));
    }
    let mut packed = vec![0u8; layout.packed_len(weight.len())];
    let scales = if layout.is_plain() {
        plain(weight, cols, layout, signs, codebook, &mut packed)
    } else {
        let codec = Codec {
            layout,
            codebook: Arc::clone(codebook),
        };
        any(weight, cols, &codec, signs, &mut packed)
    };
    let scales = scales.map_err(|first| {
        let at = |i: usize| format!("row {}, column {}", first_row + i / cols, i % cols);
        let start = first / n * n;
        // A value that is not finite makes its group's norm so: looked for only then.
        if let Some(k) = weight[start..start + n].iter().position(|v| !v.is_finite()) {
            return Error::input(
                format!("value {} at {}", weight[start + k], at(start + k)),
                base,
                "a weight with NaN or infinity cannot be quantised; leave it out",
            );
        }
        let what = match layout.scales().unit {
            Unit::Norm => "norm of the group",
            Unit::Deviation => "scale",
        };
        let stored = layout.scales().stored;
        Error::input(
            format!(
                "the {what} at {} is beyond {}, of which at most {} is read",
                at(first),
                stored.name(),
                fitted::most(stored)
            ),
            base,
            "such a weight cannot be quantised; leave it out",
        )
    })?;
    TqTensor::new(
        base,
        layout,
        [weight.len() / cols, cols],
        Parts {
            packed,
            scales,
            signs: signs.to_vec(),
        },
        Arc::clone(codebook),
    )
}

/// A group of a weight as its codes see it: signs, transform, the signs before the transform. A row's last group may
/// be shorter than `x`, a whole one: what pads it is zero.
pub(crate) fn transform(weight: &[f32], signs: &[i8], layout: Layout, x: &mut [f32]) {
    let (there, padding) = x.split_at_mut(weight.len());
    for ((x, w), sign) in there.iter_mut().zip(weight).zip(signs) {
        *x = w * f32::from(*sign);
    }
    padding.fill(0.0);
    fwht::forward(x);
    if let Some(before) = layout.signs_before() {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= f32::from(before.of(i));
        }
    }
}

/// The codes of up to a group's transformed elements under a scale: [`Codebook::encode`] of each.
pub(crate) fn nearest_codes(codebook: &Codebook, x: &[f32], scale: f32, codes: &mut [u8]) {
    boundaries_below(
        &codebook.boundaries()[1..codebook.centroids().len()],
        x,
        scale,
        codes,
    );
}

widest! {
    /// How many of the boundaries are below each element over the scale.
    fn boundaries_below(boundaries: &[f32], x: &[f32], scale: f32, below: &mut [u8]) {
        let (mut values, mut counts) = ([0.0; MAX_GROUP], [0; MAX_GROUP]);
        let (values, counts) = (&mut values[..x.len()], &mut counts[..x.len()]);
        // Under the scale 0 all codes decode to 0.
        if scale != 0.0 {
            for (value, x) in values.iter_mut().zip(x) {
                *value = x / scale;
            }
        }
        for boundary in boundaries {
            for (count, value) in counts.iter_mut().zip(&*values) {
                *count += i32::from(boundary < value);
            }
        }
        for (below, count) in below.iter_mut().zip(counts) {
            *below = *count as u8;
        }
    }
}

/// Encodes by the published encoder; the error is the first element under a scale beyond its type.
fn plain(
    weight: &[f32],
    cols: usize,
    layout: Layout,
    signs: &[i8],
    codebook: &Codebook,
    packed: &mut [u8],
) -> Result<Scales, usize> {
    let n = layout.group_size();
    let mut scales = vec![f16::ZERO; weight.len() / n];
    packed
        .par_chunks_mut(GROUPS_PER_TASK * layout.packed_group())
        .zip(scales.par_chunks_mut(GROUPS_PER_TASK))
        .zip(weight.par_chunks(GROUPS_PER_TASK * n))
        .enumerate()
        .for_each(|(task, ((packed, scales), weight))| {
            let first_col = task * GROUPS_PER_TASK * n % cols;
            groups::encode(weight, first_col, layout, signs, codebook, packed, scales);
        });
    match scales.iter().position(|s| !s.is_finite()) {
        Some(group) => Err(group * n),
        None => Ok(scales.into()),
    }
}

/// The same for any other codec.
fn any(
    weight: &[f32],
    cols: usize,
    codec: &Codec,
    signs: &[i8],
    packed: &mut [u8],
) -> Result<Scales, usize> {
    let layout = codec.layout;
    let (n, shared) = (layout.group_size(), layout.scales().elements);
    let mut scales = vec![0.0; weight.len() / shared];
    packed
        .par_chunks_mut(GROUPS_PER_TASK * layout.packed_group())
        .zip(scales.par_chunks_mut(GROUPS_PER_TASK * layout.scales_per_group()))
        .zip(weight.par_chunks(GROUPS_PER_TASK * n))
        .enumerate()
        .for_each(|(task, ((packed, scales), weight))| {
            let first_col = task * GROUPS_PER_TASK * n % cols;
            fitted::encode(weight, first_col, codec, signs, packed, scales);
        });
    match scales.iter().position(|s| !s.is_finite()) {
        Some(part) => Err(part * shared),
        None => Ok(fitted::stored(layout.scales().stored, &scales)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any bits: NaN, infinities and subnormals among them.
        #[test]
        fn codes_of_many_are_those_of_each(
            x in prop::collection::vec(prop::num::f32::ANY, 0..=MAX_GROUP),
            near in prop::collection::vec(-4f32..4.0, 0..=MAX_GROUP),
            scale in prop_oneof![Just(0.0), 1e-3f32..10.0, prop::num::f32::ANY],
            bits in 2u32..=4,
        ) {
            let codebook = Codebook::encoder(bits, 128);
            for x in [x, near] {
                let each = x.iter().map(|x| if scale == 0.0 { 0.0 } else { x / scale });
                let each: Vec<u8> = each.map(|v| codebook.encode(v)).collect();
                let mut codes = vec![u8::MAX; x.len()];
                nearest_codes(&codebook, &x, scale, &mut codes);
                prop_assert_eq!(codes, each);
            }
        }
    }
}
