//! What a terminal shows: its width, its colours, and paragraphs that fit it.

use std::borrow::Cow;
use textwrap::WordSeparator::AsciiSpace;
use textwrap::core::{Word, display_width};
use textwrap::wrap_algorithms::wrap_first_fit;

/// A terminal, or what takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns; `usize::MAX` in a pipe, where nothing is wrapped.
    pub width: usize,
    /// Whether verdicts are coloured.
    pub colour: bool,
}

impl Default for Screen {
    /// 100 columns without colour.
    fn default() -> Self {
        Self {
            width: 100,
            colour: false,
        }
    }
}

/// What a word says of what it is about, besides its meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// To be looked at.
    Doubtful,
    /// Something is wrong.
    Bad,
}

impl Tone {
    fn style(self) -> anstyle::Style {
        use anstyle::AnsiColor::{Green, Red, Yellow};
        match self {
            Self::Plain => anstyle::Style::new(),
            Self::Good => Green.on_default(),
            Self::Doubtful => Yellow.on_default(),
            Self::Bad => Red.on_default().bold(),
        }
    }

    /// `text` in its colour.
    pub fn paint(self, text: &str, screen: Screen) -> String {
        match screen.colour {
            true => format!("{0}{text}{0:#}", self.style()),
            false => text.to_owned(),
        }
    }
}

/// Columns by which the lines after the first are set in.
const INDENT: usize = 2;

/// A paragraph, lines after the first set in, with a newline at its end.
pub fn paragraph(text: &str, screen: Screen) -> String {
    marked_paragraph("", "", Tone::Plain, text, screen)
}

/// A paragraph that starts with `before` and with `word` in its tone; neither of them is broken, however narrow
/// the screen is.
pub fn marked_paragraph(
    before: &str,
    word: &str,
    tone: Tone,
    text: &str,
    screen: Screen,
) -> String {
    let lead = format!("{before}{word}");
    let widths = [screen.width, screen.width.saturating_sub(INDENT).max(1)];
    let lines = wrap(&lead, text, widths);
    let mut lines = lines.iter().map(String::as_str);
    let first = lines.next().unwrap_or_default();
    let rest = &first[lead.len()..];
    let mut out = format!("{before}{}{rest}\n", tone.paint(word, screen));
    for line in lines {
        out += &format!("{:INDENT$}{line}\n", "");
    }
    out
}

/// Lines of `lead` and `text` of at most so many columns, the first and the others. `lead` is not broken.
fn wrap(lead: &str, text: &str, widths: [usize; 2]) -> Vec<String> {
    let mut words: Vec<Word<'_>> = Vec::new();
    if !lead.is_empty() {
        let mut word = Word::from(lead);
        word.whitespace = if text.starts_with(' ') { " " } else { "" };
        words.push(word);
    }
    let text = text.trim_start();
    words.extend(
        AsciiSpace
            .find_words(text)
            .flat_map(|w| pieces(w, widths[1])),
    );
    let lines = wrap_first_fit(&words, &widths.map(|w| w as f64));
    let line = |words: &&[Word<'_>]| -> String {
        let all: String = words.iter().flat_map(|w| [w.word, w.whitespace]).collect();
        all.trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

/// A word in pieces of at most `width` columns: a longer one is cut behind a dot or a slash, what is still longer
/// behind an underscore, and else anywhere.
fn pieces(word: Word<'_>, width: usize) -> Vec<Word<'_>> {
    if display_width(word.word) <= width {
        return vec![word];
    }
    let mut pieces = Vec::new();
    for part in word.word.split_inclusive(['.', '/', '\\']) {
        match display_width(part) <= width {
            true => pieces.push(Word::from(part)),
            false => {
                let parts = part.split_inclusive(['_', '-', ',']);
                pieces.extend(
                    parts.flat_map(|p| Word::from(p).break_apart(width).collect::<Vec<_>>()),
                );
            }
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.whitespace = word.whitespace;
    }
    pieces
}

/// `text` in lines of at most `width` columns, with newlines between them.
pub fn folded(text: &str, width: usize) -> Cow<'_, str> {
    match display_width(text) <= width {
        true => text.into(),
        false => wrap("", text, [width; 2]).join("\n").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NARROW: Screen = Screen {
        width: 60,
        colour: false,
    };

    #[test]
    fn long_names_break_at_their_dots_and_others_move_to_the_next_line() {
        let name = format!("model.{}.down_proj.weight", "layers.10".repeat(5));
        let text = format!("the tensor model.layers.10.mlp.down_proj is not at hand, but {name}");
        let text = paragraph(&text, NARROW);
        assert_eq!(
            text,
            "the tensor model.layers.10.mlp.down_proj is not at hand, but\n  \
             model.layers.10layers.10layers.10layers.10layers.10.\n  down_proj.weight\n"
        );
    }

    #[test]
    fn in_a_pipe_a_paragraph_is_a_line() {
        let pipe = Screen {
            width: usize::MAX,
            ..NARROW
        };
        let text = "word ".repeat(100);
        assert_eq!(paragraph(&text, pipe).lines().count(), 1);
        assert!(paragraph(&text, NARROW).lines().count() > 1);
    }

    #[test]
    fn a_mark_is_coloured_and_never_broken() {
        let colour = Screen {
            width: 10,
            colour: true,
        };
        let text = marked_paragraph(
            "decision: ",
            "a_long_string",
            Tone::Bad,
            " (for a reason)",
            colour,
        );
        assert_eq!(
            text,
            "decision: \u{1b}[1m\u{1b}[31ma_long_string\u{1b}[0m\n  (for a\n  reason)\n"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_and_no_letter_is_lost(text in "[a-z._ /]{0,300}", width in 20usize..100) {
            let screen = Screen { width, colour: false };
            let told = paragraph(&text, screen);
            for line in told.lines() {
                prop_assert!(line.chars().count() <= width, "{:?}", line);
            }
            let letters = |t: &str| -> String { t.split_whitespace().collect() };
            prop_assert_eq!(letters(&told), letters(&text));
        }
    }
}
