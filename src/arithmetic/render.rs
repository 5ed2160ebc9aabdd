//! The renderings of each arithmetic.

use crate::allowed::odd;
use crate::codebook::Codebook;
use crate::codec::MAX_GROUP;
use crate::codec::{MIN_SCALED, Normalisation, SignsBefore, Unit};
use crate::record::{Arithmetic, OutputType};
use crate::tensor::TqTensor;

use crate::codec;

/// One group, unpacked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnpackedGroup<'a> {
    codes: [u8; MAX_GROUP],
    scales: [f32; MAX_GROUP / MIN_SCALED],
    /// Elements that share a scale.
    shared: usize,
    before: Option<SignsBefore>,
    signs: &'a [i8],
}

impl<'a> UnpackedGroup<'a> {
    /// Group `index` of a tensor, counted row by row.
    pub(crate) fn new(tensor: &'a TqTensor, index: usize) -> Self {
        let n = tensor.layout().group_size();
        let per_row = tensor.groups_per_row();
        let (row, start) = (index / per_row, index % per_row * n);
        let mut codes = [0; MAX_GROUP];
        for (k, code) in codes[..n].iter_mut().enumerate() {
            *code = tensor.code(row, start + k);
        }
        let shared = tensor.layout().scales().elements;
        let mut scales = [0.0; MAX_GROUP / MIN_SCALED];
        for (k, scale) in scales[..n / shared].iter_mut().enumerate() {
            *scale = tensor.scale(row, start + k * shared);
        }
        Self {
            codes,
            scales,
            shared,
            before: tensor.layout().signs_before(),
            signs: &tensor.signs()[start..start + n],
        }
    }

    fn codes(&self) -> &[u8] {
        &self.codes[..self.signs.len()]
    }

    /// Centroids, and their scales.
    fn terms(&self, centroids: &[f32]) -> impl Iterator<Item = (f64, f64)> {
        self.codes().iter().enumerate().map(|(i, code)| {
            let scale = self.scales[i / self.shared];
            (centroids[*code as usize].into(), scale.into())
        })
    }

    /// Sum of `|c_i s_i|` in f64.
    pub(crate) fn magnitudes(&self, centroids: &[f32]) -> f64 {
        self.terms(centroids).map(|(c, s)| (c * s).abs()).sum()
    }

    fn sign_before(&self, i: usize) -> f32 {
        self.before.map_or(1.0, |signs| signs.of(i).into())
    }

    /// The exact value of one element, but for the rounding of n additions in f64: the dense product with
    /// a row of the Hadamard matrix, as in [`crate::oracle`].
    pub(crate) fn exact(&self, centroids: &[f32], element: usize) -> f64 {
        let terms = self.terms(centroids).enumerate().map(|(j, (c, s))| {
            let parity = (element & j).count_ones() % 2 == 1;
            let sign = f64::from(self.sign_before(j));
            c * s * if parity { -sign } else { sign }
        });
        let n = self.signs.len() as f64;
        terms.sum::<f64>() / n.sqrt() * f64::from(self.signs[element])
    }
}

/// How the products with the scale meet the butterflies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ScaleAt {
    /// Each product is rounded, before the butterflies.
    First,
    /// In the first butterfly one product is fused: the first or the second factor's, in the lower lane
    /// and in the upper.
    Fused { lower: usize, upper: usize },
    /// After so many stages.
    After(u32),
    /// After the butterflies and the normalisation.
    Last,
}

/// How the transform is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Norm {
    /// `x / sqrt(n)` in f64, rounded once.
    Divide,
    /// `x / f32(sqrt n)`.
    DivideSingle,
    /// `x` times this.
    Times(f32),
    /// In the scale: times, or divided by, this.
    ScaleTimes(f32),
    ScaleOver(f32),
    /// In the codebook.
    CodebookTimes(f32),
    CodebookOver(f32),
}

/// One way of computing an arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendering {
    name: Arithmetic,
    centroids: [f32; 16],
    steps: Evaluation,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Evaluation {
    Single {
        scaling: ScaleAt,
        norm: Norm,
        descending: bool,
    },
    /// In f64; rounded to f32 before the output type, or not.
    Double { by_f32: bool },
}

impl Rendering {
    /// The arithmetic's name.
    pub(crate) fn name(&self) -> Arithmetic {
        self.name
    }

