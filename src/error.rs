//! The one error type of the library.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// What went wrong, in the three parts a user needs: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was found, and what was expected.
    pub what: String,
    /// File, tensor or option in which it was found.
    pub place: String,
    /// What to do about it; empty when `what` already says it.
    pub help: String,
    /// The file of a model that it lies in, where one was read.
    pub file: Option<String>,
}

impl Problem {
    fn new(what: impl Into<String>, place: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            place: place.into(),
            help: help.into(),
            file: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from untrusted files: control characters must not reach the terminal. A compiler's or
        // a program's words have lines; set off, none of them passes for one of this program's.
        let mut lines = self.what.split('\n');
        write!(f, "{}", printable(lines.next().unwrap_or("")))?;
        for line in lines.filter(|l| !l.is_empty()) {
            write!(f, "\n  | {}", printable(line))?;
        }
        if !self.place.is_empty() {
            write!(f, "\n  where: {}", printable(&self.place))?;
        }
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", printable(&self.help))?;
        }
        Ok(())
    }
}

/// Characters of Unicode's general category Cf (soft hyphen, bidirectional controls, joiners, tags) and
/// its line and paragraph separators: they show nothing, or change how others are shown.
const UNSEEN: [RangeInclusive<char>; 20] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// Escapes characters that are not seen, so that a hostile name cannot drive a terminal, fake a line or
/// turn text round.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || UNSEEN.iter().any(|range| range.contains(&c)) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Every way in which a call into this library fails.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file, tensor or argument is not what it must be.
    #[error("{0}")]
    Input(Problem),
    /// A lane cannot run on this machine: no driver, no device, no such adapter.
    #[error("{0}")]
    Unavailable(Problem),
    /// A lane that could start broke while it worked: out of memory, device lost, bad module.
    #[error("{0}")]
    Backend(Problem),
    /// A lane's device is gone: nothing works on it until this process starts again.
    #[error("{0}")]
    Lost(Problem),
    /// The system did not read or write a file: it is not there, not permitted, or the disk is full.
    #[error("{problem}")]
    Io {
        /// What, where, what to do.
        problem: Problem,
        /// The system's own error.
        source: Arc<std::io::Error>,
    },
}

/// Two errors are the same when they say the same.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.problem() == other.problem()
    }
}

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Bad input: `what` was found at `place`; `help` says what to do.
    pub fn input(
        what: impl Into<String>,
        place: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Input(Problem::new(what, place, help))
    }

    /// A lane named by `place` is not there; `help` says what would bring it.
    pub fn unavailable(
        what: impl Into<String>,
        place: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Unavailable(Problem::new(what, place, help))
    }

    /// A lane named by `place` failed while it ran.
    pub fn backend(
        what: impl Into<String>,
        place: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Backend(Problem::new(what, place, help))
    }

    /// The device of the lane named by `place` is gone for this process.
    pub fn lost(
        what: impl Into<String>,
        place: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Lost(Problem::new(what, place, help))
    }

    /// The system failed to `action` the file at `path`.
    pub fn io(action: &str, path: &Path, error: std::io::Error) -> Self {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check the permissions",
            std::io::ErrorKind::StorageFull => "free some space and run again",
            _ => "",
        };
        Self::Io {
            problem: Problem {
                file: Some(path.display().to_string()),
                ..Problem::new(
                    format!("cannot {action}: {error}"),
                    path.display().to_string(),
                    help,
                )
            },
            source: Arc::new(error),
        }
    }

    /// The same, found in another place.
    pub(crate) fn at(mut self, place: String) -> Self {
        self.problem_mut().place = place;
        self
    }

    /// The same, of a tensor or a part of one that lies in the file at `path`.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        let problem = self.problem_mut();
        let file = path.display().to_string();
        problem.place = format!("{} in {file}", problem.place);
        problem.file = Some(file);
        self
    }

    /// Whether the disk is full, which is nobody's bad input: the same call works once there is space.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }

    fn problem_mut(&mut self) -> &mut Problem {
        match self {
            Self::Input(p) | Self::Unavailable(p) | Self::Backend(p) | Self::Lost(p) => p,
            Self::Io { problem, .. } => problem,
        }
    }

    /// Its parts.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Input(p) | Self::Unavailable(p) | Self::Backend(p) | Self::Lost(p) => p,
            Self::Io { problem, .. } => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let e = Error::input("bad\u{1b}[31m name\nhelp: \u{1b}[0m", "a\nb", "");
        let expected = "bad\\u{1b}[31m name\n  | help: \\u{1b}[0m\n  where: a\\nb";
        assert_eq!(e.to_string(), expected);
        for c in
            "\u{9b}\u{ad}\u{200b}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e0041}".chars()
        {
            assert_eq!(printable(&c.to_string()), c.escape_unicode().to_string());
        }
        for shown in ["caf\u{e9}", "\u{5c42}", "\u{1f600}", "\u{5d0}", "a b"] {
            assert_eq!(printable(shown), shown);
        }
    }

    #[test]
    fn a_full_disk_is_not_bad_input_and_keeps_its_source() {
        use std::error::Error as _;
        use std::io::ErrorKind;
        for (kind, full) in [(ErrorKind::StorageFull, true), (ErrorKind::NotFound, false)] {
            let e = Error::io("write", Path::new("out"), kind.into());
            assert_eq!(e.is_storage_full(), full);
            let source = e
                .source()
                .and_then(|s| s.downcast_ref::<Arc<std::io::Error>>());
            assert_eq!(source.map(|s| s.kind()), Some(kind));
            assert!(!matches!(e, Error::Input(_)));
        }
    }
}
