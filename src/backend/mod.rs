//! Lanes that compute: one trait, three implementations.

pub mod cpu;
#[cfg(feature = "gpu")]
pub mod cuda;
#[cfg(feature = "gpu")]
pub mod wgpu;

#[cfg(feature = "gpu")]
use crate::error::Error;
use crate::error::Result;
use crate::tensor::TqTensor;
use half::bf16;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// BF16 bit pattern that every output is filled with before a launch: a NaN that no lane computes, so
/// that what a kernel leaves unwritten fails the gates.
pub const POISON_BF16: u16 = 0xFFA5;

/// [`POISON_BF16`] for outputs of f32: a NaN as well.
pub const POISON_F32: u32 = 0xFFA5_FFA5;

/// Who computes, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name of the lane: `reference`, `wgpu` or `cuda`, with `:INDEX` when there are several.
    pub lane: String,
    /// The device as its driver names it.
    pub device: String,
    /// Driver name and version.
    pub driver: String,
    /// `CPU`, `Vulkan`, `Metal`, `D3D12` or `CUDA`.
    pub api: String,
    /// Whether the device is a software rasteriser or an emulation.
    pub software: bool,
    /// Which form of the kernel runs, where a lane has several: `subgroups, reach 8` or
    /// `workgroup memory`, `PTX 8.0` or `NVRTC, compute_90`.
    pub kernel_variant: String,
    /// SHA-256 of the kernel's text as it was given to the driver, first 16 hex digits.
    pub kernel_checksum: String,
}

/// Where a lane puts its result, row-major `[rows, cols]`.
#[derive(Debug)]
pub enum OutMut<'a> {
    /// Rounded to BF16.
    Bf16(&'a mut [bf16]),
    /// The f32 values before rounding.
    F32(&'a mut [f32]),
}

impl OutMut<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bf16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// Whether it holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes per element: 2 or 4.
    pub fn element_size(&self) -> usize {
        match self {
            Self::Bf16(_) => 2,
            Self::F32(_) => 4,
        }
    }

    /// The memory as bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Bf16(v) => bytemuck::cast_slice_mut(v),
            Self::F32(v) => bytemuck::cast_slice_mut(v),
        }
    }

    /// Fills it with poison.
    pub fn poison(&mut self) {
        match self {
            Self::Bf16(v) => v.fill(bf16::from_bits(POISON_BF16)),
            Self::F32(v) => v.fill(f32::from_bits(POISON_F32)),
        }
    }
}

/// What one call cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Time on the device by its own timestamps; `None` when the device gives none that make sense.
    pub kernel: Option<Duration>,
    /// Wall time of upload, kernel and download together.
    pub total: Duration,
    /// Kernel launches.
    pub launches: u32,
    /// Bytes sent to the device and read back from it.
    pub bytes_copied: u64,
    /// Buffers allocated, on the device and page-locked on the host; none where those of an earlier call
    /// are large enough.
    pub allocations: u32,
}

/// How long one piece of work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// By the device's own timestamps; `None` when there are none, or they tie or run backwards.
    pub device: Option<Duration>,
    /// By the wall, from the moment the work was handed over until it was done.
    pub wall: Duration,
}

/// A lane that computes.
pub trait Backend: Send {
    /// Who computes.
    fn device(&self) -> &Device;

    /// Dequantises `tensor` into `out`.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails; `out` is then poisoned or partly written.
    ///
    /// # Panics
    /// When `out` does not hold `rows * cols` elements.
    fn dequantize(&mut self, tensor: &TqTensor, out: OutMut<'_>) -> Result<Cost>;

    /// The lane's pieces of work one by one, to time them; `None` for a lane that cannot be taken apart.
    fn timing(&mut self) -> Option<&mut dyn Timing> {
        None
    }
}

/// A lane's pieces of work: a tensor is loaded, then its kernel runs again and again on memory that stays
/// where it is. Nothing here poisons a result that was computed.
pub trait Timing {
    /// What [`Timed::device`] comes from: `CUDA events`, `wgpu timestamp queries`, or `wall` for a lane
    /// whose device has no clock of its own.
    fn clock(&self) -> &'static str;

    /// Puts `tensor` on the device `sets` times, each with a poisoned BF16 result, and two buffers of
    /// `copy_bytes` for [`Timing::copy`]. What was loaded before goes.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails, most often for want of memory; nothing is then loaded.
    fn load(&mut self, tensor: &TqTensor, sets: usize, copy_bytes: u64) -> Result<()>;

    /// Runs the kernel on one set.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    ///
    /// # Panics
    /// When there is no such set.
    fn kernel(&mut self, set: usize) -> Result<Timed>;

    /// Copies `copy_bytes` from one buffer of the device to another: `2 * copy_bytes` are moved.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    fn copy(&mut self) -> Result<Timed>;

    /// Reads the result of one set.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    fn read(&mut self, set: usize, out: &mut [bf16]) -> Result<()>;

    /// [`Backend::dequantize`] to BF16 without the poison, which only a check needs.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    fn end_to_end(&mut self, tensor: &TqTensor, out: &mut [bf16]) -> Result<Cost>;

    /// Gives back what [`Timing::load`] took.
    fn unload(&mut self);
}

/// [`Backend::dequantize`] into new memory, BF16.
pub fn dequantize_bf16(backend: &mut dyn Backend, tensor: &TqTensor) -> Result<Vec<bf16>> {
    let mut out = vec![bf16::from_bits(POISON_BF16); tensor.elements()];
    backend.dequantize(tensor, OutMut::Bf16(&mut out))?;
    Ok(out)
}

/// [`Backend::dequantize`] into new memory, f32.
pub fn dequantize_f32(backend: &mut dyn Backend, tensor: &TqTensor) -> Result<Vec<f32>> {
    let mut out = vec![f32::from_bits(POISON_F32); tensor.elements()];
    backend.dequantize(tensor, OutMut::F32(&mut out))?;
    Ok(out)
}

/// First 16 hex digits of the SHA-256 of a kernel's text.
pub fn checksum(text: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text);
    digest[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// A failure inside a lane, with its name.
#[cfg(feature = "gpu")]
pub(crate) fn broke(lane: &str, what: impl std::fmt::Display, help: &str) -> Error {
    Error::backend(what.to_string(), format!("lane {lane}"), help)
}
