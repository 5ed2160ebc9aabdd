//! Throughput of every lane, side by side.
//!
//! Data flows one way: [`plan`] (what is timed) -> [`measure`] (rounds over all lanes) -> [`stats`] ->
//! [`Record`] -> tables, CSV, and [`baseline`] against an earlier record.
//!
//! How a time is taken:
//!
//! - The tensor lies on the device twice. In each round each lane copies a buffer larger than its caches
//!   to another, which also measures the copy bandwidth and leaves nothing of the tensor in the caches;
//!   runs its kernel on one of the two sets (cold); runs it on the same set again (warm); and does the
//!   whole way from host memory to host memory (end to end). Rounds use the sets in turn, and the lane
//!   that begins a round is another each time.
//! - Kernels and copies are timed by the device's own clock where it has one that makes sense, else by
//!   the wall. End to end is always by the wall.
//! - A lane is timed only if its output passes the gates, from both ways of running it.
//! - Rounds end when the 95 % interval of every median is within 1 % of it, or at the time limit.
//!
//! Least bytes that the job must move, per element: `stored_bits / 8` of codes, `2 / group_size` of
//! scales and 2 of BF16; the signs once. A copy of n bytes moves 2n.

pub mod baseline;
mod export;
pub mod measure;
pub mod plan;
mod record;
pub mod stats;
mod verify;
mod warn;

pub use export::{csv, text};
pub use record::{
    Host, LaneTimes, Measure, Ratio, Record, SCHEMA, ShapeRecord, Speed, Stopped, Times, Verdict,
};
