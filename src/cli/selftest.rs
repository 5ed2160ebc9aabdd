//! `tq4 selftest`: every known fault, injected, caught and named.

use super::console::Console;
use super::{Exit, print};
use crate::error::Result;
use crate::report::{Cell, Column, Sheet, Style, Tone};
use crate::run::RunEvent;
use crate::selftest::{self, Correct, Injection};
use std::collections::BTreeSet;

#[derive(clap::Args)]
pub struct Args {
    /// Print JSON, with a record for each fault and tensor
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let bar = console.progress();
    bar.on(RunEvent::Tensor("injecting faults"));
    let result = selftest::run(|| bar.on(RunEvent::Tensor("injecting faults")))?;
    drop(bar);
    if args.json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&result).expect("plain data")
        ))?;
    } else {
        let style = Style::Terminal(console.screen);
        print(&match console.quiet {
            true => verdict(&result, style),
            false => text(&result, style),
        })?;
    }
    Ok(if result.passed() {
        Exit::Passed
    } else {
        Exit::GatesFailed
    })
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Each fault, each arithmetic, and the verdict.
fn text(result: &selftest::Selftest, style: Style) -> String {
    let names: BTreeSet<&str> = result.rows.iter().map(|r| r.fault.as_str()).collect();
    let mut sheet = Sheet::new([
        Column::name("fault"),
        Column::number("tensors", 1),
        Column::words("caught by"),
        Column::needed("named"),
    ]);
    let mut same = String::new();
    for name in names {
        let rows: Vec<&Injection> = result.rows.iter().filter(|r| r.fault == name).collect();
        let caught: BTreeSet<&str> = rows
            .iter()
            .map(|r| r.caught_by.as_deref().unwrap_or("NOT CAUGHT"))
            .collect();
        let named = rows.iter().filter(|r| r.passed()).count();
        let others: BTreeSet<&str> = rows
            .iter()
            .filter(|r| r.passed())
            .flat_map(|r| r.named_as.iter().map(String::as_str).filter(|n| *n != name))
            .collect();
        if !others.is_empty() {
            same += &style.paragraph(&format!("  {name}: {}", join(&others)));
        }
        sheet.row([
            name.into(),
            rows.len().to_string().into(),
            join(&caught).into(),
            share(named, rows.len(), named == rows.len()),
        ]);
    }
    if !same.is_empty() {
        let title = "the same function on some of the tensors, named together:";
        same.insert_str(0, &style.paragraph(title));
    }
    if !result.untested.is_empty() {
        let names = result.untested.join(", ");
        same += &style.paragraph(&format!("NOT TESTED (no effect on any tensor): {names}"));
    }
    let mut correct = Sheet::new([
        Column::name("arithmetic"),
        Column::number("outputs", 1),
        Column::needed("false alarms"),
        Column::needed("named"),
    ]);
    for c in &result.correct {
        correct.row([
            c.arithmetic.name().into(),
            c.outputs.to_string().into(),
            c.false_alarms.to_string().into(),
            share(c.named, c.outputs, c.passed()),
        ]);
    }
    let [faults, correct] = [sheet, correct].map(|s| s.text(style));
    format!("{faults}{same}\n{correct}{}", verdict(result, style))
}

/// So many of all, and whether these are enough.
fn share(some: usize, all: usize, passed: bool) -> Cell {
    match passed {
        true => Cell::of(format!("{some}/{all}"), Tone::Good),
        false => Cell::of(format!("{some}/{all} FAIL"), Tone::Bad),
    }
}

/// What it comes to.
fn verdict(result: &selftest::Selftest, style: Style) -> String {
    let all = result.rows.len();
    let caught = result.rows.iter().filter(|r| r.caught_by.is_some()).count();
    let named = result.rows.iter().filter(|r| r.passed()).count();
    let sum = |of: fn(&Correct) -> usize| -> usize { result.correct.iter().map(of).sum() };
    let counts = format!(
        ": {caught} of {all} faults caught, {named} of {all} named; {} false alarms on {} correct outputs, {} \
         of them named",
        sum(|c| c.false_alarms),
        sum(|c| c.outputs),
        sum(|c| c.named),
    );
    let (word, tone) = match result.passed() {
        true => ("pass", Tone::Good),
        false => ("FAIL", Tone::Bad),
    };
    style.marked("selftest: ", word, tone, &counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Arithmetic;
    use crate::report::Screen;

    #[test]
    fn its_tables_fit_the_width_and_say_what_failed() {
        let row = |fault: &str, caught: Option<&str>, named: &[&str]| Injection {
            fault: fault.into(),
            tensor: "4 bits".into(),
            caught_by: caught.map(str::to_owned),
            named_as: named.iter().map(|n| (*n).to_owned()).collect(),
        };
        let fault = "a_fault_with_a_rather_long_name_of_many_words";
        let result = selftest::Selftest {
            rows: vec![
                row(
                    fault,
                    Some("allowed"),
                    &[fault, "another_fault_with_a_long_name"],
                ),
                row(fault, None, &[]),
                row("zeros", Some("not_a_fault"), &["zeros"]),
            ],
            untested: vec!["a_fault_without_any_effect_on_a_tensor".into(); 3],
            correct: vec![Correct {
                arithmetic: Arithmetic::Multiply,
                outputs: 3,
                false_alarms: 1,
                named: 2,
            }],
        };
        for width in [60, 80, 100] {
            let colour = false;
            let text = text(&result, Style::Terminal(Screen { width, colour }));
            assert!(
                text.lines().all(|l| l.chars().count() <= width),
                "{width}: {text}"
            );
            for said in [
                "1/2 FAIL",
                "2/3 FAIL",
                "NOT CAUGHT",
                "NOT TESTED",
                "selftest: FAIL: 2 of 3",
            ] {
                assert!(text.contains(said), "{width}: {said}: {text}");
            }
        }
    }
}
