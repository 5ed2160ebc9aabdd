//! One pass over a wrong output: where it differs from the reference, and its signatures.

use crate::metrics::bf16_steps;
use crate::reference;
use crate::tensor::{GROUP_SIZES, TqTensor};
use half::bf16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements decoded at a time in a pass over the whole tensor: it bounds memory.
const STRIP: usize = 1 << 20;
/// Largest group size.
const MAX_GROUP: usize = GROUP_SIZES[GROUP_SIZES.len() - 1];

/// What an output has in common with the reference as a whole: cheap to measure, and enough to tell
/// families of faults apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// Cosine of the angle between output and reference, over elements that are finite in both.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub cosine: f64,
    /// Norm of the output over that of the reference, over the same elements.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub norm_ratio: f64,
    /// Share of the elements that equal the reference, or its negative, within one BF16 step.
    pub magnitudes_equal: f64,
    /// Share of the elements whose sign is the other one.
    pub signs_flipped: f64,
    /// Rows whose signs are those of another row of the reference.
    pub rows_of_other_rows: u64,
}

/// Where the output differs from the reference by more than `tolerance` BF16 steps.
pub(super) struct Survey {
    pub(super) tolerance: u32,
    pub(super) wrong: u64,
    pub(super) wrong_per_row: Vec<u32>,
    pub(super) wrong_groups: u64,
    pub(super) positions: Vec<bool>,
    pub(super) worst: usize,
    /// First row with a wrong element, and its first group with one.
    pub(super) first: Option<(usize, usize)>,
    /// Hash of each row's signs: the reference's, then the output's. Signs survive the last-bit rule.
    pub(super) row_signs: Vec<[u64; 2]>,
    pub(super) signature: Signature,
}

/// Rows in strips of bounded size: `(first, count)`.
pub(super) fn strips(tensor: &TqTensor) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rows, step) = (tensor.rows(), (STRIP / tensor.cols()).max(1));
    (0..rows)
        .step_by(step)
        .map(move |first| (first, step.min(rows - first)))
}

/// The rounded reference of some rows.
pub(super) fn correct(tensor: &TqTensor, first: usize, count: usize) -> Vec<bf16> {
    let rows = tensor
        .slice_rows(first..first + count)
        .expect("rows of this tensor");
    let mut out = vec![bf16::ZERO; rows.elements()];
    reference::dequantize_bf16_into(&rows, &mut out);
    out
}

