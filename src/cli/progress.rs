//! A progress bar on stderr, over bytes, with rate and time left.

use crate::error::printable;
use crate::record::Tool;
use crate::run::RunEvent;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::path::Path;

/// A bar on stderr. It draws only on a terminal.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar whose length comes with the first event; one that is not shown never draws.
    pub fn new(shown: bool) -> Self {
        let style = ProgressStyle::with_template(
            "{bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left {wide_msg}",
        )
        .expect("the template is constant");
        let target = match shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Self {
            bar: bar.with_style(style),
        }
    }

    /// Shows what happened.
    pub fn on(&self, event: RunEvent<'_>) {
        match event {
            RunEvent::Total(bytes) => self.bar.set_length(bytes),
            RunEvent::Checking(file) => {
                self.bar.tick();
                self.bar
                    .set_message(format!("checking {}", printable(file)));
            }
            RunEvent::Tensor(name) => self.bar.set_message(printable(name)),
            RunEvent::Bytes(bytes) => self.bar.inc(bytes),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The JSON report of a conversion: what was asked for, then what was done.
#[derive(Serialize)]
struct Converted<'a, T> {
    input: &'a Path,
    output: &'a Path,
    #[serde(flatten)]
    done: &'a T,
    tool: Tool,
}

/// [`Converted`] as text.
pub fn json<T: Serialize>(input: &Path, output: &Path, done: &T) -> String {
    let report = Converted {
        input,
        output,
        done,
        tool: Tool::this(),
    };
    serde_json::to_string_pretty(&report).expect("plain data") + "\n"
}

/// A size with its unit, for people.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// What an earlier run had done, as a line; empty where there was none.
pub fn earlier(finished: bool, shards: usize) -> String {
    match (finished, shards) {
        (true, _) => "already finished by an earlier run: nothing was written\n".into(),
        (false, 0) => String::new(),
        (false, _) => format!("{shards} shards were whole from an earlier run\n"),
    }
}
