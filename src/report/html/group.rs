//! One wrong group: its values over the positions, and which output equals which expected value.

use super::chart::{AXIS, Area, Axes, Drawn, GRID, draw_axes, svg};
use super::heat::{image, insert};
use super::plots::{BOTTOM, LEFT};
use crate::fault::Group;
use plotters::prelude::*;
use std::fmt::Write;

/// Size of both charts: the matrix is a square.
const SIZE: (u32, u32) = (440, 420);
/// A value that occurs more often than this in a group is no evidence of where an output comes from.
const OFTEN: usize = 4;
/// Part by which two values may differ and be called equal: less than a step of BF16 or F16, and some of F32,
/// whose last bits depend on the order of the operations.
const EQUAL: f32 = 1.0 / 65536.0;
/// Largest value drawn of an output, in the largest that is expected.
const HIGHEST: f32 = 4.0;

/// Expected, got and difference over the positions of the group, on one scale.
pub fn values(group: &Group) -> String {
    let got = |i: usize| group.got[i];
    let n = group.expected.len();
    let off: Vec<Option<f32>> = (0..n)
        .map(|i| got(i).map(|g| g - group.expected[i]))
        .collect();
    let wrong = off.iter().filter(|d| **d != Some(0.0)).count();
    let label = format!(
        "Expected, got and difference over the {n} positions of a group: {wrong} of {n} differ"
    );
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |m, v| v.abs().max(m));
    let expected = largest(&mut group.expected.iter().copied().filter(|v| v.is_finite()));
    let all = expected.max(largest(
        &mut group.got.iter().chain(&off).flatten().copied(),
    ));
    let high = match expected {
        0.0 if all > 0.0 => all,
        0.0 => 1.0,
        expected => all.min(HIGHEST * expected),
    };
    let some = |v: &f32| Some(*v).filter(|v| v.is_finite());
    let rows = [
        (
            "expected",
            "--model",
            group.expected.iter().map(some).collect(),
        ),
        ("got", "--data", group.got.clone()),
        ("difference", "--fail", off),
    ];
    let mut under = String::new();
    let text = svg(SIZE, &label, |area| {
        // The last panel has the numbers of the positions under it.
        let height = (SIZE.1 - BOTTOM) / 3;
        let (first, rest) = area.split_vertically(height);
        let (second, third) = rest.split_vertically(height);
        for (i, (panel, (name, colour, values))) in
            [first, second, third].iter().zip(&rows).enumerate()
        {
            panel_on(panel, (name, i == 2), values, high, (colour, &mut under))?;
        }
        Ok(())
    });
    insert(text, &under)
}

fn panel_on(
    area: &Area<'_>,
    (name, last): (&str, bool),
    values: &[Option<f32>],
    high: f32,
    (colour, under): (&str, &mut String),
) -> Drawn {
    let (n, high) = (values.len() as f64, f64::from(high));
    let mut chart = ChartBuilder::on(area)
        .margin(4)
        .margin_right(8)
        .x_label_area_size(if last { BOTTOM } else { 0 })
        .y_label_area_size(LEFT + 18)
        .build_cartesian_2d(0.0..n, -high * 1.05..high * 1.05)?;
    draw_axes(
        &mut chart,
        &Axes {
            x: if last { "position in the group" } else { "" },
            y: name,
            ticks: (8, 3),
            x_tick: &|v| format!("{v:.0}"),
            y_tick: &|v| super::marks::tick(*v, high),
            grid: true,
        },
    )?;
    let plot = chart.plotting_area();
    let at = |x: f64, y: f64| plot.map_coordinate(&(x, y));
    let (left, right) = (at(0.0, 0.0), at(n, 0.0));
    let width = f64::from(right.0 - left.0) / n;
    let (mut bars, mut not_finite) = (String::new(), String::new());
    for (i, v) in values.iter().enumerate() {
        let x = f64::from(left.0) + (i as f64 + 0.5) * width;
        match v {
            Some(0.0) => {}
            Some(v) => {
                let top = at(0.0, f64::from(*v).clamp(-high, high)).1;
                // What is less than a pixel stays visible.
                let top = if top == left.1 {
                    top - v.signum() as i32
                } else {
                    top
                };
                let _ = write!(bars, "M{x:.1} {}V{top}", left.1);
            }
            None => {
                let (top, bottom) = (at(0.0, high).1, at(0.0, -high).1);
                let (x, h) = (x - width / 2.0, bottom - top);
                let _ = write!(not_finite, "M{x:.1} {top}h{width:.1}v{h}h-{width:.1}z");
            }
        }
    }
    let stroke = width * 0.75;
    *under += &format!(
        "<path d=\"{bars}\" stroke=\"var({colour})\" stroke-width=\"{stroke:.1}\" fill=\"none\"/>"
    );
    if !not_finite.is_empty() {
        *under += &format!("<path d=\"{not_finite}\" class=\"nan\"/>");
    }
    chart.draw_series(LineSeries::new([(0.0, 0.0), (n, 0.0)], AXIS))?;
    Ok(())
}

