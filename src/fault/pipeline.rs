//! One decoder with a knob for every fault, so that two faults compose.

mod stored;

use super::Fault;
use super::rounding::Rounding;
use crate::allowed::Bound;
use crate::codec::MAX_GROUP;
use crate::codec::{Scales, Scaling};
use crate::tensor::TqTensor;
use rayon::prelude::*;

/// Of what the last elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Tensor,
    Row,
    Group,
}

/// Elements at an end that hold a constant.
pub(super) struct ConstantTail {
    pub(super) of: Of,
    pub(super) elements: usize,
    pub(super) value: f32,
}

/// Where a scale is read: from row, number in the row, and the shape `[rows, scales in a row]`.
pub(super) type ScalePlace = fn(usize, usize, [usize; 2]) -> usize;

/// How a scale is read.
pub(super) type ScaleRead = fn(&Scales, usize) -> f32;

/// Which signs stand at one end of the transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignSource {
    None,
    /// Those that the codec has before the transform.
    Before,
    /// Those of the columns, which belong after it.
    Columns,
}

/// Rounding of intermediate values.
pub(super) type Inner = fn(f32) -> f32;

/// One element of a faulty output, before the last rounding.
#[derive(Clone, Copy, Default)]
pub(super) struct FaultyElement {
    pub(super) value: f32,
    /// How far any evaluation in f32 is from this one; negative where `value` is a filling, bit for bit.
    pub(super) bound: f32,
}

impl FaultyElement {
    fn filling(value: f32) -> Self {
        Self { value, bound: -1.0 }
    }

    /// Whether it is not computed.
    pub(super) fn fills(self) -> bool {
        self.bound < 0.0
    }
}

/// The decoder with the knobs set.
pub(super) struct Pipeline<'a> {
    pub(super) tensor: &'a TqTensor,
    pub(super) n: usize,
    pub(super) centroids: Vec<f32>,
    // Stands everywhere.
    pub(super) filling: Option<f32>,
    pub(super) transposed: bool,
    // From this row on, the row so much further on is read.
    pub(super) row_moves: Vec<(usize, isize)>,
    pub(super) row_modulo: usize,
    pub(super) tails: Vec<ConstantTail>,
    // Elements of one transform, and how often it is done.
    pub(super) size: usize,
    pub(super) passes: usize,
    // Strides, one bit each: where the upper lane has the other sign, what does not happen, what does twice.
    pub(super) sign_mask: usize,
    pub(super) dropped: usize,
    pub(super) repeated: usize,
    // From the number of elements to what the transform is divided by.
    pub(super) norm: fn(f64) -> f64,
    // Rounding of what goes into the transform, and of each sum in it.
    pub(super) inputs: Option<Inner>,
    pub(super) sums: Option<Inner>,
    // How far from its own place each index is read.
    pub(super) sign_shift: isize,
    pub(super) code_shift: isize,
    pub(super) scale_shift: isize,
    // Flips bits of a code's index.
    pub(super) code_order: usize,
    pub(super) code_bits_swapped: bool,
    // Codes are read as if they had so many bits, and stood as close.
    pub(super) read_bits: Option<u32>,
    // Codes of 3 bits: the three bytes of eight are read from the last on.
    pub(super) big_endian: bool,
    pub(super) split_halves: bool,
    // Signs before and after the transform.
    pub(super) signs: [SignSource; 2],
    pub(super) sign_modulo: usize,
    pub(super) read_sign: fn(i8) -> f32,
    pub(super) negated: bool,
    pub(super) scale_place: ScalePlace,
    pub(super) read_scale: ScaleRead,
    // Elements that share a scale.
    pub(super) shared: usize,
    // Flips bits of a scale's index.
    pub(super) scale_order: usize,
    // Whether a group's first scale is taken for all of it, or its scales in turns.
    pub(super) first_scale_only: bool,
    pub(super) scales_in_turns: bool,
    pub(super) norm_corrected: bool,
    // Flips bits of an output's index.
    pub(super) output_order: usize,
    pub(super) rounding: Rounding,
}

/// `at` moved by `step` in a ring of `len`.
fn moved(at: usize, step: isize, len: usize) -> usize {
    (at as isize + step).rem_euclid(len as isize) as usize
}

