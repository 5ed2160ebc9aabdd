//! The report for a pull request or a job summary: verdicts first, then a narrow table for each tensor,
//! the rest folded away.

use super::html::lane_outcome;
use super::table::lane_device;
use super::view::{Figure, rows as tensor_rows, shape_line};
use super::{LaneReport, Report, TensorReport};
use crate::error::printable;
use crate::sweep::record::{Header, PlainRecord, PlainStatus, Summary, TensorRecord};
use crate::sweep::{lanes as lanes_of, row, totals};
use std::fmt::Write;

/// Tensors whose every figure is written out; the tables of the others stand alone.
const FOLDED: usize = 40;

/// Text in a table cell or a line: no Markdown of its own, no HTML.
fn plain_text(text: &str) -> String {
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

fn verdict(passed: Option<bool>) -> &'static str {
    match passed {
        Some(true) => "✔ pass",
        Some(false) => "✘ **FAIL**",
        None => "○ not run",
    }
}

/// A table; the columns after the first are numbers when `numbers` says so.
fn table(header: &[&str], numbers: bool, rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n", header.join(" | "));
    text += "|---|";
    for _ in 1..header.len() {
        text += if numbers { "---:|" } else { "---|" };
    }
    text.push('\n');
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn folded(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n\n{body}\n</details>\n")
}

/// The report of a run; `lanes` has every lane once.
pub fn markdown(report: &Report, lanes: &[LaneReport]) -> String {
    let mut text = String::new();
    for (d, reason) in report.worst_decisions() {
        let _ = writeln!(
            text,
            "- {} {}: {} ({})",
            verdict(d.passed),
            plain_text(&d.lane),
            plain_text(&d.decision),
            plain_text(&reason)
        );
    }
    for (i, tensor) in report.tensors().iter().enumerate() {
        let _ = write!(text, "\n{}", section(tensor, i < FOLDED));
    }
    let _ = write!(text, "\n{}", lanes_folded(lanes));
    text
}

/// Tensors of a sweep that stand in the open; all of them are in the folded table.
const WORST: usize = 10;

/// The summary of a sweep.
pub fn sweep_markdown(
    header: &Header,
    tensors: &[TensorRecord],
    plain: &[PlainRecord],
    summary: &Summary,
) -> String {
    let mut text = String::new();
    for l in &summary.lanes {
        let (passed, reason) = lane_outcome(l, summary.tensors);
        let _ = writeln!(
            text,
            "- {} {}: {} ({})",
            verdict(passed),
            plain_text(&l.lane),
            plain_text(&l.decision),
            plain_text(&reason)
        );
    }
    for line in totals(header, summary) {
        let _ = writeln!(text, "- {}", plain_text(&line));
    }
    let order: Vec<&TensorRecord> = summary
        .worst_first
        .iter()
        .filter_map(|n| tensors.iter().find(|t| t.tensor_base == *n))
        .collect();
    let table_of = |tensors: &[&TensorRecord]| {
        let rows: Vec<Vec<String>> = tensors
            .iter()
            .map(|t| {
                let mut cells = row(t);
                for cell in &mut cells {
                    *cell = plain_text(cell);
                }
                // Name and verdict first: what is cut off on a phone must not be the outcome.
                let verdict = cells.pop().unwrap_or_default();
                cells.insert(1, verdict);
                cells.truncate(5);
                cells
            })
            .collect();
        table(
            &["tensor", "verdict", "vs source", "worst lane", "rmse ratio"],
            false,
            &rows,
        )
    };
    if !order.is_empty() {
        let open = &order[..order.len().min(WORST)];
        let _ = write!(text, "\n{}", table_of(open));
        if open.len() < order.len() {
            let title = format!("All {} tensors, worst first", order.len());
            let _ = write!(text, "\n{}", folded(&title, &table_of(&order)));
        }
    }
    for t in &order {
        let base = plain_text(&t.tensor_base);
        if let Some(e) = &t.error {
            let _ = write!(
                text,
                "\n> {base}: {} ({}) {}\n",
                plain_text(&e.what),
                plain_text(&e.place),
                plain_text(&e.help)
            );
        }
        for d in &t.diagnosis {
            let _ = write!(text, "\n> {base}: {}\n", plain_text(&d.summary));
        }
    }
    for p in plain.iter().filter(|p| p.status != PlainStatus::Equal) {
        let reason = p.reason.as_deref().unwrap_or_default();
        let _ = write!(
            text,
            "\n> {}: {}\n",
            plain_text(&p.name),
            plain_text(reason)
        );
    }
    let _ = write!(text, "\n{}", lanes_folded(&lanes_of(tensors)));
    text
}

fn lanes_folded(lanes: &[LaneReport]) -> String {
    let rows: Vec<Vec<String>> = lanes
        .iter()
        .map(|l| {
            let (status, device) = lane_device(l);
            vec![plain_text(&l.name), status.into(), plain_text(&device)]
        })
        .collect();
    folded("Lanes", &table(&["lane", "status", "device"], false, &rows))
}

fn section(t: &TensorReport, all_figures: bool) -> String {
    let mut text = format!(
        "### {}\n\n{}\n\n",
        plain_text(&t.tensor_base),
        shape_line(t)
    );
    let rows = tensor_rows(t);
    if rows.is_empty() {
        text += "Nothing to compare: only the reference ran.\n";
    } else {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|r| {
                vec![
                    plain_text(&r.name),
                    r.get("rmse_over_rhs_rms").text.clone(),
                    r.get("max_abs").text.clone(),
                    r.equal_percent.clone(),
                    r.get("max_ulp").text.clone(),
                    r.verdict
                        .map_or(String::new(), |v| format!("{} {}", v.mark, v.word)),
                ]
            })
            .collect();
        text += &table(
            &[
                "comparison",
                "rmse ratio",
                "max abs",
                "equal %",
                "max ULP",
                "verdict",
            ],
            true,
            &cells,
        );
    }
    if t.centroids_config_vs_cuda.max_abs > 1e-6 {
        let _ = write!(
            text,
            "\nnote: the model's codebook is not Lloyd-Max for this group size (max difference {})\n",
            Figure::of("", t.centroids_config_vs_cuda.max_abs).text
        );
    }
    for d in &t.diagnosis {
        let _ = write!(text, "\n> {}\n", plain_text(&d.summary()));
    }
    for d in t.decisions.iter().filter(|d| !d.gates.is_empty()) {
        let gates: Vec<Vec<String>> = d
            .gates
            .iter()
            .map(|g| {
                let relation = if g.must_be == "<=" { "≤" } else { "≥" };
                vec![
                    g.name.clone(),
                    Figure::of("", g.value).full,
                    format!("{relation} {}", g.limit),
                    verdict(Some(g.passed)).into(),
                ]
            })
            .collect();
        let body = table(&["gate", "value", "limit", "verdict"], true, &gates);
        let _ = write!(
            text,
            "\n{}",
            folded(&format!("Gates of {}", plain_text(&d.lane)), &body)
        );
    }
    for r in rows.iter().filter(|_| all_figures) {
        let figures: Vec<Vec<String>> = r
            .figures
            .iter()
            .map(|f| vec![f.key.clone(), f.full.clone()])
            .collect();
        let body = table(&["figure", "value"], true, &figures);
        let _ = write!(
            text,
            "\n{}",
            folded(&format!("Every figure of {}", plain_text(&r.name)), &body)
        );
    }
    text
}