/// Which outputs of a group equal which of its expected values.
pub struct Equal {
    n: usize,
    /// A cell for each output and expected value, row-major.
    cells: Vec<MatrixCell>,
    /// Outputs that stand in their own place.
    own: usize,
    /// Outputs that are the value of another place.
    moved: usize,
    /// Outputs that are one of these but for the sign.
    negated: usize,
    /// Outputs that are not looked at: their value occurs often, or they are not finite.
    left_out: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum MatrixCell {
    Other,
    Same,
    Negated,
}

impl Equal {
    /// Looks for every output of the group.
    pub fn new(group: &Group) -> Self {
        let n = group.expected.len();
        let expected: Vec<Option<f32>> = group.expected.iter().map(|v| Some(*v)).collect();
        let (of_expected, of_got) = (evidence(&expected), evidence(&group.got));
        let mut equal = Self {
            n,
            cells: vec![MatrixCell::Other; n * n],
            own: 0,
            moved: 0,
            negated: 0,
            left_out: 0,
        };
        for (i, row) in equal.cells.chunks_mut(n).enumerate() {
            let Some(got) = group.got[i].filter(|_| of_got[i]) else {
                equal.left_out += 1;
                continue;
            };
            for (j, cell) in row.iter_mut().enumerate().filter(|(j, _)| of_expected[*j]) {
                *cell = match group.expected[j] {
                    e if same(got, e) => MatrixCell::Same,
                    e if same(got, -e) => MatrixCell::Negated,
                    _ => MatrixCell::Other,
                };
            }
            if row[i] == MatrixCell::Same {
                equal.own += 1;
            } else if row[i] != MatrixCell::Negated && row.contains(&MatrixCell::Same) {
                equal.moved += 1;
            } else if row.contains(&MatrixCell::Negated) {
                equal.negated += 1;
            }
        }
        equal
    }

    /// Whether an output equals an expected value with the other sign.
    pub fn has_signs(&self) -> bool {
        self.cells.contains(&MatrixCell::Negated)
    }

    /// What the matrix shows, in words.
    pub fn words(&self) -> String {
        let n = self.n;
        let mut text = format!(
            "{} of {n} outputs equal their own expected value, {} equal the expected value at another position",
            self.own, self.moved
        );
        if self.negated > 0 {
            text += &format!(", {} equal one with the other sign", self.negated);
        }
        if self.left_out > 0 {
            text += &format!(
                "; {} are left out: not finite, or a value that occurs more than {OFTEN} times",
                self.left_out
            );
        }
        text
    }

    /// The matrix: a row for each output, a column for each expected value.
    pub fn matrix(&self) -> String {
        let label = format!("Where got[i] = expected[j]: {}", self.words());
        let mut under = String::new();
        let text = svg(SIZE, &label, |area| self.matrix_on(area, &mut under));
        insert(text, &under)
    }

