//! What several test modules share.

pub mod again;
pub mod big;
pub mod cases;
#[cfg(unix)]
pub mod chromium;
pub mod cli;
pub mod cuda;
pub mod fake;
pub mod gguf;
pub mod lane;
pub mod page;
pub mod pages;
pub mod reader;
pub mod recording;
pub mod source;
pub mod standin;
pub mod sweep;
pub mod tint;
#[cfg(unix)]
pub mod tmpfs;

use std::path::{Path, PathBuf};

/// The variable under which a missing lane or tool is a failure.
pub const REQUIRE: &str = "TQ4_REQUIRE";

/// The crate's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says that something did not run and what it takes; fails where everything must run.
pub fn not_run(what: &str, why: &str) {
    not_run_under(REQUIRE, what, why);
}

/// [`not_run`] that fails under another variable.
pub fn not_run_under(require: &str, what: &str, why: &str) {
    eprintln!("NOT RUN: {what}: {why}");
    let required = std::env::var_os(require).is_some_and(|v| !v.is_empty());
    assert!(!required, "{what} is required by {require}: {why}");
}

/// The tool that an environment variable names.
pub fn tool(variable: &str, what: &str, how: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|v| !v.is_empty());
    if path.is_none() {
        not_run(what, how);
    }
    path.map(PathBuf::from)
}
