//! The `tq4` command.

mod cli;

fn main() -> std::process::ExitCode {
    tq4::checkpoint::report_shrunk_files();
    cli::main()
}
