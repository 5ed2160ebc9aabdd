//! Faults of the signs before and after the transform.

use super::{FaultEntry, always, one_if, row};
use crate::fault::pipeline::SignSource;
use crate::tensor::TqTensor;

/// Ahead of a reversed codebook and of inverted signs, which it mostly is the same function as and likelier than.
#[rustfmt::skip]
pub(super) static NEGATED: &[FaultEntry] = &[
    row("output_negated", always, |p, _| p.negated ^= true,
        "every element has the other sign: look at the last factor"),
];

#[rustfmt::skip]
pub(super) static TABLE: &[FaultEntry] = &[
    row("signs_omitted", always, |p, _| p.signs[1] = SignSource::None,
        "the result is not multiplied by the signs"),
    row("signs_inverted", always, |p, _| p.read_sign = |s| -f32::from(s),
        "the signs are read the other way round: look at how a bit or a byte becomes +1 or -1"),
    row("signs_as_0_or_1", always, |p, _| p.read_sign = |s| f32::from(s.max(0)),
        "a sign of -1 is read as 0: the signs are stored as bytes of +1 and -1"),
    row("signs_before_transform", only_after, |p, _| p.signs = [SignSource::Columns, SignSource::None],
        "the signs belong after the inverse transform"),
    row("signs_exchanged", both_ends, |p, _| p.signs = [SignSource::Columns, SignSource::Before],
        "the signs before the transform and those after it are exchanged"),
    row("signs_before_omitted", both_ends, |p, _| p.signs[0] = SignSource::None,
        "the centroids are not multiplied by the signs that come before the transform"),
    row("signs_of_next_group", always, |p, _| p.sign_shift += p.n as isize,
        "the signs of another group are read: look at the column offset"),
    row("signs_of_previous_group", always, |p, _| p.sign_shift -= p.n as isize,
        "the signs of another group are read: look at the column offset"),
    row("signs_off_by_one_up", always, |p, _| p.sign_shift += 1,
        "the sign of the next column is read: look at its index"),
    row("signs_off_by_one_down", always, |p, _| p.sign_shift -= 1,
        "the sign of the previous column is read: look at its index"),
    row("signs_modulo_{}", first_signs, |p, k| p.sign_modulo = k.max(1),
        "the first {} signs are read for every column: they are as many as columns"),
];

fn only_after(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().signs_before().is_none())
}

fn both_ends(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().signs_before().is_some())
}

/// As many as a group has, and as the most usual group has.
fn first_signs(t: &TqTensor) -> Vec<usize> {
    let mut sizes = vec![t.layout().group_size(), 128];
    sizes.dedup();
    sizes.retain(|k| *k < t.cols());
    sizes
}
