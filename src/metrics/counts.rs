//! How many values there are in each bucket of the upper bits of an f32.

use super::SUM_BLOCK;
use rayon::prelude::*;

/// Low bits that a bucket leaves out: it has a 128th of a binade.
const LOW: u32 = 16;
/// A bucket for each value of the other bits, without the sign.
pub(super) const BUCKETS: usize = 1 << (31 - LOW);

/// The bucket of a value that is not negative; their order is that of the values.
pub(super) fn bucket(v: f32) -> usize {
    // Only a NaN has a sign, and is in some bucket.
    (v.to_bits() >> LOW) as usize % BUCKETS
}

/// The middle of a bucket's values; 0 of the first, in which zero is.
pub(super) fn middle(bucket: usize) -> f64 {
    const INFINITE: usize = (f32::INFINITY.to_bits() >> LOW) as usize;
    match bucket {
        0 => 0.0,
        INFINITE => f64::INFINITY,
        _ => f32::from_bits((bucket as u32) << LOW | 1 << (LOW - 1)).into(),
    }
}

/// How many elements are in each bucket.
pub(super) struct Counts(Box<[u64; BUCKETS]>);

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counts")
    }
}

impl Counts {
    pub(super) fn new() -> Self {
        let zeros = vec![0; BUCKETS].into_boxed_slice();
        Self(zeros.try_into().expect("as many"))
    }

    /// Of all of some values.
    pub(super) fn of(values: &[f32]) -> Self {
        let blocks = values.par_chunks(SUM_BLOCK);
        // Two parts for each thread: a part has counts of its own to make and to add.
        let least = blocks.len().div_ceil(2 * rayon::current_num_threads());
        blocks
            .with_min_len(least.max(1))
            .fold(Self::new, |mut counts, block| {
                counts.take(block);
                counts
            })
            .reduce(Self::new, Self::add)
    }

    /// Counts some more values.
    pub(super) fn take(&mut self, values: &[f32]) {
        for v in values {
            self.0[bucket(*v)] += 1;
        }
    }

    pub(super) fn add(mut self, other: Self) -> Self {
        let both = self.0.iter_mut().zip(&*other.0);
        both.for_each(|(a, b)| *a += b);
        self
    }

    /// Bucket by bucket, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}
