//! One decoder with a knob for every fault, so that two faults compose.

use super::Fault;
use crate::backend::POISON_BF16;
use crate::tensor::TqTensor;
use half::bf16;

/// The decoder with the knobs set.
pub(super) struct Pipeline<'a> {
    tensor: &'a TqTensor<'a>,
    centroids: Vec<f32>,
    faults: Vec<Fault>,
    sign_mask: usize,
    dropped: usize,
    n: usize,
}

impl<'a> Pipeline<'a> {
    pub(super) fn with(tensor: &'a TqTensor<'a>, faults: &[Fault]) -> Self {
        let n = tensor.layout().group_size();
        let mut p = Self {
            tensor,
            centroids: tensor.codebook().centroids().to_vec(),
            faults: faults.to_vec(),
            sign_mask: 0,
            dropped: 0,
            n,
        };
        for fault in faults {
            match fault {
                Fault::UpperLaneSign(mask) => p.sign_mask ^= *mask as usize,
                Fault::StageDropped(s) => p.dropped |= 1 << s,
                Fault::FwhtOmitted => p.dropped = usize::MAX,
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
            return;
        }
        let mut from = row;
        if self.has(Fault::Stale) && row >= t.rows().div_ceil(2) {
            from -= t.rows().div_ceil(2);
        }
        if self.has(Fault::RowsShifted) {
            from = (from + 1) % t.rows();
        }
        if self.has(Fault::TailRowsUnwritten) && row + 1 == t.rows() {
            return out.fill(bf16::from_bits(POISON_BF16));
        }
        let span = self.span();
        for (g, out) in out.chunks_mut(span).enumerate() {
            self.group(from, g * span, out.len(), scratch);
            for (o, v) in out.iter_mut().zip(scratch.iter()) {
                *o = self.round(*v);
            }
        }
        if self.has(Fault::TailGroupsUnwritten) {
            let start = out.len() - self.n;
            out[start..].fill(bf16::from_bits(POISON_BF16));
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
        x.extend((start..start + len).map(|col| {
            self.centroids[self.code(row, col) as usize] * self.scale(row, col / self.n)
        }));
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
                    for i in (0..size).filter(|i| i & stride == 0) {
                        let (a, b) = (block[i], block[i + stride]);
                        block[i] = a + b;
                        block[i + stride] = if self.sign_mask & stride == 0 {
                            a - b
                        } else {
                            b - a
                        };
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
        for (x, s) in x.iter_mut().zip(&signs) {
            *x = (f64::from(*x) / divisor) as f32;
            if !self.has(Fault::SignsOmitted) && !self.has(Fault::SignsBefore) {
                *x *= s;
            }
        }
    }

    fn sign(&self, col: usize) -> f32 {
        let cols = self.tensor.cols();
        let col = if self.has(Fault::SignsOfNeighbour) {
            (col + self.n) % cols
        } else {
            col
        };
        self.tensor.signs()[col].into()
    }

    fn code(&self, row: usize, col: usize) -> u8 {
        let t = self.tensor;
        let total = t.elements();
        let mut at = row * t.cols() + col;
        if self.has(Fault::IndexUp) {
            at = (at + 1) % total;
        }
        if self.has(Fault::IndexDown) {
            at = (at + total - 1) % total;
        }
        let per_byte = 8 / t.layout().stored_bits() as usize;
        if self.has(Fault::NibblesSwapped) {
            at = at / per_byte * per_byte + (per_byte - 1 - at % per_byte);
        }
        if self.has(Fault::SplitHalves) {
            let (base, k) = (at / self.n * self.n, at % self.n);
            let bytes = self.n / per_byte;
            at = base + k % bytes * per_byte + k / bytes;
        }
        let code = t.code(at / t.cols(), at % t.cols());
        if self.has(Fault::BitsReversed) {
            (code & 1) << 1 | code >> 1
        } else {
            code
        }
    }

    fn scale(&self, row: usize, group: usize) -> f32 {
        let t = self.tensor;
        let per_row = t.groups_per_row();
        if self.has(Fault::ScaleOmitted) {
            return 1.0;
        }
        let mut at = row * per_row + group;
        if self.has(Fault::ScalesTransposed) {
            at = group * t.rows() + row;
        }
        if self.has(Fault::ScaleOfNeighbourGroup) {
            at = (at + 1) % t.groups();
        }
        if self.has(Fault::ScaleOfNeighbourRow) {
            at = (at + per_row) % t.groups();
        }
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
        let bits = value.to_bits();
        if value.is_nan() {
            bf16::from_f32(value)
        } else if self.has(Fault::Truncation) {
            bf16::from_bits((bits >> 16) as u16)
        } else if self.has(Fault::RoundHalfUp) {
            bf16::from_bits((bits.wrapping_add(0x8000) >> 16) as u16)
        } else {
            bf16::from_f32(value)
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
