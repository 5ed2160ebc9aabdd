//! One pass over a wrong output: where it differs from the reference, and its signatures.

use super::output::Got;
use super::sets::Sets;
use crate::codec::MAX_GROUP;
use crate::record::OutputType;
use crate::reference;
use crate::tensor::TqTensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements decoded at a time in a pass over the whole tensor: it bounds memory.
const SURVEY_STRIP: usize = 1 << 20;

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
    /// Share of the elements that equal the reference, or its negative, within one step of their type.
    pub magnitudes_equal: f64,
    /// Share of the elements whose sign is the other one.
    pub signs_flipped: f64,
    /// Rows whose signs are those of another row of the reference.
    pub rows_of_other_rows: u64,
}

/// Where the output is wrong.
pub(super) struct Survey {
    /// Whether nothing is outside its allowed set, so that what differs from the rounded reference counts.
    pub(super) inside: bool,
    /// Those that count: without what pads the rows.
    pub(super) elements: u64,
    pub(super) wrong: u64,
    pub(super) wrong_per_row: Vec<u32>,
    pub(super) wrong_groups: u64,
    pub(super) positions: Vec<bool>,
    pub(super) worst: usize,
    /// First row with a wrong element, and its first group with one.
    pub(super) first: Option<(usize, usize)>,
    /// Hash of each row's signs: the reference's, then the output's. Signs survive rounding.
    pub(super) row_signs: Vec<[u64; 2]>,
    /// Elements that are -0.
    pub(super) negative_zeros: u64,
    pub(super) signature: Signature,
    /// One bit an element, each row in whole words.
    bits: Vec<u64>,
    cols: usize,
}

/// Rows in strips of bounded size: `(first, count)`.
pub(super) fn strips(tensor: &TqTensor) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rows, step) = (tensor.rows(), (SURVEY_STRIP / tensor.cols()).max(1));
    (0..rows)
        .step_by(step)
        .map(move |first| (first, step.min(rows - first)))
}

/// The reference of some rows, before rounding.
pub(super) fn reference(tensor: &TqTensor, first: usize, count: usize) -> Vec<f32> {
    let rows = tensor
        .slice_rows(first..first + count)
        .expect("rows of this tensor");
    reference::dequantize(&rows)
}

/// FNV-1a over the signs of a row; a zero counts as positive.
pub(super) fn sign_hash(row: &[f32]) -> u64 {
    row.chunks(64).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let signs = chunk
            .iter()
            .fold(0u64, |bits, v| bits << 1 | u64::from(*v < 0.0));
        (hash ^ signs).wrapping_mul(0x0100_0000_01b3)
    })
}

/// One step of a type, relative to a value.
pub(super) fn step(of: OutputType) -> f32 {
    match of {
        OutputType::Bf16 => 1.0 / 128.0,
        OutputType::F16 => 1.0 / 1024.0,
        // Of what an f32 kernel is off in its last bits.
        OutputType::F32 => 1.0 / 1_048_576.0,
    }
}

/// What one row gives to the survey.
struct RowErrors {
    wrong: u32,
    wrong_groups: u64,
    first_group: Option<usize>,
    worst: (usize, f32),
    dot: f64,
    got_square: f64,
    expected_square: f64,
    magnitudes: u64,
    flipped: u64,
    negative_zeros: u64,
    signs: [u64; 2],
    positions: [bool; MAX_GROUP],
    bits: Vec<u64>,
}

