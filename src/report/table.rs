//! Tables for people at a terminal.

use super::terminal::{group_text, picture_text};
use super::view::{LINE, line, name, rows};
use super::words::{
    codebook_note, decision_line, foreign_codebook, lane_line, notes, plain_problems, shape_line,
    totals,
};
use super::{Detail, Exporter, put};
use crate::error::{Result, printable};
use crate::record::{LaneRecord, Run, TensorRecord, lanes_once};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, presets};
use std::io::Write;

/// Where a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A terminal of 100 columns.
    Terminal,
    /// A pull request or a job summary.
    Markdown,
}

/// Columns that tables are set for.
const WIDTH: u16 = 100;

/// An empty table with a header.
pub fn table(style: Style, header: &[&str]) -> comfy_table::Table {
    let mut t = comfy_table::Table::new();
    match style {
        Style::Terminal => {
            t.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')));
            t.set_content_arrangement(ContentArrangement::Dynamic);
            t.set_width(WIDTH);
        }
        Style::Markdown => {
            t.load_style(presets::ASCII_MARKDOWN);
        }
    }
    t.set_header(header.iter().copied());
    // Names are not broken: they are copied and searched for.
    if let Some(names) = t.column_mut(0) {
        names.set_constraint(ColumnConstraint::ContentWidth);
    }
    t
}

/// A table for a terminal in which these columns are numbers.
fn numbers(header: &[&str], columns: &[usize]) -> comfy_table::Table {
    let mut t = table(Style::Terminal, header);
    for column in columns {
        if let Some(c) = t.column_mut(*column) {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    t
}

/// Every lane and what became of it. Markdown takes a line right below a table for another row of it.
pub fn lanes_table(lanes: &[LaneRecord], style: Style) -> String {
    let mut t = table(style, &["lane", "status", "device"]);
    for l in lanes {
        t.add_row([name(&l.name), l.status.word().into(), lane_line(l)]);
    }
    let gap = if style == Style::Markdown {
        "\n\n"
    } else {
        "\n"
    };
    format!("{t}{gap}")
}

/// The report as text for a terminal of 100 columns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table {
    /// How much is said of each tensor; what suits the run when `None`.
    pub detail: Option<Detail>,
    /// Whether the tensors' pictures are drawn, where the run holds them.
    pub pictures: bool,
}

impl Exporter for Table {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        let detail = self.detail.unwrap_or_else(|| Detail::of(run));
        let mut out = String::new();
        match detail {
            Detail::Each => {
                for t in &run.tensors {
                    out += &format!("{}{}\n", each(t), self.picture(t));
                }
            }
            Detail::Lines => {
                out += &lines(run);
                for t in run.worst_first() {
                    out += &self.picture(t);
                }
            }
        }
        for (name, reason) in plain_problems(run) {
            out += &format!("{name}: {reason}\n");
        }
        let lanes = lanes_once(&run.tensors);
        if !lanes.is_empty() {
            out += &lanes_table(&lanes, Style::Terminal);
        }
        for sum in totals(run, detail == Detail::Each) {
            out += &format!("{sum}\n");
        }
        put(&format!("{out}{}\n", decision_line(run)), to)
    }
}

impl Table {
    fn picture(&self, t: &TensorRecord) -> String {
        if !self.pictures {
            return String::new();
        }
        let groups = t.diagnosis.iter().map(|d| {
            let (start, d) = (d.strip_start, &d.diagnosis);
            group_text(&d.lane, start, &d.group)
        });
        let text: String = groups
            .chain(t.picture.iter().map(|p| picture_text(p)))
            .collect();
        if text.is_empty() {
            return text;
        }
        format!("\n{text}")
    }
}

/// The comparisons of one tensor: a title line, a table, and what is wrong.
fn each(t: &TensorRecord) -> String {
    let mut out = format!("{}  {}\n", printable(&t.tensor_base), shape_line(t));
    let rows = rows(t);
    if !rows.is_empty() {
        let head = [
            "comparison",
            "rmse ratio",
            "max abs",
            "p99 rel",
            "bit-equal %",
            "max ULP",
            "verdict",
        ];
        let mut table = numbers(&head, &[1, 2, 3, 4, 5]);
        for r in rows {
            let text = |key: &str| r.get(key).text.clone();
            table.add_row([
                r.name.clone(),
                text("rmse_over_rhs_rms"),
                text("max_abs"),
                text("rel_p99"),
                r.equal_percent.clone(),
                text("max_ulp"),
                r.verdict.map_or("", |v| v.word).into(),
            ]);
        }
        out += &format!("{table}\n");
    } else if t.error.is_none() {
        out += "nothing to compare: only the reference ran\n";
    }
    if let Some(f) = foreign_codebook(t) {
        out += &format!("{}\n", codebook_note(&f));
    }
    let indent = textwrap::Options::new(WIDTH.into()).subsequent_indent("  ");
    for note in notes(t) {
        out += &format!("{}\n", textwrap::fill(&note, &indent));
    }
    out
}

/// One line for each tensor, worst first; then what was wrong with any.
fn lines(run: &Run) -> String {
    let mut table = numbers(&LINE, &[1, 3, 4, 5]);
    let mut wrong = String::new();
    for t in run.worst_first() {
        table.add_row(line(t));
        for note in notes(t) {
            wrong += &format!("{}: {note}\n", printable(&t.tensor_base));
        }
    }
    if run.tensors.is_empty() {
        return wrong;
    }
    format!("{table}\n\n{wrong}")
}
