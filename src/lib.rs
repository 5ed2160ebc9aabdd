//! Checks that a machine decodes TurboQuant 4-bit (TQ4) weights correctly.
//!
//! Data flows one way: [`checkpoint`] -> [`lane`]s -> [`metrics`] -> [`gate`]s -> [`report`].
//! [`validate`] does the whole of it for one tensor, [`sweep`] for every tensor of a checkpoint:
//!
//! ```no_run
//! use std::path::Path;
//! use tq4::checkpoint::TqModel;
//! use tq4::lane::{self, Choice};
//! use tq4::validate::{Input, validate};
//!
//! let model = TqModel::open(Path::new("Qwen3.5-9B-TQ4"))?;
//! let tensor = model.rows("model.language_model.layers.1.mlp.gate_proj", 0..8)?;
//! let input = Input { tq_model: "Qwen3.5-9B-TQ4", tensor: &tensor, row_start: 0, source: None };
//! let mut lanes = lane::open(&Choice::default(), Vec::new())?;
//! let outcome = validate(&input, &mut lanes, |_| ())?;
//! for d in &outcome.report.decisions {
//!     println!("{}: {} ({})", d.lane, d.decision, d.reason);
//! }
//! # Ok::<(), tq4::Error>(())
//! ```
//!
//! The format and the arithmetic are those of TurboQuant (arXiv:2504.19874) with a Hadamard rotation,
//! as its published 4-bit checkpoints have them; see [`tensor::TqTensor`] and [`mod@reference`].

#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

pub mod bench;
pub mod checkpoint;
pub mod codebook;
pub mod convert;
pub mod encode;
pub mod error;
pub mod fault;
pub mod fwht;

pub mod journal;
pub mod judge;
pub mod lane;
pub mod metrics;
pub mod oracle;
pub mod picture;
pub mod record;
pub mod recording;
pub mod reference;
pub mod report;
pub mod run;
pub mod selftest;
pub mod strip;
pub mod synthetic;
pub mod tensor;

pub use error::{Error, Result};
