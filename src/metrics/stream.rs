//! A comparison whose values come in pieces.

use super::quantile::RelCounts;
use super::sums::BlockSums;
use super::{Metrics, Values};
use crate::record::LaneName;

/// Gathers the metrics of one comparison from pieces of any size, in order.
///
/// The quantiles are exact in bounded memory. That takes a second pass over the same pieces, unless
/// [`Accumulator::expect`] foretold from a sample where they lie.
///
/// ```
/// use tq4::metrics::{Accumulator, Values, compare};
/// let (lhs, rhs) = ([1.0f32, 2.0, 3.5, 4.0], [1.0f32, 2.1, 3.0, 4.0]);
/// let mut acc = Accumulator::new("a", "b");
/// for i in [0..1, 1..4] {
///     acc.push(Values::F32(&lhs[i.clone()]), Values::F32(&rhs[i]));
/// }
/// if acc.second_pass() {
///     acc.refine(Values::F32(&lhs), Values::F32(&rhs));
/// }
/// assert_eq!(acc.finish(), compare("a", Values::F32(&lhs), "b", Values::F32(&rhs)));
/// ```
#[derive(Debug)]
pub struct Accumulator {
    lhs: LaneName,
    rhs: LaneName,
    sums: BlockSums,
    rels: RelCounts,
}

impl Accumulator {
    /// An empty comparison of two named lanes.
    pub fn new(lhs: LaneName, rhs: LaneName) -> Self {
        Self {
            lhs,
            rhs,
            sums: BlockSums::default(),
            rels: RelCounts::new(),
        }
    }

    /// Name of the compared lane.
    pub fn lhs(&self) -> &LaneName {
        &self.lhs
    }

    /// Name of the lane it is held to.
    pub fn rhs(&self) -> &LaneName {
        &self.rhs
    }

    /// Expects the quantiles near those of `sample`. A wrong expectation costs a second pass, never a
    /// wrong figure.
    ///
    /// # Panics
    /// After the first [`Accumulator::push`].
    pub fn expect(&mut self, sample: &Self) {
        self.rels.expect(&sample.rels);
    }

    /// Adds the next elements.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn push(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        self.sums.push(lhs, rhs);
        self.rels.push(lhs, rhs);
    }

    /// Elements so far whose BF16 values differ.
    pub fn unequal(&self) -> u64 {
        self.sums.unequal()
    }

    /// After the last push: whether every element must be given to [`Accumulator::refine`] once more.
    pub fn second_pass(&mut self) -> bool {
        self.rels.second_pass()
    }

    /// The second pass: the same elements again, in pieces of any size and order.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn refine(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        assert_eq!(lhs.len(), rhs.len(), "compared lanes have the same shape");
        self.rels.refine(lhs, rhs);
    }

    /// After the second pass: whether it met the values of the first. It does not where a lane gives other
    /// values each time.
    pub fn settled(&self) -> bool {
        self.rels.settled()
    }

    /// The metrics.
    ///
    /// # Panics
    /// When there was no element, or [`Accumulator::settled`] says no.
    pub fn finish(&self) -> Metrics {
        let elements = self.sums.elements();
        assert!(elements > 0, "there is something to compare");
        let (s, count) = (self.sums.total(), elements as f64);
        let rmse = self.sums.rmse();
        let rhs_rms = (s.rhs_square / count).sqrt();
        let [p50, p90, p95, p99, p999] = self.rels.quantiles();
        Metrics {
            lhs: self.lhs.clone(),
            rhs: self.rhs.clone(),
            elements,
            max_abs: self.sums.max_abs(),
            mean_abs: s.abs / count,
            rmse,
            rhs_rms,
            rmse_over_rhs_rms: rmse / rhs_rms.max(1e-12),
            max_rel: self.rels.max(),
            mean_rel: self.rels.mean(),
            rel_p50: p50,
            rel_p90: p90,
            rel_p95: p95,
            rel_p99: p99,
            rel_p999: p999,
            top1pct_rel_mean: self.rels.mean_from(p99),
            top1pct_rel_max: self.rels.max(),
            bit_equal: s.bit_equal,
            max_ulp: s.max_ulp,
            mean_signed: s.signed / count / rhs_rms.max(1e-12),
            cosine: s.dot / (s.lhs_square.sqrt() * s.rhs_square.sqrt()),
            nan: s.nan,
        }
    }
}
