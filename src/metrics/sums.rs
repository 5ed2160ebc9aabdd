//! Sums over fixed blocks, added in order.

use super::{BLOCK, Element, Values, rel, steps, typed};
use rayon::prelude::*;

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
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

impl Sums {
    /// Adds elements one after the other.
    fn extend<L: Element, R: Element>(mut self, lhs: &[L], rhs: &[R]) -> Self {
        let s = &mut self;
        for (l, r) in lhs.iter().zip(rhs) {
            let steps = steps(*l, *r);
            let (l, r) = (l.single(), r.single());
            let diff = l - r;
            s.bit_equal += u64::from(steps == 0);
            s.max_ulp = s.max_ulp.max(steps);
            s.nan += u64::from(l.is_nan() && !r.is_nan());
            s.spoilt |= diff.is_nan();
            s.max_abs = s.max_abs.max(diff.abs());
            let rel = rel(l, r);
            s.rel += f64::from(rel);
            s.max_rel = s.max_rel.max(rel);
            let (d, l, r) = (f64::from(diff), f64::from(l), f64::from(r));
            s.abs += d.abs();
            s.square += d * d;
            s.signed += d;
            s.lhs_square += l * l;
            s.rhs_square += r * r;
            s.dot += l * r;
        }
        self
    }

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

/// The sums of a comparison whose values come in pieces. Blocks are counted from the first element, so
/// the pieces leave no trace.
#[derive(Debug, Default, Clone)]
pub struct BlockSums {
    done: Sums,
    open: Sums,
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

    fn push_typed<L: Element, R: Element>(&mut self, mut lhs: &[L], mut rhs: &[R]) {
        self.elements += lhs.len() as u64;
        if self.filled > 0 {
            let take = (BLOCK - self.filled).min(lhs.len());
            self.open = self.open.extend(&lhs[..take], &rhs[..take]);
            self.filled += take;
            (lhs, rhs) = (&lhs[take..], &rhs[take..]);
            if self.filled < BLOCK {
                return;
            }
            self.done = self.done.add(self.open);
        }
        let whole = lhs.len() / BLOCK * BLOCK;
        // Collected, then added in order: the same sum whatever the number of threads.
        let sums: Vec<Sums> = lhs[..whole]
            .par_chunks(BLOCK)
            .zip(rhs[..whole].par_chunks(BLOCK))
            .map(|(l, r)| Sums::default().extend(l, r))
            .collect();
        self.done = sums.into_iter().fold(self.done, Sums::add);
        self.open = Sums::default().extend(&lhs[whole..], &rhs[whole..]);
        self.filled = lhs.len() - whole;
    }

    pub(super) fn total(&self) -> Sums {
        if self.filled > 0 {
            self.done.add(self.open)
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