impl RowErrors {
    fn of(
        row: usize,
        reference: &[f32],
        got: &Got<'_>,
        sets: &Sets<'_>,
        n: usize,
        inside: bool,
    ) -> Self {
        let bits = vec![0; reference.len().div_ceil(64)];
        let (mut values, reference) = (got.row(row), &reference[..got.width()]);
        values.truncate(got.width());
        let expected: Vec<f32> = reference.iter().map(|r| got.round(*r)).collect();
        let mut s = Self {
            worst: (0, f32::NEG_INFINITY),
            signs: [sign_hash(&expected), sign_hash(&values)],
            positions: [false; MAX_GROUP],
            wrong: 0,
            wrong_groups: 0,
            first_group: None,
            dot: 0.0,
            got_square: 0.0,
            expected_square: 0.0,
            magnitudes: 0,
            flipped: 0,
            negative_zeros: 0,
            bits,
        };
        let step = step(got.of());
        let mut wrong = [false; MAX_GROUP];
        let groups = expected.chunks(n).zip(values.chunks(n));
        for (group, (e, g)) in groups.enumerate() {
            let before = s.wrong;
            let first = group * n;
            if inside {
                wrong
                    .iter_mut()
                    .zip(g.iter().zip(e))
                    .for_each(|(w, (g, e))| *w = g != e);
            } else {
                sets.outside(
                    (row, group),
                    &reference[first..first + g.len()],
                    g,
                    &mut wrong,
                );
            }
            for (i, (e, g)) in e.iter().zip(g).enumerate() {
                s.magnitudes += u64::from((g.abs() - e.abs()).abs() <= step * e.abs());
                s.negative_zeros += u64::from(g.to_bits() == 1 << 31);
                let diff = (g - e).abs();
                let (e, g) = (f64::from(*e), f64::from(*g));
                if g.is_finite() {
                    s.dot += e * g;
                    s.got_square += g * g;
                    s.expected_square += e * e;
                    s.flipped += u64::from(e * g < 0.0);
                }
                if !wrong[i] {
                    continue;
                }
                s.wrong += 1;
                s.positions[i] = true;
                s.bits[(first + i) / 64] |= 1 << ((first + i) % 64);
                let diff = if diff.is_nan() { f32::INFINITY } else { diff };
                if diff > s.worst.1 {
                    s.worst = (first + i, diff);
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
    /// What is outside its allowed set; where nothing is, what differs from the rounded reference.
    pub(super) fn new(tensor: &TqTensor, got: &Got<'_>) -> Self {
        let outside = Self::of(tensor, got, false);
        if outside.wrong > 0 {
            outside
        } else {
            Self::of(tensor, got, true)
        }
    }

    fn of(tensor: &TqTensor, got: &Got<'_>, inside: bool) -> Self {
        let (cols, n) = (tensor.cols(), tensor.layout().group_size());
        let sets = Sets::new(tensor, got.of());
        let mut s = Self {
            inside,
            elements: (tensor.rows() * got.width()) as u64,
            wrong: 0,
            wrong_per_row: Vec::with_capacity(tensor.rows()),
            wrong_groups: 0,
            positions: vec![false; n],
            worst: 0,
            first: None,
            row_signs: Vec::with_capacity(tensor.rows()),
            negative_zeros: 0,
            signature: Signature {
                cosine: 0.0,
                norm_ratio: 0.0,
                magnitudes_equal: 0.0,
                signs_flipped: 0.0,
                rows_of_other_rows: 0,
            },
            bits: Vec::with_capacity(tensor.rows() * cols.div_ceil(64)),
            cols,
        };
        let mut worst = f32::NEG_INFINITY;
        let (mut dot, mut got_square, mut expected_square) = (0.0, 0.0, 0.0);
        let (mut magnitudes, mut flipped) = (0, 0);
        for (first, count) in strips(tensor) {
            // Collected, then added in order: the same sums whatever the number of threads.
            let rows: Vec<RowErrors> = reference(tensor, first, count)
                .par_chunks(cols)
                .enumerate()
                .map(|(i, r)| RowErrors::of(first + i, r, got, &sets, n, inside))
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
                s.negative_zeros += row.negative_zeros;
                s.bits.extend(row.bits);
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
            magnitudes_equal: magnitudes as f64 / s.elements as f64,
            signs_flipped: flipped as f64 / s.elements as f64,
            rows_of_other_rows: s.row_map().flatten().count() as u64,
        };
        s
    }

    /// Whether an element is wrong.
    pub(super) fn wrong_at(&self, row: usize, col: usize) -> bool {
        let word = self.bits[row * self.cols.div_ceil(64) + col / 64];
        word >> (col % 64) & 1 == 1
    }

    /// Whether anything in a group of `n` is wrong.
    pub(super) fn wrong_group(&self, row: usize, group: usize, n: usize) -> bool {
        (group * n..(group + 1) * n).any(|col| self.wrong_at(row, col))
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
