//! The wgpu lane: `shaders/tq4_dequant.wgsl` on any Vulkan, Metal or D3D12 adapter.

mod adapters;
mod chunk;
mod dispatch;
mod gpu;
mod probe;
mod resident;
mod scope;
mod shader;
mod timer;

pub use adapters::{AdapterInfo, Select, list};
pub use dispatch::{Dispatch, constants};
pub use shader::shader;

use super::{Backend, Cost, Device, OutMut, Timed, Timing, checksum};
use crate::error::Result;
use crate::tensor::TqTensor;
use gpu::Gpu;
use half::bf16;
use resident::Resident;
use std::time::{Duration, Instant};

/// How to open the lane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which adapter.
    pub adapter: Select,
    /// Largest buffer to use, bytes; the adapter's own limit when it is smaller.
    pub max_chunk_bytes: Option<u64>,
    /// Most workgroups in one dimension; the adapter's own limit when it is smaller.
    pub max_workgroups: Option<u32>,
    /// The shader's variant with subgroups, or the one through workgroup memory; `None` for the first
    /// where the adapter has subgroups.
    pub subgroups: Option<bool>,
    /// Another text in place of the variant that `subgroups` names, to test that a wrong one is caught.
    pub shader: Option<String>,
    /// wgpu's noop backend, which computes nothing: a negative control.
    pub noop: bool,
    /// A failure of the device, to test that it is said and survived.
    pub fail: Option<Failure>,
}

/// A failure of the device that a test asks for; numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The buffer of this allocation cannot be made.
    Allocation(u32),
    /// The device is lost before this dispatch.
    DeviceLost(u32),
    /// The device has no more than WebGL 2's limits, which hold no compute.
    LowLimits,
}

/// The lane.
pub struct Wgpu {
    device: Device,
    gpu: Gpu,
    limits: chunk::Limits,
    resident: Option<Resident>,
}

impl Wgpu {
    /// Opens an adapter and compiles the shader's first pipeline on demand.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when there is no adapter, or not the variant that is asked for,
    /// [`crate::Error::Input`] when the one
    /// that was named is not there, [`crate::Error::Backend`] when it breaks.
    pub fn open(options: &Options, lane: &str) -> Result<Self> {
        let instance = adapters::instance(options.noop);
        let (adapter, info) = adapters::select(adapters::enumerate(&instance), &options.adapter)?;
        let shader = options.shader.as_deref();
        let gpu = Gpu::new(&adapter, lane, shader, options.subgroups, options.fail)?;
        Ok(Self {
            limits: chunk::Limits {
                buffer: info
                    .max_binding
                    .min(info.max_buffer)
                    .min(options.max_chunk_bytes.unwrap_or(u64::MAX)),
                workgroups: info
                    .max_workgroups
                    .min(options.max_workgroups.unwrap_or(u32::MAX)),
            },
            device: Device {
                lane: lane.to_owned(),
                device: info.name,
                driver: info.driver,
                api: info.api,
                software: info.software || options.noop,
                kernel_variant: match gpu.reach {
                    1 => "workgroup memory".into(),
                    reach => format!("subgroups, reach {reach}"),
                },
                kernel_checksum: checksum(gpu.shader.as_bytes()),
            },
            gpu,
            resident: None,
        })
    }

    fn decode(&mut self, tensor: &TqTensor<'_>, mut out: OutMut<'_>, poison: bool) -> Result<Cost> {
        assert_eq!(out.len(), tensor.elements(), "one output per element");
        let start = Instant::now();
        if poison {
            out.poison();
        }
        let group_bytes = tensor.layout().group_size() * out.element_size();
        let is_f32 = matches!(out, OutMut::F32(_));
        let chunks = chunk::plan(&self.limits, tensor, group_bytes, &self.device.lane)?;
        let mut cost = Cost::default();
        let mut kernel = Some(Duration::ZERO);
        let bytes = out.bytes_mut();
        for c in chunks {
            let into = &mut bytes[c.start * group_bytes..c.end * group_bytes];
            let dispatch = Dispatch::new(tensor, c, self.limits.workgroups, is_f32);
            let one = self.gpu.run(&dispatch, poison, into)?;
            cost.launches += one.launches;
            cost.bytes_copied += one.bytes_copied;
            cost.allocations += one.allocations;
            kernel = kernel.zip(one.kernel).map(|(a, b)| a + b);
        }
        cost.kernel = kernel;
        cost.total = start.elapsed();
        Ok(cost)
    }

    fn loaded(&mut self) -> (&mut Gpu, &Resident) {
        let resident = self.resident.as_ref().expect("a tensor is loaded");
        (&mut self.gpu, resident)
    }
}

impl Backend for Wgpu {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, out: OutMut<'_>) -> Result<Cost> {
        self.decode(tensor, out, true)
    }

    fn timing(&mut self) -> Option<&mut dyn Timing> {
        Some(self)
    }
}

impl Timing for Wgpu {
    fn clock(&self) -> &'static str {
        if self.gpu.timer.is_some() {
            "wgpu timestamp queries"
        } else {
            "wall"
        }
    }

    fn load(&mut self, tensor: &TqTensor<'_>, sets: usize, copy_bytes: u64) -> Result<()> {
        self.unload();
        let loaded = Resident::load(&mut self.gpu, &self.limits, tensor, sets, copy_bytes)?;
        self.resident = Some(loaded);
        Ok(())
    }

    fn kernel(&mut self, set: usize) -> Result<Timed> {
        let (gpu, resident) = self.loaded();
        resident.kernel(gpu, set)
    }

    fn copy(&mut self) -> Result<Timed> {
        let (gpu, resident) = self.loaded();
        resident.copy(gpu)
    }

    fn read(&mut self, set: usize, out: &mut [bf16]) -> Result<()> {
        let (gpu, resident) = self.loaded();
        resident.read(gpu, set, bytemuck::cast_slice_mut(out))
    }

    fn end_to_end(&mut self, tensor: &TqTensor<'_>, out: &mut [bf16]) -> Result<Cost> {
        self.decode(tensor, OutMut::Bf16(out), false)
    }

    fn unload(&mut self) {
        self.resident = None;
    }
}
