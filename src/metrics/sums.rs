//! Sums over fixed blocks and fixed columns of them, added in order.

use super::{FloatElement, SUM_BLOCK, Values, rel, steps, typed};
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
    /// Adds an element to a column.
    #[inline(always)]
    fn element<L: FloatElement, R: FloatElement>(&mut self, k: usize, l: L, r: R) {
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
        let rel = rel(l, r);
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

    /// Adds elements, the first of which is in column `first`.
    #[inline(always)]
    fn elements<L: FloatElement, R: FloatElement>(
        mut self,
        first: usize,
        lhs: &[L],
        rhs: &[R],
    ) -> Self {
        let head = ((WIDTH - first) % WIDTH).min(lhs.len());
        for k in 0..head {
            self.element(first + k, lhs[k], rhs[k]);
        }
        let (lhs, lhs_rest) = lhs[head..].as_chunks::<WIDTH>();
        let (rhs, rhs_rest) = rhs[head..].as_chunks::<WIDTH>();
        for (l, r) in lhs.iter().zip(rhs) {
            for k in 0..WIDTH {
                self.element(k, l[k], r[k]);
            }
        }
        for (k, (l, r)) in lhs_rest.iter().zip(rhs_rest).enumerate() {
            self.element(k, *l, *r);
        }
        self
    }

    /// [`Self::elements`] with the vector instructions of this machine; the result is the same with any.
    fn extend<L: FloatElement, R: FloatElement>(self, first: usize, lhs: &[L], rhs: &[R]) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn avx2<L: FloatElement, R: FloatElement>(
                c: ColumnSums,
                first: usize,
                l: &[L],
                r: &[R],
            ) -> ColumnSums {
                c.elements(first, l, r)
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512<L: FloatElement, R: FloatElement>(
                c: ColumnSums,
                first: usize,
                l: &[L],
                r: &[R],
            ) -> ColumnSums {
                c.elements(first, l, r)
            }
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512vl")
            {
                // SAFETY: the CPU has what the function is made for.
                return unsafe { avx512(self, first, lhs, rhs) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: likewise.
                return unsafe { avx2(self, first, lhs, rhs) };
            }
        }
        self.elements(first, lhs, rhs)
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
        assert_eq!(lhs.len(), rhs.len(), "compared lanes have the same shape");
        typed!(lhs, rhs, |l, r| self.push_typed(l, r));
    }

    fn push_typed<L: FloatElement, R: FloatElement>(&mut self, mut lhs: &[L], mut rhs: &[R]) {
        self.elements += lhs.len() as u64;
        if self.filled > 0 {
            let take = (SUM_BLOCK - self.filled).min(lhs.len());
            self.open = self
                .open
                .extend(self.filled % WIDTH, &lhs[..take], &rhs[..take]);
            self.filled += take;
            (lhs, rhs) = (&lhs[take..], &rhs[take..]);
            if self.filled < SUM_BLOCK {
                return;
            }
            self.done = self.done.add(self.open.sum());
        }
        let whole = lhs.len() / SUM_BLOCK * SUM_BLOCK;
        // Collected, then added in order: the same sum whatever the number of threads.
        let sums: Vec<MetricSums> = lhs[..whole]
            .par_chunks(SUM_BLOCK)
            .zip(rhs[..whole].par_chunks(SUM_BLOCK))
            .map(|(l, r)| ColumnSums::default().extend(0, l, r).sum())
            .collect();
        self.done = sums.into_iter().fold(self.done, MetricSums::add);
        self.open = ColumnSums::default().extend(0, &lhs[whole..], &rhs[whole..]);
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

    proptest! {
        /// Any bits: NaN, infinities and subnormals among them.
        #[test]
        fn vector_instructions_change_nothing(
            lhs in prop::collection::vec(any::<u16>().prop_map(bf16::from_bits), 300),
            rhs in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 300),
            first in 0..WIDTH,
            len in 0usize..300,
        ) {
            let (lhs, rhs) = (&lhs[..len], &rhs[..len]);
            let [a, b] = [
                ColumnSums::default().extend(first, lhs, rhs),
                ColumnSums::default().elements(first, lhs, rhs),
            ];
            prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
    }
}
