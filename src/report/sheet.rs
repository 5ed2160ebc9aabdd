//! Tables: for a terminal they fit its width, for Markdown they have its signs.

use super::screen::{Screen, Tone, folded, marked_paragraph};
use super::words::plain;
use comfy_table::{Attribute, CellAlignment, Color, LineStyle, presets};
use textwrap::core::display_width;

/// Where text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A terminal.
    Terminal(Screen),
    /// A pull request or a job summary.
    Markdown,
}

impl Style {
    /// What parts a table from what follows; in Markdown there is one already.
    pub fn blank(self) -> &'static str {
        match self {
            Self::Terminal(_) => "\n",
            Self::Markdown => "",
        }
    }

    /// A paragraph that starts with `before` and with `word` in its tone.
    pub fn marked(self, before: &str, word: &str, tone: Tone, text: &str) -> String {
        match self {
            Self::Terminal(screen) => marked_paragraph(before, word, tone, text, screen),
            Self::Markdown => self.paragraph(&format!("{before}{word}{text}")),
        }
    }

    /// What a compiler or a program said, line for line: a caret points at what stands above it.
    pub fn verbatim(self, lines: &[String]) -> String {
        let (indent, end) = match self {
            Self::Terminal(_) => ("  | ", ""),
            Self::Markdown => ("    ", "\n"),
        };
        let lines = lines.iter().map(|l| format!("{indent}{l}\n"));
        match lines.len() {
            0 => String::new(),
            _ => lines.collect::<String>() + end,
        }
    }

    /// Lines, each a paragraph.
    pub fn lines(self, text: &str) -> String {
        text.lines().map(|line| self.paragraph(line)).collect()
    }

    /// A paragraph with a newline at its end.
    pub fn paragraph(self, text: &str) -> String {
        match self {
            Self::Terminal(screen) => super::screen::paragraph(text, screen),
            Self::Markdown => format!("{}\n\n", plain(text)),
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    /// Numbers, which are never broken.
    Number,
    /// Single words, which are never broken either.
    Word,
    /// Names, which are broken where nothing else helps.
    Name,
    /// Words, which go on in the next line.
    Words,
}

/// A column with its head.
#[derive(Debug, Clone)]
pub struct Column {
    head: String,
    kind: ColumnKind,
    /// Columns that are worth least are left out first where the table does not fit; none of `None`.
    worth: Option<u8>,
}

impl Column {
    /// Names: the first column as a rule.
    pub fn name(head: &str) -> Self {
        Self::new(head, ColumnKind::Name, None)
    }

    /// Words that no reader can do without.
    pub fn words(head: &str) -> Self {
        Self::new(head, ColumnKind::Words, None)
    }

    /// Single words that are worth so much; those that no reader can do without of `None`.
    pub fn word(head: &str, worth: impl Into<Option<u8>>) -> Self {
        Self::new(head, ColumnKind::Word, worth.into())
    }

    /// Numbers that are worth so much.
    pub fn number(head: &str, worth: u8) -> Self {
        Self::new(head, ColumnKind::Number, Some(worth))
    }

    /// Numbers that no reader can do without.
    pub fn needed(head: &str) -> Self {
        Self::new(head, ColumnKind::Number, None)
    }

    fn new(head: &str, kind: ColumnKind, worth: Option<u8>) -> Self {
        Self {
            head: head.into(),
            kind,
            worth,
        }
    }
}

/// A cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Text in a tone.
    pub fn of(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl Cell {
    /// Where there is no colour a sign stands for it.
    fn markdown(&self) -> String {
        let sign = match self.tone {
            Tone::Plain => "",
            Tone::Good => "\u{2714} ",
            Tone::Doubtful => "\u{25cb} ",
            Tone::Bad => "\u{2718} ",
        };
        format!("{sign}{}", plain(&self.text))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::of(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::of(text, Tone::Plain)
    }
}

/// A table.
#[derive(Debug, Clone)]
pub struct Sheet {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// An empty table.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: a cell for each column.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The table with at most so many columns: those that are worth least are left out.
    pub fn narrow(mut self, most: usize) -> Self {
        let filled = |c: &usize| self.rows.iter().any(|r| !r[*c].text.is_empty());
        let mut shown: Vec<usize> = (0..self.columns.len()).filter(filled).collect();
        while shown.len() > most {
            let droppable = (0..shown.len()).filter(|i| self.columns[shown[*i]].worth.is_some());
            let Some(i) = droppable.min_by_key(|i| self.columns[shown[*i]].worth) else {
                break;
            };
            shown.remove(i);
        }
        self.columns = shown.iter().map(|c| self.columns[*c].clone()).collect();
        for row in &mut self.rows {
            *row = shown.iter().map(|c| row[*c].clone()).collect();
        }
        self
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table with a newline at its end; in Markdown with an empty line, for it takes a line right below a
    /// table for another row.
    pub fn text(&self, style: Style) -> String {
        let filled = |c: &usize| self.rows.iter().any(|r| !r[*c].text.is_empty());
        let all = 0..self.columns.len();
        let shown: Vec<usize> = all.filter(|c| self.rows.is_empty() || filled(c)).collect();
        match style {
            Style::Terminal(screen) => self.terminal(shown, screen),
            Style::Markdown => self.markdown(&shown),
        }
    }

    fn markdown(&self, shown: &[usize]) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let columns = || shown.iter().map(|c| &self.columns[*c]);
        let mut text = line(columns().map(|c| plain(&c.head)).collect());
        let rule = |c: &Column| match c.kind {
            ColumnKind::Number => "---:|",
            ColumnKind::Word | ColumnKind::Name | ColumnKind::Words => "---|",
        };
        text += &format!("|{}\n", columns().map(rule).collect::<String>());
        for row in &self.rows {
            text += &line(shown.iter().map(|c| row[*c].markdown()).collect());
        }
        text + "\n"
    }

    fn terminal(&self, shown: Vec<usize>, screen: Screen) -> String {
        let (shown, widths) = self.fit(shown, screen.width);
        let mut t = comfy_table::Table::new();
        t.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')));
        t.force_no_tty();
        if screen.colour {
            t.enforce_styling().style_text_only();
        }
        let columns = || shown.iter().zip(&widths);
        t.set_header(columns().map(|(c, w)| folded(&self.columns[*c].head, *w).into_owned()));
        for row in &self.rows {
            t.add_row(columns().map(|(c, w)| {
                let Cell { text, tone } = &row[*c];
                let cell = comfy_table::Cell::new(folded(text, *w));
                match tone {
                    Tone::Plain => cell,
                    Tone::Good => cell.fg(Color::DarkGreen),
                    Tone::Doubtful => cell.fg(Color::DarkYellow),
                    Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
                }
            }));
        }
        for (i, c) in shown.iter().enumerate() {
            if self.columns[*c].kind == ColumnKind::Number
                && let Some(column) = t.column_mut(i)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{}\n", t.trim_fmt())
    }

    /// The columns that fit, and how wide each of them is.
    fn fit(&self, mut shown: Vec<usize>, width: usize) -> (Vec<usize>, Vec<usize>) {
        /// Columns between two cells.
        const PADDING: usize = 2;
        let sum = |widths: &[usize]| widths.iter().map(|w| w + PADDING).sum::<usize>();
        let least =
            |shown: &[usize]| -> Vec<usize> { shown.iter().map(|c| self.least(*c)).collect() };
        while sum(&least(&shown)) > width {
            let worth = |i: &usize| self.columns[shown[*i]].worth;
            let droppable = (0..shown.len()).filter(|i| worth(i).is_some());
            let Some(i) = droppable.min_by_key(|i| worth(i)) else {
                break;
            };
            shown.remove(i);
        }
        let mut widths: Vec<usize> = shown.iter().map(|c| self.widest(*c)).collect();
        let mut least = least(&shown);
        // Heads of numbers go on in the next line before words do, and these before names.
        for kinds in [
            &[ColumnKind::Number, ColumnKind::Word][..],
            &[ColumnKind::Words],
            &[ColumnKind::Name],
            &[ColumnKind::Words, ColumnKind::Name],
        ] {
            let of_kind = |i: &usize| kinds.contains(&self.columns[shown[*i]].kind);
            while sum(&widths) > width {
                let can = (0..shown.len())
                    .filter(of_kind)
                    .filter(|i| widths[*i] > least[*i]);
                let Some(i) = can.max_by_key(|i| widths[*i]) else {
                    break;
                };
                widths[i] -= 1;
            }
            if kinds == [ColumnKind::Name] {
                // Nothing but single letters helps.
                least.fill(1);
            }
        }
        (shown, widths)
    }

    fn texts(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |r| &*r[column].text)
    }

    /// Width at which nothing in a column is broken.
    fn widest(&self, column: usize) -> usize {
        let texts = self.texts(column).chain([&*self.columns[column].head]);
        texts.map(display_width).max().unwrap_or(0)
    }

    /// Least width of a column at which it is read with ease.
    fn least(&self, column: usize) -> usize {
        /// Names and words are not made narrower than this.
        const LEAST: [usize; 2] = [40, 18];
        let head = self.columns[column]
            .head
            .split(' ')
            .map(display_width)
            .max();
        let head = head.unwrap_or(0);
        let widest = self.texts(column).map(display_width).max().unwrap_or(0);
        match self.columns[column].kind {
            ColumnKind::Number | ColumnKind::Word => widest.max(head),
            ColumnKind::Name => widest.min(LEAST[0]).max(head),
            ColumnKind::Words => widest.min(LEAST[1]).max(head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sheet(name: &str, words: &str) -> Sheet {
        let mut sheet = Sheet::new([
            Column::name("tensor"),
            Column::number("rmse ratio", 2),
            Column::number("max ULP", 1),
            Column::words("device"),
            Column::word("verdict", None),
        ]);
        let verdict = Cell::of("FAIL", Tone::Bad);
        sheet.row([
            name.into(),
            "0.00166".into(),
            "65535".into(),
            words.into(),
            verdict,
        ]);
        sheet
    }

    fn at(width: usize, colour: bool) -> Style {
        Style::Terminal(Screen { width, colour })
    }

    #[test]
    fn what_does_not_fit_is_left_out_or_goes_on_in_the_next_line() {
        let sheet = sheet(
            "model.layers.10.self_attn.q_proj",
            "a device with a long name",
        );
        insta::assert_snapshot!(
            "sheets",
            [100, 80, 60, 44]
                .map(|w| sheet.text(at(w, false)))
                .join("\n")
        );
        assert_eq!(
            sheet.text(Style::Markdown),
            "| tensor | rmse ratio | max ULP | device | verdict |\n|---|---:|---:|---|---|\n\
             | model.layers.10.self_attn.q_proj | 0.00166 | 65535 | a device with a long name | \u{2718} FAIL |\n\n"
        );
    }

    #[test]
    fn colour_is_in_the_cell_alone_and_takes_no_room() {
        let sheet = sheet("a", "b");
        let text = sheet.text(at(60, true));
        assert!(
            text.contains("\u{1b}[") && text.contains("FAIL"),
            "{text:?}"
        );
        let stripped =
            String::from_utf8(anstream::adapter::strip_bytes(text.as_bytes()).into_vec());
        let without: Vec<String> = stripped
            .unwrap()
            .lines()
            .map(|l| l.trim_end().to_owned())
            .collect();
        assert_eq!(without.join("\n") + "\n", sheet.text(at(60, false)));
    }

    proptest! {
        #[test]
        fn no_line_is_wider(name in "[a-z.]{0,120}", words in "[a-z ]{0,200}", width in 60usize..140) {
            let text = sheet(&name, &words).text(at(width, false));
            for line in text.lines() {
                prop_assert!(line.chars().count() <= width, "{}", text);
            }
        }
    }
}
