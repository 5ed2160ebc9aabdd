//! Sums over fixed blocks and fixed columns of them, added in order.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::{FloatElement, SUM_BLOCK, Values, rel, steps, typed};
use crate::widest::widest;
use rayon::prelude::*;

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct MetricSums {
    pub abs: f64,
    pub square: f64,
    pub signed: f64,
    pub lhs_square: f64,
    pub rhs_square: f64,
    pub dot: f64,
    pub rel: f64,
    pub max_abs: f32,
    pub max_rel: f32,
    pub max_ulp: u32,
    pub bit_equal: u64,
    pub nan: u64,
    pub spoilt: bool,
}

impl MetricSums {
    fn add(self, b: Self) -> Self {
        Self {
            abs: self.abs + b.abs,
            square: self.square + b.square,
            signed: self.signed + b.signed,
            lhs_square: self.lhs_square + b.lhs_square,
            rhs_square: self.rhs_square + b.rhs_square,
            dot: self.dot + b.dot,
            rel: self.rel + b.rel,
            max_abs: self.max_abs.max(b.max_abs),
            max_rel: self.max_rel.max(b.max_rel),
            max_ulp: self.max_ulp.max(b.max_ulp),
            bit_equal: self.bit_equal + b.bit_equal,
            nan: self.nan + b.nan,
            spoilt: self.spoilt | b.spoilt,
        }
    }
}

/// Elements that are summed side by side, for vector instructions. Part of the result, as [`SUM_BLOCK`] is:
/// another number adds in another order.
const WIDTH: usize = 8;

/// What becomes of relative errors.
pub(super) trait RelSink {
    /// Takes the next ones.
    fn take(&mut self, rels: &[f32]);
}

impl RelSink for () {
    fn take(&mut self, _: &[f32]) {}
}

/// The sums of one block so far: element `i` of the block is in column `i % WIDTH`.
#[derive(Debug, Default, Clone, Copy)]
struct ColumnSums {
    abs: [f64; WIDTH],
    square: [f64; WIDTH],
    signed: [f64; WIDTH],
    lhs_square: [f64; WIDTH],
    rhs_square: [f64; WIDTH],
    dot: [f64; WIDTH],
    rel: [f64; WIDTH],
    max_abs: [f32; WIDTH],
    max_rel: [f32; WIDTH],
    max_ulp: [u32; WIDTH],
    // A block has fewer elements than these count.
    bit_equal: [u32; WIDTH],
    nan: [u32; WIDTH],
    spoilt: [u32; WIDTH],
}

impl ColumnSums {
    /// Adds an element with its relative error to a column.
    #[inline(always)]
    fn element<L: FloatElement, R: FloatElement>(&mut self, k: usize, l: L, r: R, rel: f32) {
        // Larger, or the first where one is NaN.
        let larger = |a: f32, b: f32| if b > a { b } else { a };
        let steps = steps(l, r);
        let (l, r) = (l.single(), r.single());
        let diff = l - r;
        self.bit_equal[k] += u32::from(steps == 0);
        self.max_ulp[k] = self.max_ulp[k].max(steps);
        self.nan[k] += u32::from(l.is_nan() & !r.is_nan());
        self.spoilt[k] |= u32::from(diff.is_nan());
        self.max_abs[k] = larger(self.max_abs[k], diff.abs());
        self.rel[k] += f64::from(rel);
        self.max_rel[k] = larger(self.max_rel[k], rel);
        let (d, l, r) = (f64::from(diff), f64::from(l), f64::from(r));
        self.abs[k] += d.abs();
        self.square[k] += d * d;
        self.signed[k] += d;
        self.lhs_square[k] += l * l;
        self.rhs_square[k] += r * r;
        self.dot[k] += l * r;
    }

