//! What a correct kernel may return for a group.

use crate::allowed::{Allowed, Bound};
use crate::record::OutputType;
use crate::tensor::TqTensor;

/// Least step of F16, the coarsest near zero.
const LEAST: f64 = 1.0 / 16_777_216.0;

/// The allowed values of a tensor's elements.
pub(super) struct Sets<'a> {
    tensor: &'a TqTensor,
    of: OutputType,
    bound: Bound,
}

impl<'a> Sets<'a> {
    pub(super) fn new(tensor: &'a TqTensor, of: OutputType) -> Self {
        let bound = Bound::for_layout(tensor.layout());
        Self { tensor, of, bound }
    }

    /// The scaled centroids of a group, with their signs before the transform.
    fn scaled(&self, row: usize, group: usize) -> impl Iterator<Item = f64> {
        let (t, n) = (self.tensor, self.tensor.layout().group_size());
        let before = t.layout().signs_before();
        (0..n).map(move |i| {
            let col = group * n + i;
            let centroid = f64::from(t.codebook().centroids()[t.code(row, col) as usize]);
            let sign = before.map_or(1.0, |signs| signs.of(i).into());
            centroid * f64::from(t.scale(row, col)) * sign
        })
    }

    /// How far any correct value before rounding is from the exact one.
    pub(super) fn bound(&self, row: usize, group: usize) -> f64 {
        self.bound.of(self.scaled(row, group).map(f64::abs).sum())
    }

    /// The allowed values of a group, around its exact ones.
    pub(super) fn of_group(&self, row: usize, group: usize) -> Vec<Allowed> {
        let n = self.tensor.layout().group_size();
        let mut x: Vec<f64> = self.scaled(row, group).collect();
        let bound = self.bound.of(x.iter().map(|x| x.abs()).sum());
        let mut stride = 1;
        while stride < n {
            for pair in x.chunks_exact_mut(2 * stride) {
                let (lower, upper) = pair.split_at_mut(stride);
                for (l, u) in lower.iter_mut().zip(upper) {
                    (*l, *u) = (*l + *u, *l - *u);
                }
            }
            stride *= 2;
        }
        let root = (n as f64).sqrt();
        let signs = &self.tensor.signs()[group * n..][..n];
        x.iter()
            .zip(signs)
            .map(|(x, s)| Allowed::new(self.of, x / root * f64::from(*s), bound))
            .collect()
    }

    /// Which elements of a group are none that a correct kernel may return, given the reference before
    /// rounding.
    pub(super) fn outside(
        &self,
        (row, group): (usize, usize),
        reference: &[f32],
        got: &[f32],
        wrong: &mut [bool],
    ) {
        let round = |v: f64| super::rounding::nearest(self.of, v);
        let step = f64::from(super::survey::step(self.of));
        let mut bound = None;
        let mut sets = None;
        for (i, (r, g)) in reference.iter().zip(got).enumerate() {
            wrong[i] = if round(f64::from(*r)) == *g {
                false
            } else {
                let wide = 2.0 * *bound.get_or_insert_with(|| self.bound(row, group));
                let r = f64::from(*r);
                let off = (f64::from(*g) - r).abs();
                // The reference is within one bound of the exact value: this is outside for certain, the
                // first by so much that no rounding need be tried.
                off > wide + step * (r.abs() + wide) + LEAST
                    || !(round(r - wide)..=round(r + wide)).contains(g)
                    || !sets.get_or_insert_with(|| self.of_group(row, group))[i]
                        .contains(f64::from(*g))
            };
        }
    }
}
