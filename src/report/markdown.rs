//! The report for a pull request or a job summary: verdicts first, then narrow tables, the rest folded
//! away.

use super::view::{DecisionView, LINE, Look, line, name, rows, verdicts};
use super::words::{
    checkpoint_problem, codebook_note, foreign_codebook, lane_line, notes, plain_problems,
    shape_line, totals,
};
use super::{Detail, Exporter, put};
use crate::error::{Result, printable};
use crate::record::{LaneRecord, Run, TensorRecord, lanes_once};
use std::fmt::Write as _;
use std::io::Write;

/// Tensors of the table of lines that stand in the open; all of them are in the folded one.
const WORST: usize = 10;
/// Tensors whose every figure is written out, however many are told of one by one.
const FIGURES: usize = 40;

/// The report as Markdown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Markdown {
    /// How much is said of each tensor; what suits the run when `None`.
    pub detail: Option<Detail>,
}

impl Exporter for Markdown {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        let mut text = String::new();
        // Of one tensor the decisions say it all.
        let many = run.tensors.len() != 1;
        if many {
            let (ended, why) = Look::of_run(&run.summary);
            text += &format!("{} {}: {why}\n\n", ended.mark, ended.word);
        }
        if let Some(problem) = checkpoint_problem(run) {
            let failed = marked(Look::FAIL);
            text += &format!("- {failed} {}\n", plain(&problem));
        }
        for v in verdicts(run) {
            let [lane, decision, reason] = [&v.lane, &v.decision, &v.reason].map(|t| plain(t));
            text += &format!("- {} {lane}: {decision} ({reason})\n", marked(v.verdict));
        }
        for total in totals(run, !many) {
            text += &format!("- {}\n", plain(&total));
        }
        if many {
            text += &lines(&run.worst_first());
        }
        match self.detail.unwrap_or_else(|| Detail::of(run)) {
            Detail::Each => {
                for (i, t) in run.tensors.iter().enumerate() {
                    text += &section(t, i < FIGURES);
                }
            }
            Detail::Lines => {
                for t in run.worst_first() {
                    for note in notes(t) {
                        text += &quote(&format!("{}: {note}", t.tensor_base));
                    }
                }
            }
        }
        for (name, reason) in plain_problems(run) {
            text += &quote(&format!("{name}: {reason}"));
        }
        put(&(text + &lanes(&lanes_once(&run.tensors))), to)
    }
}

/// Text in a table cell or a line: no Markdown of its own, no HTML.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '|' | '*' | '`' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            // Underscores inside a word mean nothing and are in every name.
            _ => out.push(c),
        }
    }
    out
}

fn marked(v: Look) -> String {
    let bold = if v == Look::FAIL { "**" } else { "" };
    format!("{} {bold}{}{bold}", v.mark, v.word)
}

fn quote(text: &str) -> String {
    format!("\n> {}\n", plain(text))
}

/// A table; the columns after the first are numbers when `numbers` says so.
fn table(header: &[&str], numbers: bool, rows: &[Vec<String>]) -> String {
    let other = if numbers { "---:|" } else { "---|" };
    let mut text = format!(
        "| {} |\n|---|{}\n",
        header.join(" | "),
        other.repeat(header.len() - 1)
    );
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn folded(summary: &str, body: &str) -> String {
    format!("\n<details><summary>{summary}</summary>\n\n{body}\n</details>\n")
}

/// A line for each tensor: the worst in the open, all of them folded.
fn lines(order: &[&TensorRecord]) -> String {
    // Name and verdict first: what is cut off on a phone must not be the outcome.
    let columns = [0, 6, 1, 2, 3];
    let table_of = |tensors: &[&TensorRecord]| {
        let cells = |t: &&TensorRecord| columns.map(|c| plain(&line(t)[c])).into();
        let rows: Vec<Vec<String>> = tensors.iter().map(cells).collect();
        table(&columns.map(|c| LINE[c]), false, &rows)
    };
    match order.len() {
        0 => String::new(),
        n if n <= WORST => format!("\n{}", table_of(order)),
        n => {
            let title = format!("All {n} tensors, worst first");
            let all = folded(&title, &table_of(order));
            format!("\n{}{all}", table_of(&order[..WORST]))
        }
    }
}

fn lanes(lanes: &[LaneRecord]) -> String {
    let row = |l: &LaneRecord| {
        let (name, status) = (plain(&name(&l.name)), l.status.word().into());
        vec![name, status, plain(&lane_line(l))]
    };
    let rows: Vec<Vec<String>> = lanes.iter().map(row).collect();
    folded("Lanes", &table(&["lane", "status", "device"], false, &rows))
}

fn section(t: &TensorRecord, all_figures: bool) -> String {
    let title = plain(&t.tensor_base);
    let mut text = format!("\n### {title}\n\n{}\n", shape_line(t));
    let rows = rows(t);
    if !rows.is_empty() {
        let head = [
            "comparison",
            "rmse ratio",
            "max abs",
            "equal %",
            "max ULP",
            "verdict",
        ];
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|r| {
                let figure = |key: &str| r.get(key).text.clone();
                vec![
                    plain(&r.name),
                    figure("rmse_over_rhs_rms"),
                    figure("max_abs"),
                    r.equal_percent.clone(),
                    figure("max_ulp"),
                    r.verdict
                        .map_or(String::new(), |v| format!("{} {}", v.mark, v.word)),
                ]
            })
            .collect();
        text += &format!("\n{}", table(&head, true, &cells));
    } else if t.error.is_none() {
        text += "\nNothing to compare: only the reference ran.\n";
    }
    if let Some(f) = foreign_codebook(t) {
        text += &format!("\n{}\n", codebook_note(&f));
    }
    for note in notes(t) {
        text += &quote(&note);
    }
    for d in t.decisions.iter().map(DecisionView::new) {
        if !d.gates.is_empty() {
            text += &gates(&d);
        }
    }
    for r in rows.iter().filter(|_| all_figures) {
        let figure = |f: &super::view::Figure| vec![f.key.clone(), f.full.clone()];
        let figures: Vec<Vec<String>> = r.figures.iter().map(figure).collect();
        let body = table(&["figure", "value"], true, &figures);
        text += &folded(&format!("Every figure of {}", plain(&r.name)), &body);
    }
    text
}

fn gates(d: &DecisionView) -> String {
    let rows: Vec<Vec<String>> = d
        .gates
        .iter()
        .map(|g| {
            vec![
                g.name.into(),
                g.value.full.clone(),
                format!("{} {}", g.relation, g.limit),
                marked(g.verdict),
            ]
        })
        .collect();
    let body = table(&["gate", "value", "limit", "verdict"], true, &rows);
    folded(&format!("Gates of {}", plain(&d.lane)), &body)
}