    fn matrix_on(&self, area: &Area<'_>, under: &mut String) -> Drawn {
        let n = self.n as f64;
        // As wide as it is high.
        let room = SIZE.0 - (SIZE.1 - BOTTOM) - LEFT;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(8 + room)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(0.0..n, n..0.0)?;
        let whole = |v: &f64| format!("{v:.0}");
        draw_axes(
            &mut chart,
            &Axes {
                x: "position j of the expected value",
                y: "position i of the output",
                ticks: (8, 8),
                x_tick: &whole,
                y_tick: &whole,
                grid: false,
            },
        )?;
        let plot = chart.plotting_area();
        let place = [
            plot.map_coordinate(&(0.0, 0.0)),
            plot.map_coordinate(&(n, n)),
        ];
        for (cell, colour, part) in [
            (MatrixCell::Same, "--data", ""),
            (MatrixCell::Negated, "--fail", "b"),
        ] {
            if self.cells.contains(&cell) {
                let grey = self.cells.iter().map(|c| if *c == cell { 255 } else { 0 });
                let grey: Vec<u8> = grey.collect();
                *under += &image(&grey, self.n, place, colour, part);
            }
        }
        chart.draw_series(LineSeries::new([(0.0, 0.0), (n, n)], GRID))?;
        chart.draw_series(std::iter::once(Rectangle::new([(0.0, 0.0), (n, n)], GRID)))?;
        Ok(())
    }
}

/// Whether two values are equal in BF16 and F16, or nearly so in F32.
fn same(a: f32, b: f32) -> bool {
    (a - b).abs() <= EQUAL * b.abs()
}

/// Which values say where they come from: finite ones whose magnitude does not occur often.
fn evidence(values: &[Option<f32>]) -> Vec<bool> {
    let occurs = |v: f32| {
        let others = values.iter().flatten();
        others.filter(|o| same(v.abs(), o.abs())).count()
    };
    let says = |v: f32| v.is_finite() && occurs(v) <= OFTEN;
    values.iter().map(|v| v.is_some_and(says)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(got: impl Fn(usize, &[f32]) -> Option<f32>) -> Group {
        let expected: Vec<f32> = (0..32).map(|i| (i as f32 - 7.0) * 0.375 + 0.01).collect();
        Group {
            row: 0,
            group: 0,
            got: (0..32).map(|i| got(i, &expected)).collect(),
            expected,
        }
    }

    #[test]
    fn a_permutation_is_a_line_and_the_identity_the_diagonal() {
        let cells = |equal: &Equal, of: MatrixCell| -> Vec<(usize, usize)> {
            let all = equal.cells.iter().enumerate();
            let found = all.filter(|(_, c)| **c == of);
            found.map(|(at, _)| (at / 32, at % 32)).collect()
        };
        let own = Equal::new(&group(|i, e| Some(e[i])));
        assert_eq!(
            [own.own, own.moved, own.negated, own.left_out],
            [32, 0, 0, 0]
        );
        assert!(cells(&own, MatrixCell::Same).iter().all(|(i, j)| i == j));
        let swapped = Equal::new(&group(|i, e| Some(e[i ^ 1])));
        assert_eq!([swapped.own, swapped.moved, swapped.negated], [0, 32, 0]);
        let line: Vec<_> = (0..32).map(|i| (i, i ^ 1)).collect();
        assert_eq!(cells(&swapped, MatrixCell::Same), line);
        let negated = Equal::new(&group(|i, e| Some(-e[31 - i])));
        assert_eq!([negated.own, negated.moved, negated.negated], [0, 0, 32]);
        assert_eq!(cells(&negated, MatrixCell::Negated).len(), 32);
    }

    #[test]
    fn zeros_and_what_is_not_finite_draw_no_cross() {
        let zeros = Equal::new(&group(|i, _| (i > 0).then_some(0.0)));
        assert_eq!([zeros.own, zeros.moved, zeros.left_out], [0, 0, 32]);
        assert!(zeros.cells.iter().all(|c| *c == MatrixCell::Other));
        assert!(zeros.words().contains("32 are left out"));
        let mut both = group(|_, _| Some(0.0));
        both.expected.fill(0.0);
        assert!(
            Equal::new(&both)
                .cells
                .iter()
                .all(|c| *c == MatrixCell::Other)
        );
    }

    #[test]
    fn a_value_that_is_far_too_large_leaves_the_others_visible() {
        let text = values(&group(|i, e| Some(if i == 3 { f32::MAX } else { e[i] })));
        assert!(text.contains("of a group: 1 of 32 differ"));
        // The bars of the values, one that is clipped among them.
        assert!(text.matches('V').count() > 60, "{text}");
        assert!(!text.contains("inf") && !text.contains("NaN"));
    }
}
