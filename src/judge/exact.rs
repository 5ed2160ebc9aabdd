//! One lane against the codec: which elements are the reference's, which are allowed, and which arithmetic
//! gives them all.

use crate::allowed::{Allowed, Bound};
use crate::arithmetic::{Rendering, UnpackedGroup, renderings};
use crate::codec::MAX_GROUP;
use crate::lane::Output;
use crate::record::{Arithmetic, Exactness, OutputType, Outside, Tolerance};
use crate::tensor::TqTensor;
use half::{bf16, f16};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements that a thread takes at a time.
const TASK: usize = 1 << 16;

/// A value of an output type.
trait OutputValue: Copy + Send + Sync {
    const OF: OutputType;
    /// Rounded to nearest, ties to even.
    fn rounded(v: f32) -> Self;
    /// Rounded with ties away from zero, where that fault is known of this type.
    fn half_up(v: f32) -> Option<Self>;
    /// Whether both are the same value; +0 equals -0, and a NaN a NaN.
    fn same(self, other: Self) -> bool;
    fn wide(self) -> f64;
}

impl OutputValue for bf16 {
    const OF: OutputType = OutputType::Bf16;
    fn rounded(v: f32) -> Self {
        Self::from_bits(crate::rounding::bf16_bits(v))
    }
    fn half_up(v: f32) -> Option<Self> {
        Some(Self::from_bits(
            (v.to_bits().wrapping_add(0x8000) >> 16) as u16,
        ))
    }
    fn same(self, other: Self) -> bool {
        let (a, b) = (self.to_bits(), other.to_bits());
        a == b || (a | b) & 0x7FFF == 0 || (self.is_nan() && other.is_nan())
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl OutputValue for f16 {
    const OF: OutputType = OutputType::F16;
    fn rounded(v: f32) -> Self {
        Self::from_f32(v)
    }
    fn half_up(_: f32) -> Option<Self> {
        None
    }
    fn same(self, other: Self) -> bool {
        self == other || (self.is_nan() && other.is_nan())
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl OutputValue for f32 {
    const OF: OutputType = OutputType::F32;
    fn rounded(v: f32) -> Self {
        v
    }
    fn half_up(_: f32) -> Option<Self> {
        None
    }
    fn same(self, other: Self) -> bool {
        self == other || (self.is_nan() && other.is_nan())
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

/// What is counted of some elements.
#[derive(Debug, Clone, Default)]
struct ElementCounts {
    elements: u64,
    unequal: u64,
    unlike_multiply: u64,
    not_finite: u64,
    outside: u64,
    beyond_tolerance: u64,
    worst: Option<Outside>,
}

impl ElementCounts {
    /// Those of earlier elements, then of later ones.
    fn then(self, later: Self) -> Self {
        let worst = match (self.worst, later.worst) {
            (Some(a), Some(b)) if b.bounds_away > a.bounds_away => Some(b),
            (a, b) => a.or(b),
        };
        Self {
            elements: self.elements + later.elements,
            unequal: self.unequal + later.unequal,
            unlike_multiply: self.unlike_multiply + later.unlike_multiply,
            not_finite: self.not_finite + later.not_finite,
            outside: self.outside + later.outside,
            beyond_tolerance: self.beyond_tolerance + later.beyond_tolerance,
            worst,
        }
    }
}

/// A lane of one tensor, strip by strip.
#[derive(Debug, Default)]
pub(crate) struct Exact {
    tolerance: Option<Tolerance>,
    output: OutputType,
    counts: ElementCounts,
    /// Set by the first strip: they depend on the codebook and the group size alone.
    renderings: Vec<Rendering>,
    /// One bit a rendering that has given every element so far, rounded to even and with ties away from
    /// zero.
    alive: [u64; 2],
    /// Elements of each rendering that are ties which the two round differently.
    ties: Vec<u64>,
}

/// Ties that must all be rounded away from zero before that is called the fault. A correct arithmetic without
/// a name can round a tie of a named one either way: with fewer, some would seem to do so at every tie.
const MIN_TIES: u64 = 16;

impl Exact {
    /// A lane of which nothing is known.
    pub(crate) fn new(tolerance: Option<Tolerance>) -> Self {
        Self {
            tolerance,
            ..Self::default()
        }
    }

    /// Elements so far that are not allowed, and that are not the reference's.
    pub(crate) fn wrong(&self) -> [u64; 2] {
        [self.counts.outside, self.counts.unequal]
    }

    /// Takes the rows of `tensor`, of which the first is row `first_row` of those compared.
    pub(crate) fn push(
        &mut self,
        tensor: &TqTensor,
        first_row: usize,
        reference: &[f32],
        got: &Output,
    ) {
        match got {
            Output::Bf16(got) => self.values(tensor, first_row, reference, got),
            Output::F16(got) => self.values(tensor, first_row, reference, got),
            Output::F32(got) => self.values(tensor, first_row, reference, got),
        }
    }

    fn values<T: OutputValue>(
        &mut self,
        tensor: &TqTensor,
        first_row: usize,
        reference: &[f32],
        got: &[T],
    ) {
        if self.renderings.is_empty() {
            self.output = T::OF;
            self.renderings = renderings(tensor);
            let all = u64::MAX >> (64 - self.renderings.len());
            self.alive = [all, if T::half_up(0.0).is_some() { all } else { 0 }];
            self.ties = vec![0; self.renderings.len()];
        }
        let n = tensor.layout().group_size();
        // The weight's columns: the last group of a row may have more.
        let cols = reference.len() / tensor.rows();
        let alive = self.alive.map(AtomicU64::new);
        let ties: Vec<AtomicU64> = self.ties.iter().copied().map(AtomicU64::new).collect();
        let rows = (TASK / cols).max(1);
        let per_row = tensor.groups_per_row();
        let pass = StripContext {
            tensor,
            bound: Bound::for_layout(tensor.layout()),
            tolerance: self.tolerance,
            renderings: &self.renderings,
            alive: &alive,
            ties: &ties,
        };
        let counts: Vec<ElementCounts> = reference
            .par_chunks(rows * cols)
            .zip(got.par_chunks(rows * cols))
            .enumerate()
            .map(|(i, (reference, got))| {
                let mut counts = ElementCounts::default();
                let all = reference.chunks_exact(cols).zip(got.chunks_exact(cols));
                for (row, (reference, got)) in all.enumerate() {
                    let first = (i * rows + row) * per_row;
                    let groups = reference.chunks(n).zip(got.chunks(n));
                    for (k, (reference, got)) in groups.enumerate() {
                        pass.group(first + k, reference, got, &mut counts);
                    }
                }
                counts
            })
            .collect();
        let mut all = counts
            .into_iter()
            .fold(ElementCounts::default(), ElementCounts::then);
        if let Some(worst) = &mut all.worst {
            worst.row += first_row;
        }
        self.counts = std::mem::take(&mut self.counts).then(all);
        self.alive = alive.map(AtomicU64::into_inner);
        self.ties = ties.into_iter().map(AtomicU64::into_inner).collect();
    }

    /// What was found.
    pub(crate) fn finish(self) -> Exactness {
        let first = |alive: u64| {
            let mut renderings = self.renderings.iter().enumerate();
            let found = renderings.find(|(i, _)| alive >> i & 1 == 1);
            found.map(|(_, r)| r.name())
        };
        let arithmetic = first(self.alive[0]);
        let away = self.ties.iter().enumerate();
        let away = away.filter(|(i, n)| self.alive[1] >> i & 1 == 1 && **n >= MIN_TIES);
        let away = away.map(|(_, n)| *n).max();
        Exactness {
            output: self.output,
            elements: self.counts.elements,
            unequal: self.counts.unequal,
            unlike_multiply: self.counts.unlike_multiply,
            not_finite: self.counts.not_finite,
            outside: self.counts.outside,
            worst: self.counts.worst,
            beyond_tolerance: self.counts.beyond_tolerance,
            ties_away: away.filter(|_| arithmetic.is_none()).unwrap_or(0),
            arithmetic,
        }
    }
}

/// What all groups of a strip share.
struct StripContext<'a> {
    tensor: &'a TqTensor,
    bound: Bound,
    tolerance: Option<Tolerance>,
    renderings: &'a [Rendering],
    alive: &'a [AtomicU64; 2],
    ties: &'a [AtomicU64],
}

impl StripContext<'_> {
    fn group<T: OutputValue>(
        &self,
        index: usize,
        reference: &[f32],
        got: &[T],
        counts: &mut ElementCounts,
    ) {
        counts.elements += got.len() as u64;
        let unequal = |(r, g): &(&f32, &T)| !g.same(T::rounded(**r));
        let differs = reference.iter().zip(got).any(|pair| unequal(&pair));
        let alive = [0, 1].map(|i| self.alive[i].load(Ordering::Relaxed));
        // The first rendering is the reference.
        let others = (alive[0] | alive[1]) & !1;
        if !differs && others == 0 && alive[1] == 0 {
            return;
        }
        let group = UnpackedGroup::new(self.tensor, index);
        if differs {
            self.elements(index, &group, reference, got, counts);
        }
        self.refute(&group, reference, got, alive);
    }

    /// Takes off the renderings that do not give this group.
    fn refute<T: OutputValue>(
        &self,
        group: &UnpackedGroup<'_>,
        reference: &[f32],
        got: &[T],
        alive: [u64; 2],
    ) {
        let mut x = [0.0; MAX_GROUP];
        let x = &mut x[..self.tensor.layout().group_size()];
        for (i, rendering) in self.renderings.iter().enumerate() {
            let bit = 1u64 << i;
            if (alive[0] | alive[1]) & bit == 0 {
                continue;
            }
            if i == 0 {
                x[..reference.len()].copy_from_slice(reference);
            } else {
                rendering.group(group, T::OF, x);
            }
            let even = |(v, g): (&f32, &T)| g.same(T::rounded(*v));
            if alive[0] & bit != 0 && !x.iter().zip(got).all(even) {
                self.alive[0].fetch_and(!bit, Ordering::Relaxed);
            }
            if alive[1] & bit == 0 {
                continue;
            }
            let up = |(v, g): (&f32, &T)| T::half_up(*v).is_some_and(|v| g.same(v));
            if x.iter().zip(got).all(up) {
                let tie = |(v, g): &(&f32, &T)| !g.same(T::rounded(**v));
                let ties = x.iter().zip(got).filter(tie).count();
                self.ties[i].fetch_add(ties as u64, Ordering::Relaxed);
            } else {
                self.alive[1].fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    /// Holds the elements that are not the reference's to their sets.
    fn elements<T: OutputValue>(
        &self,
        index: usize,
        group: &UnpackedGroup<'_>,
        reference: &[f32],
        got: &[T],
        counts: &mut ElementCounts,
    ) {
        let centroids = self.tensor.codebook().centroids();
        let magnitudes = group.magnitudes(centroids);
        let bound = self.bound.of(magnitudes);
        let of_reference = self.bound.of_reference(magnitudes);
        let products = self.multiply(group, self.tensor.layout().group_size());
        for (i, (r, g)) in reference.iter().zip(got).enumerate() {
            if g.same(T::rounded(*r)) {
                continue;
            }
            counts.unequal += 1;
            let multiplied = |x: &[f32; MAX_GROUP]| g.same(T::rounded(x[i]));
            counts.unlike_multiply += u64::from(!products.iter().any(multiplied));
            let (wide, rounded) = (g.wide(), T::rounded(*r).wide());
            let r = f64::from(*r);
            if let Some(t) = self.tolerance {
                let distance = (wide - rounded).abs();
                counts.beyond_tolerance += u64::from(!t.holds(distance, r));
            }
            let exact = || group.exact(centroids, i);
            let inside = Bound::allows(T::OF, wide, r, [bound, of_reference], exact);
            if inside {
                continue;
            }
            counts.outside += 1;
            counts.not_finite += u64::from(!wide.is_finite() && rounded.is_finite());
            let away = (wide - r).abs() / bound;
            let away = if away.is_nan() { f64::INFINITY } else { away };
            if counts.worst.as_ref().is_none_or(|w| away > w.bounds_away) {
                let set = Allowed::new(T::OF, exact(), bound);
                let (n, per_row) = (
                    self.tensor.layout().group_size(),
                    self.tensor.groups_per_row(),
                );
                counts.worst = Some(Outside {
                    row: index / per_row,
                    col: index % per_row * n + i,
                    got: Some(wide).filter(|v| v.is_finite()),
                    allowed: [set.low, set.high],
                    bounds_away: away,
                });
            }
        }
    }

    /// The group as [`Arithmetic::Multiply`] gives it.
    fn multiply(&self, group: &UnpackedGroup<'_>, n: usize) -> Vec<[f32; MAX_GROUP]> {
        let multiply = self
            .renderings
            .iter()
            .filter(|r| r.name() == Arithmetic::Multiply);
        multiply
            .map(|r| {
                let mut x = [0.0; MAX_GROUP];
                r.group(group, OutputType::F32, &mut x[..n]);
                x
            })
            .collect()
    }
}
