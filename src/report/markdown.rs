//! The report for an issue, a pull request or a job summary: what ran where, verdicts, failures, then the rest,
//! cut so that it fits a comment of GitHub.

use super::decisions::{Said, decisions};
use super::figures::{floor, largest};
use super::limited::Limited;
use super::notes::notes;
use super::screen::Tone;
use super::shared::{Shared, Trouble};
use super::sheet::{Column, Sheet, Style};
use super::table::{comparisons, line_sheet};
use super::view::{ComparisonRow, DecisionView, Look, name, rows, tensor_passed};
use super::words::{
    codebook_note, foreign_codebook, lane_line, lanes_shown, long_reasons, plain, plain_problems,
    shape_line, totals,
};
use super::{Detail, Exporter, put};
use crate::counted::counted;
use crate::error::Result;
use crate::record::{Run, TensorRecord};
use std::io::Write;

/// Tensors of the table of lines that stand in the open; where there are more they are folded.
const OPEN: usize = 10;
/// Tensors whose every figure is written out.
const FIGURES: usize = 40;
/// Columns of a table: a phone shows no more.
const COLUMNS: usize = 6;
/// Characters of a text that may be of any length: a name, a reason, a diagnosis.
const TEXT: usize = 1000;
/// Comparisons, notes and decisions of one tensor.
const EACH: usize = 24;

/// The report as Markdown.
#[derive(Debug, Clone, Copy)]
pub struct Markdown {
    /// Most bytes.
    pub limit: usize,
}

impl Default for Markdown {
    /// What GitHub takes as a comment, or as the text of an issue.
    fn default() -> Self {
        Self { limit: 65_536 }
    }
}

impl Exporter for Markdown {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        let mut out = Limited::new(self.limit);
        let row = |(what, text): &(String, String)| {
            format!("| {} | {} |\n", text_of(what), text_of(text))
        };
        out.list(4, "|   |   |\n|---|---|\n", &facts(run), row, "facts");
        let (ended, why) = Look::of_run(&run.summary);
        out.push(&format!("{} {}: {why}\n\n", ended.mark, ended.word));
        let long = long_reasons(&lanes_shown(run));
        out.list(4, "", &long, verbatim, "lanes");
        out.list(4, "", &decisions(run, true), decision, "decisions");
        let mut said = totals(run, false);
        if Detail::of(run) == Detail::Summary {
            said.extend(largest(run));
        }
        said.extend(floor(run));
        out.list(4, "", &said, |t| format!("- {}\n", text_of(t)), "lines");
        let other = plain_problems(run);
        let problem =
            |(name, why): &(String, String)| format!("> {}\n", text_of(&format!("{name}: {why}")));
        out.list(8, "", &other, problem, "tensors that are not quantised");

        let shared = Shared::of(run);
        out.list(8, "", &shared.troubles, trouble, "troubles");
        let order = run.worst_first();
        let is_wrong = |t: &&TensorRecord| tensor_passed(t) == Some(false);
        let (mut wrong, right): (Vec<_>, Vec<_>) = order.iter().copied().partition(is_wrong);
        wrong.retain(|t| !shared.covers(t));
        out.list(
            2,
            "",
            &wrong,
            |t| section(t),
            "tensors with something wrong",
        );
        match order.len() {
            0 | 1 => {}
            n if n <= OPEN => tensors(&mut out, &order),
            n => {
                out.push(&format!(
                    "<details><summary>All {n} tensors, worst first</summary>\n\n"
                ));
                tensors(&mut out, &order);
                out.close("</details>\n\n");
            }
        }
        if Detail::of(run) == Detail::Each {
            out.list(2, "", &right, |t| section(t), "tensors");
        }
        if order.len() <= FIGURES {
            let rows = order
                .iter()
                .flat_map(|t| rows(t).into_iter().map(move |r| (*t, r)));
            let rows: Vec<(&TensorRecord, ComparisonRow)> = rows.collect();
            out.list(
                1,
                "",
                &rows,
                |(t, r)| figures(t, r, order.len() > 1),
                "comparisons",
            );
        }
        put(&out.text(), to)
    }
}

/// Text of any length as Markdown of a length that is known.
fn text_of(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => plain(&text[..end]) + "…",
        None => plain(text),
    }
}

