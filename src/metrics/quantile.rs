//! Exact quantiles of the relative error in bounded memory.
//!
//! A relative error is a non-negative f32, and the bits of those sort as the values do. Elements are
//! counted by the upper 16 bits; the few buckets that hold a wanted rank are counted by the lower 16
//! bits as well, in a table each. Tables for the buckets in which a sample has its quantiles are made
//! beforehand; only when a wanted rank falls outside them is a second pass needed. Memory does not grow
//! with the tensor.

use super::{BLOCK, Element, Values, rel, typed};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const BUCKETS: usize = 1 << 15;

/// The quantiles, and how many buckets (each is 0.4 to 0.8 % wide) to either side of a sample's quantile
/// are expected to hold the tensor's: some three standard deviations for a sample of 2^20 elements whose
/// tail falls as 1/x, as that of a relative error does.
const QUANTILES: [(f64, usize); 5] = [(0.5, 2), (0.9, 3), (0.95, 4), (0.99, 8), (0.999, 24)];

/// Index of the table of a bucket that has none.
const NO_TABLE: u8 = u8::MAX;

/// Counts of the relative errors by the upper half of their bits.
pub(super) struct RelCounts {
    counts: Vec<u64>,
    // Sums of the lower 16 bits: with the count they give the bucket's sum exactly.
    low: Vec<u64>,
    // Counts by the lower 16 bits of the values in one bucket. Made before the first pass, they are many,
    // so they count to 2^32 only; made for the second pass, they are few.
    early: Vec<Vec<AtomicU32>>,
    early_of: Vec<u8>,
    late: Vec<Vec<AtomicU64>>,
    late_of: Vec<u8>,
    elements: u64,
    max_bits: u32,
    nan: bool,
}

impl std::fmt::Debug for RelCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelCounts")
            .field("elements", &self.elements)
            .field("tables", &(self.early.len() + self.late.len()))
            .finish_non_exhaustive()
    }
}

/// What one thread counts.
struct Part {
    counts: Vec<u64>,
    low: Vec<u64>,
    max_bits: u32,
    nan: bool,
}

impl Part {
    fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            low: vec![0; BUCKETS],
            max_bits: 0,
            nan: false,
        }
    }

    fn add(mut self, b: &Self) -> Self {
        add_into(&mut self.counts, &b.counts);
        add_into(&mut self.low, &b.low);
        self.max_bits = self.max_bits.max(b.max_bits);
        self.nan |= b.nan;
        self
    }
}

