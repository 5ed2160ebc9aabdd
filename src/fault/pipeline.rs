//! One decoder with a knob for every fault, so that two faults compose.

use super::{Fault, Fill};
use crate::lane::POISON_BF16;
use crate::tensor::TqTensor;
use half::bf16;

/// The decoder with the knobs set.
pub(super) struct Pipeline<'a> {
    tensor: &'a TqTensor,
    centroids: Vec<f32>,
    faults: Vec<Fault>,
    sign_mask: usize,
    dropped: usize,
    // How far from its own place each index is read.
    sign_shift: isize,
    code_shift: isize,
    scale_shift: isize,
    // Flips bits of an index within a byte: the order in which its codes are read.
    code_order: usize,
    scale_omitted: bool,
    split_halves: bool,
    code_bits_swapped: bool,
    rounding: Rounding,
    n: usize,
}

#[derive(Clone, Copy)]
enum Rounding {
    NearestEven,
    Down,
    HalfUp,
}

/// `at` moved by `step` in a ring of `len`.
fn moved(at: usize, step: isize, len: usize) -> usize {
    (at as isize + step).rem_euclid(len as isize) as usize
}

fn value(fill: Fill) -> bf16 {
    match fill {
        Fill::Nan => bf16::from_bits(POISON_BF16),
        Fill::Zero => bf16::ZERO,
    }
}

