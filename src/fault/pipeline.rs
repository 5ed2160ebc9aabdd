//! One decoder with a knob for every fault, so that two faults compose.

use super::Fault;
use crate::tensor::TqTensor;
use half::{bf16, f16};

/// The decoder with the knobs set.
pub(super) struct Pipeline<'a> {
    pub(super) tensor: &'a TqTensor,
    pub(super) n: usize,
    pub(super) centroids: Vec<f32>,
    pub(super) zeros: bool,
    pub(super) transposed: bool,
    // From this row on, the row so much further on is read.
    pub(super) row_moves: Vec<(usize, isize)>,
    // Elements at the end of the tensor, and of each row, that are not written, and what stands there.
    pub(super) unwritten: Vec<(usize, usize, bf16)>,
    // Elements of one transform.
    pub(super) size: usize,
    // Strides, one bit each: where the upper lane has the other sign, and what does not happen.
    pub(super) sign_mask: usize,
    pub(super) dropped: usize,
    // From the number of elements to what the transform is divided by.
    pub(super) norm: fn(f64) -> f64,
    // How far from its own place each index is read.
    pub(super) sign_shift: isize,
    pub(super) code_shift: isize,
    pub(super) scale_shift: isize,
    // Flips bits of an index within a byte: the order in which its codes are read.
    pub(super) code_order: usize,
    pub(super) code_bits_swapped: bool,
    pub(super) split_halves: bool,
    pub(super) signs_before: bool,
    pub(super) signs_after: bool,
    pub(super) scales_transposed: bool,
    pub(super) read_scale: fn(f16) -> f32,
    pub(super) norm_corrected: bool,
    pub(super) round: fn(f32) -> bf16,
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
            zeros: false,
            transposed: false,
            row_moves: Vec::new(),
            unwritten: Vec::new(),
            size: n,
            sign_mask: 0,
            dropped: 0,
            norm: f64::sqrt,
            sign_shift: 0,
            code_shift: 0,
            scale_shift: 0,
            code_order: 0,
            code_bits_swapped: false,
            split_halves: false,
            signs_before: false,
            signs_after: true,
            scales_transposed: false,
            read_scale: f16::to_f32,
            norm_corrected: false,
            round: bf16::from_f32,
        };
        faults.iter().for_each(|f| f.set(&mut p));
        p
    }

    pub(super) fn codes_per_byte(&self) -> usize {
        8 / self.tensor.layout().stored_bits() as usize
    }

    /// What the faulty kernel returns for `row`.
    pub(super) fn row(&self, row: usize, scratch: &mut Vec<f32>, out: &mut [bf16]) {
        let t = self.tensor;
        if self.zeros {
            return out.fill(bf16::ZERO);
        }
        let span = self.span();
        if self.transposed {
            for (col, o) in out.iter_mut().enumerate() {
                let at = row * t.cols() + col;
                let (row, col) = (at % t.rows(), at / t.rows());
                self.group(row, col / span * span, scratch);
                *o = self.rounded(scratch[col % span]);
            }
        } else {
            let from = self.row_read(row);
            for (g, out) in out.chunks_mut(span).enumerate() {
                self.group(from, g * span, scratch);
                for (o, v) in out.iter_mut().zip(scratch.iter()) {
                    *o = self.rounded(*v);
                }
            }
        }
        for (of_tensor, of_row, value) in &self.unwritten {
            let written = t.elements().saturating_sub(of_tensor + row * t.cols());
            let written = written.min(t.cols().saturating_sub(*of_row));
            out[written..].fill(*value);
        }
    }

    /// The row whose output stands in `row`.
    fn row_read(&self, row: usize) -> usize {
        self.row_moves.iter().fold(row, |row, (first, step)| {
            if row < *first {
                row
            } else {
                moved(row, *step, self.tensor.rows())
            }
        })
    }

    /// Elements that are decoded together: whole groups and whole transforms.
    fn span(&self) -> usize {
        self.size.max(self.n)
    }

    /// The values of one span, before rounding.
    fn group(&self, row: usize, start: usize, x: &mut Vec<f32>) {
        let columns = start..start + self.span();
        let centroid = |col| self.centroids[self.code(row, col) as usize];
        x.clear();
        for first in columns.clone().step_by(self.n) {
            let scale = self.scale(row, first / self.n);
            x.extend((first..first + self.n).map(|col| centroid(col) * scale));
        }
        let signs: Vec<f32> = columns.clone().map(|col| self.sign(col)).collect();
        if self.signs_before {
            x.iter_mut().zip(&signs).for_each(|(x, s)| *x *= s);
        }
        if self.norm_corrected {
            let norm: f32 = columns.map(|col| centroid(col).powi(2)).sum::<f32>().sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
        }
        for block in x.chunks_exact_mut(self.size) {
            let mut stride = 1;
            while stride < self.size {
                if self.dropped & stride == 0 {
                    let upper_minus_lower = self.sign_mask & stride != 0;
                    for pair in block.chunks_exact_mut(2 * stride) {
                        let (lower, upper) = pair.split_at_mut(stride);
                        for (l, u) in lower.iter_mut().zip(upper) {
                            let (a, b) = (*l, *u);
                            *l = a + b;
                            *u = if upper_minus_lower { b - a } else { a - b };
                        }
                    }
                }
                stride *= 2;
            }
        }
        let divisor = (self.norm)(self.size as f64);
        for (x, s) in x.iter_mut().zip(&signs) {
            *x = (f64::from(*x) / divisor) as f32;
            if self.signs_after {
                *x *= s;
            }
        }
    }

    fn sign(&self, col: usize) -> f32 {
        let col = moved(col, self.sign_shift, self.tensor.cols());
        self.tensor.signs()[col].into()
    }

    fn code(&self, row: usize, col: usize) -> u8 {
        let t = self.tensor;
        let mut at = row * t.cols() + col;
        if self.code_shift != 0 {
            at = moved(at, self.code_shift, t.elements());
        }
        at ^= self.code_order;
        if self.split_halves {
            let (base, k) = (at / self.n * self.n, at % self.n);
            let bytes = t.layout().packed_group();
            at = base + k % bytes * (self.n / bytes) + k / bytes;
        }
        // Rows follow one another: a flat index is a column of row 0.
        let code = t.code(0, at);
        if self.code_bits_swapped {
            (code & 1) << 1 | code >> 1
        } else {
            code
        }
    }

    fn scale(&self, row: usize, group: usize) -> f32 {
        let t = self.tensor;
        let at = if self.scales_transposed {
            group * t.rows() + row
        } else {
            row * t.groups_per_row() + group
        };
        (self.read_scale)(t.scales()[moved(at, self.scale_shift, t.groups())])
    }

    fn rounded(&self, value: f32) -> bf16 {
        if value.is_nan() {
            bf16::NAN
        } else {
            (self.round)(value)
        }
    }
}
