//! The command line: arguments in, exit code out; each command wires library parts together.

mod bench;
mod compare;
mod completions;
mod console;
mod demo;
mod dequantize;
mod devices;
mod fixture;
mod lanes;
mod merge;
mod model;
mod output;
mod progress;
mod quantize;
mod record;
mod selftest;
mod threads;
mod validate;

use crate::Error;
use crate::checkpoint::{keep_apart, same_place};
use crate::reference::Simd;
use clap::{Parser, Subcommand, ValueEnum};
use console::Console;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Checks that this machine decodes TurboQuant 4-bit (TQ4) weights correctly.
///
/// Exit codes: 0 something was compared and all of it passed; 1 a lane failed, or the checkpoint is
/// damaged or the source another model's; 2 bad usage, bad input or a broken backend; 3 a lane named in
/// --lanes or --require did not run, or on a software adapter without --allow-software, or nothing was
/// compared.
#[derive(Parser)]
#[command(name = "tq4", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the results alone, a line for each lane, and errors: no progress, no notes
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write a small synthetic model and validate it on every lane there is
    Demo(demo::Args),
    /// Validate tensors of a TQ4 model on every lane
    Validate(validate::Args),
    /// Merge the reports of partitions into one
    Merge(merge::Args),
    Bench(bench::Args),
    /// List every adapter and device, and why a lane is not available
    Devices(devices::Args),
    /// Inject every known fault and show that each one is caught and named
    Selftest(selftest::Args),
    Fixture(fixture::Args),
    /// Make a TQ4 model from a source model
    Quantize(quantize::Args),
    /// Write a TQ4 model back as a plain BF16 model
    Dequantize(dequantize::Args),
    /// Save a lane's output, to compare it elsewhere
    Record(record::Args),
    /// Compare two reports or recordings from different machines, or one with a lane here
    Compare(compare::Args),
    /// Print the completions for a shell
    Completions(completions::Args),
    /// Print the manual page
    Man(completions::ManArgs),
}

/// Form of what goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
    Markdown,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Passed,
    GatesFailed,
    LaneBroke,
    RequiredLaneMissing,
    NothingCompared,
}

impl Exit {
    fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::GatesFailed => 1,
            Self::LaneBroke => 2,
            Self::RequiredLaneMissing | Self::NothingCompared => 3,
        }
    }
}

/// Runs the command that `args`, the program's name first, ask for; the exit code. At most once in a
/// process: it starts the worker threads.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            // Help and version come this way as well. Where stdout or stderr is closed nobody reads it.
            let _ = e.print();
            return u8::try_from(e.exit_code()).unwrap_or(2);
        }
    };
    let console = Console::new(args.quiet);
    match environment(&console).and_then(|()| dispatch(args.command, &console)) {
        Ok(outcome) => outcome.exit_code(),
        Err(e) => {
            // stderr may be closed as well; there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {e}");
            2
        }
    }
}

/// Takes what the environment says of the CPU, and refuses what makes no sense.
fn environment(console: &Console) -> Result<(), Error> {
    Simd::from_environment()?;
    threads::start(console)
}

fn dispatch(command: Command, console: &Console) -> Result<Exit, Error> {
    match command {
        Command::Demo(args) => demo::run(&args, console),
        Command::Validate(args) => validate::run(&args, console),
        Command::Merge(args) => merge::run(&args, console),
        Command::Bench(args) => bench::run(&args, console),
        Command::Devices(args) => devices::run(&args, console),
        Command::Selftest(args) => selftest::run(&args, console),
        Command::Fixture(args) => fixture::run(&args, console),
        Command::Quantize(args) => quantize::run(&args, console),
        Command::Dequantize(args) => dequantize::run(&args, console),
        Command::Record(args) => record::run(&args, console),
        Command::Compare(args) => compare::run(&args, console),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    }
}

/// Writes to stdout. A reader that closed the pipe has seen enough: no error, and the exit code tells the rest.
fn print(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::input(
            format!("cannot write to stdout: {e}"),
            "stdout",
            "",
        )),
        Ok(()) => Ok(()),
    }
}

/// Refuses output files, each with its option, that are read as well or are one and the same.
fn check_outputs(outputs: &[(&str, &Option<PathBuf>)], inputs: &[&Path]) -> Result<(), Error> {
    let given: Vec<(&str, &Path)> = outputs
        .iter()
        .filter_map(|(option, path)| Some((*option, path.as_deref()?)))
        .collect();
    for (i, (option, path)) in given.iter().enumerate() {
        if let Some((other, _)) = given[..i].iter().find(|(_, p)| same_place(p, path)) {
            return Err(Error::input(
                format!("{other} and {option} name one file"),
                path.display().to_string(),
                "give each its own",
            ));
        }
        keep_apart(path, inputs)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        // The directory of recordings is made.
        if *option != "--record" && parent.is_some_and(|p| !p.is_dir()) {
            return Err(Error::input(
                "the directory does not exist",
                path.display().to_string(),
                "create it first",
            ));
        }
    }
    Ok(())
}

/// An option's value, or the error with the option's name.
fn named<T>(option: &str, parsed: Result<T, Error>) -> Result<T, Error> {
    parsed.map_err(|e| Error::input(&e.problem().what, option, &e.problem().help))
}

/// A time that an option gives: more than no seconds and at most a day.
fn seconds(option: &str, given: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(given)
        .ok()
        .filter(|d| !d.is_zero() && given <= 86_400.0)
        .ok_or_else(|| {
            Error::input(
                format!("{given} seconds found, expected more than 0 and at most 86400"),
                option,
                "",
            )
        })
}

/// A line on stderr, which may be closed.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