    /// Adds elements, the first of which is in column `first`; their relative errors go to `rels`.
    #[inline(always)]
    fn elements<L: FloatElement, R: FloatElement>(
        mut self,
        first: usize,
        lhs: &[L],
        rhs: &[R],
        rels: &mut [f32],
    ) -> Self {
        for ((rel_of, l), r) in rels.iter_mut().zip(lhs).zip(rhs) {
            *rel_of = rel(l.single(), r.single());
        }
        let head = ((WIDTH - first) % WIDTH).min(lhs.len());
        for k in 0..head {
            self.element(first + k, lhs[k], rhs[k], rels[k]);
        }
        let (lhs, lhs_rest) = lhs[head..].as_chunks::<WIDTH>();
        let (rhs, rhs_rest) = rhs[head..].as_chunks::<WIDTH>();
        let (rels, rels_rest) = rels[head..].as_chunks::<WIDTH>();
        for ((l, r), rel) in lhs.iter().zip(rhs).zip(rels) {
            for k in 0..WIDTH {
                self.element(k, l[k], r[k], rel[k]);
            }
        }
        let rest = lhs_rest.iter().zip(rhs_rest).zip(rels_rest);
        for (k, ((l, r), rel)) in rest.enumerate() {
            self.element(k, *l, *r, *rel);
        }
        self
    }

    /// [`Self::elements`] with the vector instructions of this machine; the result is the same with any.
    fn vectors<L: FloatElement, R: FloatElement>(
        self,
        first: usize,
        lhs: &[L],
        rhs: &[R],
        rels: &mut [f32],
    ) -> Self {
        #[cfg(target_arch = "x86_64")]
        if first == 0 && avx512::serves::<L, R>() {
            let mut sums = self;
            // SAFETY: the CPU has what the function is made for.
            let done = unsafe { avx512::rows(&mut sums, lhs, rhs, rels) };
            return sums.elements(0, &lhs[done..], &rhs[done..], &mut rels[done..]);
        }
        widest_elements(self, first, lhs, rhs, rels)
    }

    /// Adds elements, the first of which is in column `first`; their relative errors go to `to`.
    fn extend<L: FloatElement, R: FloatElement>(
        mut self,
        first: usize,
        lhs: &[L],
        rhs: &[R],
        to: &mut impl RelSink,
    ) -> Self {
        // Whole columns, and few enough for the first cache.
        const RUN: usize = 128 * WIDTH;
        let mut rels = [0.0; RUN];
        for (lhs, rhs) in lhs.chunks(RUN).zip(rhs.chunks(RUN)) {
            let rels = &mut rels[..lhs.len()];
            self = self.vectors(first, lhs, rhs, rels);
            to.take(rels);
        }
        self
    }

    /// The columns, added in order.
    fn sum(&self) -> MetricSums {
        let mut sums = MetricSums::default();
        for k in 0..WIDTH {
            sums = sums.add(MetricSums {
                abs: self.abs[k],
                square: self.square[k],
                signed: self.signed[k],
                lhs_square: self.lhs_square[k],
                rhs_square: self.rhs_square[k],
                dot: self.dot[k],
                rel: self.rel[k],
                max_abs: self.max_abs[k],
                max_rel: self.max_rel[k],
                max_ulp: self.max_ulp[k],
                bit_equal: self.bit_equal[k].into(),
                nan: self.nan[k].into(),
                spoilt: self.spoilt[k] != 0,
            });
        }
        sums
    }
}

widest! {
    /// [`ColumnSums::elements`], which becomes part of it.
    fn widest_elements<L: FloatElement, R: FloatElement>(
        sums: ColumnSums,
        first: usize,
        lhs: &[L],
        rhs: &[R],
        rels: &mut [f32],
    ) -> ColumnSums {
        sums.elements(first, lhs, rhs, rels)
    }
}

/// The sums of a comparison whose values come in pieces. Blocks are counted from the first element, so
/// the pieces leave no trace.
#[derive(Debug, Default, Clone)]
pub struct BlockSums {
    done: MetricSums,
    open: ColumnSums,
    // Elements in the open block.
    filled: usize,
    elements: u64,
}

