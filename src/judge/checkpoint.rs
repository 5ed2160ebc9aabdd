//! The checkpoint: whether a tensor's error against its source is what the format costs.
//!
//! A group is a scale `s` times `n` centroids. A unit vector that is coded by the codebook is off by
//! `D = n * E[(x - c(x))^2]` ([`Codebook::distortion`](crate::codebook::Codebook::distortion)), so a group
//! is off by `s^2 * D`; the scale, rounded to its type, adds `ulp(s)^2 / 12`. (Where a scale is a deviation, a
//! vector of as many elements as share it is off by as many times `s^2 * D`, `D` of one element.) Random codes are off by about
//! `2 * s^2` at least: 17 to 230 times as much.

use crate::codec::{Scales, Unit};
use crate::record::{CheckpointRecord, CheckpointVerdict};
use crate::tensor::TqTensor;
use rayon::prelude::*;

/// The rms error of a tensor is off when it is so many times the expected, or the expected so many times it.
const FACTOR: f64 = 2.0;
/// Groups in a row of which each must be off for their rows to be damaged: one group by itself may hold an
/// unusual vector.
const RUN: u64 = 4;
/// Ranges of rows that are kept.
const RANGES: usize = 16;
/// Elements of a row from which on its error is near its mean. In fewer a single value that stands out
/// after the transform may double it, and all rows of a weight of low rank share such values.
const WIDE: usize = 512;
/// Rows from which on a small error is no accident of two outliers that meet a centroid each.
const MANY_ROWS: usize = 8;
/// Groups from which on a tensor is judged for an error that is too small at all.
const MANY_GROUPS: u64 = 8;

/// What is the same in all strips of a tensor.
#[derive(Debug, Clone, Copy)]
struct CodecConstants {
    bits: u32,
    group_size: usize,
    cols: usize,
    /// Expected squared error of a coded unit vector.
    distortion: f64,
    /// Squared norm of what a scale multiplies.
    square: f64,
    scales_per_group: usize,
}

impl CodecConstants {
    fn of(tensor: &TqTensor) -> Self {
        let layout = tensor.layout();
        let (n, scales) = (layout.group_size(), layout.scales());
        let (distortion, square) = match scales.unit {
            Unit::Norm => (tensor.codebook().distortion(n), 1.0),
            Unit::Deviation => (
                tensor.codebook().normal_distortion(),
                scales.elements as f64,
            ),
        };
        Self {
            bits: layout.bits(),
            group_size: layout.group_size(),
            cols: tensor.cols(),
            distortion,
            square,
            scales_per_group: layout.scales_per_group(),
        }
    }

    fn groups_per_row(self) -> u64 {
        (self.cols / self.group_size) as u64
    }

    /// How many times the expected squared error a group is off when it is damaged: midway, as a
    /// factor, between an encoder's and random codes.
    fn far(self) -> f64 {
        (2.0 / self.distortion).sqrt()
    }

    /// `4 bits in groups of 128`.
    fn words(self) -> String {
        format!("{} bits in groups of {}", self.bits, self.group_size)
    }
}

/// `sum((a - b)^2)` of a group in eight columns, which vector instructions add side by side.
fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    let mut columns = [0.0; 8];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let rest = rest_a.iter().zip(rest_b);
    let rest: f64 = rest
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in columns.iter_mut().zip(a).zip(b) {
            let d = f64::from(*a) - f64::from(*b);
            *sum += d * d;
        }
    }
    columns.iter().sum::<f64>() + rest
}

/// Sums over the groups seen so far, in row-major order: the same for any strips.
#[derive(Debug)]
pub(super) struct GroupErrorSums {
    first_row: usize,
    rows: usize,
    format: Option<CodecConstants>,
    groups: u64,
    measured: f64,
    expected: f64,
    /// The expected squared error with the rounding of every scale at its worst, and without it.
    most: f64,
    least: f64,
    /// Groups up to here that are off, without one between that is not; and those of the row so far.
    run: u64,
    run_of_row: u64,
    /// Measured and most expected squared error of each group of a row, over all rows.
    columns: Vec<[f64; 2]>,
    damaged: Vec<[usize; 2]>,
}

