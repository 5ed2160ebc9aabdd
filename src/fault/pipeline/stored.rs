//! What a faulty decoder reads for an element: its code, centroid, scale and sign.

use super::{Pipeline, SignSource, moved};

impl Pipeline<'_> {
    pub(super) fn sign(&self, which: SignSource, col: usize) -> f32 {
        match which {
            SignSource::None => return 1.0,
            SignSource::Before => {
                let before = self.tensor.layout().signs_before();
                return before.map_or(1.0, |signs| signs.of(col % self.n).into());
            }
            SignSource::Columns => {}
        }
        let col = moved(col, self.sign_shift, self.tensor.cols());
        (self.read_sign)(self.tensor.signs()[col % self.sign_modulo])
    }

    pub(super) fn centroid(&self, row: usize, col: usize) -> f32 {
        // Of two faults one may read more bits than the other has centroids for.
        self.centroids[self.code(row, col) as usize % self.centroids.len()]
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
        if let Some(bits) = self.read_bits {
            let bits = bits as usize;
            // What lies beyond the codes is anything: here it is the first codes.
            let bit = |k: usize| {
                let place = (at * bits + k) % (8 * t.packed().len());
                t.packed()[place / 8] >> (place % 8) & 1
            };
            return (0..bits).fold(0, |code, k| code | bit(k) << k);
        }
        if self.big_endian {
            let (first, k) = (at / 8 * 3, at % 8);
            let bytes = &t.packed()[first..first + 3];
            let eight = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            return (eight >> (3 * k) & 7) as u8;
        }
        // Rows follow one another: a flat index is a column of row 0.
        let code = t.code(0, at);
        if self.code_bits_swapped {
            (code & 1) << 1 | code >> 1
        } else {
            code
        }
    }

    pub(super) fn scale(&self, row: usize, col: usize) -> f32 {
        let t = self.tensor;
        let col = if self.first_scale_only {
            col / self.n * self.n
        } else {
            col
        };
        let col = if self.scales_in_turns {
            col / self.n * self.n + col % self.scales_per_group() * self.shared
        } else {
            col
        };
        let of = [t.rows(), t.cols() / self.shared];
        let at = (self.scale_place)(row, (col / self.shared) ^ self.scale_order, of);
        (self.read_scale)(t.scales(), moved(at, self.scale_shift, of[0] * of[1]))
    }
}
