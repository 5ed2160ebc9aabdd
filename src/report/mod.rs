//! Looks: a [`Run`] as JSON, as tables, as Markdown, as a page. Each format is fed from the record alone.

mod bench;
mod bench_csv;
mod bench_words;
mod csv;
mod decisions;
mod digits;
mod figures;
mod html;
mod json;
mod junit;
mod limited;
mod look;
mod markdown;
mod naming;
mod notes;
mod pair;
mod screen;
mod shared;
mod sheet;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub use bench::{results as bench_results, text as bench_text};
pub use bench_csv::csv as bench_csv;
pub use csv::TopErrors;
pub use html::{Page, bench_page};
pub use json::Json;
pub use junit::JUnit;
pub use markdown::Markdown;
pub use pair::{results as pair_results, text as pair_text};
pub use screen::Screen;
#[doc(hidden)]
pub use screen::Tone;
#[doc(hidden)]
pub use sheet::{Cell, Column, Sheet, Style};
pub use table::Table;
#[doc(hidden)]
pub use view::count_of;
#[doc(hidden)]
pub use words::first_line;

use crate::error::{Error, Result};
use crate::record::Run;
use std::io::Write;
use std::path::Path;

/// One form of a report.
///
/// ```no_run
/// use tq4::report::{Exporter, Markdown};
/// fn summary(run: &tq4::record::Run) -> tq4::Result<Vec<u8>> {
///     let mut text = Vec::new();
///     Markdown::default().export(run, &mut text)?;
///     Ok(text)
/// }
/// ```
pub trait Exporter {
    /// Writes the report of `run`, with a final newline.
    ///
    /// # Errors
    /// When `to` cannot be written.
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()>;
}

/// How much is said of each tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Every comparison.
    Each,
    /// One line, the worst tensor first.
    Lines,
    /// A line where something is wrong, the largest figures of the rest.
    Summary,
    /// Nothing beside the decisions.
    Decisions,
}

impl Detail {
    /// Tensors of which each comparison is read one by one.
    const EACH: usize = 8;

    /// What suits a run: every comparison of a few tensors, a summary of many.
    pub fn of(run: &Run) -> Self {
        match run.tensors.len() {
            0..=Self::EACH => Self::Each,
            _ => Self::Summary,
        }
    }

    /// What suits a run of which every tensor is to be told: a line for each of many.
    pub fn of_all(run: &Run) -> Self {
        match Self::of(run) {
            Self::Summary => Self::Lines,
            few => few,
        }
    }
}

fn put(text: &str, to: &mut dyn Write) -> Result<()> {
    to.write_all(text.as_bytes())
        .map_err(|e| Error::io("write the report", Path::new(""), e))
}