impl GroupErrorSums {
    /// Nothing seen of `rows` rows from `first_row` on.
    pub(super) fn new(first_row: usize, rows: usize) -> Self {
        Self {
            first_row,
            rows,
            format: None,
            groups: 0,
            measured: 0.0,
            expected: 0.0,
            most: 0.0,
            least: 0.0,
            run: 0,
            run_of_row: 0,
            columns: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Takes the next rows in, with the source's weights and the reference's values.
    pub(super) fn push(&mut self, tensor: &TqTensor, source: &[f32], reference: &[f32]) {
        let format = *self
            .format
            .get_or_insert_with(|| CodecConstants::of(tensor));
        let n = format.group_size;
        // The weight's columns: what pads its rows was zero, and is not compared.
        let cols = source.len() / tensor.rows();
        let squares: Vec<f64> = source
            .par_chunks_exact(cols)
            .zip(reference.par_chunks_exact(cols))
            .with_min_len(4)
            .flat_map_iter(|(a, b)| a.chunks(n).zip(b.chunks(n)))
            .map(|(a, b)| squared_error(a, b))
            .collect();
        for (group, squared) in squares.into_iter().enumerate() {
            self.group(format, tensor.scales(), group, squared);
        }
    }

    fn group(&mut self, format: CodecConstants, scales: &Scales, group: usize, squared: f64) {
        let (mut coded, mut step) = (0.0, 0.0);
        for i in group * format.scales_per_group..(group + 1) * format.scales_per_group {
            coded += f64::from(scales.get(i)).powi(2) * format.distortion * format.square;
            step += scales.step(i).powi(2) * format.square;
        }
        let most = coded + step / 4.0;
        self.measured += squared;
        self.expected += coded + step / 12.0;
        self.most += most;
        self.least += coded;
        let per_row = format.groups_per_row();
        let column = (self.groups % per_row) as usize;
        self.columns.resize(per_row as usize, [0.0; 2]);
        self.columns[column][0] += squared;
        self.columns[column][1] += most;
        self.groups += 1;
        // A NaN in the source is off.
        let near = squared <= format.far() * most;
        self.run = if near { 0 } else { self.run + 1 };
        if column == 0 {
            self.run_of_row = 0;
        }
        self.run_of_row += u64::from(!near);
        // A whole row of two or three is as telling.
        let needed = match self.run_of_row {
            2.. if self.run_of_row == per_row => self.run_of_row.min(RUN),
            _ => RUN.min(self.rows as u64 * per_row),
        };
        if self.run >= needed {
            let first = self.groups - needed.max(1);
            self.damage(first / format.groups_per_row(), self.groups - 1, format);
        }
    }

    /// Rows from `first` on to that of group `last` are damaged.
    fn damage(&mut self, first: u64, last: u64, format: CodecConstants) {
        let first = self.first_row + first as usize;
        let end = self.first_row + (last / format.groups_per_row()) as usize + 1;
        let kept = self.damaged.len();
        match self.damaged.last_mut() {
            Some(range) if range[1] >= first => range[1] = range[1].max(end),
            _ if kept < RANGES => self.damaged.push([first, end]),
            _ => {}
        }
    }

    /// How many times the expected a squared error may be, and must be.
    fn limits(&self, format: CodecConstants) -> (f64, f64) {
        let square = FACTOR * FACTOR;
        let wide = format.cols >= WIDE;
        // Values that stand out do so in the same group of all rows; damage knows no groups.
        let everywhere = self.columns.len() > 1
            && self
                .columns
                .iter()
                .all(|[measured, most]| *measured > square * most);
        let most = if wide || everywhere {
            square
        } else {
            square.max(format.far())
        };
        let least = match self.groups {
            0..MANY_GROUPS => 0.0,
            _ if wide && self.rows >= MANY_ROWS => 1.0 / square,
            _ => 0.01,
        };
        (most, least)
    }

    /// The record of all rows; `None` when none was seen.
    pub(super) fn finish(self) -> Option<CheckpointRecord> {
        let format = self.format?;
        let (most, least) = self.limits(format);
        let elements = (self.groups * format.group_size as u64) as f64;
        let ratio = (self.measured / self.expected).sqrt();
        // A NaN in the source is off.
        let within = self.measured <= most * self.most;
        let near = self.measured < least * self.least;
        let all = [[self.first_row, self.first_row + self.rows]];
        let (cost, other) = (format.words(), "or the source is another model's");
        let (damaged, reason) = if !self.damaged.is_empty() && self.damaged != all {
            let rows = ranges(&self.damaged);
            let what = format!("{rows} are further from the source than {cost} put them");
            (true, format!("{what}: they are damaged, {other}"))
        } else if !within || !self.damaged.is_empty() {
            let what =
                format!("the rms error against the source is {ratio:.2} times what {cost} cost");
            (true, format!("{what}: the tensor is damaged, {other}"))
        } else if near {
            let what = format!("the source is nearer than {cost} can be");
            let times = format!("rms error {ratio:.3} times the expected");
            (
                true,
                format!("{what} ({times}): it was itself made from this model"),
            )
        } else {
            let what =
                format!("the rms error against the source is {ratio:.2} times what {cost} cost");
            (false, what)
        };
        Some(CheckpointRecord {
            verdict: if damaged {
                CheckpointVerdict::DamagedOrAnotherSource
            } else {
                CheckpointVerdict::AsExpected
            },
            expected_rms: (self.expected / elements).sqrt(),
            measured_rms: (self.measured / elements).sqrt(),
            ratio,
            damaged_rows: self.damaged,
            reason,
        })
    }
}

/// The first three ranges in words.
fn ranges(all: &[[usize; 2]]) -> String {
    let first: Vec<String> = all
        .iter()
        .take(3)
        .map(|r| format!("{}..{}", r[0], r[1]))
        .collect();
    let others = if all.len() > first.len() {
        " and others"
    } else {
        ""
    };
    format!("rows {}{others}", first.join(", "))
}

#[cfg(test)]
mod tests;
