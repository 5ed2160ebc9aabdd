//! One group: its error against the source, and the proof that correct codes would be nearer.

use super::damage::Elements;
use super::vectors::{dot, squared_error};
use crate::codebook::Codebook;
use crate::codec::{MAX_GROUP, Unit};
use crate::encode::{nearest_codes, transform};
use crate::tensor::TqTensor;

/// A group is looked at when its squared error is over so many times the expected.
const SUSPECT: f64 = 1.5;
/// Up to so many times the least squared error is as the nearest centroids put a group, or as negating the right
/// elements must leave it.
pub(super) const NEAREST: f64 = 1.5;
/// A group of an encoder that takes the nearest centroids is damaged over so many times the least squared error, a
/// tensor of any encoder where all of it is. Random codes come to 17 times and more.
pub(super) const FACTOR: f64 = 4.0;
/// The same for other encoders at most. Those that hand errors on come to about twice the least on average, and to
/// much more in some groups.
const LOOSE_FACTOR: f64 = 16.0;
/// What the rounding of the weights to BF16 on either side, and f32 arithmetic, may add, as a share of the norm.
const ROUNDING: f64 = 1.0 / 256.0;
/// Nothing below the step of the least f16 is told from zero, in any type of scale.
const LEAST_STEP: f64 = 1.0 / (1 << 24) as f64;
/// A group is near when its squared error is under so much of the expected.
pub(super) const NEAR: f64 = 0.25;
/// Centroids of 4 bits, the most there are.
const MAX_LEVELS: usize = 16;
/// Kurtosis from which on a few weights make a group: normal ones have 3, Laplace's 6, two alone among 32 have 16.
const SPIKY: f64 = 8.0;

/// What is the same in all groups of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodecConstants {
    bits: u32,
    pub(super) group_size: usize,
    pub(super) cols: usize,
    /// Expected squared error of a coded unit vector.
    distortion: f64,
    /// Squared norm of what a scale multiplies.
    square: f64,
    scales_per_group: usize,
}

/// A group against the source.
#[derive(Debug)]
pub(super) struct GroupError {
    /// Measured squared error.
    pub(super) squared: f64,
    /// Expected squared error of the codes.
    pub(super) coded: f64,
    /// Squared error for a scale that is off by one step.
    pub(super) step: f64,
    /// Whether it is no nearer than an encoder puts it, or at least not because of a few large weights: these can
    /// be met exactly.
    pub(super) usual: bool,
    /// More is known of a group that is further off than an encoder usually puts it.
    pub(super) suspect: Option<Box<Suspect>>,
}

/// A group with a large error.
#[derive(Debug)]
pub(super) struct Suspect {
    /// The least squared error of correct codes, with what rounding may add.
    pub(super) least: f64,
    /// Its squared error over the least; infinite where the source is not finite.
    pub(super) times: f64,
    /// Elements that are large and have the other sign than the source, and that explain the error when they alone are
    /// negated.
    pub(super) negated: Elements,
    /// Elements that are large and have the source's sign.
    pub(super) kept: Elements,
}

impl CodecConstants {
    pub(super) fn of(tensor: &TqTensor) -> Self {
        let layout = tensor.layout();
        let (n, scales) = (layout.group_size(), layout.scales());
        let (distortion, square) = match scales.unit {
            Unit::Norm => (tensor.codebook().distortion(n), 1.0),
            Unit::Deviation => (
                tensor.codebook().normal_distortion(),
                scales.elements as f64,
            ),
        };
        Self {
            bits: layout.bits(),
            group_size: layout.group_size(),
            cols: tensor.cols(),
            distortion,
            square,
            scales_per_group: layout.scales_per_group(),
        }
    }

    pub(super) fn groups_per_row(self) -> usize {
        self.cols / self.group_size
    }

    /// How many times the least squared error a group is off when it is damaged, where the encoder's groups are
    /// otherwise off by more than the nearest centroids are: no further than zeros are.
    pub(super) fn loose_factor(self) -> f64 {
        LOOSE_FACTOR.min(1.0 / self.distortion)
    }

    /// `4 bits in groups of 128`.
    pub(super) fn words(self) -> String {
        format!("{} bits in groups of {}", self.bits, self.group_size)
    }

