//! A run's report for people at a terminal.

use super::decisions::decisions;
use super::figures::{floor, largest};
use super::notes::{Notes, notes};
use super::screen::{Screen, Tone, paragraph};
use super::shared::Shared;
use super::sheet::{Cell, Column, Sheet, Style};
use super::terminal::{group_text, picture_text};
use super::view::{
    ComparisonRow, Figure, Look, OUTPUT_RMSE, TensorLine, name, rows, tensor_passed,
};
use super::words::{
    codebook_note, foreign_codebook, lane_line, lanes_shown, long_reasons, plain_problems,
    shape_line, totals,
};
use super::{Detail, Exporter, put};
use crate::error::{Result, printable};
use crate::record::{LaneRecord, Run, Status, TensorRecord};
use std::io::Write;

/// Tensors with something wrong that a summary names.
const WRONG: usize = 20;

/// The report as text for a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table {
    /// How much is said of each tensor; what suits the run when `None`.
    pub detail: Option<Detail>,
    /// Whether the tensors' pictures are drawn, where the run holds them.
    pub pictures: bool,
    /// What is written to.
    pub screen: Screen,
}

impl Exporter for Table {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        let detail = self.detail.unwrap_or_else(|| Detail::of(run));
        let mut out = match detail {
            Detail::Each => self.each(run),
            Detail::Lines => self.lines(&run.worst_first(), &Shared::of(run), usize::MAX),
            Detail::Summary => {
                let shared = Shared::of(run);
                let mut wrong = run.worst_first();
                wrong.retain(|t| tensor_passed(t) == Some(false) && !shared.covers(t));
                self.lines(&wrong, &shared, WRONG)
            }
            Detail::Decisions => String::new(),
        };
        if detail != Detail::Decisions {
            out += &self.about(run, detail);
        }
        for d in decisions(run, detail != Detail::Decisions) {
            out += &d.paragraph(self.screen);
        }
        put(&out, to)
    }
}

impl Table {
    fn paragraph(&self, text: &str) -> String {
        paragraph(text, self.screen)
    }

    /// What is said of the whole run.
    fn about(&self, run: &Run, detail: Detail) -> String {
        let mut out = String::new();
        let plain = plain_problems(run);
        let shown = if detail == Detail::Summary {
            WRONG
        } else {
            plain.len()
        };
        for (name, reason) in plain.iter().take(shown) {
            out += &self.paragraph(&format!("{name}: {reason}"));
        }
        out += &self.more(plain.len().saturating_sub(shown));
        let lanes = lanes_shown(run);
        if !lanes.is_empty() {
            out += &lanes_table(&lanes, Style::Terminal(self.screen));
        }
        let figures = match detail {
            Detail::Lines | Detail::Summary => largest(run),
            Detail::Each | Detail::Decisions => Vec::new(),
        };
        let totals = totals(run, detail == Detail::Each);
        for line in floor(run).into_iter().chain(totals).chain(figures) {
            out += &self.paragraph(&line);
        }
        out
    }

    /// Every comparison of each tensor.
    fn each(&self, run: &Run) -> String {
        let tensors = run.tensors.iter();
        tensors
            .map(|t| format!("{}{}\n", self.tensor(t), self.picture(t)))
            .collect()
    }

    /// The comparisons of one tensor: a title line, a table, and what is wrong.
    fn tensor(&self, t: &TensorRecord) -> String {
        let title = format!("{}  {}", printable(&t.tensor_base), shape_line(t));
        let mut out = self.paragraph(&title);
        let rows = rows(t);
        if !rows.is_empty() {
            out += &comparisons(&rows).text(Style::Terminal(self.screen));
        } else if t.error.is_none() {
            out += "nothing to compare: only the reference ran\n";
        }
        if let Some(f) = foreign_codebook(t) {
            out += &self.paragraph(&codebook_note(&f));
        }
        for note in notes(t) {
            out += &self.paragraph(&note);
        }
        out
    }

    /// The troubles that many tensors share; a line for each of `tensors` but for those beyond so many; then what
    /// was wrong with any of them.
    fn lines(&self, tensors: &[&TensorRecord], shared: &Shared<'_>, most: usize) -> String {
        let troubles = shared.troubles.iter();
        let troubles: String = troubles
            .map(|known| self.paragraph(&known.said()))
            .collect();
        let mut wrong = String::new();
        let shown = &tensors[..tensors.len().min(most)];
        let mut notes = Notes::new(shared);
        for (i, t) in tensors.iter().enumerate() {
            let note = notes.of(t);
            if i >= most {
                continue;
            }
            let base = printable(&t.tensor_base);
            let picture = match note.drawn {
                true => self.picture(t),
                false => String::new(),
            };
            // A picture is under its tensor's name, whatever else is said of that.
            if note.text.is_empty() && !picture.is_empty() {
                wrong += &self.paragraph(&base);
            }
            for text in note.text {
                wrong += &self.paragraph(&format!("{base}: {text}"));
            }
            wrong += &picture;
        }
        for line in notes.rest() {
            wrong += &self.paragraph(&line);
        }
        if shown.is_empty() {
            return troubles;
        }
        let sheet = line_sheet(shown);
        let more = self.more(tensors.len() - shown.len());
        format!(
            "{troubles}{}{more}\n{wrong}",
            sheet.text(Style::Terminal(self.screen))
        )
    }

