//! `tq4 completions` and `tq4 man`: from the same definition as the arguments.

use super::{Exit, print};
use crate::error::Result;
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub struct ManArgs {
    /// The command to describe; the whole program when left out
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub fn run(args: &Args) -> Result<Exit> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "tq4", &mut out);
    print(&String::from_utf8_lossy(&out))?;
    Ok(Exit::Passed)
}

pub fn man(args: &ManArgs) -> Result<Exit> {
    let mut program = super::Args::command();
    // Built, so that a command knows its whole name.
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            // A command has no version of its own.
            Some(found) => found.clone().version(env!("CARGO_PKG_VERSION")),
            None => {
                return Err(crate::Error::input(
                    format!("no command {name:?}"),
                    "tq4 man",
                    "see tq4 --help",
                ));
            }
        },
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut out)
        .expect("memory takes what is written");
    print(&String::from_utf8_lossy(&out))?;
    Ok(Exit::Passed)
}
