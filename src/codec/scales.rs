//! The scales of a tensor, by type.

use half::f16;
use std::ops::Range;

/// How a scale is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// A byte without a sign: 0 is 0, others are `(1 + (b & 31) / 32) * 2^((b >> 5) - 9)`.
    E3m5,
}

impl ScaleType {
    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::E3m5 => 1,
        }
    }

    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::E3m5 => "e3m5",
        }
    }
}

/// The scales of a tensor as they are stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// See [`ScaleType::F16`].
    F16(Vec<f16>),
    /// See [`ScaleType::F32`].
    F32(Vec<f32>),
    /// See [`ScaleType::E3m5`].
    E3m5(Vec<u8>),
}

impl From<Vec<f16>> for Scales {
    fn from(scales: Vec<f16>) -> Self {
        Self::F16(scales)
    }
}

impl FromIterator<f16> for Scales {
    fn from_iter<I: IntoIterator<Item = f16>>(scales: I) -> Self {
        Self::F16(scales.into_iter().collect())
    }
}

impl Scales {
    /// Scales from their bytes, little-endian.
    ///
    /// # Panics
    /// When the bytes are not whole scales.
    pub fn from_bytes(stored: ScaleType, bytes: &[u8]) -> Self {
        match stored {
            ScaleType::F16 => Self::F16(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b))
                    .collect(),
            ),
            ScaleType::F32 => Self::F32(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            ),
            ScaleType::E3m5 => Self::E3m5(bytes.to_vec()),
        }
    }

    /// Their type.
    pub fn stored(&self) -> ScaleType {
        match self {
            Self::F16(_) => ScaleType::F16,
            Self::F32(_) => ScaleType::F32,
            Self::E3m5(_) => ScaleType::E3m5,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F16(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::E3m5(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Scale `i`; exact.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F16(v) => v[i].to_f32(),
            Self::F32(v) => v[i],
            Self::E3m5(v) => e3m5_to_f32(v[i]),
        }
    }

    /// All of them, exact.
    pub fn iter(&self) -> impl Iterator<Item = f32> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Distance of scale `i` from the next larger or the next smaller one of its type, whichever is more.
    pub(crate) fn step(&self, i: usize) -> f64 {
        match self {
            Self::F16(v) => {
                let exponent = i32::from(v[i].to_bits() >> 10 & 0x1F);
                2f64.powi(exponent.max(1) - 25)
            }
            Self::F32(v) => f64::from(v[i].abs().next_up()) - f64::from(v[i].abs()),
            Self::E3m5(v) if v[i] <= 1 => f64::from(e3m5_to_f32(1)),
            Self::E3m5(v) => 2f64.powi(i32::from(v[i] >> 5) - 14),
        }
    }

    /// Those of f16; empty where they have another type.
    pub fn f16(&self) -> &[f16] {
        match self {
            Self::F16(v) => v,
            _ => &[],
        }
    }

    /// A copy of some.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::F16(v) => Self::F16(v[range].to_vec()),
            Self::F32(v) => Self::F32(v[range].to_vec()),
            Self::E3m5(v) => Self::E3m5(v[range].to_vec()),
        }
    }

    /// Their bytes, little-endian, as files have them.
    pub fn le_bytes(&self) -> Vec<u8> {
        match self {
            Self::F16(v) => v.iter().flat_map(|s| s.to_le_bytes()).collect(),
            Self::F32(v) => v.iter().flat_map(|s| s.to_le_bytes()).collect(),
            Self::E3m5(v) => v.clone(),
        }
    }

    /// Their bytes, in this machine's order.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F16(v) => bytemuck::cast_slice(v),
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::E3m5(v) => v,
        }
    }
}

/// See [`ScaleType::E3m5`].
pub(crate) fn e3m5_to_f32(byte: u8) -> f32 {
    match byte {
        0 => 0.0,
        b => f32::from_bits((u32::from(b >> 5) + 118) << 23 | u32::from(b & 31) << 18),
    }
}

/// The E3M5 scale nearest to a value: 0 below half the least, the largest above it.
pub fn e3m5_from_f32(value: f32) -> u8 {
    // They ascend: halved until the first that is not below the value is left.
    let (mut first, mut end) = (0u8, u8::MAX);
    while first < end {
        let middle = first + (end - first) / 2;
        match e3m5_to_f32(middle) >= value {
            true => end = middle,
            false => first = middle + 1,
        }
    }
    let (above, below) = (first, first.saturating_sub(1));
    if value - e3m5_to_f32(below) < e3m5_to_f32(above) - value {
        below
    } else {
        above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_distance_to_the_next_scale() {
        for bits in [0u16, 1, 0x3FF, 0x400, 0x401, 0x3C00, 0x7BFE] {
            let scales = Scales::F16([bits, bits + 1].map(f16::from_bits).to_vec());
            let distance = f64::from(scales.get(1)) - f64::from(scales.get(0));
            assert_eq!(scales.step(0), distance, "{bits:#x}");
        }
        for byte in 1..u8::MAX {
            let scales = Scales::E3m5(vec![byte - 1, byte, byte + 1]);
            let [below, here, above] = [0, 1, 2].map(|i| f64::from(scales.get(i)));
            let distance = (here - below).max(above - here);
            assert_eq!(scales.step(1), distance, "{byte:#x}");
        }
        let zero = Scales::E3m5(vec![0, 1]);
        assert_eq!(zero.step(0), f64::from(zero.get(1)));
    }

    #[test]
    fn e3m5_is_ascending_and_goes_there_and_back() {
        assert_eq!(e3m5_to_f32(1), (1.0 + 1.0 / 32.0) / 512.0);
        assert_eq!(e3m5_to_f32(0x40), 1.0 / 128.0);
        assert_eq!(e3m5_to_f32(0xFF), 0.4921875);
        for b in 0..u8::MAX {
            assert!(e3m5_to_f32(b) < e3m5_to_f32(b + 1));
            assert_eq!(e3m5_from_f32(e3m5_to_f32(b)), b);
        }
        assert_eq!([e3m5_from_f32(9.0), e3m5_from_f32(-1.0)], [255, 0]);
    }
}
