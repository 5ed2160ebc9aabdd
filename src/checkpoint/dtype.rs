//! Types of elements, and plain weights of any of them as f32.

use super::Shard;
use crate::error::{Error, Result};
use crate::rounding::{widen_bf16, widen_f16};
use half::{bf16, f16};

/// Bytes read at a time: they stay in a core's cache from the system's copy to the last use.
const PIECE: usize = 256 << 10;

/// Type of a tensor's elements: any that safetensors or ggml knows, though only these few are computed with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dtype(DtypeKind);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DtypeKind {
    Plain(safetensors::Dtype),
    /// A type of blocks: its number and name.
    Ggml(u32, &'static str),
}

impl Dtype {
    /// Unsigned bytes.
    pub const U8: Self = Self::of(safetensors::Dtype::U8);
    /// Signed bytes.
    pub const I8: Self = Self::of(safetensors::Dtype::I8);
    /// IEEE half precision.
    pub const F16: Self = Self::of(safetensors::Dtype::F16);
    /// bfloat16.
    pub const BF16: Self = Self::of(safetensors::Dtype::BF16);
    /// IEEE single precision.
    pub const F32: Self = Self::of(safetensors::Dtype::F32);
    /// Unsigned 16-bit integers.
    pub const U16: Self = Self::of(safetensors::Dtype::U16);
    /// Signed 16-bit integers.
    pub const I16: Self = Self::of(safetensors::Dtype::I16);
    /// Unsigned 64-bit integers.
    pub const U64: Self = Self::of(safetensors::Dtype::U64);

    /// One that safetensors has.
    pub(crate) const fn of(dtype: safetensors::Dtype) -> Self {
        Self(DtypeKind::Plain(dtype))
    }

    /// One that ggml has under this number and name.
    pub(crate) fn of_ggml(id: u32, name: &'static str) -> Self {
        match name {
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::BF16,
            "F64" => Self::of(safetensors::Dtype::F64),
            "I8" => Self::I8,
            "I16" => Self::of(safetensors::Dtype::I16),
            "I32" => Self::of(safetensors::Dtype::I32),
            "I64" => Self::of(safetensors::Dtype::I64),
            _ => Self(DtypeKind::Ggml(id, name)),
        }
    }

    /// As safetensors has it; `None` for a type of blocks.
    pub(crate) fn safetensors(self) -> Option<safetensors::Dtype> {
        match self.0 {
            DtypeKind::Plain(dtype) => Some(dtype),
            DtypeKind::Ggml(..) => None,
        }
    }

    /// The number that ggml has for it; `None` where it has none.
    pub(crate) fn ggml(self) -> Option<u32> {
        Some(match self.0 {
            DtypeKind::Ggml(id, _) => id,
            DtypeKind::Plain(safetensors::Dtype::F32) => 0,
            DtypeKind::Plain(safetensors::Dtype::F16) => 1,
            DtypeKind::Plain(safetensors::Dtype::I8) => 24,
            DtypeKind::Plain(safetensors::Dtype::I16) => 25,
            DtypeKind::Plain(safetensors::Dtype::I32) => 26,
            DtypeKind::Plain(safetensors::Dtype::I64) => 27,
            DtypeKind::Plain(safetensors::Dtype::F64) => 28,
            DtypeKind::Plain(safetensors::Dtype::BF16) => 30,
            DtypeKind::Plain(_) => return None,
        })
    }

    /// Bits per element.
    ///
    /// # Panics
    /// For a type of blocks.
    pub fn bits(self) -> usize {
        self.safetensors().expect("no type of blocks").bitsize()
    }

    /// Values rounded to this type, nearest even, as bytes.
    ///
    /// # Panics
    /// When it is none of a plain weight.
    pub(crate) fn bytes_of(self, values: &[f32]) -> Vec<u8> {
        let values = values.iter();
        match self {
            Self::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            Self::BF16 => values
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            _ => panic!("{self:?} is no type of a plain weight"),
        }
    }

    /// Stored values as f32, exactly.
    ///
    /// # Panics
    /// When it is none of a plain weight.
    pub(crate) fn widen(self, stored: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => {
                for (v, b) in values.iter_mut().zip(stored.chunks_exact(4)) {
                    *v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            Self::BF16 => widen_bf16(stored, values),
            Self::F16 => widen_f16(stored, values),
            _ => panic!("{self:?} is no type of a plain weight"),
        }
    }

    /// Whether it is a plain weight's, which can be read as f32.
    pub fn is_plain(self) -> bool {
        [Self::BF16, Self::F16, Self::F32].contains(&self)
    }
}

/// As safetensors or ggml names it.
impl std::fmt::Debug for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            DtypeKind::Plain(dtype) => dtype.fmt(f),
            DtypeKind::Ggml(_, name) => f.write_str(name),
        }
    }
}

impl Shard {
    /// The type of a tensor of BF16, F16 or F32.
    pub(super) fn plain_dtype(&self, name: &str) -> Result<Dtype> {
        let dtype = self.known(name)?.dtype;
        if dtype.is_plain() {
            return Ok(dtype);
        }
        Err(Error::input(
            format!("dtype {dtype:?} found, expected BF16, F16 or F32"),
            format!("{name} in {}", self.path().display()),
            "name a source model with plain weights",
        ))
    }

    /// Elements of a BF16, F16 or F32 tensor from number `first` on as f32, exactly.
    pub(crate) fn read_f32(&self, name: &str, first: usize, out: &mut [f32]) -> Result<()> {
        let dtype = self.plain_dtype(name)?;
        let size = dtype.bits() / 8;
        let per_piece = PIECE / size;
        let mut bytes = vec![0; out.len().min(per_piece) * size];
        for (i, out) in out.chunks_mut(per_piece).enumerate() {
            let bytes = &mut bytes[..out.len() * size];
            self.read_into(name, (first + i * per_piece) * size, bytes)?;
            dtype.widen(bytes, out);
        }
        Ok(())
    }
}
