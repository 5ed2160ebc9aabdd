//! The wgpu lane: `shaders/tq4_dequant.wgsl` on any Vulkan, Metal or D3D12 adapter.

mod adapters;
mod chunk;
mod gpu;

pub use adapters::{AdapterInfo, Select, list};

use super::{Backend, Cost, Device, OutMut, checksum};
use crate::error::Result;
use crate::tensor::TqTensor;
use gpu::Gpu;
use std::time::Instant;

/// The shader's text.
pub const SHADER: &str = include_str!("../../../shaders/tq4_dequant.wgsl");

/// How to open the lane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which adapter.
    pub adapter: Select,
    /// Largest buffer to use, bytes; the adapter's own limit when it is smaller.
    pub max_chunk_bytes: Option<u64>,
    /// Most workgroups in one dimension; the adapter's own limit when it is smaller.
    pub max_workgroups: Option<u32>,
    /// Another shader with the same interface, to test that a wrong one is caught.
    pub shader: Option<String>,
    /// wgpu's noop backend, which computes nothing: a negative control.
    pub noop: bool,
}

/// The lane.
pub struct Wgpu {
    device: Device,
    gpu: Gpu,
    limits: chunk::Limits,
}

impl Wgpu {
    /// Opens an adapter and compiles the shader's first pipeline on demand.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when there is no adapter, [`crate::Error::Input`] when the one
    /// that was named is not there, [`crate::Error::Backend`] when it breaks.
    pub fn open(options: &Options, lane: &str) -> Result<Self> {
        let instance = adapters::instance(options.noop);
        let (adapter, info) = adapters::select(adapters::enumerate(&instance), &options.adapter)?;
        let shader = options.shader.as_deref().unwrap_or(SHADER);
        let gpu = Gpu::new(&adapter, lane, shader)?;
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
                kernel_checksum: checksum(shader.as_bytes()),
            },
            gpu,
        })
    }
}

impl Backend for Wgpu {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, mut out: OutMut<'_>) -> Result<Cost> {
        assert_eq!(out.len(), tensor.elements(), "one output per element");
        let start = Instant::now();
        out.poison();
        let n = tensor.layout().group_size();
        let group_bytes = n * out.element_size();
        let is_f32 = matches!(out, OutMut::F32(_));
        let chunks = chunk::plan(&self.limits, tensor, group_bytes, &self.device.lane)?;
        let mut cost = Cost::default();
        let mut kernel = Some(std::time::Duration::ZERO);
        let bytes = out.bytes_mut();
        for c in chunks {
            let into = &mut bytes[c.start * group_bytes..c.end * group_bytes];
            let one = self
                .gpu
                .run(tensor, c.clone(), self.limits.workgroups, is_f32, into)?;
            cost.launches += 1;
            cost.bytes_copied += one.bytes_copied;
            kernel = kernel.zip(one.kernel).map(|(a, b)| a + b);
        }
        cost.kernel = kernel;
        cost.total = start.elapsed();
        Ok(cost)
    }
}
