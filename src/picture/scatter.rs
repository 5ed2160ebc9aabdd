//! Error against magnitude, counted in cells of a quarter octave by a quarter octave.

use serde::Serialize;

/// Cells per octave on both axes.
const PER_OCTAVE: i32 = 4;
/// Exponent of the lowest cell; smaller values are counted in it.
const LOWEST: i32 = -44 * PER_OCTAVE;
/// Cells along an axis while counting, up to 2^20; larger values are counted in the last.
const CELLS: usize = 256;
/// Cells along the error axis that are kept, 30 octaves below the largest error; smaller errors are
/// counted in the lowest.
const KEPT: usize = 120;

/// Counts of `|lhs - rhs|` against `|rhs|`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scatter {
    /// Cell column `i` holds `2^((x0 + i) / 4) <= |rhs| < 2^((x0 + i + 1) / 4)`.
    pub x0: i32,
    /// Cell row `j` holds the errors of the same form from `y0 + j`; row 0 those below it as well.
    pub y0: i32,
    /// Columns.
    pub cols: usize,
    /// Rows.
    pub rows: usize,
    /// Elements in each cell, row-major, rows from the smallest error up.
    pub counts: Vec<u64>,
    /// Elements in each column that have no error.
    pub equal: Vec<u64>,
    /// Elements whose `rhs` is zero and whose `lhs` is too.
    pub zero_equal: u64,
    /// Elements whose `rhs` is zero and whose `lhs` is not.
    pub zero_wrong: u64,
    /// Elements of which one side is not finite.
    pub not_finite: u64,
}

/// The counts while they are gathered; index 0 on either axis is for zero.
pub(super) struct CellCounts {
    cells: Vec<u64>,
    pub not_finite: u64,
}

/// The cell of a finite value that is not negative: 0 for zero, else 1 + quarter octaves from the
/// lowest.
fn cell(v: f32) -> usize {
    if v == 0.0 {
        return 0;
    }
    // Mantissas of 2^(1/4), 2^(1/2) and 2^(3/4).
    const QUARTERS: [u32; 3] = [0x18_37F0, 0x35_04F3, 0x57_44FD];
    let bits = v.to_bits();
    let mantissa = bits & 0x7F_FFFF;
    let quarter = QUARTERS.iter().filter(|q| mantissa >= **q).count() as i32;
    let exponent = (bits >> 23) as i32 - 127;
    let at = exponent * PER_OCTAVE + quarter - LOWEST;
    1 + at.clamp(0, CELLS as i32 - 1) as usize
}

impl CellCounts {
    pub fn new() -> Self {
        Self {
            cells: vec![0; (CELLS + 1) * (CELLS + 1)],
            not_finite: 0,
        }
    }

    /// Counts a finite pair by `|rhs|` and `|lhs - rhs|`.
    pub fn add(&mut self, magnitude: f32, error: f32) {
        self.cells[cell(error) * (CELLS + 1) + cell(magnitude)] += 1;
    }

    pub fn merge(mut self, other: &Self) -> Self {
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            *a += b;
        }
        self.not_finite += other.not_finite;
        self
    }

    pub fn finish(&self) -> Scatter {
        let at = |x: usize, y: usize| self.cells[y * (CELLS + 1) + x];
        let occupied = |of: &dyn Fn(usize) -> bool| -> (usize, usize) {
            let first = (1..=CELLS).find(|i| of(i.to_owned())).unwrap_or(CELLS / 2);
            let last = (1..=CELLS).rev().find(|i| of(i.to_owned()));
            (first, last.unwrap_or(CELLS / 2))
        };
        let (left, right) = occupied(&|x| (0..=CELLS).any(|y| at(x, y) > 0));
        let (low, top) = occupied(&|y| (1..=CELLS).any(|x| at(x, y) > 0));
        let bottom = low.max((top + 1).saturating_sub(KEPT));
        let mut counts = Vec::with_capacity((top - bottom + 1) * (right - left + 1));
        for y in bottom..=top {
            for x in left..=right {
                let below = if y == bottom { low } else { y };
                counts.push((below..=y).map(|y| at(x, y)).sum());
            }
        }
        Scatter {
            x0: LOWEST + left as i32 - 1,
            y0: LOWEST + bottom as i32 - 1,
            cols: right - left + 1,
            rows: top - bottom + 1,
            counts,
            equal: (left..=right).map(|x| at(x, 0)).collect(),
            zero_equal: at(0, 0),
            zero_wrong: (1..=CELLS).map(|y| at(0, y)).sum(),
            not_finite: self.not_finite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quarter_octaves() {
        for i in (LOWEST + 1)..(LOWEST + CELLS as i32 - 1) {
            let edge = 2f64.powf(f64::from(i) / 4.0);
            let want = 1 + (i - LOWEST) as usize;
            assert_eq!(cell((edge * 1.000_001) as f32), want, "above 2^({i}/4)");
            assert_eq!(cell((edge * 0.999_999) as f32), want - 1, "below 2^({i}/4)");
        }
        assert_eq!(cell(0.0), 0);
        assert_eq!(cell(f32::from_bits(1)), 1);
        assert_eq!(cell(f32::MAX), CELLS);
    }
}
