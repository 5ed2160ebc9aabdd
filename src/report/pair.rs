//! Two reports side by side.

use super::screen::Tone;
use super::sheet::{Cell, Column, Sheet, Style};
use super::view::{Look, name};
use crate::counted::counted;
use crate::error::printable;
use crate::record::{LanePair, ReportPair};

/// A pair of outputs that the reports do not say the same of, or that are not the same bits.
fn differs(lane: &LanePair) -> bool {
    lane.verdicts_differ() || lane.bit_identical() == Some(false)
}

/// The pairs that differ, all of them where `every` is asked for; then the results.
pub fn text(pair: &ReportPair, style: Style, every: bool) -> String {
    /// Pairs that are named without being asked for.
    const NAMED: usize = 20;
    let cell = |passed| Cell::from(Look::of_passed(passed));
    let mut sheet = Sheet::new([
        Column::name("tensor"),
        Column::name("lane"),
        Column::word("first", None),
        Column::word("second", None),
        Column::word("bits", None),
    ]);
    let lanes = pair
        .tensors
        .iter()
        .flat_map(|t| t.lanes.iter().map(move |l| (t, l)));
    let told: Vec<_> = lanes.filter(|(_, l)| every || differs(l)).collect();
    let shown = if every {
        told.len()
    } else {
        NAMED.min(told.len())
    };
    for (tensor, l) in &told[..shown] {
        sheet.row([
            printable(&tensor.tensor_base).into(),
            name(&l.lane).into(),
            cell(l.passed[0]),
            cell(l.passed[1]),
            match l.bit_identical() {
                Some(true) => Cell::of("identical", Tone::Good),
                Some(false) => Cell::of("differ", Tone::Doubtful),
                None => Cell::default(),
            },
        ]);
    }
    let mut text = match sheet.is_empty() {
        true => String::new(),
        false => sheet.text(style),
    };
    let more = told.len() - shown;
    if more > 0 {
        text += &style.paragraph(&format!(
            "and {more} more: -v lists every lane of every tensor"
        ));
    }
    for name in &pair.plain_differ {
        text += &style.paragraph(&format!(
            "not quantised, and not the same in both: {}",
            printable(name)
        ));
    }
    text + &results(pair, style)
}

/// What it comes to, a line each.
pub fn results(pair: &ReportPair, style: Style) -> String {
    let [same, all] = pair.bit_identical();
    let only: String = ["first", "second"]
        .iter()
        .enumerate()
        .flat_map(|(i, which)| {
            let lanes = pair.only_in(i).into_iter();
            lanes.map(move |(lane, passed, failed)| {
                format!(
                    "{} only in the {which}: {passed} passed, {failed} failed\n",
                    name(&lane)
                )
            })
        })
        .collect();
    style.lines(&format!(
        "{only}same input: {}\nsame verdicts: {}\nbit-identical: {same} of {all} outputs that both have\n",
        counted(pair.tensors.len(), "tensor"),
        if pair.verdicts_differ() { "NO" } else { "yes" },
    ))
}