    /// Computes a group into `x`: f32 values that, rounded to `to`, are this kernel's.
    pub(crate) fn group(&self, group: &UnpackedGroup<'_>, to: OutputType, x: &mut [f32]) {
        match self.steps {
            Evaluation::Single {
                scaling,
                norm,
                descending,
            } => self.single(group, scaling, norm, descending, x),
            Evaluation::Double { by_f32 } => {
                let mut wide = [0.0f64; MAX_GROUP];
                let wide = &mut wide[..x.len()];
                for (i, (x, (c, s))) in wide
                    .iter_mut()
                    .zip(group.terms(&self.centroids))
                    .enumerate()
                {
                    *x = c * s * f64::from(group.sign_before(i));
                }
                stages(wide, 0, x.len().ilog2(), false);
                let root = (x.len() as f64).sqrt();
                for ((x, wide), sign) in x.iter_mut().zip(wide).zip(group.signs) {
                    let v = *wide / root * f64::from(*sign);
                    *x = if by_f32 || to == OutputType::F32 {
                        v as f32
                    } else {
                        odd(v)
                    };
                }
            }
        }
    }

    fn single(
        &self,
        group: &UnpackedGroup<'_>,
        scaling: ScaleAt,
        norm: Norm,
        descending: bool,
        x: &mut [f32],
    ) {
        let n = x.len();
        let log = n.ilog2();
        let root = (n as f64).sqrt();
        let centroid = |code: &u8| self.centroids[*code as usize];
        let scale = |i: usize| {
            let scale = group.scales[i / group.shared];
            match norm {
                Norm::ScaleTimes(h) => scale * h,
                Norm::ScaleOver(r) => scale / r,
                _ => scale,
            }
        };
        for (i, (x, code)) in x.iter_mut().zip(group.codes()).enumerate() {
            let c = match norm {
                Norm::CodebookTimes(h) => centroid(code) * h,
                Norm::CodebookOver(r) => centroid(code) / r,
                _ => centroid(code),
            };
            *x = c * group.sign_before(i);
        }
        let mul = |x: &mut [f32]| {
            for (k, x) in x.chunks_mut(group.shared).enumerate() {
                let scale = scale(k * group.shared);
                x.iter_mut().for_each(|x| *x *= scale);
            }
        };
        match scaling {
            ScaleAt::First => {
                mul(x);
                stages(x, 0, log, descending);
            }
            ScaleAt::Fused { lower, upper } => {
                for (i, pair) in x.chunks_exact_mut(2).enumerate() {
                    let [a, b] = [pair[0], pair[1]];
                    let scale = scale(2 * i);
                    let [pa, pb] = [a * scale, b * scale];
                    pair[0] = [a.mul_add(scale, pb), b.mul_add(scale, pa)][lower];
                    pair[1] = [a.mul_add(scale, -pb), (-b).mul_add(scale, pa)][upper];
                }
                stages(x, 1, log, descending);
            }
            ScaleAt::After(first) => {
                stages(x, 0, first, descending);
                mul(x);
                stages(x, first, log, descending);
            }
            ScaleAt::Last => stages(x, 0, log, descending),
        }
        for x in x.iter_mut() {
            *x = match norm {
                Norm::Divide => (f64::from(*x) / root) as f32,
                Norm::DivideSingle => *x / root as f32,
                Norm::Times(h) => *x * h,
                _ => *x,
            };
        }
        if scaling == ScaleAt::Last {
            mul(x);
        }
        for (x, sign) in x.iter_mut().zip(group.signs) {
            *x *= f32::from(*sign);
        }
    }
}

/// The butterfly stages `first..end`, stage `s` of stride `2^s`, the last first where `descending`.
fn stages<T>(x: &mut [T], first: u32, end: u32, descending: bool)
where
    T: Copy + std::ops::Add<Output = T> + std::ops::Sub<Output = T>,
{
    for s in first..end {
        let stride = 1 << if descending { first + end - 1 - s } else { s };
        for block in x.chunks_exact_mut(2 * stride) {
            let (lower, upper) = block.split_at_mut(stride);
            for (l, u) in lower.iter_mut().zip(upper) {
                (*l, *u) = (*l + *u, *l - *u);
            }
        }
    }
}

