//! A heat map: the error in cells of rows by groups, or of rows by positions within the group.

use serde::Serialize;

/// Cells of root mean square error over root mean square of the right-hand side, row-major.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grid {
    /// Bins of rows.
    pub rows: usize,
    /// Bins of groups, or positions.
    pub cols: usize,
    /// `rmse / max(rhs_rms, 1e-12)` of the finite pairs in each cell; 0 where there is none.
    pub value: Vec<f32>,
    /// Of the element in each cell that is furthest off, by how many times it is as far off as a correct one
    /// may be: over 1 where it is wrong, 0 where all equal the rounded right-hand side. All 0 against the
    /// source, from which every element may differ.
    pub share: Vec<f32>,
    /// Pairs in each cell of which one side is not finite.
    pub not_finite: Vec<u64>,
}

/// Sums of one cell.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct GridCell {
    pub error: f64,
    pub square: f64,
    pub count: u64,
    pub share: f32,
    pub not_finite: u64,
}

impl GridCell {
    fn value(&self) -> f32 {
        if self.count == 0 {
            return 0.0;
        }
        let n = self.count as f64;
        let ratio = (self.error / n).sqrt() / (self.square / n).sqrt().max(1e-12);
        // A zero right-hand side makes ratios that f32 does not hold.
        ratio.min(f32::MAX.into()) as f32
    }
}

impl Grid {
    pub(super) fn new(rows: usize, cols: usize, cells: impl Iterator<Item = GridCell>) -> Self {
        let mut grid = Self {
            rows,
            cols,
            value: Vec::with_capacity(rows * cols),
            share: Vec::with_capacity(rows * cols),
            not_finite: Vec::with_capacity(rows * cols),
        };
        for cell in cells {
            grid.value.push(cell.value());
            grid.share.push(cell.share);
            grid.not_finite.push(cell.not_finite);
        }
        grid
    }
}

/// The bounds of bin `b` when `total` things are put into `bins` bins of nearly equal size.
pub(crate) fn bin_range(b: usize, bins: usize, total: usize) -> std::ops::Range<usize> {
    b * total / bins..(b + 1) * total / bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_cover_everything_once() {
        for total in [1usize, 2, 47, 48, 49, 4097] {
            let bins = total.min(48);
            let mut next = 0;
            for b in 0..bins {
                let r = bin_range(b, bins, total);
                assert_eq!(r.start, next);
                assert!(r.end > r.start);
                next = r.end;
            }
            assert_eq!(next, total);
        }
    }
}