fn add_into(a: &mut [u64], b: &[u64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

fn value(bucket: usize, low: usize) -> f64 {
    f32::from_bits((bucket as u32) << 16 | low as u32).into()
}

impl RelCounts {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            low: vec![0; BUCKETS],
            early: Vec::new(),
            early_of: vec![NO_TABLE; BUCKETS],
            late: Vec::new(),
            late_of: vec![NO_TABLE; BUCKETS],
            elements: 0,
            max_bits: 0,
            nan: false,
        }
    }

    /// Makes tables for the buckets around the quantiles of `sample`.
    pub(super) fn expect(&mut self, sample: &Self) {
        assert_eq!(self.elements, 0, "what is expected is said beforehand");
        if sample.nan || sample.elements == 0 {
            return;
        }
        for (q, width) in QUANTILES {
            let rank = (q * (sample.elements - 1) as f64) as u64;
            let (bucket, _) = sample.bucket_of(rank);
            // Bucket 0 is zero and the smallest subnormals; in practice all its values are alike.
            for b in bucket.saturating_sub(width).max(1)..=(bucket + width).min(BUCKETS - 1) {
                if self.early_of[b] == NO_TABLE {
                    self.early_of[b] = self.early.len() as u8;
                    self.early
                        .push((0..1 << 16).map(|_| AtomicU32::new(0)).collect());
                }
            }
        }
    }

    pub(super) fn push(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        let part = typed!(lhs, rhs, |l, r| self.count(l, r));
        add_into(&mut self.counts, &part.counts);
        add_into(&mut self.low, &part.low);
        self.max_bits = self.max_bits.max(part.max_bits);
        self.nan |= part.nan;
        self.elements += lhs.len() as u64;
    }

    fn count<L: Element, R: Element>(&self, lhs: &[L], rhs: &[R]) -> Part {
        // Two parts per thread: each has its own counts to fill and to add.
        let blocks = lhs.len().div_ceil(BLOCK);
        let least = blocks.div_ceil(2 * rayon::current_num_threads()).max(1);
        lhs.par_chunks(BLOCK)
            .zip(rhs.par_chunks(BLOCK))
            .with_min_len(least)
            .fold(Part::new, |mut part, (l, r)| {
                for (l, r) in l.iter().zip(r) {
                    let r = rel(l.single(), r.single());
                    if r.is_nan() {
                        part.nan = true;
                        continue;
                    }
                    let bits = r.to_bits();
                    let (bucket, low) = ((bits >> 16) as usize, (bits & 0xFFFF) as usize);
                    part.max_bits = part.max_bits.max(bits);
                    part.counts[bucket] += 1;
                    part.low[bucket] += low as u64;
                    if let Some(table) = self.early.get(usize::from(self.early_of[bucket])) {
                        table[low].fetch_add(1, Relaxed);
                    }
                }
                part
            })
            .reduce_with(|a, b| a.add(&b))
            .unwrap_or_else(Part::new)
    }

    /// Whether a wanted rank lies in a bucket that has no table; such tables are made.
    pub(super) fn second_pass(&mut self) -> bool {
        if self.nan || self.elements == 0 {
            return false;
        }
        for (q, _) in QUANTILES {
            let at = q * (self.elements - 1) as f64;
            for rank in [at.floor() as u64, at.ceil() as u64] {
                let (bucket, _) = self.bucket_of(rank);
                let counted =
                    self.early_of[bucket] != NO_TABLE && self.counts[bucket] <= u32::MAX.into();
                if !counted && self.only_value(bucket).is_none() && self.late_of[bucket] == NO_TABLE
                {
                    self.late_of[bucket] = self.late.len() as u8;
                    self.late
                        .push((0..1 << 16).map(|_| AtomicU64::new(0)).collect());
                }
            }
        }
        !self.late.is_empty()
    }

    pub(super) fn refine(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        typed!(lhs, rhs, |l, r| self.count_late(l, r));
    }

    fn count_late<L: Element, R: Element>(&self, lhs: &[L], rhs: &[R]) {
        lhs.par_chunks(BLOCK)
            .zip(rhs.par_chunks(BLOCK))
            .for_each(|(l, r)| {
                for (l, r) in l.iter().zip(r) {
                    let bits = rel(l.single(), r.single()).to_bits() & 0x7FFF_FFFF;
                    let table = usize::from(self.late_of[(bits >> 16) as usize]);
                    if let Some(table) = self.late.get(table) {
                        table[(bits & 0xFFFF) as usize].fetch_add(1, Relaxed);
                    }
                }
            });
    }

    /// Whether the second pass met the values of the first.
    pub(super) fn settled(&self) -> bool {
        (0..BUCKETS).all(|b| match self.late.get(usize::from(self.late_of[b])) {
            Some(table) => table.iter().map(|c| c.load(Relaxed)).sum::<u64>() == self.counts[b],
            None => true,
        })
    }

    pub(super) fn max(&self) -> f64 {
        if self.nan {
            f64::NAN
        } else {
            f32::from_bits(self.max_bits).into()
        }
    }

    pub(super) fn mean(&self) -> f64 {
        if self.nan {
            return f64::NAN;
        }
        (0..BUCKETS).map(|b| self.bucket_sum(b)).sum::<f64>() / self.elements as f64
    }

    fn bucket_sum(&self, bucket: usize) -> f64 {
        let (count, low) = (self.counts[bucket], self.low[bucket]);
        if count == 0 {
            return 0.0;
        }
        let start = value(bucket, 0);
        if !start.is_finite() {
            return f64::INFINITY;
        }
        count as f64 * start + low as f64 * (value(bucket, 1) - start)
    }

    /// The lower bits of a bucket whose values are all alike, which needs no table.
    fn only_value(&self, bucket: usize) -> Option<usize> {
        match (self.counts[bucket], self.low[bucket]) {
            (1, low) => Some(low as usize),
            (_, 0) => Some(0),
            _ => None,
        }
    }

    /// The values in a bucket, ascending, each with its lower bits and how often it is there.
    fn values(&self, bucket: usize) -> Box<dyn Iterator<Item = (usize, u64)> + '_> {
        if let Some(low) = self.only_value(bucket) {
            return Box::new(std::iter::once((low, self.counts[bucket])));
        }
        match self.late.get(usize::from(self.late_of[bucket])) {
            Some(table) => Box::new(table.iter().map(|c| c.load(Relaxed)).enumerate()),
            None => {
                let table = &self.early[usize::from(self.early_of[bucket])];
                Box::new(table.iter().map(|c| c.load(Relaxed).into()).enumerate())
            }
        }
    }

    /// The bucket that holds `rank`, and the rank within it.
    fn bucket_of(&self, rank: u64) -> (usize, u64) {
        let mut before = 0;
        for (b, count) in self.counts.iter().enumerate() {
            if rank < before + count {
                return (b, rank - before);
            }
            before += count;
        }
        unreachable!("a rank is below the number of elements")
    }

    fn value_at(&self, rank: u64) -> f64 {
        let (bucket, within) = self.bucket_of(rank);
        let mut before = 0;
        let (low, _) = self
            .values(bucket)
            .find(|(_, count)| {
                before += count;
                within < before
            })
            .expect("the rank lies in this bucket");
        value(bucket, low)
    }

    /// The quantiles 0.5, 0.9, 0.95, 0.99 and 0.999, by linear interpolation at `q * (n - 1)`.
    pub(super) fn quantiles(&self) -> [f64; QUANTILES.len()] {
        if self.nan {
            return [f64::NAN; QUANTILES.len()];
        }
        QUANTILES.map(|(q, _)| {
            let at = q * (self.elements - 1) as f64;
            let low = self.value_at(at.floor() as u64);
            let high = self.value_at(at.ceil() as u64);
            if low == high {
                low
            } else {
                low + (high - low) * at.fract()
            }
        })
    }

    /// Mean of the values from `threshold`, a quantile, up.
    pub(super) fn mean_from(&self, threshold: f64) -> f64 {
        if self.nan {
            return f64::NAN;
        }
        // The smallest f32 that is not below the threshold.
        let mut bits = (threshold as f32).to_bits();
        if f64::from(f32::from_bits(bits)) < threshold {
            bits += 1;
        }
        let (bucket, from) = ((bits >> 16) as usize, (bits & 0xFFFF) as usize);
        let (mut count, mut sum) = (0u64, 0.0);
        for b in bucket + 1..BUCKETS {
            count += self.counts[b];
            sum += self.bucket_sum(b);
        }
        if self.counts[bucket] > 0 {
            for (low, c) in self
                .values(bucket)
                .filter(|(low, c)| *c > 0 && *low >= from)
            {
                count += c;
                sum += c as f64 * value(bucket, low);
            }
        }
        sum / count as f64
    }
}
