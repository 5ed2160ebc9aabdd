//! The CPU's worker threads, as many as `RAYON_NUM_THREADS` says.

use super::console::Console;
use crate::Error;
use crate::error::Result;

const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Most threads that are started, unless there are more processors: some thousands take minutes.
const MOST: usize = 256;

/// Starts them. A number beyond reason is cut and said; without a number, or with 0, it is one for each
/// processor.
pub fn start(console: &Console) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let given = std::env::var_os(VARIABLE).unwrap_or_default();
    let asked = match given.to_str() {
        Some("" | "0") => processors,
        // A number beyond `usize` is one beyond reason.
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().unwrap_or(usize::MAX)
        }
        _ => {
            return Err(Error::input(
                format!("{given:?} found, expected a number of threads"),
                VARIABLE,
                "give a whole number, or 0 for one thread a processor",
            ));
        }
    };
    let threads = asked.min(MOST.max(processors));
    if threads < asked {
        console.note(&format!(
            "note: {VARIABLE} asks for {} threads; {threads} are started",
            given.display()
        ));
    }
    let mut pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    // This thread works too, instead of waiting for the others. It waits for what is read, and so must not be the only one.
    if threads > 1 {
        pool = pool.use_current_thread();
    }
    pool.build_global().map_err(|e| {
        Error::input(
            format!("cannot start {threads} threads: {e}"),
            VARIABLE,
            "set it to a smaller number, or allow more processes",
        )
    })
}