impl<'a> Pipeline<'a> {
    pub(super) fn with(tensor: &'a TqTensor, faults: &[Fault]) -> Self {
        let n = tensor.layout().group_size();
        let mut p = Self {
            tensor,
            n,
            centroids: tensor.codebook().centroids().to_vec(),
            filling: None,
            transposed: false,
            row_moves: Vec::new(),
            row_modulo: usize::MAX,
            tails: Vec::new(),
            size: n,
            passes: 1,
            sign_mask: 0,
            dropped: 0,
            repeated: 0,
            norm: f64::sqrt,
            inputs: None,
            sums: None,
            sign_shift: 0,
            code_shift: 0,
            scale_shift: 0,
            code_order: 0,
            code_bits_swapped: false,
            read_bits: None,
            big_endian: false,
            split_halves: false,
            signs: [SignSource::Before, SignSource::Columns],
            sign_modulo: usize::MAX,
            read_sign: f32::from,
            negated: false,
            scale_place: |row, at, [_, per_row]| row * per_row + at,
            read_scale: Scales::get,
            shared: tensor.layout().scales().elements,
            scale_order: 0,
            first_scale_only: false,
            scales_in_turns: false,
            norm_corrected: false,
            output_order: 0,
            rounding: Rounding::Nearest,
        };
        faults.iter().for_each(|f| f.set(&mut p));
        p
    }

    pub(super) fn codes_per_byte(&self) -> usize {
        8 / self.tensor.layout().stored_bits() as usize
    }

    /// Elements that are decoded together: whole groups and whole transforms.
    pub(super) fn span(&self) -> usize {
        self.size.max(self.n)
    }

    /// What the faulty kernel returns for the rows from `first` on, as many as `out` holds.
    pub(super) fn rows(&self, first: usize, out: &mut [FaultyElement]) {
        let (cols, span) = (self.tensor.cols(), self.span());
        if self.transposed && self.filling.is_none() {
            self.columns(first * cols, out);
        }
        let decode = |(i, out): (usize, &mut [FaultyElement])| {
            let (row, start) = (first + i * span / cols, i * span % cols);
            if !self.transposed {
                self.span_at(row, start, out);
            }
            self.fill(row, start, out);
        };
        out.par_chunks_mut(span).enumerate().for_each(decode);
    }

    /// What the faulty kernel returns for one span of a row.
    pub(super) fn part(&self, row: usize, start: usize, out: &mut [FaultyElement]) {
        if !self.transposed {
            self.span_at(row, start, out);
        } else if self.filling.is_none() {
            self.columns(row * self.tensor.cols() + start, out);
        }
        self.fill(row, start, out);
    }

    fn span_at(&self, row: usize, start: usize, out: &mut [FaultyElement]) {
        if self.filling.is_none() {
            self.group(self.row_read(row), start, out);
            if self.output_order != 0 {
                for i in 0..out.len() {
                    let other = i ^ self.output_order;
                    if i < other {
                        out.swap(i, other);
                    }
                }
            }
        }
    }

    /// A column-major output, from element `first` of it on: each column's span is decoded once.
    fn columns(&self, first: usize, out: &mut [FaultyElement]) {
        let (rows, span) = (self.tensor.rows(), self.span());
        let last = first + out.len() - 1;
        let mut decoded = vec![FaultyElement::default(); span];
        for start in (first / rows / span..=last / rows / span).map(|s| s * span) {
            for row in 0..rows {
                let at = |col: usize| (col * rows + row).checked_sub(first);
                let inside = |col: usize| at(col).is_some_and(|at| at < out.len());
                // A strip holds a run of columns: nothing between its ends is left out.
                if !(start..start + span).any(inside) {
                    continue;
                }
                self.group(row, start, &mut decoded);
                for (col, element) in (start..).zip(&decoded) {
                    if let Some(o) = at(col).and_then(|at| out.get_mut(at)) {
                        *o = *element;
                    }
                }
            }
        }
    }

    /// Puts in what is not computed.
    fn fill(&self, row: usize, start: usize, out: &mut [FaultyElement]) {
        if let Some(value) = self.filling {
            out.fill(FaultyElement::filling(value));
        }
        let t = self.tensor;
        for tail in &self.tails {
            let last = |end: usize| (end.saturating_sub(tail.elements)).saturating_sub(start);
            let value = FaultyElement::filling(tail.value);
            match tail.of {
                Of::Tensor => {
                    let written = last(t.elements().saturating_sub(row * t.cols()));
                    out[written.min(self.span())..].fill(value);
                }
                Of::Row => out[last(t.cols()).min(self.span())..].fill(value),
                Of::Group => {
                    for group in out.chunks_mut(self.n) {
                        group[self.n.saturating_sub(tail.elements)..].fill(value);
                    }
                }
            }
        }
    }

