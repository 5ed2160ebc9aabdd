//! Quantiles of the relative error: exact while its elements are at hand, beyond that from counts.

use super::counts::{Counts, middle};
use super::ranks::Ranked;
use super::sums::{BlockSums, RelSink};
use super::{FloatElement, Values, rel, typed};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// The wanted quantiles.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];
/// Of [`QUANTILES`]: that of the top hundredth.
const P99: usize = 3;

/// How the quantiles of a comparison were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantiles {
    /// From the sorted elements, which came in one piece.
    Exact,
    /// From counts in buckets of a 128th of a binade: each quantile within 0.4 % of the exact one, and
    /// `top1pct_rel_mean` within 0.4 % of the mean of the top hundredth of the elements. Errors below 2^-126 may
    /// count as zero.
    Sketch,
}

/// The quantiles, the mean from the 0.99 quantile up, and how they were found.
pub(super) struct FoundQuantiles {
    pub quantiles: [f64; QUANTILES.len()],
    pub top_mean: f64,
    pub how: Quantiles,
}

/// The relative errors of one comparison.
#[derive(Debug)]
pub(super) enum Rels {
    /// Those of the only piece so far.
    Exact(Vec<f32>),
    /// Those of several pieces: counts that are added at the end, one for each thread that has counted.
    Counted(Mutex<Vec<Counts>>),
}

/// Counts that nobody else adds to meanwhile.
struct Lent<'a> {
    idle: &'a Mutex<Vec<Counts>>,
    counts: Option<Counts>,
}

impl<'a> Lent<'a> {
    fn new(idle: &'a Mutex<Vec<Counts>>) -> Self {
        let found = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let counts = Some(found.unwrap_or_else(Counts::new));
        Self { idle, counts }
    }
}

impl RelSink for Lent<'_> {
    fn take(&mut self, rels: &[f32]) {
        if let Some(counts) = &mut self.counts {
            counts.take(rels);
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.counts.take());
    }
}

fn rels<L: FloatElement, R: FloatElement>(lhs: &[L], rhs: &[R]) -> Vec<f32> {
    let of = |(l, r): (&L, &R)| rel(l.single(), r.single());
    lhs.par_iter().zip(rhs).map(of).collect()
}

/// Counts in the order of their values.
struct Ascending {
    /// For each bucket that is not empty the elements up to its end, and the middle of its values.
    buckets: Vec<(u64, f64)>,
}

impl Ascending {
    /// Of elements of which the largest is `max`, and none is NaN.
    fn new(counts: &Counts, max: f64) -> Self {
        let (mut buckets, mut elements) = (Vec::new(), 0);
        for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| *count > 0) {
            elements += count;
            buckets.push((elements, middle(bucket).min(max)));
        }
        Self { buckets }
    }

    fn elements(&self) -> u64 {
        self.buckets.last().map_or(0, |(end, _)| *end)
    }

    /// The element of a rank.
    fn at(&self, rank: u64) -> f64 {
        self.buckets[self.buckets.partition_point(|(end, _)| *end <= rank)].1
    }

    /// Mean of the elements from a rank up.
    fn mean_from(&self, first: u64) -> f64 {
        let (mut start, mut sum) = (first, 0.0);
        for (end, value) in &self.buckets {
            if *end > start {
                sum += value * (end - start) as f64;
                start = *end;
            }
        }
        sum / (start - first) as f64
    }
}

impl Rels {
    pub(super) fn new() -> Self {
        Self::Exact(Vec::new())
    }

    /// Takes the next elements and adds them to the sums.
    pub(super) fn push(&mut self, sums: &mut BlockSums, lhs: Values<'_>, rhs: Values<'_>) {
        if let Self::Exact(first) = self {
            if first.is_empty() {
                *first = typed!(lhs, rhs, |l, r| rels(l, r));
                sums.push(lhs, rhs);
                return;
            }
            *self = Self::Counted(Mutex::new(vec![Counts::of(first)]));
        }
        if let Self::Counted(idle) = self {
            sums.push_to(lhs, rhs, || Lent::new(idle));
        }
    }

    /// The figures of elements of which the largest is `max`; `mean` is that of all, NaN where one is.
    pub(super) fn finish(self, mean: f64, max: f64) -> FoundQuantiles {
        let how = match self {
            Self::Exact(_) => Quantiles::Exact,
            Self::Counted(_) => Quantiles::Sketch,
        };
        if mean.is_nan() {
            return FoundQuantiles {
                quantiles: [f64::NAN; QUANTILES.len()],
                top_mean: f64::NAN,
                how,
            };
        }
        let (quantiles, top_mean) = match self {
            Self::Exact(rels) => {
                let ranks = QUANTILES.map(|q| places(rels.len() as u64, q));
                let single: Vec<usize> = ranks.iter().flat_map(|r| r.map(|r| r as usize)).collect();
                let ranked = Ranked::new(&rels, &single, ranks[P99][0] as usize);
                let of = |rank| ranked.at(rank as usize).into();
                let quantiles = interpolated(rels.len() as u64, of);
                let top = ranked.from(quantiles[P99]);
                let sum: f64 = top.iter().map(|r| f64::from(*r)).sum();
                (quantiles, sum / top.len() as f64)
            }
            Self::Counted(parts) => {
                let parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
                let all = parts.into_iter().fold(Counts::new(), Counts::add);
                let counts = Ascending::new(&all, max);
                let elements = counts.elements();
                let quantiles = interpolated(elements, |rank| counts.at(rank));
                // Every element is at least a quantile of zero.
                let top_mean = if quantiles[P99] == 0.0 {
                    mean
                } else {
                    counts.mean_from((QUANTILES[P99] * (elements - 1) as f64).ceil() as u64)
                };
                (quantiles, top_mean)
            }
        };
        FoundQuantiles {
            quantiles,
            top_mean,
            how,
        }
    }
}

/// The ranks between which a quantile lies.
fn places(elements: u64, q: f64) -> [u64; 2] {
    let at = q * (elements - 1) as f64;
    [at.floor() as u64, at.ceil() as u64]
}

/// The quantiles by linear interpolation at `q * (n - 1)`.
fn interpolated(elements: u64, value: impl Fn(u64) -> f64) -> [f64; QUANTILES.len()] {
    QUANTILES.map(|q| {
        let at = q * (elements - 1) as f64;
        let [low, high] = places(elements, q).map(&value);
        if low == high {
            low
        } else {
            low + (high - low) * at.fract()
        }
    })
}
