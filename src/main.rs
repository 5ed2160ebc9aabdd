//! The `tq4` command.

fn main() -> std::process::ExitCode {
    // SAFETY: the program starts here; its threads come later.
    unsafe { tq4::environment::complete() };
    tq4::cli::run(std::env::args_os()).into()
}
