//! Pairs of timestamps.

use ::wgpu::{self, BufferUsages, Features};
use std::time::Duration;

/// Pieces of work that are timed at a time at most: a copy and the kernel twice.
pub(super) const PAIRS: usize = 3;

/// Bytes of a pair's values.
const PAIR_BYTES: u64 = 16;

/// Timestamp queries in pairs, and the way back for their values.
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    resolve: wgpu::Buffer,
    read: wgpu::Buffer,
    period: f64,
    /// Whether timestamps may stand between passes, around a copy.
    pub(super) around_copies: bool,
}

impl Timer {
    /// The features that are used where the adapter has them.
    pub(super) const FEATURES: Features =
        Features::TIMESTAMP_QUERY.union(Features::TIMESTAMP_QUERY_INSIDE_ENCODERS);

    /// `None` when the device was opened without timestamps.
    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Option<Self> {
        if !device.features().contains(Features::TIMESTAMP_QUERY) {
            return None;
        }
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: PAIR_BYTES * PAIRS as u64,
                usage,
                mapped_at_creation: false,
            })
        };
        Some(Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * PAIRS as u32,
            }),
            resolve: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            read: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            period: f64::from(queue.get_timestamp_period()),
            around_copies: device
                .features()
                .contains(Features::TIMESTAMP_QUERY_INSIDE_ENCODERS),
        })
    }

    /// The timestamps of a pair at both ends of a pass.
    pub(super) fn of_pass(&self, pair: u32) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * pair),
            end_of_pass_write_index: Some(2 * pair + 1),
        }
    }

    /// A timestamp of a pair between passes: 0 at the start, 1 at the end.
    pub(super) fn mark(&self, encoder: &mut wgpu::CommandEncoder, pair: u32, end: u32) {
        encoder.write_timestamp(&self.queries, 2 * pair + end);
    }

    /// Queues the way back of the first so many pairs.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, pairs: usize) {
        let bytes = PAIR_BYTES * pairs as u64;
        encoder.resolve_query_set(&self.queries, 0..2 * pairs as u32, &self.resolve, 0);
        encoder.copy_buffer_to_buffer(&self.resolve, 0, &self.read, 0, bytes);
    }

    /// Where the values arrive, and how many bytes of so many pairs.
    pub(super) fn read(&self, pairs: usize) -> (&wgpu::Buffer, u64) {
        (&self.read, PAIR_BYTES * pairs as u64)
    }

    /// Of each pair; `None` where its values tie or run backwards.
    pub(super) fn elapsed<const N: usize>(&self, bytes: &[u8]) -> [Option<Duration>; N] {
        let ticks =
            |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("8 bytes"));
        std::array::from_fn(|pair| elapsed(ticks(2 * pair), ticks(2 * pair + 1), self.period))
    }
}

/// `period` is nanoseconds a tick.
fn elapsed(start: u64, end: u64, period: f64) -> Option<Duration> {
    let ticks = end.checked_sub(start).filter(|d| *d > 0)?;
    Some(Duration::from_nanos((ticks as f64 * period) as u64)).filter(|d| !d.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_that_tie_or_run_backwards_are_none() {
        assert_eq!(elapsed(5, 9, 10.0), Some(Duration::from_nanos(40)));
        assert_eq!(elapsed(5, 5, 10.0), None);
        assert_eq!(elapsed(9, 5, 10.0), None);
        assert_eq!(elapsed(5, 9, 0.0), None);
    }
}