impl BlockSums {
    /// Adds the next elements.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn push(&mut self, lhs: Values<'_>, rhs: Values<'_>) {
        self.push_to(lhs, rhs, || ());
    }

    /// [`Self::push`], with the relative errors in sinks: some blocks go to each, in no order.
    pub(super) fn push_to<S: RelSink>(
        &mut self,
        lhs: Values<'_>,
        rhs: Values<'_>,
        sink: impl Fn() -> S + Sync + Send,
    ) {
        assert_eq!(lhs.len(), rhs.len(), "compared lanes have the same shape");
        typed!(lhs, rhs, |l, r| self.push_typed(l, r, sink));
    }

    fn push_typed<L: FloatElement, R: FloatElement, S: RelSink>(
        &mut self,
        mut lhs: &[L],
        mut rhs: &[R],
        sink: impl Fn() -> S + Sync + Send,
    ) {
        self.elements += lhs.len() as u64;
        if self.filled > 0 {
            let take = (SUM_BLOCK - self.filled).min(lhs.len());
            let column = self.filled % WIDTH;
            self.open = self
                .open
                .extend(column, &lhs[..take], &rhs[..take], &mut sink());
            self.filled += take;
            (lhs, rhs) = (&lhs[take..], &rhs[take..]);
            if self.filled < SUM_BLOCK {
                return;
            }
            self.done = self.done.add(self.open.sum());
        }
        let blocks = lhs.len() / SUM_BLOCK;
        let whole = blocks * SUM_BLOCK;
        // Two parts for each thread: a part has a sink.
        let least = blocks.div_ceil(2 * rayon::current_num_threads());
        // Collected, then added in order: the same sum whatever the number of threads.
        let sums: Vec<MetricSums> = lhs[..whole]
            .par_chunks(SUM_BLOCK)
            .zip(rhs[..whole].par_chunks(SUM_BLOCK))
            .with_min_len(least.max(1))
            .map_init(&sink, |sink, (l, r)| {
                ColumnSums::default().extend(0, l, r, sink).sum()
            })
            .collect();
        self.done = sums.into_iter().fold(self.done, MetricSums::add);
        let (l, r) = (&lhs[whole..], &rhs[whole..]);
        self.open = ColumnSums::default().extend(0, l, r, &mut sink());
        self.filled = lhs.len() - whole;
    }

    pub(super) fn total(&self) -> MetricSums {
        if self.filled > 0 {
            self.done.add(self.open.sum())
        } else {
            self.done
        }
    }

    /// Elements so far.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Elements so far whose BF16 values differ.
    pub fn unequal(&self) -> u64 {
        self.elements - self.total().bit_equal
    }

    /// Largest `|lhs - rhs|`; NaN when one is.
    pub fn max_abs(&self) -> f64 {
        let s = self.total();
        if s.spoilt { f64::NAN } else { s.max_abs.into() }
    }

    /// Root mean square of `lhs - rhs`.
    pub fn rmse(&self) -> f64 {
        (self.total().square / self.elements as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    /// Whether the sums are the same with vectors, and the relative errors.
    fn both<L: FloatElement, R: FloatElement>(first: usize, lhs: &[L], rhs: &[R]) -> [bool; 2] {
        let [mut of_a, mut of_b] = [0.0f32, 1.0].map(|v| vec![v; lhs.len()]);
        let a = ColumnSums::default().vectors(first, lhs, rhs, &mut of_a);
        let b = ColumnSums::default().elements(first, lhs, rhs, &mut of_b);
        // As text, in which a NaN equals itself.
        [
            format!("{a:?}") == format!("{b:?}"),
            format!("{of_a:?}") == format!("{of_b:?}"),
        ]
    }

    proptest! {
        /// Any bits: NaN, infinities and subnormals among them.
        #[test]
        fn vector_instructions_change_nothing(
            lhs in prop::collection::vec(any::<u16>().prop_map(bf16::from_bits), 300),
            rhs in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 300),
            first in 0..WIDTH,
            len in 0usize..300,
        ) {
            let singles: Vec<f32> = lhs[..len].iter().map(|v| v.to_f32()).collect();
            let (lhs, rhs) = (&lhs[..len], &rhs[..len]);
            let rounded: Vec<bf16> = rhs.iter().map(|v| bf16::from_f32(*v)).collect();
            prop_assert_eq!(both(first, lhs, rhs), [true; 2]);
            prop_assert_eq!(both(first, lhs, &rounded), [true; 2]);
            prop_assert_eq!(both(first, &singles, rhs), [true; 2]);
            prop_assert_eq!(both(first, rhs, &rounded), [true; 2]);
        }
    }
}
