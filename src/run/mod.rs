//! Running lanes on tensors.

mod strip;

pub use strip::Strip;
