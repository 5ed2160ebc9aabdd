//! `tq4 selftest`: every known fault, injected, caught and named.

use super::progress::Progress;
use super::{Outcome, print};
use crate::error::Result;
use crate::report::{Style, table};
use crate::run::Event;
use crate::selftest::{self, Correct, Row};
use std::collections::BTreeSet;

#[derive(clap::Args)]
pub struct Args {
    /// Print JSON, with a record for each fault and tensor
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let bar = Progress::new();
    bar.on(Event::Tensor("injecting faults"));
    let result = selftest::run(|| bar.on(Event::Tensor("injecting faults")))?;
    drop(bar);
    if args.json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&result).expect("plain data")
        ))?;
    } else {
        print(&text(&result))?;
    }
    Ok(if result.passed() {
        Outcome::Passed
    } else {
        Outcome::GatesFailed
    })
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

fn text(result: &selftest::Selftest) -> String {
    let names: BTreeSet<&str> = result.rows.iter().map(|r| r.fault.as_str()).collect();
    let mut t = table(Style::Terminal, &["fault", "tensors", "caught by", "named"]);
    let mut same = String::new();
    for name in names {
        let rows: Vec<&Row> = result.rows.iter().filter(|r| r.fault == name).collect();
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
            same += &format!("\n  {name}: {}", join(&others));
        }
        t.add_row([
            name.to_owned(),
            rows.len().to_string(),
            join(&caught),
            format!(
                "{named}/{}{}",
                rows.len(),
                if named == rows.len() { "" } else { " FAIL" }
            ),
        ]);
    }
    if !same.is_empty() {
        same.insert_str(
            0,
            "\nthe same function on some of the tensors, named together:",
        );
    }
    let all = result.rows.len();
    let caught = result.rows.iter().filter(|r| r.caught_by.is_some()).count();
    let named = result.rows.iter().filter(|r| r.passed()).count();
    let untested = if result.untested.is_empty() {
        String::new()
    } else {
        format!(
            "\nNOT TESTED (no effect on any tensor): {}",
            result.untested.join(", ")
        )
    };
    let head = ["arithmetic", "outputs", "false alarms", "named"];
    let mut correct = table(Style::Terminal, &head);
    for c in &result.correct {
        correct.add_row([
            c.arithmetic.name().to_owned(),
            c.outputs.to_string(),
            c.false_alarms.to_string(),
            format!(
                "{}/{}{}",
                c.named,
                c.outputs,
                if c.passed() { "" } else { " FAIL" }
            ),
        ]);
    }
    let sum = |of: fn(&Correct) -> usize| -> usize { result.correct.iter().map(of).sum() };
    format!(
        "{t}{same}{untested}\n\n{correct}\nselftest: {}: {caught} of {all} faults caught, {named} of {all} named; {} \
         false alarms on {} correct outputs, {} of them named\n",
        if result.passed() { "pass" } else { "FAIL" },
        sum(|c| c.false_alarms),
        sum(|c| c.outputs),
        sum(|c| c.named),
    )
}
