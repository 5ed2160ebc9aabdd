//! Exact quantiles of the relative error in bounded memory.
//!
//! A relative error is a non-negative f32, and the bits of those sort as the values do. A first pass
//! counts by the upper 16 bits; a second pass counts by the lower 16 bits inside the few buckets that
//! hold a wanted rank. Memory does not grow with the tensor.

use super::{BLOCK, Values, rel};
use rayon::prelude::*;

const BUCKETS: usize = 1 << 15;

struct Bucket {
    count: u64,
    // Sum of the lower 16 bits: with the count it gives the bucket's sum exactly.
    low: u64,
}

/// Counts of the relative errors by the upper half of their bits.
pub(super) struct RelCounts {
    buckets: Vec<Bucket>,
    elements: u64,
    max_bits: u32,
    nan: bool,
}

fn add_into(mut a: Vec<u64>, b: Vec<u64>) -> Vec<u64> {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
    a
}

impl RelCounts {
    pub(super) fn of(lhs: Values<'_>, rhs: Values<'_>) -> Self {
        // Per thread: counts, then sums of the low bits, then the maximum and the NaN count.
        let totals = (0..lhs.len().div_ceil(BLOCK))
            .into_par_iter()
            .fold(
                || (vec![0u64; 2 * BUCKETS], 0u32, false),
                |(mut t, mut max, mut nan), block| {
                    for i in block * BLOCK..((block + 1) * BLOCK).min(lhs.len()) {
                        let r = rel(lhs.get(i), rhs.get(i));
                        if r.is_nan() {
                            nan = true;
                            continue;
                        }
                        let bits = r.to_bits();
                        max = max.max(bits);
                        t[(bits >> 16) as usize] += 1;
                        t[BUCKETS + (bits >> 16) as usize] += u64::from(bits & 0xFFFF);
                    }
                    (t, max, nan)
                },
            )
            .reduce(
                || (vec![0u64; 2 * BUCKETS], 0, false),
                |a, b| (add_into(a.0, b.0), a.1.max(b.1), a.2 | b.2),
            );
        let (counts, low) = totals.0.split_at(BUCKETS);
        Self {
            buckets: counts
                .iter()
                .zip(low)
                .map(|(&count, &low)| Bucket { count, low })
                .collect(),
            elements: lhs.len() as u64,
            max_bits: totals.1,
            nan: totals.2,
        }
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
        let Bucket { count, low } = self.buckets[bucket];
        if count == 0 {
            return 0.0;
        }
        let start = f64::from(f32::from_bits((bucket as u32) << 16));
        if !start.is_finite() {
            return f64::INFINITY;
        }
        let step = f64::from(f32::from_bits((bucket as u32) << 16 | 1)) - start;
        count as f64 * start + low as f64 * step
    }

    /// Counts by the lower 16 bits of the values in `bucket`.
    fn refine(bucket: usize, lhs: Values<'_>, rhs: Values<'_>) -> Vec<u64> {
        (0..lhs.len().div_ceil(BLOCK))
            .into_par_iter()
            .fold(
                || vec![0u64; 1 << 16],
                |mut t, block| {
                    for i in block * BLOCK..((block + 1) * BLOCK).min(lhs.len()) {
                        let bits = rel(lhs.get(i), rhs.get(i)).to_bits();
                        if (bits >> 16) as usize == bucket {
                            t[(bits & 0xFFFF) as usize] += 1;
                        }
                    }
                    t
                },
            )
            .reduce(|| vec![0u64; 1 << 16], add_into)
    }

    /// The bucket that holds `rank`, and the rank within it.
    fn bucket_of(&self, rank: u64) -> (usize, u64) {
        let mut before = 0;
        for (b, bucket) in self.buckets.iter().enumerate() {
            if rank < before + bucket.count {
                return (b, rank - before);
            }
            before += bucket.count;
        }
        unreachable!("a rank is below the number of elements")
    }

    /// Quantiles by linear interpolation at `q * (n - 1)`.
    pub(super) fn quantiles<const N: usize>(
        &self,
        q: [f64; N],
        lhs: Values<'_>,
        rhs: Values<'_>,
    ) -> [f64; N] {
        if self.nan {
            return [f64::NAN; N];
        }
        let mut refined: Option<(usize, Vec<u64>)> = None;
        let mut value_at = |rank: u64| -> f64 {
            let (bucket, within) = self.bucket_of(rank);
            // A bucket whose values are all alike needs no second pass.
            let Bucket { count, low } = self.buckets[bucket];
            if low == 0 || count == 1 {
                let low = if count == 1 { low } else { 0 };
                return f32::from_bits((bucket as u32) << 16 | low as u32).into();
            }
            if refined.as_ref().is_none_or(|(b, _)| *b != bucket) {
                refined = Some((bucket, Self::refine(bucket, lhs, rhs)));
            }
            let counts = &refined.as_ref().expect("just set").1;
            let mut before = 0;
            let low = counts
                .iter()
                .position(|c| {
                    before += c;
                    within < before
                })
                .expect("the rank lies in this bucket");
            f32::from_bits((bucket as u32) << 16 | low as u32).into()
        };
        q.map(|q| {
            let at = q * (self.elements - 1) as f64;
            let low = value_at(at.floor() as u64);
            let high = value_at(at.ceil() as u64);
            if low == high {
                low
            } else {
                low + (high - low) * at.fract()
            }
        })
    }

    /// Mean of the values from `threshold` up.
    pub(super) fn mean_from(&self, threshold: f64, lhs: Values<'_>, rhs: Values<'_>) -> f64 {
        if self.nan {
            return f64::NAN;
        }
        // The smallest f32 that is not below the threshold.
        let mut bits = (threshold as f32).to_bits();
        if f64::from(f32::from_bits(bits)) < threshold {
            bits += 1;
        }
        let bucket = (bits >> 16) as usize;
        let (mut count, mut sum) = (0u64, 0.0);
        for b in bucket + 1..BUCKETS {
            count += self.buckets[b].count;
            sum += self.bucket_sum(b);
        }
        let within = Self::refine(bucket, lhs, rhs);
        for (low, &c) in within.iter().enumerate().skip((bits & 0xFFFF) as usize) {
            if c > 0 {
                count += c;
                sum += c as f64 * f64::from(f32::from_bits((bucket as u32) << 16 | low as u32));
            }
        }
        sum / count as f64
    }
}
