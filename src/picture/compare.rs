//! The pictures of one lane against another.

use super::grid::{Grid, GridCell, bin_range};
use super::limit::{ElementLimit, GroupLimit, type_of};
use super::scatter::{CellCounts, Scatter};
use super::{GROUP_BINS, ROW_BINS};
use crate::fault::{Fault, emulate};
use crate::metrics::{Values, bf16_steps};
use crate::record::{OutputType, Tolerance};
use crate::tensor::TqTensor;
use half::bf16;
use rayon::prelude::*;
use serde::Serialize;

/// Bins of the distance in BF16 steps: 0, 1, 2, 3 to 4, 5 to 8 and so on to 65534, then NaN.
pub const STEP_BINS: usize = 19;
/// Elements listed.
const WORST: usize = 12;

/// One lane against another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The compared lane.
    pub lhs: String,
    /// What it is held to.
    pub rhs: String,
    /// Elements compared.
    pub elements: u64,
    /// Error against magnitude.
    pub scatter: Scatter,
    /// Elements by distance in BF16 steps, in [`STEP_BINS`] bins; see [`step_label`].
    pub steps: Vec<u64>,
    /// Error by row and group.
    pub by_group: Grid,
    /// Error by row and position within the group.
    pub by_position: Grid,
    /// The elements that are furthest off, NaN before all others.
    pub worst: Vec<WorstElement>,
}

/// One element with all that made it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorstElement {
    /// Row in the whole tensor.
    pub row: usize,
    /// Column.
    pub col: usize,
    /// Its code.
    pub code: u8,
    /// The centroid that the code stands for.
    pub centroid: f32,
    /// Scale of its group.
    pub scale: f32,
    /// Sign of its column.
    pub sign: i8,
    /// Value of the compared lane; null in JSON when it is not finite.
    pub lhs: f32,
    /// Value that it is held to.
    pub rhs: f32,
    /// Distance in BF16 steps; 65535 where one side is NaN.
    pub steps: u32,
}