    /// The row whose output stands in `row`.
    fn row_read(&self, row: usize) -> usize {
        let row = self.row_moves.iter().fold(row, |row, (first, step)| {
            if row < *first {
                row
            } else {
                moved(row, *step, self.tensor.rows())
            }
        });
        row % self.row_modulo
    }

    /// The values of one span.
    fn group(&self, row: usize, start: usize, out: &mut [FaultyElement]) {
        let span = self.span();
        let (mut usual, mut large) = ([0f32; 2 * MAX_GROUP], Vec::new());
        let x = if span <= usual.len() {
            &mut usual[..span]
        } else {
            large.resize(span, 0f32);
            &mut large[..]
        };
        let scale_last = self.tensor.layout().scales().scaling == Scaling::After;
        let shared = if self.scales_in_turns { 1 } else { self.shared };
        for (i, x) in x.chunks_exact_mut(shared).enumerate() {
            let first = start + i * shared;
            let scale = if scale_last {
                1.0
            } else {
                self.scale(row, first)
            };
            for (x, col) in x.iter_mut().zip(first..) {
                *x = self.centroid(row, col) * scale;
            }
        }
        if self.norm_corrected {
            let centroid = |col| self.centroid(row, col);
            let columns = start..start + span;
            let norm: f32 = columns.map(|col| centroid(col).powi(2)).sum::<f32>().sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
        }
        for (x, col) in x.iter_mut().zip(start..) {
            *x *= self.sign(self.signs[0], col);
        }
        if let Some(round) = self.inputs {
            x.iter_mut().for_each(|x| *x = round(*x));
        }
        let divisor = (self.norm)(self.size as f64);
        for (b, x) in x.chunks_exact_mut(self.size).enumerate() {
            let mut bound = 0.0;
            for _ in 0..self.passes {
                let magnitudes: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
                bound = bound * self.size as f64 / divisor + self.bound(magnitudes, divisor);
                self.transform(x);
                for x in x.iter_mut() {
                    *x = (f64::from(*x) / divisor) as f32;
                }
            }
            let at = b * self.size;
            for ((o, x), col) in out[at..].iter_mut().zip(x).zip(start + at..) {
                let sign = self.sign(self.signs[1], col);
                let scale = if scale_last {
                    self.scale(row, col)
                } else {
                    1.0
                };
                let value = *x * if self.negated { -sign } else { sign } * scale;
                *o = FaultyElement {
                    value,
                    bound: bound as f32 * scale.abs(),
                };
            }
        }
    }

    /// How far two evaluations of a transform in f32 are apart: each is within one bound of the exact one.
    fn bound(&self, magnitudes: f64, divisor: f64) -> f64 {
        let size = self.size as f64;
        // A stage that happens twice doubles what a sum is made of; a norm is a sum of its own.
        let twice = f64::from(1 + self.repeated.count_ones());
        let norm = if self.norm_corrected {
            1.0 + self.n as f64 / 16.0
        } else {
            1.0
        };
        2.0 * Bound::new(self.size).of(magnitudes * twice * norm * size.sqrt() / divisor)
    }

    fn transform(&self, block: &mut [f32]) {
        let mut stride = 1;
        while stride < self.size {
            if self.dropped & stride == 0 {
                let times = if self.repeated & stride == 0 { 1 } else { 2 };
                for _ in 0..times {
                    butterflies(block, stride, self.sign_mask & stride != 0);
                    if let Some(round) = self.sums {
                        block.iter_mut().for_each(|x| *x = round(*x));
                    }
                }
            }
            stride *= 2;
        }
    }

    /// Scales of a group.
    pub(super) fn scales_per_group(&self) -> usize {
        self.n / self.shared
    }
}

/// One stage.
fn butterflies(block: &mut [f32], stride: usize, upper_minus_lower: bool) {
    for pair in block.chunks_exact_mut(2 * stride) {
        let (lower, upper) = pair.split_at_mut(stride);
        for (l, u) in lower.iter_mut().zip(upper) {
            let (a, b) = (*l, *u);
            *l = a + b;
            *u = if upper_minus_lower { b - a } else { a - b };
        }
    }
}