    /// Says how many are not named.
    fn more(&self, count: usize) -> String {
        match count {
            0 => String::new(),
            n => self.paragraph(&format!(
                "and {n} more: -v lists every tensor, --report has all"
            )),
        }
    }

    fn picture(&self, t: &TensorRecord) -> String {
        if !self.pictures {
            return String::new();
        }
        let groups = t.diagnosis.iter().map(|d| {
            let (start, d) = (d.strip_start, &d.diagnosis);
            group_text(&d.lane, start, &d.group, self.screen)
        });
        let pictures = t.picture.iter().map(|p| picture_text(p, self.screen));
        let text: String = groups.chain(pictures).collect();
        match text.is_empty() {
            true => text,
            false => format!("\n{text}"),
        }
    }
}

impl From<Look> for Cell {
    /// The word in its colour.
    fn from(look: Look) -> Self {
        Self::of(look.word, look.tone)
    }
}

impl From<Option<&Figure>> for Cell {
    /// The figure as it is read, where there is one.
    fn from(figure: Option<&Figure>) -> Self {
        figure.map_or_else(Self::default, |f| f.text.clone().into())
    }
}

/// A line for each of these tensors.
pub fn line_sheet(tensors: &[&TensorRecord]) -> Sheet {
    let mut sheet = Sheet::new([
        Column::name("tensor"),
        Column::word("verdict", None),
        Column::number("vs source", 2),
        Column::word("worst lane", 4),
        Column::number("rmse ratio", 5),
        Column::number(OUTPUT_RMSE, 5),
        Column::number("differ", 6),
        Column::number("max ULP", 3),
    ]);
    for t in tensors {
        sheet.row(line(&TensorLine::new(t)));
    }
    sheet
}

fn line(l: &TensorLine) -> [Cell; 8] {
    let worst = l.worst.as_ref();
    let ratios = worst.map_or([None; 2], ComparisonRow::ratios);
    [
        l.name.clone().into(),
        l.verdict.into(),
        l.source.clone().into(),
        worst.map_or_else(Cell::default, |r| r.lane.clone().into()),
        ratios[0].into(),
        ratios[1].into(),
        worst.map(|r| &r.differ).into(),
        worst.and_then(|r| r.telling("max_ulp")).into(),
    ]
}

/// The comparisons of a tensor as a table.
pub fn comparisons(rows: &[ComparisonRow]) -> Sheet {
    let mut sheet = Sheet::new([
        Column::words("comparison"),
        Column::number("rmse ratio", 6),
        Column::number(OUTPUT_RMSE, 6),
        Column::number("max abs", 4),
        Column::number("p99 rel", 2),
        Column::number("differ", 7),
        Column::number("max ULP", 5),
        Column::word("verdict", None),
    ]);
    for r in rows {
        let [ratio, output] = r.ratios();
        sheet.row([
            r.name.clone().into(),
            ratio.into(),
            output.into(),
            Some(r.get("max_abs")).into(),
            r.telling("rel_p99").into(),
            r.differing().into(),
            r.telling("max_ulp").into(),
            r.verdict.map(Cell::from).unwrap_or_default(),
        ]);
    }
    sheet
}

/// Every lane and what became of it; then what broke one, where that has several lines.
pub fn lanes_table(lanes: &[LaneRecord], style: Style) -> String {
    let mut sheet = Sheet::new([
        Column::name("lane"),
        Column::word("status", None),
        Column::words("device"),
    ]);
    for l in lanes {
        let tone = match l.status {
            Status::Ran | Status::Recorded | Status::Skipped => Tone::Plain,
            Status::Unavailable => Tone::Doubtful,
            Status::Failed => Tone::Bad,
        };
        let status = Cell::of(l.status.word(), tone);
        sheet.row([name(&l.name).into(), status, lane_line(l).into()]);
    }
    let long = long_reasons(lanes).into_iter();
    let long = long
        .map(|(lane, lines)| style.paragraph(&format!("{lane} failed:")) + &style.verbatim(&lines));
    sheet.text(style) + &long.collect::<String>()
}
