//! Elements by rank, without sorting all of them.

use super::SUM_BLOCK;
use super::counts::{BUCKETS, Counts, bucket};
use rayon::prelude::*;

/// Some elements in order, with their ranks among all.
pub(super) struct Ranked {
    /// Bucket by bucket: the rank of its first element, and that element's place in `sorted`.
    starts: Vec<(usize, usize)>,
    sorted: Vec<f32>,
}

impl Ranked {
    /// Of values that are neither negative nor NaN: those with the ranks `single`, and all from the rank
    /// `tail` on.
    ///
    /// # Panics
    /// When a rank is none of these values'.
    pub(super) fn new(values: &[f32], single: &[usize], tail: usize) -> Self {
        let mut first = Vec::with_capacity(BUCKETS);
        let mut rank = 0;
        for count in Counts::of(values).iter() {
            first.push(rank);
            rank += count as usize;
        }
        let of = |rank: usize| first.partition_point(|f| *f <= rank) - 1;
        let mut wanted = vec![false; BUCKETS];
        wanted[of(tail)..].fill(true);
        for rank in single {
            wanted[of(*rank)] = true;
        }
        let of_block = |block: &[f32]| -> Vec<f32> {
            let chosen = block.iter().copied().filter(|v| wanted[bucket(*v)]);
            chosen.collect()
        };
        let chosen: Vec<Vec<f32>> = values.par_chunks(SUM_BLOCK).map(of_block).collect();
        let mut sorted = chosen.concat();
        sorted.par_sort_unstable_by(f32::total_cmp);
        let (mut starts, mut place) = (Vec::new(), 0);
        for b in (0..BUCKETS).filter(|b| wanted[*b]) {
            starts.push((first[b], place));
            place += first.get(b + 1).unwrap_or(&values.len()) - first[b];
        }
        Self { starts, sorted }
    }

    /// The element with a rank that was asked for.
    pub(super) fn at(&self, rank: usize) -> f32 {
        let after = self.starts.partition_point(|(first, _)| *first <= rank);
        let (first, place) = self.starts[after - 1];
        self.sorted[place + rank - first]
    }

    /// The elements that are at least `least`, ascending; `least` is not below the first of the tail.
    pub(super) fn from(&self, least: f64) -> &[f32] {
        let below = self.sorted.partition_point(|v| f64::from(*v) < least);
        &self.sorted[below..]
    }
}