/// Where the left-hand side comes from.
#[derive(Clone, Copy)]
pub(super) enum Lhs<'a> {
    /// A lane's output.
    Values(Values<'a>),
    /// A decoder with these faults, run as it is needed.
    Emulated(&'a [Fault]),
}

/// What the left-hand side is held to.
#[derive(Clone, Copy)]
pub(super) enum Rhs<'a> {
    /// The source, from which the format alone differs.
    Source(Values<'a>),
    /// The reference, with what the user tolerates.
    Reference(Values<'a>, Option<Tolerance>),
}

impl Lhs<'_> {
    fn of(self) -> OutputType {
        match self {
            Self::Values(values) => type_of(values),
            Self::Emulated(_) => OutputType::Bf16,
        }
    }
}

/// The bin of a distance in BF16 steps.
fn step_bin(steps: u32) -> usize {
    match steps {
        0 => 0,
        65535.. => STEP_BINS - 1,
        _ => 1 + (u32::BITS - (steps - 1).leading_zeros()) as usize,
    }
}

/// What the bin of a step histogram holds.
pub fn step_label(bin: usize) -> String {
    match bin {
        0..=2 => bin.to_string(),
        b if b == STEP_BINS - 1 => "NaN".into(),
        b if b == STEP_BINS - 2 => "over 32768".into(),
        b => format!("{} to {}", (1 << (b - 2)) + 1, 1 << (b - 1)),
    }
}

/// What one bin of rows gives.
struct BinErrors {
    by_group: Vec<GridCell>,
    by_position: Vec<GridCell>,
    steps: [u64; STEP_BINS],
    worst: Vec<(f32, usize, f32, f32)>,
}

impl Comparison {
    pub(super) fn new(
        tensor: &TqTensor,
        row_start: usize,
        (lhs_name, lhs): (&str, Lhs<'_>),
        (rhs_name, rhs): (&str, Rhs<'_>),
    ) -> Self {
        let (rhs, limit) = match rhs {
            Rhs::Source(values) => (values, None),
            Rhs::Reference(values, tolerance) => {
                (values, Some(ElementLimit::new(tensor, lhs.of(), tolerance)))
            }
        };
        let (rows, n) = (tensor.rows(), tensor.layout().group_size());
        let row_bins = rows.min(ROW_BINS);
        let group_bins = tensor.groups_per_row().min(GROUP_BINS);
        // Each bin of rows is one task, and its sums run in order: the same on any number of threads.
        let (strips, counts): (Vec<Vec<(usize, BinErrors)>>, Vec<CellCounts>) = (0..row_bins)
            .into_par_iter()
            .fold(
                || (Vec::new(), CellCounts::new()),
                |(mut strips, mut counts), bin| {
                    let range = bin_range(bin, row_bins, rows);
                    let rhs = (rhs, limit.as_ref());
                    strips.push((bin, strip(tensor, lhs, rhs, range, group_bins, &mut counts)));
                    (strips, counts)
                },
            )
            .collect::<Vec<_>>()
            .into_iter()
            .unzip();
        let counts = counts.iter().fold(CellCounts::new(), CellCounts::merge);
        let mut strips: Vec<(usize, BinErrors)> = strips.into_iter().flatten().collect();
        strips.sort_by_key(|(bin, _)| *bin);
        let mut steps = vec![0; STEP_BINS];
        for (_, strip) in &strips {
            steps.iter_mut().zip(strip.steps).for_each(|(a, b)| *a += b);
        }
        let mut worst: Vec<_> = strips.iter().flat_map(|(_, s)| s.worst.clone()).collect();
        keep_worst(&mut worst);
        let cells = |of: fn(&BinErrors) -> &Vec<GridCell>| {
            let all: Vec<GridCell> = strips.iter().flat_map(|(_, s)| of(s).clone()).collect();
            all.into_iter()
        };
        Self {
            lhs: lhs_name.into(),
            rhs: rhs_name.into(),
            elements: tensor.elements() as u64,
            scatter: counts.finish(),
            steps,
            by_group: Grid::new(row_bins, group_bins, cells(|s| &s.by_group)),
            by_position: Grid::new(row_bins, n, cells(|s| &s.by_position)),
            worst: worst
                .into_iter()
                .map(|(_, at, l, r)| element(tensor, row_start, at, l, r))
                .collect(),
        }
    }

    /// Elements that differ in BF16.
    pub fn wrong(&self) -> u64 {
        self.steps[1..].iter().sum()
    }
}

fn strip(
    tensor: &TqTensor,
    lhs: Lhs<'_>,
    (rhs, limit): (Values<'_>, Option<&ElementLimit<'_>>),
    rows: std::ops::Range<usize>,
    group_bins: usize,
    counts: &mut CellCounts,
) -> BinErrors {
    let (cols, n, per_row) = (
        tensor.cols(),
        tensor.layout().group_size(),
        tensor.groups_per_row(),
    );
    let mut emulated = Vec::new();
    if let Lhs::Emulated(faults) = lhs {
        emulated = vec![bf16::ZERO; rows.len() * cols];
        emulate(tensor, faults, rows.start, &mut emulated);
    }
    let offset = rows.start * cols;
    let left = |i: usize| match lhs {
        Lhs::Values(v) => (v.get(i), v.bf16(i)),
        Lhs::Emulated(_) => (emulated[i - offset].to_f32(), emulated[i - offset]),
    };
    let mut s = BinErrors {
        by_group: vec![GridCell::default(); group_bins],
        by_position: vec![GridCell::default(); n],
        steps: [0; STEP_BINS],
        worst: Vec::new(),
    };
    let mut floor = f32::NEG_INFINITY;
    // The group at hand, once an element of it differs.
    let mut of_group: Option<(usize, GroupLimit<'_>)> = None;
    for i in offset..rows.end * cols {
        let ((l, l16), r) = (left(i), rhs.get(i));
        let steps = bf16_steps(l16, rhs.bf16(i));
        s.steps[step_bin(steps)] += 1;
        let group_cell = &mut s.by_group[i % cols / n * group_bins / per_row];
        let position_cell = &mut s.by_position[i % n];
        let key = if l.is_finite() && r.is_finite() {
            let (error, square) = (f64::from(l) - f64::from(r), f64::from(r).powi(2));
            let share = match limit {
                Some(limit) if !limit.same(l, r) => {
                    let group = of_group.take().filter(|(at, _)| *at == i / n);
                    let (_, group) =
                        of_group.insert(group.unwrap_or_else(|| (i / n, limit.group(i / n))));
                    group.share(i % n, l, r)
                }
                _ => 0.0,
            };
            for cell in [group_cell, position_cell] {
                cell.share = cell.share.max(share);
                cell.error += error * error;
                cell.square += square;
                cell.count += 1;
            }
            let error = error.abs() as f32;
            counts.add(r.abs(), error.min(f32::MAX));
            error
        } else {
            group_cell.not_finite += 1;
            position_cell.not_finite += 1;
            counts.not_finite += 1;
            if steps == 0 { 0.0 } else { f32::INFINITY }
        };
        if key > floor && key > 0.0 {
            s.worst.push((key, i, l, r));
            if s.worst.len() >= 8 * WORST {
                keep_worst(&mut s.worst);
                floor = s.worst[WORST - 1].0;
            }
        }
    }
    keep_worst(&mut s.worst);
    s
}

fn keep_worst(worst: &mut Vec<(f32, usize, f32, f32)>) {
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    worst.truncate(WORST);
}

fn element(tensor: &TqTensor, row_start: usize, at: usize, lhs: f32, rhs: f32) -> WorstElement {
    let (row, col) = (at / tensor.cols(), at % tensor.cols());
    let code = tensor.code(row, col);
    WorstElement {
        row: row_start + row,
        col,
        code,
        centroid: tensor.codebook().centroids()[code as usize],
        scale: tensor.scale(row, col),
        sign: tensor.signs()[col],
        lhs,
        rhs,
        steps: bf16_steps(bf16::from_f32(lhs), bf16::from_f32(rhs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_has_its_bin() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 8, 9, 32768, 32769, 65534, 65535].map(step_bin),
            [0, 1, 2, 3, 3, 4, 4, 5, 16, 17, 17, 18]
        );
        assert_eq!(step_label(3), "3 to 4");
        assert_eq!(step_label(16), "16385 to 32768");
    }
}