impl<'a> Pipeline<'a> {
    pub(super) fn with(tensor: &'a TqTensor, faults: &[Fault]) -> Self {
        let n = tensor.layout().group_size();
        let mut p = Self {
            tensor,
            centroids: tensor.codebook().centroids().to_vec(),
            faults: faults.to_vec(),
            sign_mask: 0,
            dropped: 0,
            sign_shift: 0,
            code_shift: 0,
            scale_shift: 0,
            code_order: 0,
            scale_omitted: faults.contains(&Fault::ScaleOmitted),
            split_halves: faults.contains(&Fault::SplitHalves),
            code_bits_swapped: faults.contains(&Fault::CodeBitsSwapped),
            rounding: Rounding::NearestEven,
            n,
        };
        let per_byte = 8 / tensor.layout().stored_bits() as usize;
        for fault in faults {
            match *fault {
                Fault::UpperLaneSign(mask) => p.sign_mask ^= mask as usize,
                Fault::StageDropped(s) => p.dropped |= 1 << s,
                Fault::FwhtOmitted => p.dropped = usize::MAX,
                Fault::SignsOf(side) => p.sign_shift += side.step() * n as isize,
                Fault::IndexOff(side) => p.code_shift += side.step(),
                Fault::ScaleOfGroup(side) => p.scale_shift += side.step(),
                Fault::ScaleOfRow(side) => {
                    p.scale_shift += side.step() * tensor.groups_per_row() as isize;
                }
                // Two 4-bit codes or four 2-bit codes a byte: the halves change places.
                Fault::NibblesSwapped => p.code_order ^= per_byte / 2,
                Fault::ByteReversed => p.code_order ^= per_byte - 1,
                Fault::Truncation => p.rounding = Rounding::Down,
                Fault::RoundHalfUp => p.rounding = Rounding::HalfUp,
                Fault::CodebookReversed => p.centroids.reverse(),
                Fault::CodebookUnscaled => {
                    let root = (n as f32).sqrt();
                    p.centroids.iter_mut().for_each(|c| *c *= root);
                }
                Fault::CodebookLinear => {
                    let (low, high) = (p.centroids[0], p.centroids[p.centroids.len() - 1]);
                    let steps = (p.centroids.len() - 1) as f32;
                    for (i, c) in p.centroids.iter_mut().enumerate() {
                        *c = low + (high - low) * i as f32 / steps;
                    }
                }
                Fault::CodebookGaussian => {
                    p.centroids = gaussian(tensor.layout().bits())
                        .iter()
                        .map(|c| c / (n as f32).sqrt())
                        .collect();
                }
                _ => {}
            }
        }
        p
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// What the faulty kernel returns for `row`.
    pub(super) fn row(&self, row: usize, scratch: &mut Vec<f32>, out: &mut [bf16]) {
        let t = self.tensor;
        if self.has(Fault::Zeros) {
            return out.fill(bf16::ZERO);
        }
        if self.has(Fault::Transposed) {
            for (col, o) in out.iter_mut().enumerate() {
                let at = row * t.cols() + col;
                *o = self.element(at % t.rows(), at / t.rows(), scratch);
            }
        } else {
            let span = self.span();
            let from = self.row_read(row);
            for (g, out) in out.chunks_mut(span).enumerate() {
                self.group(from, g * span, out.len(), scratch);
                for (o, v) in out.iter_mut().zip(scratch.iter()) {
                    *o = self.round(*v);
                }
            }
        }
        self.leave_unwritten(row, out);
    }

    /// The row whose output stands in `row`.
    fn row_read(&self, mut row: usize) -> usize {
        for fault in &self.faults {
            match *fault {
                Fault::Stale(p) if row >= p => row -= p,
                Fault::RowsShifted(k) => row = moved(row, k, self.tensor.rows()),
                _ => {}
            }
        }
        row
    }

    fn leave_unwritten(&self, row: usize, out: &mut [bf16]) {
        let (rows, cols) = (self.tensor.rows(), self.tensor.cols());
        for fault in &self.faults {
            match *fault {
                Fault::TailRows(k, fill) if row + k >= rows => out.fill(value(fill)),
                Fault::RowTailGroups(k, fill) => {
                    out[cols - (k * self.n).min(cols)..].fill(value(fill));
                }
                Fault::TailGroups(k, fill) => {
                    let written = (rows * cols - k * self.n).saturating_sub(row * cols);
                    out[written.min(cols)..].fill(value(fill));
                }
                _ => {}
            }
        }
    }

    /// Elements that are transformed together.
    fn span(&self) -> usize {
        if self.has(Fault::GroupDoubled) {
            2 * self.n
        } else {
            self.n
        }
    }

    fn element(&self, row: usize, col: usize, scratch: &mut Vec<f32>) -> bf16 {
        let span = self.span();
        self.group(row, col / span * span, span, scratch);
        self.round(scratch[col % span])
    }

    /// The values of one span, before rounding.
    fn group(&self, row: usize, start: usize, len: usize, x: &mut Vec<f32>) {
        x.clear();
        for first in (start..start + len).step_by(self.n) {
            let scale = self.scale(row, first / self.n);
            let columns = first..first + self.n;
            x.extend(columns.map(|col| self.centroids[self.code(row, col) as usize] * scale));
        }
        let signs: Vec<f32> = (start..start + len).map(|col| self.sign(col)).collect();
        if self.has(Fault::SignsBefore) {
            x.iter_mut().zip(&signs).for_each(|(x, s)| *x *= s);
        }
        if self.has(Fault::ScaleNormCorrected) {
            let norm: f32 = (start..start + len)
                .map(|col| self.centroids[self.code(row, col) as usize].powi(2))
                .sum::<f32>()
                .sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
        }
        let size = if self.has(Fault::GroupHalved) {
            self.n / 2
        } else {
            len
        };
        for block in x.chunks_exact_mut(size) {
            let mut stride = 1;
            while stride < size {
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
        let divisor = if self.has(Fault::NormMissing) {
            1.0
        } else if self.has(Fault::NormByN) {
            size as f64
        } else {
            (size as f64).sqrt()
        };
        let signs_after = !self.has(Fault::SignsOmitted) && !self.has(Fault::SignsBefore);
        for (x, s) in x.iter_mut().zip(&signs) {
            *x = (f64::from(*x) / divisor) as f32;
            if signs_after {
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
        let per_row = t.groups_per_row();
        if self.scale_omitted {
            return 1.0;
        }
        let mut at = row * per_row + group;
        if self.has(Fault::ScalesTransposed) {
            at = group * t.rows() + row;
        }
        at = moved(at, self.scale_shift, t.groups());
        let scale = t.scales()[at];
        if self.has(Fault::ScaleAsBf16) {
            return bf16::from_bits(scale.to_bits()).to_f32();
        }
        if self.has(Fault::SubnormalsFlushed) && !scale.is_normal() {
            return 0.0;
        }
        scale.to_f32()
    }

    fn round(&self, value: f32) -> bf16 {
        if value.is_nan() {
            return bf16::NAN;
        }
        let upper = |bits: u32| bf16::from_bits((bits >> 16) as u16);
        match self.rounding {
            Rounding::NearestEven => bf16::from_f32(value),
            Rounding::Down => upper(value.to_bits()),
            Rounding::HalfUp => upper(value.to_bits().wrapping_add(0x8000)),
        }
    }
}

/// Lloyd-Max centroids of the normal distribution (Max, 1960, table I).
fn gaussian(bits: u32) -> Vec<f32> {
    const HALF: [&[f32]; 3] = [
        &[0.4528, 1.510],
        &[0.2451, 0.7560, 1.344, 2.152],
        &[0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733],
    ];
    let half = HALF[bits as usize - 2];
    half.iter()
        .rev()
        .map(|c| -c)
        .chain(half.iter().copied())
        .collect()
}