    /// Group `group` of a tensor against the source's weights; both end where the weight's row does.
    pub(super) fn measure(
        self,
        tensor: &TqTensor,
        group: usize,
        source: &[f32],
        decoded: &[f32],
    ) -> GroupError {
        let squared = squared_error(source, decoded);
        let (mut coded, mut step) = (0.0, 0.0);
        for i in group * self.scales_per_group..(group + 1) * self.scales_per_group {
            let scales = tensor.scales();
            coded += f64::from(scales.get(i)).powi(2) * self.distortion * self.square;
            step += scales.step(i).powi(2) * self.square;
        }
        // A scale that is so much too large that its group is damaged is suspect by what it expects, too: 4 times the
        // least is 1.57 times that with 2 bits, and more with others. A NaN in the source is suspect.
        let near = squared <= SUSPECT * (coded + step / 4.0);
        let suspect = (!near).then(|| {
            let norm = norm(source);
            let slack = step.sqrt().max(LEAST_STEP) + ROUNDING * norm;
            let least = self.least_error(tensor, group, source).sqrt() + slack;
            Box::new(suspect(source, decoded, squared, least * least))
        });
        GroupError {
            squared,
            coded,
            step,
            usual: squared >= NEAR * coded || kurtosis(source) <= SPIKY,
            suspect,
        }
    }

    /// The squared error of codes that an encoder takes of these weights, whatever it stores. The transform is
    /// orthonormal: the error is the same before it and after.
    fn least_error(self, tensor: &TqTensor, group: usize, source: &[f32]) -> f64 {
        let mut x = [0.0; MAX_GROUP];
        let x = &mut x[..self.group_size];
        let first_col = group % self.groups_per_row() * self.group_size;
        transform(source, &tensor.signs()[first_col..], tensor.layout(), x);
        let parts = x.chunks_exact(self.group_size / self.scales_per_group);
        parts.map(|x| self.coding_error(tensor.codebook(), x)).sum()
    }

    /// The squared error of elements that share a scale and are coded under their norm: with the norm as the scale,
    /// or one that gives them their norm back, whichever is further off.
    ///
    /// A scale that is fitted to the codes is nearer than the norm is. It does not give the least here: elements of
    /// one magnitude can be fitted exactly, and an encoder that takes the norm is no worse for it.
    fn coding_error(self, codebook: &Codebook, x: &[f32]) -> f64 {
        let square = dot(x, x);
        let scale = (square / self.square).sqrt();
        let (mut codes, mut c) = ([0; MAX_GROUP], [0.0; MAX_GROUP]);
        let (codes, c) = (&mut codes[..x.len()], &mut c[..x.len()]);
        nearest_codes(codebook, x, scale as f32, codes);
        let mut centroids = [0.0; MAX_LEVELS];
        centroids[..codebook.centroids().len()].copy_from_slice(codebook.centroids());
        for (c, code) in c.iter_mut().zip(codes) {
            // The remainder is the code itself, and needs no check.
            *c = centroids[usize::from(*code) % MAX_LEVELS];
        }
        let (xc, cc) = (dot(x, c), dot(c, c));
        // `|x - s c|^2`
        let error = |scale: f64| square - 2.0 * scale * xc + scale * scale * cc;
        let restored = if cc > 0.0 { (square / cc).sqrt() } else { 0.0 };
        // Not below 0, and not `max` alone, which would hide a NaN.
        let larger = error(scale).max(error(restored)).max(0.0);
        if square.is_finite() { larger } else { square }
    }
}

/// What is known of a group with this squared error, and the least that it could have.
fn suspect(source: &[f32], decoded: &[f32], squared: f64, least: f64) -> Suspect {
    // `(d - w)^2 - (-d - w)^2`
    let gain = |i: usize| -4.0 * f64::from(source[i]) * f64::from(decoded[i]);
    let kept = Elements::with(source.len(), |i| gain(i) < -least / 2.0);
    let mut negated = Elements::with(source.len(), |i| gain(i) > least / 2.0);
    let left = negated.iter().fold(squared, |left, i| left - gain(i));
    if squared <= NEAREST * least || left > NEAREST * least {
        negated = Elements::default();
    }
    let times = squared / least;
    let finite = times.is_finite() && least.is_finite();
    Suspect {
        least,
        times: if finite { times } else { f64::INFINITY },
        negated,
        kept,
    }
}

/// The norm of weights.
fn norm(weights: &[f32]) -> f64 {
    dot(weights, weights).sqrt()
}

/// The kurtosis of weights about zero.
fn kurtosis(weights: &[f32]) -> f64 {
    let fourth: f64 = weights.iter().map(|w| f64::from(*w).powi(4)).sum();
    fourth * weights.len() as f64 / norm(weights).powi(4)
}
