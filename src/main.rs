//! The `tq4` command.

fn main() -> std::process::ExitCode {
    tq4::cli::run(std::env::args_os()).into()
}
