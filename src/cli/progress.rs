//! A progress bar on stderr, for what takes longer than a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Work shorter than this shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar that stays hidden for the first second. It draws only on a terminal.
pub struct Progress {
    bar: ProgressBar,
    start: Instant,
    shown: bool,
}

impl Progress {
    /// A bar over `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self::with(steps as u64, "{bar:24} {pos}/{len} {elapsed} {wide_msg}")
    }

    /// A bar over `total` bytes, with the rate and the time left.
    pub fn bytes(total: u64) -> Self {
        Self::with(
            total,
            "{bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left {wide_msg}",
        )
    }

    fn with(total: u64, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).expect("the template is constant");
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
            .with_style(style);
        Self {
            bar,
            start: Instant::now(),
            shown: false,
        }
    }

    /// Says what is being done now.
    pub fn message(&mut self, text: &str) {
        self.show();
        self.bar.set_message(tq4::error::printable(text));
    }

    /// One step is done.
    pub fn step(&mut self) {
        self.show();
        self.bar.inc(1);
    }

    /// So many bytes more are done.
    pub fn advance(&mut self, bytes: u64) {
        self.show();
        self.bar.inc(bytes);
    }

    fn show(&mut self) {
        if !self.shown && self.start.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
            self.shown = true;
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
