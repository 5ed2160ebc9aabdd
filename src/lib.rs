//! Checks that a machine decodes TurboQuant 4-bit (TQ4) weights correctly.
//!
//! Data flows one way: a checkpoint's rows ([`TqModel`]) go as [`Strip`]s through [`Lane`]s; what they make
//! of them is judged against the reference; the [`TensorRecord`]s become a [`Run`], which an [`Exporter`]
//! writes. [`run`] does the whole of it:
//!
//! ```no_run
//! use std::path::Path;
//! use tq4::{Job, LaneConfig, Records, RunOptions, TqModel};
//!
//! let model = TqModel::open(Path::new("Qwen3.5-9B-TQ4"))?;
//! let tensors = model.select(&["*.mlp.gate_proj".into()])?;
//! let job = Job::new(&model, None, &tensors, &RunOptions::default())?;
//! let mut lanes = tq4::open(&LaneConfig::default())?;
//! let mut records = Records::default();
//! tq4::run(&job, &mut lanes, &mut [&mut records], &mut |_| ())?;
//! for tensor in &records.tensors {
//!     for d in &tensor.decisions {
//!         println!("{}: {} ({})", d.lane, d.published(), d.reason);
//!     }
//! }
//! # Ok::<(), tq4::Error>(())
//! ```
//!
//! `examples/` has three programs: validate a tensor, decode rows into memory, judge your own values.
//!
//! The format and the arithmetic are those of TurboQuant (arXiv:2504.19874) with a Hadamard rotation, as
//! its published 4-bit checkpoints have them; see [`TqTensor`] and [`dequantize`]. What is documented here
//! is the library; the other modules are the command's own and may change.

#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod allowed;
mod arithmetic;
#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod checkpoint;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod codebook;
#[doc(hidden)]
pub mod codec;
#[doc(hidden)]
pub mod convert;
mod counted;
mod decimal;
#[doc(hidden)]
pub mod encode;
#[doc(hidden)]
pub mod environment;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod fault;
#[doc(hidden)]
pub mod fixture;
#[doc(hidden)]
pub mod format;
#[doc(hidden)]
pub mod fwht;
mod hash;
#[doc(hidden)]
pub mod journal;
#[doc(hidden)]
pub mod judge;
#[doc(hidden)]
pub mod lane;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod name;
mod natural;
#[doc(hidden)]
pub mod oracle;
#[doc(hidden)]
pub mod picture;
#[doc(hidden)]
pub mod record;
#[doc(hidden)]
pub mod reference;
#[doc(hidden)]
pub mod report;
mod rounding;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod selftest;
mod spare;
#[doc(hidden)]
pub mod strip;
#[doc(hidden)]
pub mod synthetic;
#[doc(hidden)]
pub mod tensor;
mod widest;

/// Reads a GGUF file and looks at every tensor in it, for the fuzz target.
///
/// # Errors
/// When it is damaged.
#[doc(hidden)]
pub fn fuzz_gguf(path: &std::path::Path) -> Result<()> {
    format::gguf::look_at_all(path)
}

#[doc(inline)]
pub use checkpoint::Checkpoint;
#[doc(inline)]
pub use codebook::Codebook;
#[doc(inline)]
pub use codec::{
    Codec, Normalisation, Packing, ScaleGrid, ScaleType, Scales, Scaling, SignsBefore, Unit,
};
#[doc(inline)]
pub use error::{Error, Problem, Result};
#[doc(inline)]
pub use format::TqModel;
#[doc(inline)]
pub use judge::{judge_strip, judge_values};
#[doc(inline)]
pub use lane::{Decoded, Lane, LaneOutput, Output, Slot, Timed, decode, open};
#[doc(inline)]
pub use metrics::{Metrics, Values, compare};
#[doc(inline)]
pub use record::{
    Decision, LaneConfig, LaneInfo, LaneKind, LaneName, LaneRecord, Outcome, OutputType, Run,
    Status, Summary, TensorRecord, Tolerance, Verdict,
};
#[doc(inline)]
pub use reference::dequantize;
#[doc(inline)]
pub use report::{Exporter, Json, Markdown, Page, Table};
#[doc(inline)]
pub use run::{Job, Records, RunEvent, RunOptions, Sink, Target, run};
#[doc(inline)]
pub use strip::Strip;
#[doc(inline)]
pub use tensor::{Layout, Parts, TqTensor};