/// What ran where, and on what: the first that a reader of an issue asks for.
fn facts(run: &Run) -> Vec<(String, String)> {
    let (model, tool) = (&run.model, &run.tool);
    let mut facts = Vec::new();
    let mut add = |what: &str, text: String| facts.push((what.to_owned(), text));
    if let Some(tq) = &model.tq {
        let mut parts: Vec<String> = model.format.iter().cloned().collect();
        parts.extend(model.bits.map(|b| format!("{b} bits")));
        parts.extend(model.group_size.map(|n| format!("group {n}")));
        parts.push(counted(model.tensors.len(), "quantised tensor"));
        if model.partition.count > 1 {
            parts.push(format!("partition {}", model.partition));
        }
        add("model", format!("{}: {}", tq.name, parts.join(", ")));
    }
    if let Some(source) = &model.source {
        add("source", source.name.clone());
    }
    add("version", tool.version.clone());
    add("command", format!("tq4 {}", tool.command_line.join(" ")));
    let os = tool.os.iter().chain([&tool.host]);
    add("system", os.cloned().collect::<Vec<_>>().join(", "));
    for l in lanes_shown(run) {
        add(
            &name(&l.name),
            format!("{}: {}", l.status.word(), lane_line(&l)),
        );
    }
    facts
}

/// What is decided, with its sign; bold where something is wrong.
fn decision(d: &Said) -> String {
    let lead = plain(&d.lead);
    let lead = match d.look.tone {
        Tone::Bad => format!("**{lead}**"),
        _ => lead,
    };
    format!("- {} {lead}{}\n", d.look.mark, text_of(&d.why))
}

/// A trouble of many tensors.
fn trouble(known: &Trouble<'_>) -> String {
    let (title, first) = (plain(&known.title()), text_of(&known.first()));
    let look = known.verdict();
    format!(
        "- {} **{title}**: {}; {first}\n",
        look.mark,
        look.word.to_lowercase()
    )
}

/// What a compiler or a program said, line for line.
fn verbatim((lane, lines): &(String, Vec<String>)) -> String {
    format!(
        "{} failed:\n\n{}",
        plain(lane),
        Style::Markdown.verbatim(lines)
    )
}

fn folded(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n\n{body}</details>\n\n")
}

/// A line for each tensor.
fn tensors(out: &mut Limited, order: &[&TensorRecord]) {
    /// No line is shorter, with its verdict and its separators.
    const SHORTEST: usize = 16;
    let most = order.len().min(out.left() / SHORTEST);
    let text = line_sheet(&order[..most])
        .narrow(COLUMNS)
        .text(Style::Markdown);
    let mut lines = text.trim_end().lines().map(|l| format!("{l}\n"));
    let head: String = lines.by_ref().take(2).collect();
    let lines: Vec<String> = lines.collect();
    out.list_of(order.len(), 2, &head, &lines, String::clone, "tensors");
}

/// A tensor with what is wrong and its comparisons.
fn section(t: &TensorRecord) -> String {
    let mut text = format!("### {}\n\n{}\n\n", text_of(&t.tensor_base), shape_line(t));
    for note in notes(t).iter().take(EACH) {
        text += &format!("> {}\n\n", text_of(note));
    }
    let rows = rows(t);
    if !rows.is_empty() {
        let sheet = comparisons(&rows[..rows.len().min(EACH)]);
        text += &sheet.narrow(COLUMNS).text(Style::Markdown);
    } else if t.error.is_none() {
        text += "Nothing to compare: only the reference ran.\n\n";
    }
    if let Some(f) = foreign_codebook(t) {
        text += &format!("{}\n\n", codebook_note(&f));
    }
    let failed = t
        .decisions
        .iter()
        .filter(|d| d.verdict.passed() == Some(false));
    for d in failed.take(EACH).map(DecisionView::new) {
        text += &gates(&d);
    }
    text
}

fn gates(d: &DecisionView) -> String {
    let mut sheet = Sheet::new([
        Column::name("gate"),
        Column::needed("value"),
        Column::needed("limit"),
        Column::word("verdict", None),
    ]);
    for g in &d.gates {
        let limit = format!("{} {}", g.relation, g.limit);
        sheet.row([
            g.name.into(),
            g.value.full.clone().into(),
            limit.into(),
            g.verdict.into(),
        ]);
    }
    folded(
        &format!("Gates of {}", plain(&d.lane)),
        &sheet.text(Style::Markdown),
    )
}

/// All figures of a comparison; with the tensor's name where there are several.
fn figures(t: &TensorRecord, r: &ComparisonRow, several: bool) -> String {
    let mut sheet = Sheet::new([Column::name("figure"), Column::needed("value")]);
    for f in &r.figures {
        sheet.row([f.key.clone().into(), f.full.clone().into()]);
    }
    let of = if several {
        format!(", {}", text_of(&t.tensor_base))
    } else {
        String::new()
    };
    folded(
        &format!("Every figure of {}{of}", plain(&r.name)),
        &sheet.text(Style::Markdown),
    )
}
