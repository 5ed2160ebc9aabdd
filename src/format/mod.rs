//! Formats of files that hold quantised weights.

// Wired to the readers of models later; until then its tests and the fuzz target alone use it.
#[allow(dead_code, unused_imports)]
pub(crate) mod gguf;