/// Every rendering for tensors like this one, plainest first; the first is the reference's.
pub(crate) fn renderings(tensor: &TqTensor) -> Vec<Rendering> {
    let layout = tensor.layout();
    let n = layout.group_size();
    let stages = n.ilog2();
    let own = table(tensor.codebook().centroids());
    let mut all = Vec::new();
    let mut add = |name, centroids, scaling, norm, descending| {
        let steps = Evaluation::Single {
            scaling,
            norm,
            descending,
        };
        all.push(Rendering {
            name,
            centroids,
            steps,
        });
    };
    let root = (n as f64).sqrt();
    // Where the root is a power of two, every normalisation is the same exact shift.
    let exact = stages.is_multiple_of(2);
    let mut inverse = vec![(1.0 / root) as f32, 1.0 / root as f32];
    inverse.dedup();
    let times: Vec<Norm> = inverse
        .iter()
        .map(|h| Norm::Times(*h))
        .filter(|_| !exact)
        .collect();
    // The codec's own first.
    let mut norms: Vec<Norm> = std::iter::once(Norm::Divide).chain(times).collect();
    if layout.normalisation() == Normalisation::Multiply && !exact {
        norms.swap(0, 1);
    }
    let (usual, last) = match layout.scales().scaling {
        codec::Scaling::Before => (ScaleAt::First, false),
        codec::Scaling::After => (ScaleAt::Last, true),
    };

    for (i, norm) in norms.iter().enumerate() {
        let name = match norm {
            _ if i == 0 => Arithmetic::Identical,
            Norm::Divide => Arithmetic::Divide,
            _ => Arithmetic::Multiply,
        };
        add(name, own, usual, *norm, false);
    }
    if !exact {
        add(Arithmetic::Divide, own, usual, Norm::DivideSingle, false);
    }
    for norm in &norms {
        if last {
            add(Arithmetic::ScaleBefore, own, ScaleAt::First, *norm, false);
        }
        for lower in 0..2 {
            for upper in 0..2 {
                let fused = ScaleAt::Fused { lower, upper };
                add(Arithmetic::Contracted, own, fused, *norm, false);
            }
        }
        // A scale may come out of the sums that it is common to.
        let common = layout.scales().elements.ilog2();
        for first in 1..=common.min(stages - 1) {
            add(
                Arithmetic::Factored,
                own,
                ScaleAt::After(first),
                *norm,
                false,
            );
        }
        if common == stages {
            add(
                Arithmetic::ScaleAfter,
                own,
                ScaleAt::After(stages),
                *norm,
                false,
            );
            if !exact && !last {
                add(Arithmetic::ScaleAfter, own, ScaleAt::Last, *norm, false);
            }
        }
    }
    if !exact {
        let folded = Arithmetic::ScaleFolded;
        for h in inverse {
            if layout.scales_per_group() == 1 {
                add(
                    Arithmetic::ScaleAfter,
                    own,
                    ScaleAt::After(stages),
                    Norm::ScaleTimes(h),
                    false,
                );
            }
            add(folded, own, ScaleAt::First, Norm::ScaleTimes(h), false);
            add(folded, own, usual, Norm::CodebookTimes(h), false);
        }
        let root = root as f32;
        add(folded, own, ScaleAt::First, Norm::ScaleOver(root), false);
        add(folded, own, usual, Norm::CodebookOver(root), false);
    }
    for norm in &norms {
        add(Arithmetic::StridesDescending, own, usual, *norm, true);
    }
    if layout.scales().unit == Unit::Norm {
        let loader = Codebook::lloyd_max(layout.bits(), n);
        let loader = table(loader.centroids());
        if loader != own && loader.iter().zip(own).all(|(a, b)| near(*a, b)) {
            for norm in &norms {
                add(Arithmetic::LoaderCodebook, loader, usual, *norm, false);
            }
        }
    }
    for by_f32 in [true, false] {
        all.push(Rendering {
            name: Arithmetic::F64,
            centroids: own,
            steps: Evaluation::Double { by_f32 },
        });
    }
    all
}

fn table(centroids: &[f32]) -> [f32; 16] {
    let mut table = [0.0; 16];
    table[..centroids.len()].copy_from_slice(centroids);
    table
}

/// Whether two centroids may be the same one, computed in another precision: the loader's are up to 35 f32
/// steps from the encoder's, with 4 bits in 256 dimensions.
fn near(a: f32, b: f32) -> bool {
    a.is_sign_negative() == b.is_sign_negative() && a.to_bits().abs_diff(b.to_bits()) <= 64
}
