//! Right values in wrong places.

use super::rule::{self, Rule};
use super::{Family, Moved, View};
use crate::fault::survey::sign_hash;
use std::collections::HashMap;

/// Wrong groups, or rows, that a rule is looked for in.
const TRIED: usize = 64;
/// Rows whose every rule is tried.
const ROWS: usize = 8;

/// Sides of tiles that are tried.
const TILES: [usize; 8] = [2, 4, 8, 16, 32, 64, 128, 256];

/// Wrong elements in all, at least, and to an entry of a table: with fewer, anything fits.
const ELEMENTS: u64 = 64;
const TO_AN_ENTRY: u64 = 4;
/// Wrong rows that are named one by one, and wrong groups that a rule for groups needs.
const FEW: usize = 4;

/// Whether more than one row, or group, and enough elements are wrong for a rule.
fn enough(view: &View<'_>, places: u64) -> bool {
    places > 1 && view.survey.wrong >= ELEMENTS
}

/// Elements of each group: the sources that every tried group leaves open, intersected.
pub(super) fn in_group(view: &View<'_>, up_to_sign: bool) -> Option<Family> {
    if !enough(view, view.survey.wrong_groups) {
        return None;
    }
    let n = view.n();
    let magnitude = |v: f32| if up_to_sign { v.abs() } else { v };
    let close = |g: f32, e: f32| view.close(magnitude(g), magnitude(e));
    let mut open = vec![true; n * n];
    for w in view.wrong.iter().take(TRIED) {
        for (open, g) in open.chunks_mut(n).zip(&w.got) {
            for (open, e) in open.iter_mut().zip(&w.expected) {
                *open = *open && close(*g, *e);
            }
            if !open.contains(&true) {
                return None;
            }
        }
    }
    // What may be where it belongs is not moved; with other signs it is not moved either.
    if (0..n).all(|i| open[i * n + i]) {
        return None;
    }
    let widths: Vec<usize> = (1..n.ilog2()).map(|b| 1 << b).collect();
    let rule = rule::find(n, &widths, 0..n, |i, j| open[i * n + j]).or_else(|| {
        let only = |open: &[bool]| {
            let mut from = (0..n).filter(|j| open[*j]);
            from.next().filter(|_| from.next().is_none())
        };
        let table: Option<Vec<usize>> = open.chunks(n).map(only).collect();
        table
            .filter(|t| {
                let entries = t.iter().enumerate().filter(|(i, from)| i != *from).count();
                view.survey.wrong >= TO_AN_ENTRY * entries as u64
            })
            .map(Rule::table)
    })?;
    let groups = view.count(|_, _, expected, got| {
        let mut all = got.iter().enumerate();
        all.all(|(i, g)| close(*g, expected[(rule.from)(i)]))
    });
    view.most(groups).then_some(Family::Permutation {
        of: Moved::InGroup,
        rule: rule.text,
        up_to_sign,
        groups,
    })
}

/// Elements of each row.
pub(super) fn in_row(view: &View<'_>) -> Option<Family> {
    if !enough(view, view.wrong_rows().take(2).count() as u64) {
        return None;
    }
    let cols = view.tensor.cols();
    let rows: Vec<(Vec<f32>, Vec<f32>)> = view
        .wrong_rows()
        .take(ROWS)
        .map(|row| (view.expected(row, 1), view.got.row(row)))
        .collect();
    let widths: Vec<usize> = (2..cols).collect();
    let rule = rule::find(cols, &widths, 0..cols, |i, j| {
        rows.iter().all(|(e, g)| view.close(g[i], e[j]))
    })?;
    let n = view.n();
    let mut groups = 0;
    for row in view.wrong_rows() {
        let (expected, got) = (view.expected(row, 1), view.got.row(row));
        for group in (0..cols / n).filter(|g| view.survey.wrong_group(row, *g, n)) {
            let mut all = group * n..(group + 1) * n;
            groups += u64::from(all.all(|i| view.close(got[i], expected[(rule.from)(i)])));
        }
    }
    view.most(groups).then_some(Family::Permutation {
        of: Moved::InRow,
        rule: rule.text,
        up_to_sign: false,
        groups,
    })
}

/// Whole rows, told by their signs.
pub(super) fn rows(view: &View<'_>) -> Option<Family> {
    let all = view.survey.row_signs.len();
    let map: Vec<Option<usize>> = view.survey.row_map().collect();
    let wrong: Vec<usize> = view.wrong_rows().collect();
    if view.survey.wrong < ELEMENTS || wrong.iter().any(|r| map[*r].is_none()) {
        return None;
    }
    // Rows that are right are where they belong under some rules and may not be asked under others.
    let right = |r: usize| view.survey.wrong_per_row[r] == 0;
    let may = |r: usize, from: usize| map[r].map_or(r == from, |f| f == from);
    let few = wrong.len() == 1 || wrong.len() <= FEW && wrong.len() < all;
    let rule = (!few)
        .then(|| {
            rule::find(all, &[], 0..all, may)
                .or_else(|| rule::find(all, &[], wrong.iter().copied(), may))
        })
        .flatten()
        .unwrap_or_else(|| {
            Rule::table(
                (0..all)
                    .map(|r| map[r].filter(|_| !right(r)).unwrap_or(r))
                    .collect(),
            )
        });
    let text = if few {
        let each = wrong
            .iter()
            .map(|r| format!("row {r} holds row {}", (rule.from)(*r)));
        each.collect::<Vec<_>>().join(", ")
    } else {
        rule.text
    };
    let n = view.n();
    let mut groups = 0;
    for row in wrong {
        let (expected, got) = (view.expected((rule.from)(row), 1), view.got.row(row));
        for group in (0..expected.len() / n).filter(|g| view.survey.wrong_group(row, *g, n)) {
            let mut at = group * n..(group + 1) * n;
            groups += u64::from(at.all(|i| view.close(got[i], expected[i])));
        }
    }
    view.most(groups).then_some(Family::Permutation {
        of: Moved::Rows,
        rule: text,
        up_to_sign: false,
        groups,
    })
}

