//! A program as it was asked for.

use crate::error::{Error, Result};
use crate::record::{LaneName, OutputType};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Words of a command that are replaced where the program is started for each strip.
const FILES: [&str; 2] = ["{input}", "{output}"];

/// A program that is to be a lane: `NAME[:TYPE]=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalProgram {
    name: LaneName,
    output: OutputType,
    /// As it was given, for the report.
    command: String,
    path: PathBuf,
    arguments: Vec<String>,
}

impl ExternalProgram {
    /// The lane's name.
    pub fn name(&self) -> &LaneName {
        &self.name
    }

    /// Type of the values that it writes.
    pub fn output(&self) -> OutputType {
        self.output
    }

    /// The command as it was given.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The file that is run.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its arguments, with the words that are replaced.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Whether it is started for each strip, with the files' names as arguments.
    pub fn is_started_each_time(&self) -> bool {
        self.arguments.iter().any(|a| a.contains(FILES[0]))
    }
}

/// As a report has it, with the type always there.
impl fmt::Display for ExternalProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, output, command) = (&self.name, self.output.name(), &self.command);
        write!(f, "{name}:{output}={command}")
    }
}

impl FromStr for ExternalProgram {
    type Err = Error;

    /// Splits the command as a POSIX shell does, without variables, globs or pipes, and finds the program.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: String, help: &str| Error::input(what, "", help);
        let Some((name, command)) = text.split_once('=') else {
            let what = format!("{text:?} found, expected NAME=COMMAND");
            return Err(bad(what, ""));
        };
        let (name, output) = match name.split_once(':') {
            None => (name, OutputType::default()),
            Some((name, of)) => (name, of.parse()?),
        };
        let name = LaneName::own(name)?;
        let Some(words) = shlex::split(command) else {
            let what = format!("{command:?} has a quote that does not end");
            return Err(bad(what, "quote as in a shell"));
        };
        let mut words = words.into_iter();
        let Some(program) = words.next() else {
            return Err(bad("the command is empty".into(), ""));
        };
        let path = which::which(&program).map_err(|_| {
            let what = format!("the program {program:?} is not found, or may not be run");
            bad(what, "give its path, or put it in PATH; no shell is used")
        })?;
        let arguments: Vec<String> = words.collect();
        let has = FILES.map(|word| arguments.iter().any(|a| a.contains(word)));
        if has[0] != has[1] {
            let (there, other) = (FILES[usize::from(has[1])], FILES[usize::from(has[0])]);
            let help = "give both to start the program for each strip, none to keep it running";
            return Err(bad(format!("{there} is there without {other}"), help));
        }
        Ok(Self {
            name,
            output,
            command: command.to_owned(),
            path,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program that every machine with a Rust toolchain has.
    const THERE: &str = "cargo";

    fn parse(text: &str) -> Result<ExternalProgram> {
        text.parse()
    }

    #[test]
    fn forms_are_told_apart() {
        let p = parse(&format!("mine={THERE} --a 'b c' d=e")).unwrap();
        assert_eq!(p.arguments(), ["--a", "b c", "d=e"]);
        assert_eq!(p.output(), OutputType::Bf16);
        assert!(!p.is_started_each_time());
        assert_eq!(p.to_string(), format!("mine:bf16={THERE} --a 'b c' d=e"));
        let p = parse(&format!("mine:f32={THERE} {{input}} --to={{output}}")).unwrap();
        assert!(p.is_started_each_time());
        assert_eq!(p.output(), OutputType::F32);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (text, what) in [
            ("mine", "expected NAME=COMMAND"),
            ("=cargo", "expected a name"),
            ("a b=cargo", "expected a name"),
            ("a:f8=cargo", "no output type \"f8\""),
            ("mine=", "the command is empty"),
            ("mine=  ", "the command is empty"),
            ("mine=cargo 'a", "a quote that does not end"),
            ("mine=no-such-program-here", "is not found"),
            ("mine=./", "is not found"),
            ("mine=cargo {input}", "{input} is there without {output}"),
            ("mine=cargo {output}", "{output} is there without {input}"),
            ("source=cargo", "one of tq4's own lanes"),
            ("reference=cargo", "one of tq4's own lanes"),
            ("cuda=cargo", "one of tq4's own lanes"),
            ("wgpu=cargo", "one of tq4's own lanes"),
            ("cuda_dequant=cargo", "one of tq4's own lanes"),
            ("bf16_source=cargo", "one of tq4's own lanes"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(matches!(e, Error::Input(_)), "{text}: {e}");
            assert!(e.problem().what.contains(what), "{text}: {e}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
