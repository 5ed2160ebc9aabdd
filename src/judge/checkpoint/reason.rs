//! What is damaged, in a sentence.

use super::damage::Damage;
use crate::counted::run;
use crate::decimal::fixed;
use crate::record::{DamagedGroup, WrongSign};

/// Most places that a sentence names.
const NAMED: usize = 3;

/// Columns whose signs are wrong.
pub(super) fn wrong_signs(signs: &[WrongSign]) -> String {
    let first = signs[0];
    if signs.len() == 1 {
        let WrongSign { column, rows } = first;
        return format!("column {column} is negated in {rows} rows: its sign is wrong");
    }
    let names: Vec<String> = signs
        .iter()
        .take(NAMED)
        .map(|s| s.column.to_string())
        .collect();
    format!(
        "columns {}{} are negated, column {} in {} rows: their signs are wrong",
        names.join(", "),
        others(signs.len()),
        first.column,
        first.rows
    )
}

/// A tensor most of whose groups are damaged.
pub(super) fn everywhere(ratio: &str) -> String {
    format!("{ratio}: the tensor is damaged, or the source is another model's")
}

/// Damaged groups in some rows, of `size` elements, and what they should cost.
pub(super) fn groups(damage: &Damage, worst: DamagedGroup, size: usize, cost: &str) -> String {
    let (count, rows) = (damage.groups, &damage.rows);
    let DamagedGroup { row, group, times } = worst;
    let (finite, column) = (times.is_finite(), group * size);
    let times = fixed(times, 1);
    let off = match (count, finite) {
        (1, true) => format!(
            "row {row}, group {group} (from column {column} on) is {times} times as far from the source as correct codes of {cost}"
        ),
        (1, false) => format!(
            "in row {row}, group {group} (from column {column} on) the source has what {cost} cannot hold"
        ),
        (_, true) => format!(
            "{count} groups in {} are further from the source than {cost} put them, group {group} of row {row} {times} times as far as correct codes",
            ranges(rows)
        ),
        (_, false) => format!(
            "{count} groups in {} are further from the source than {cost} put them, and in group {group} of row {row} the source has what they cannot hold",
            ranges(rows)
        ),
    };
    format!("{off}: the tensor is damaged")
}

/// The first three ranges in words.
fn ranges(all: &[[usize; 2]]) -> String {
    let named = all.iter().take(NAMED);
    let named: Vec<String> = named.map(|[first, end]| run([*first, end - 1])).collect();
    let s = match all {
        [[first, end]] if end - first == 1 => "",
        _ => "s",
    };
    format!("row{s} {}{}", named.join(", "), others(all.len()))
}

/// That there are more than are named.
fn others(all: usize) -> &'static str {
    if all > NAMED { " and others" } else { "" }
}
