//! The `tq4` command.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