/// Whole groups, told by their signs.
pub(super) fn groups(view: &View<'_>) -> Option<Family> {
    if view.survey.wrong < ELEMENTS || view.survey.wrong_groups < FEW as u64 {
        return None;
    }
    let (n, per_row) = (view.n(), view.tensor.groups_per_row());
    let all = view.tensor.groups();
    // The tried groups first: few outputs are of this kind, and all groups are many.
    let tried: Vec<(usize, u64)> = view
        .wrong
        .iter()
        .take(TRIED)
        .map(|w| (w.row * per_row + w.group, sign_hash(&w.got)))
        .collect();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for row in 0..view.tensor.rows() {
        for (group, values) in view.expected(row, 1).chunks(n).enumerate() {
            if values.iter().any(|v| *v != 0.0) {
                places
                    .entry(sign_hash(values))
                    .or_insert(row * per_row + group);
            }
        }
    }
    let map: Option<HashMap<usize, usize>> = tried
        .iter()
        .map(|(at, hash)| Some((*at, *places.get(hash)?)))
        .collect();
    let map = map?;
    let may = |i: usize, from: usize| map[&i] == from;
    let indices = tried.iter().map(|(at, _)| *at);
    let (rule, within) = match rule::find(all, &[per_row, view.tensor.rows()], indices, may) {
        Some(rule) => (rule, false),
        // The same order in each row.
        None => {
            let same = |g: usize, from: usize| {
                let mut of = map.iter().filter(|(i, _)| *i % per_row == g);
                of.all(|(i, f)| f / per_row == i / per_row && f % per_row == from)
            };
            (rule::find(per_row, &[], 0..per_row, same)?, true)
        }
    };
    let from = |i: usize| {
        if within {
            i / per_row * per_row + (rule.from)(i % per_row)
        } else {
            (rule.from)(i)
        }
    };
    let mut groups = 0;
    for row in view.wrong_rows() {
        let got = view.got.row(row);
        for group in (0..per_row).filter(|g| view.survey.wrong_group(row, *g, n)) {
            let source = from(row * per_row + group);
            let hash = sign_hash(&got[group * n..(group + 1) * n]);
            groups += u64::from(places.get(&hash) == Some(&source));
        }
    }
    let tried_hold = view.wrong.iter().take(TRIED).all(|w| {
        let source = from(w.row * per_row + w.group);
        let expected = view.expected(source / per_row, 1);
        let first = source % per_row * n;
        let mut both = w.got.iter().zip(&expected[first..first + n]);
        both.all(|(g, e)| view.close(*g, *e))
    });
    let text = if within {
        format!("{}, i counted in each row", rule.text)
    } else {
        rule.text
    };
    (tried_hold && view.most(groups)).then_some(Family::Permutation {
        of: Moved::Groups,
        rule: text,
        up_to_sign: false,
        groups,
    })
}

/// Square tiles that are transposed.
pub(super) fn in_tile(view: &View<'_>) -> Option<Family> {
    let (rows, cols, n) = (view.tensor.rows(), view.tensor.cols(), view.n());
    let wrong: Vec<usize> = view.wrong_rows().collect();
    if !enough(view, wrong.len() as u64) {
        return None;
    }
    for side in TILES.into_iter().filter(|t| *t <= rows && *t <= cols) {
        let holds = |row: usize| -> u64 {
            let top = row - row % side;
            if top + side > rows {
                return 0;
            }
            let (expected, got) = (view.expected(top, side), view.got.row(row));
            let source = |col: usize| col % side * cols + col - col % side + row % side;
            (0..cols / n)
                .filter(|g| view.survey.wrong_group(row, *g, n))
                .filter(|g| {
                    let mut at = g * n..(g + 1) * n;
                    at.all(|c| view.close(got[c], expected[source(c)]))
                })
                .count() as u64
        };
        let tried: u64 = wrong.iter().take(2).map(|r| holds(*r)).sum();
        if tried == 0 {
            continue;
        }
        // A tile's rows are decoded for each of its rows: some are enough where they are many.
        let every = wrong.len().div_ceil(256).max(1);
        let some = wrong.iter().step_by(every);
        let of: u64 = some
            .clone()
            .map(|r| {
                (0..cols / n)
                    .filter(|g| view.survey.wrong_group(*r, *g, n))
                    .count() as u64
            })
            .sum();
        let groups: u64 = some.map(|r| holds(*r)).sum();
        if groups as f64 >= 0.75 * of as f64 {
            return Some(Family::Permutation {
                of: Moved::InTile,
                rule: format!(
                    "got[r, c] = expected[r - r mod {side} + c mod {side}, c - c mod {side} + r mod {side}]"
                ),
                up_to_sign: false,
                groups,
            });
        }
    }
    None
}
