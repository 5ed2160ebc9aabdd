//! This test program run again, in a process whose environment is its own.

use std::process::Command;

/// Runs the tests whose names contain `filter`.
pub fn tests(filter: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(filter);
    command
}

/// Runs the one test of this name (module and function), which is ignored everywhere else.
pub fn one(name: &str) -> Command {
    let mut command = tests(name);
    command.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// How many tests ran, from what the program printed; fails when the name or the filter met none.
pub fn ran(stdout: &str) -> usize {
    let running = |line: &str| {
        line.strip_prefix("running ")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    let count = stdout.lines().find_map(running).unwrap_or(0);
    assert!(count > 0, "no test ran: {stdout}");
    count
}
