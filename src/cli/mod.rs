//! The command line: arguments in, exit code out; each command wires library parts together.

mod bench;
mod compare;
mod completions;
mod demo;
mod dequantize;
mod device;
mod devices;
mod merge;
mod pair_text;
mod pictures;
mod progress;
mod quantize;
mod record;
mod run;
mod selftest;
mod sweep;
mod transfer;
mod validate;

use clap::{Parser, Subcommand, ValueEnum};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use tq4::Error;

/// Checks that this machine decodes TurboQuant 4-bit (TQ4) weights correctly.
///
/// Exit codes: 0 all that ran passed; 1 a lane failed its gates; 2 bad usage, bad input or a broken
/// backend; 3 a lane named in --require was not available.
#[derive(Parser)]
#[command(name = "tq4", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a small synthetic model and validate it on every lane there is
    Demo(demo::Args),
    /// Validate tensors of a TQ4 model on every lane
    Validate(validate::Args),
    /// Merge the reports of the partitions of a sweep into one
    Merge(merge::Args),
    Bench(bench::Args),
    /// List every adapter and device, and why a lane is not available
    Devices(devices::Args),
    /// Inject every known fault and show that each one is caught and named
    Selftest(selftest::Args),
    /// Make a TQ4 model from a source model
    Quantize(quantize::Args),
    /// Write a TQ4 model back as a plain BF16 model
    Dequantize(dequantize::Args),
    /// Save a lane's output to compare it elsewhere
    Record(record::Args),
    /// Compare recordings made on different machines, or one with a lane here
    Compare(compare::Args),
    /// Print the completions for a shell
    Completions(completions::Args),
    /// Print the manual page
    Man(completions::ManArgs),
}

/// Form of what goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Markdown,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    GatesFailed,
    LaneBroke,
    RequiredLaneMissing,
}

/// Parses the arguments, runs the command and turns its end into an exit code.
pub fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Dequantize(args) => dequantize::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    };
    match result {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::GatesFailed) => ExitCode::from(1),
        Ok(Outcome::LaneBroke) => ExitCode::from(2),
        Ok(Outcome::RequiredLaneMissing) => ExitCode::from(3),
        Err(e) => {
            // stderr may be closed as well; there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {e}");
            ExitCode::from(2)
        }
    }
}

/// Writes to stdout. A reader that closed the pipe has seen enough: that ends the program quietly.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::input(
            format!("cannot write to stdout: {e}"),
            "stdout",
            "",
        )),
        Ok(()) => Ok(()),
    }
}

/// A line on stderr, which may be closed.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
