//! Formats that models come in: each from its files to what the codec needs.

// Wired with the codec.
#[allow(dead_code)]
pub(crate) mod foreign;
// Wired with the codec.
#[allow(dead_code)]
pub(crate) mod tq3_native;
