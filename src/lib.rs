//! Checks that a machine decodes TurboQuant 4-bit (TQ4) weights correctly, and how fast.

#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

pub mod backend;
pub mod checkpoint;
pub mod codebook;
pub mod encode;
pub mod error;
pub mod fwht;
pub mod gate;
pub mod lane;
pub mod metrics;
pub mod oracle;
pub mod recording;
pub mod reference;
pub mod report;
pub mod synthetic;
pub mod tensor;
pub mod validate;

pub use error::{Error, Result};
