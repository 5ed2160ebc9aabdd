//! A recording as it is named on a command line.

use crate::error::Error;
use crate::record::OutputType;
use std::path::{Path, PathBuf};

/// A file, a directory, or `-` for standard input; and the type of its values, where it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPath {
    /// Where it is.
    pub path: PathBuf,
    /// The type, from an ending `:bf16`, `:f16` or `:f32`.
    pub of: Option<OutputType>,
}

impl RecordingPath {
    /// Takes `FILE` or `FILE:TYPE` apart; a file that is there is meant as it is written.
    pub fn new(text: &str) -> Self {
        let whole = Self {
            path: text.into(),
            of: None,
        };
        match text.rsplit_once(':') {
            Some((path, of)) if !path.is_empty() && !whole.path.exists() => match of.parse() {
                Ok(of) => Self {
                    path: path.into(),
                    of: Some(of),
                },
                Err(_) => whole,
            },
            _ => whole,
        }
    }

    /// What is wrong with the word after a file that is there, where it is no type.
    pub(super) fn unknown_type(&self) -> Option<Error> {
        let (file, word) = self.path.to_str()?.rsplit_once(':')?;
        let unknown = word.parse::<OutputType>().err();
        unknown.filter(|_| Path::new(file).is_file())
    }

    /// Whether it is standard input.
    pub fn is_stdin(&self) -> bool {
        self.path == Path::new("-")
    }
}

impl From<&Path> for RecordingPath {
    fn from(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            of: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_from_a_name_with_a_colon() {
        let given = |text| {
            let RecordingPath { path, of } = RecordingPath::new(text);
            (path.to_str().unwrap().to_owned(), of)
        };
        assert_eq!(
            given("no/a.bin:bf16"),
            ("no/a.bin".into(), Some(OutputType::Bf16))
        );
        assert_eq!(given("-:f32"), ("-".into(), Some(OutputType::F32)));
        assert_eq!(given("no/a.bin"), ("no/a.bin".into(), None));
        assert_eq!(given("C:\\a.bin"), ("C:\\a.bin".into(), None));
        assert_eq!(given(":f16"), (":f16".into(), None));
        let there = tempfile::Builder::new().suffix(":f16").tempfile().unwrap();
        assert_eq!(RecordingPath::new(there.path().to_str().unwrap()).of, None);
    }
}