/// FNV-1a over the signs of a row; a zero counts as positive.
fn sign_hash(row: &[bf16]) -> u64 {
    row.chunks(64).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let signs = chunk.iter().fold(0u64, |bits, v| {
            bits << 1 | u64::from(v.is_sign_negative() && *v != bf16::ZERO)
        });
        (hash ^ signs).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What one row gives to the survey.
struct Row {
    wrong: u32,
    wrong_groups: u64,
    first_group: Option<usize>,
    worst: (usize, f32),
    dot: f64,
    got_square: f64,
    expected_square: f64,
    magnitudes: u64,
    flipped: u64,
    signs: [u64; 2],
    positions: [bool; MAX_GROUP],
}

impl Row {
    fn of(expected: &[bf16], got: &[bf16], n: usize, tolerance: u32) -> Self {
        let mut s = Self {
            worst: (0, f32::NEG_INFINITY),
            signs: [sign_hash(expected), sign_hash(got)],
            positions: [false; MAX_GROUP],
            wrong: 0,
            wrong_groups: 0,
            first_group: None,
            dot: 0.0,
            got_square: 0.0,
            expected_square: 0.0,
            magnitudes: 0,
            flipped: 0,
        };
        for (group, (e, g)) in expected.chunks(n).zip(got.chunks(n)).enumerate() {
            let before = s.wrong;
            for (i, (e, g)) in e.iter().zip(g).enumerate() {
                let steps = bf16_steps(*g, *e);
                s.magnitudes += u64::from(steps <= 1 || bf16_steps(-*g, *e) <= 1);
                let (e, g) = (f64::from(e.to_f32()), f64::from(g.to_f32()));
                if e.is_finite() && g.is_finite() {
                    s.dot += e * g;
                    s.got_square += g * g;
                    s.expected_square += e * e;
                    s.flipped += u64::from(e * g < 0.0);
                }
                if steps <= tolerance {
                    continue;
                }
                s.wrong += 1;
                s.positions[i] = true;
                let diff = (g - e).abs() as f32;
                let diff = if diff.is_nan() { f32::INFINITY } else { diff };
                if diff > s.worst.1 {
                    s.worst = (group * n + i, diff);
                }
            }
            if s.wrong > before {
                s.wrong_groups += 1;
                s.first_group.get_or_insert(group);
            }
        }
        s
    }
}

impl Survey {
    /// What is wrong beyond the last-bit rule of a GPU lane, or else within it.
    pub(super) fn new(tensor: &TqTensor, got: &[bf16]) -> Self {
        let beyond = Self::of(tensor, got, 1);
        if beyond.wrong > 0 {
            beyond
        } else {
            Self::of(tensor, got, 0)
        }
    }

    fn of(tensor: &TqTensor, got: &[bf16], tolerance: u32) -> Self {
        let (cols, n) = (tensor.cols(), tensor.layout().group_size());
        let mut s = Self {
            tolerance,
            wrong: 0,
            wrong_per_row: Vec::with_capacity(tensor.rows()),
            wrong_groups: 0,
            positions: vec![false; n],
            worst: 0,
            first: None,
            row_signs: Vec::with_capacity(tensor.rows()),
            signature: Signature {
                cosine: 0.0,
                norm_ratio: 0.0,
                magnitudes_equal: 0.0,
                signs_flipped: 0.0,
                rows_of_other_rows: 0,
            },
        };
        let mut worst = f32::NEG_INFINITY;
        let (mut dot, mut got_square, mut expected_square) = (0.0, 0.0, 0.0);
        let (mut magnitudes, mut flipped) = (0, 0);
        for (first, count) in strips(tensor) {
            let expected = correct(tensor, first, count);
            let got = &got[first * cols..(first + count) * cols];
            // Collected, then added in order: the same sums whatever the number of threads.
            let rows: Vec<Row> = expected
                .par_chunks(cols)
                .zip(got.par_chunks(cols))
                .map(|(e, g)| Row::of(e, g, n, tolerance))
                .collect();
            for row in rows {
                if row.worst.1 > worst {
                    worst = row.worst.1;
                    s.worst = s.wrong_per_row.len() * cols + row.worst.0;
                }
                if let (None, Some(group)) = (s.first, row.first_group) {
                    s.first = Some((s.wrong_per_row.len(), group));
                }
                s.wrong += u64::from(row.wrong);
                s.wrong_per_row.push(row.wrong);
                s.wrong_groups += row.wrong_groups;
                s.row_signs.push(row.signs);
                for (all, one) in s.positions.iter_mut().zip(row.positions) {
                    *all |= one;
                }
                dot += row.dot;
                got_square += row.got_square;
                expected_square += row.expected_square;
                magnitudes += row.magnitudes;
                flipped += row.flipped;
            }
        }
        // A norm of zero makes no angle.
        let over = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        s.signature = Signature {
            cosine: over(dot, got_square.sqrt() * f64::sqrt(expected_square)),
            norm_ratio: over(got_square.sqrt(), expected_square.sqrt()),
            magnitudes_equal: magnitudes as f64 / tensor.elements() as f64,
            signs_flipped: flipped as f64 / tensor.elements() as f64,
            rows_of_other_rows: s.row_map().flatten().count() as u64,
        };
        s
    }

    /// For each row, the other row whose output it holds, as far as its signs tell.
    pub(super) fn row_map(&self) -> impl Iterator<Item = Option<usize>> {
        let mut by_hash = std::collections::HashMap::new();
        for (row, [expected, _]) in self.row_signs.iter().enumerate() {
            by_hash.entry(*expected).or_insert(row);
        }
        self.row_signs.iter().map(move |[expected, got]| {
            if expected == got {
                None
            } else {
                by_hash.get(got).copied()
            }
        })
    }
}
