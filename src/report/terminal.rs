//! Pictures for a terminal: a histogram and a strip of shades per comparison.

use super::screen::{Screen, paragraph};
use crate::decimal::shortest;
use crate::error::printable;
use crate::fault::Group;
use crate::picture::{Comparison, Grid, Picture, bin_range, step_label};

/// Widest bar, and widest strip, in columns.
const WIDTH: usize = 60;
/// Columns of a label in front of a bar, and of a count behind it.
const LABEL: usize = 18;
const COUNT: usize = 12;
/// Rows of a strip.
const ROWS: usize = 12;
/// Shades with the error they reach up to, as a share of the value (rms). Rounding to BF16 alone is
/// within the first.
const SHADES: [(char, f32); 5] = [
    ('·', 0.004),
    ('░', 0.03),
    ('▒', 0.2),
    ('▓', 0.7),
    ('█', f32::INFINITY),
];

/// The pictures of a tensor.
pub fn picture_text(p: &Picture, screen: Screen) -> String {
    let width = WIDTH.min(screen.width.saturating_sub(LABEL + COUNT)).max(1);
    p.comparisons
        .iter()
        .map(|c| {
            let name = printable(&format!("{} vs {}", c.lhs, c.rhs));
            let title = |what: &str| paragraph(&format!("{name}: {what}"), screen);
            [
                title("elements by distance in BF16 steps (bars are logarithmic)"),
                histogram(c, width),
                title("error by row and group"),
                strip(&c.by_group, p, width),
                paragraph(&legend(), screen),
            ]
            .concat()
        })
        .collect()
}

/// Elements of a wrong group that are shown: with its two lines of heading no more than 16 lines.
const ELEMENTS: usize = 14;

/// One wrong group of a lane, the elements that are furthest off first; rows count from `row_start`.
pub fn group_text(lane: &str, row_start: usize, group: &Group, screen: Screen) -> String {
    let elements = group.worst_first();
    let shown = elements.len().min(ELEMENTS);
    let title = format!(
        "{}: row {}, group {}: {shown} of its {} elements, furthest off first",
        printable(lane),
        row_start + group.row,
        group.group,
        elements.len()
    );
    let mut text = paragraph(&title, screen);
    let heads = ["expected", "got", "difference"];
    text += &format!(
        "  {:>5} {:>16} {:>16} {:>16}\n",
        "index", heads[0], heads[1], heads[2]
    );
    for (index, expected, got) in &elements[..shown] {
        let (got, off) = match got {
            Some(got) => (shortest(*got), shortest(got - expected)),
            None => ("NaN or infinity".into(), String::new()),
        };
        text += format!(
            "  {index:>5} {:>16} {got:>16} {off:>16}",
            shortest(*expected)
        )
        .trim_end();
        text.push('\n');
    }
    text
}

fn histogram(c: &Comparison, width: usize) -> String {
    let log = |n: u64| (1.0 + n as f64).ln();
    let most = log(c.steps.iter().copied().max().unwrap_or(0)).max(1.0);
    let occupied = c.steps.iter().enumerate().filter(|(_, n)| **n > 0);
    occupied
        .map(|(bin, n)| {
            let bar = "█".repeat(((log(*n) / most * width as f64) as usize).max(1));
            format!("  {:>14}  {bar} {n}\n", step_label(bin))
        })
        .collect()
}

/// The grid with neighbouring cells put together, the largest of them shown.
fn strip(grid: &Grid, p: &Picture, width: usize) -> String {
    let (rows, cols) = (grid.rows.min(ROWS), grid.cols.min(width));
    let mut text = String::new();
    for row in 0..rows {
        let first = p.row_start + row * p.rows / rows;
        text += &format!("  {:>14}  ", format!("row {first}"));
        for col in 0..cols {
            let (mut value, mut not_finite) = (0.0f32, false);
            for r in bin_range(row, rows, grid.rows) {
                for c in bin_range(col, cols, grid.cols) {
                    value = value.max(grid.value[r * grid.cols + c]);
                    not_finite |= grid.not_finite[r * grid.cols + c] > 0;
                }
            }
            text.push(match SHADES.iter().find(|(_, limit)| value <= *limit) {
                _ if not_finite => 'N',
                Some((shade, _)) => *shade,
                None => SHADES[4].0,
            });
        }
        text.push('\n');
    }
    text
}

/// What the shades mean.
fn legend() -> String {
    let shades = SHADES[..4].iter();
    let shades = shades.map(|(shade, limit)| format!("{shade} to {:.1} %", 100.0 * limit));
    let shades: Vec<String> = shades.collect();
    format!("{}, {} more; N not finite", shades.join(", "), SHADES[4].0)
}
