//! Quantiles of the relative error: exact while its elements are at hand, beyond that from a sketch.

use super::ranks::Ranked;
use super::{FloatElement, SUM_BLOCK, Values, rel, typed};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sketches_ddsketch::{Config, DDSketch};
use std::ops::Range;

/// The wanted quantiles.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];
/// Of [`QUANTILES`]: that of the top hundredth.
const P99: usize = 3;

/// Largest relative error of the sketch. With the 2^-10 of [`TABLE`] that is less than 0.5 %.
const ALPHA: f64 = 0.004;
/// Buckets of that width from the smallest f32 to the largest, so that none is ever merged with another.
const BUCKETS: u32 = 24_400;
/// Below the smallest f32 that is not zero: only zeros count as zero.
const ZERO: f64 = 1e-46;

/// Bits of an f32 that are dropped where a piece is counted before it goes into the sketch, which takes a
/// logarithm for each addition.
const LOW: u32 = 14;
/// Counts by the other bits, without the sign.
const TABLE: usize = 1 << (31 - LOW);

/// How the quantiles of a comparison were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantiles {
    /// From the sorted elements, which came in one piece.
    Exact,
    /// From a sketch (DDSketch, PVLDB 12, 2019): each quantile within 0.5 % of the exact one, and
    /// `top1pct_rel_mean` within 0.5 % of the mean of the top hundredth of the elements.
    Sketch,
}

/// The quantiles, the mean from the 0.99 quantile up, and how they were found.
pub(super) struct FoundQuantiles {
    pub quantiles: [f64; QUANTILES.len()],
    pub top_mean: f64,
    pub how: Quantiles,
}

/// The relative errors of one comparison, none of them NaN.
pub(super) enum Rels {
    /// Those of the only piece so far.
    Exact(Vec<f32>),
    /// Those of several pieces.
    Sketch(Box<Sketch>),
}

impl std::fmt::Debug for Rels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact(_) => "Exact",
            Self::Sketch(_) => "Sketch",
        })
    }
}

/// Counts in buckets. They do not depend on the order in which elements or other counts are added.
pub(super) struct Sketch {
    finite: DDSketch,
    infinite: u64,
}

impl Sketch {
    fn new() -> Self {
        Self {
            finite: DDSketch::new(Config::new(ALPHA, BUCKETS, ZERO)),
            infinite: 0,
        }
    }

    fn add(&mut self, rel: f32, count: u64) {
        if rel.is_finite() {
            self.finite.add_with_count(rel.into(), count);
        } else if !rel.is_nan() {
            self.infinite += count;
        }
    }

    /// Adds elements, counting in `table` what is neither zero nor out of the ordinary.
    fn count(&mut self, table: &mut [u64], rels: &[f32]) {
        for rel in rels {
            if rel.is_normal() {
                table[(rel.to_bits() >> LOW) as usize] += 1;
            } else {
                self.add(*rel, 1);
            }
        }
    }

    /// Adds what was counted: each count as the middle of its values.
    fn add_table(mut self, table: &[u64]) -> Self {
        for (upper, count) in (0u32..).zip(table).filter(|(_, count)| **count > 0) {
            self.add(f32::from_bits(upper << LOW | 1 << (LOW - 1)), *count);
        }
        self
    }

    fn merge(mut self, other: &Self) -> Self {
        self.finite
            .merge(&other.finite)
            .expect("every sketch has the same buckets");
        self.infinite += other.infinite;
        self
    }

    /// Takes so many elements, which `rels` writes.
    fn extend(&mut self, elements: usize, rels: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        // Computed in runs before they are counted: division by vectors.
        const RUN: usize = 1024;
        let blocks = elements.div_ceil(SUM_BLOCK);
        // Two parts for each thread: a part has a table of its own to fill and to add.
        let least = blocks.div_ceil(2 * rayon::current_num_threads());
        let parts = (0..blocks)
            .into_par_iter()
            .with_min_len(least.max(1))
            .fold(
                || (Self::new(), vec![0; TABLE]),
                |(mut part, mut table), block| {
                    let end = elements.min((block + 1) * SUM_BLOCK);
                    for start in (block * SUM_BLOCK..end).step_by(RUN) {
                        let run = start..end.min(start + RUN);
                        let mut computed = [0.0; RUN];
                        let computed = &mut computed[..run.len()];
                        rels(run, computed);
                        part.count(&mut table, computed);
                    }
                    (part, table)
                },
            )
            .map(|(part, table)| part.add_table(&table))
            .reduce(Self::new, |a, b| a.merge(&b));
        *self = std::mem::replace(self, Self::new()).merge(&parts);
    }

    fn elements(&self) -> u64 {
        self.finite.count() as u64 + self.infinite
    }

    /// The element of a rank, within 0.5 %.
    fn at(&self, rank: u64) -> f64 {
        let finite = self.finite.count() as u64;
        if rank >= finite {
            return f64::INFINITY;
        }
        // The crate rounds down to the rank again.
        let q = (rank as f64 + 0.5) / (finite - 1) as f64;
        let value = self.finite.quantile(q.min(1.0));
        let value = value.ok().flatten().expect("an element and a share of it");
        value.min(self.finite.max().expect("an element"))
    }

    /// Mean of the elements from a rank up, within 0.5 %: the ranks of a bucket are found together.
    fn mean_from(&self, first: u64) -> f64 {
        let end = self.elements();
        let (mut rank, mut sum) = (first, 0.0);
        while rank < end {
            let value = self.at(rank);
            let (mut next, mut above) = (rank + 1, end);
            while next < above {
                let middle = next + (above - next) / 2;
                if self.at(middle) <= value {
                    next = middle + 1;
                } else {
                    above = middle;
                }
            }
            sum += value * (next - rank) as f64;
            rank = next;
        }
        sum / (end - first) as f64
    }
}

impl Rels {
    pub(super) fn new() -> Self {
        Self::Exact(Vec::new())
    }

    pub(super) fn push(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        typed!(lhs, rhs, |l, r| self.push_typed(l, r));
    }

    fn push_typed<L: FloatElement, R: FloatElement>(&mut self, lhs: &[L], rhs: &[R]) {
        let of = |(l, r): (&L, &R)| rel(l.single(), r.single());
        if let Self::Exact(first) = self {
            if first.is_empty() {
                *first = lhs.par_iter().zip(rhs).map(of).collect();
                return;
            }
            let mut sketch = Sketch::new();
            sketch.extend(first.len(), |run, out| out.copy_from_slice(&first[run]));
            *self = Self::Sketch(Box::new(sketch));
        }
        if let Self::Sketch(sketch) = self {
            sketch.extend(lhs.len(), |run, out| {
                let pairs = lhs[run.clone()].iter().zip(&rhs[run]);
                for (out, pair) in out.iter_mut().zip(pairs) {
                    *out = of(pair);
                }
            });
        }
    }

    /// The figures; `mean` is that of all elements, NaN where one is.
    pub(super) fn finish(self, mean: f64) -> FoundQuantiles {
        let how = match self {
            Self::Exact(_) => Quantiles::Exact,
            Self::Sketch(_) => Quantiles::Sketch,
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
            Self::Sketch(sketch) => {
                let elements = sketch.elements();
                let quantiles = interpolated(elements, |rank| sketch.at(rank));
                // Every element is at least a quantile of zero.
                let top_mean = if quantiles[P99] == 0.0 {
                    mean
                } else {
                    sketch.mean_from((QUANTILES[P99] * (elements - 1) as f64).ceil() as u64)
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
