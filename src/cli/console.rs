//! What the commands write to: the terminal's width and colours, and how much its user wants to read.

use super::progress::Progress;
use super::{OutputFormat, tell};
use crate::report::{Screen, Style};
use anstream::{AutoStream, ColorChoice};
use std::io::{IsTerminal, stdout};
use terminal_size::{Width, terminal_size_of};

/// Where a command writes.
pub struct Console {
    /// What stdout shows.
    pub screen: Screen,
    /// Whether only results are written, and errors.
    pub quiet: bool,
}

impl Console {
    /// The narrowest screen that text is set for.
    const NARROWEST: usize = 40;

    /// The console of this process.
    pub fn new(quiet: bool) -> Self {
        let terminal = stdout().is_terminal();
        let size = || terminal_size_of(stdout()).map(|(Width(columns), _)| columns.into());
        let given = || std::env::var("COLUMNS").ok()?.parse().ok();
        let columns = terminal.then(size).flatten().or_else(given);
        let width = columns.filter(|columns: &usize| *columns > 0);
        Self {
            screen: Screen {
                // In a pipe a line stays whole, however long.
                width: match width {
                    Some(columns) => columns.max(Self::NARROWEST),
                    None if terminal => Screen::default().width,
                    None => usize::MAX,
                },
                colour: AutoStream::choice(&stdout()) != ColorChoice::Never,
            },
            quiet,
        }
    }

    /// How what is printed is set; `None` where it is JSON.
    pub fn style(&self, format: OutputFormat) -> Option<Style> {
        match format {
            OutputFormat::Json => None,
            OutputFormat::Table => Some(Style::Terminal(self.screen)),
            OutputFormat::Markdown => Some(Style::Markdown),
        }
    }

    /// Whether only results are to be printed in this form. The others are for machines and other readers.
    pub fn results_only(&self, format: OutputFormat) -> bool {
        self.quiet && format == OutputFormat::Table
    }

    /// A note or a warning on stderr, unless only results are wanted.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            tell(line);
        }
    }

    /// A bar on stderr, unless only results are wanted.
    pub fn progress(&self) -> Progress {
        Progress::new(!self.quiet)
    }
}
