//! Throughput of every lane, side by side.
//!
//! Data flows one way: [`plan`] (what is timed) -> [`measure`] (rounds over all lanes) -> [`stats`] ->
//! [`crate::record::bench::Bench`] -> exporters, and
//! [`baseline`] against an earlier record.
//!
//! How a time is taken:
//!
//! - The tensor lies on the device once, in the memory that was checked. In each round each lane copies a
//!   buffer larger than its caches to another, which also measures the copy bandwidth and leaves nothing
//!   of the tensor in the caches; runs its kernel (cold); runs it again (warm); and does the whole way
//!   from host memory to host memory, poison included (end to end). The lane that begins a round is
//!   another each time.
//! - Where a device has a queue, copy and kernels are queued together and waited for once: the device is at
//!   the copy while the host launches the kernels, so that no launch is timed.
//! - A device that waited for the other lanes has lowered its clocks: it copies, untimed, until two copies
//!   take the same time.
//! - Kernels and copies are timed by the device's own clock where it has one. A round whose timestamps make
//!   no sense is left out; of many, the lane is timed by wall-clock time. End to end always is. There is
//!   no quotient of a kernel by one clock and a kernel by wall-clock time.
//! - A lane is timed only if its output passes the gates, and its figures count only if the last round,
//!   and one more run on the same memory, left the same bits.
//! - Rounds end when the 95 % interval of every median is within 1 % of it, or at the time limit.
//!
//! Least bytes that the job must move, per element: `stored_bits / 8` of codes, `2 / group_size` of
//! scales and 2 of BF16; the signs once. A copy of n bytes moves 2n.

pub mod baseline;
pub mod measure;
pub mod plan;
mod series;
mod speed;
pub mod stats;
mod verify;
mod warn;
