//! A comparison whose values come in pieces.

use super::quantile::Rels;
use super::sums::BlockSums;
use super::{Metrics, Values};
use crate::name::LaneName;

/// Gathers the metrics of one comparison from pieces of any size, in order.
///
/// The quantiles are exact where there is one piece; those of several come from counts, in bounded
/// memory ([`Quantiles`](super::Quantiles)). No other figure depends on the pieces.
///
/// ```
/// use tq4::metrics::{Accumulator, Quantiles, Values, compare};
/// use tq4::record::LaneName;
/// let (lhs, rhs) = ([1.0f32, 2.0, 3.5, 4.0], [1.0f32, 2.1, 3.0, 4.0]);
/// let [a, b] = ["a", "b"].map(LaneName::from);
/// let mut acc = Accumulator::new(a.clone(), b.clone());
/// for i in [0..1, 1..4] {
///     acc.push(Values::F32(&lhs[i.clone()]), Values::F32(&rhs[i]));
/// }
/// let (pieces, whole) = (acc.finish(), compare(a, Values::F32(&lhs), b, Values::F32(&rhs)));
/// assert_eq!((pieces.quantiles, whole.quantiles), (Quantiles::Sketch, Quantiles::Exact));
/// assert_eq!(pieces.mean_rel, whole.mean_rel);
/// assert!((pieces.rel_p99 / whole.rel_p99 - 1.0).abs() < 0.005);
/// ```
#[derive(Debug)]
pub struct Accumulator {
    lhs: LaneName,
    rhs: LaneName,
    sums: BlockSums,
    rels: Rels,
}

impl Accumulator {
    /// An empty comparison of two named lanes.
    pub fn new(lhs: LaneName, rhs: LaneName) -> Self {
        Self {
            lhs,
            rhs,
            sums: BlockSums::default(),
            rels: Rels::new(),
        }
    }

    /// Adds the next elements.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn push(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        self.rels.push(&mut self.sums, lhs, rhs);
    }

    /// Elements so far whose BF16 values differ.
    pub fn unequal(&self) -> u64 {
        self.sums.unequal()
    }

    /// The metrics.
    ///
    /// # Panics
    /// When there was no element.
    pub fn finish(self) -> Metrics {
        let elements = self.sums.elements();
        assert!(elements > 0, "there is something to compare");
        let (s, count) = (self.sums.total(), elements as f64);
        let rmse = self.sums.rmse();
        let rhs_rms = (s.rhs_square / count).sqrt();
        let mean_rel = s.rel / count;
        let max_rel = if mean_rel.is_nan() {
            f64::NAN
        } else {
            s.max_rel.into()
        };
        let found = self.rels.finish(mean_rel, max_rel);
        let [p50, p90, p95, p99, p999] = found.quantiles;
        Metrics {
            lhs: self.lhs,
            rhs: self.rhs,
            elements,
            max_abs: self.sums.max_abs(),
            mean_abs: s.abs / count,
            rmse,
            rhs_rms,
            rmse_over_rhs_rms: rmse / rhs_rms.max(1e-12),
            max_rel,
            mean_rel,
            rel_p50: p50,
            rel_p90: p90,
            rel_p95: p95,
            rel_p99: p99,
            rel_p999: p999,
            top1pct_rel_mean: found.top_mean,
            top1pct_rel_max: max_rel,
            bit_equal: s.bit_equal,
            max_ulp: s.max_ulp,
            mean_signed: s.signed / count / rhs_rms.max(1e-12),
            cosine: s.dot / (s.lhs_square.sqrt() * s.rhs_square.sqrt()),
            nan: s.nan,
            quantiles: found.how,
        }
    }
}
