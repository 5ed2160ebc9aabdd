//! The wgpu lane: `shaders/tq4_dequant.wgsl` on any Vulkan, Metal or D3D12 adapter.

mod adapters;
#[doc(hidden)]
pub mod arithmetic;
mod chunk;
mod dispatch;
mod gpu;
mod probe;
mod program;
mod resident;
mod scope;
mod shader;
mod timer;

pub use adapters::{AdapterInfo, Select, list};
#[doc(hidden)]
pub use dispatch::{Bound, Dispatch, constants};
#[doc(hidden)]
pub use program::{Binding, Program};
pub use shader::shader;

use super::kernel::Manifest;
use super::{Lane, Timed, checksum, no_f16};
use crate::error::Result;
use crate::record::{LaneInfo, LaneName, OutputType};
use crate::strip::Strip;
use gpu::Gpu;
use resident::Resident;

/// How to open the lane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which adapter.
    pub adapter: Select,
    /// The shader's variant with subgroups, or the one through workgroup memory; `None` for the first
    /// where the adapter has subgroups.
    pub subgroups: Option<bool>,
    /// Type of the values; of a user's kernel its manifest says it.
    pub output: OutputType,
    /// A user's kernel, to run in place of this project's.
    pub kernel: Option<Manifest>,
    /// Largest buffer to use, bytes; the adapter's own limit when it is smaller.
    #[doc(hidden)]
    pub max_chunk_bytes: Option<u64>,
    /// Most workgroups in one dimension; the adapter's own limit when it is smaller.
    #[doc(hidden)]
    pub max_workgroups: Option<u32>,
    /// Another shader with the same interface, to test that a wrong one is caught.
    #[doc(hidden)]
    pub shader: Option<String>,
    /// wgpu's noop backend, which computes nothing: a negative control.
    #[doc(hidden)]
    pub noop: bool,
    /// A failure of the device, to test that it is said and survived.
    #[doc(hidden)]
    pub fail: Option<Failure>,
}

/// A failure of the device that a test asks for; numbers count from 1.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The buffer of this allocation cannot be made.
    Allocation(u32),
    /// The device is lost before this run.
    DeviceLost(u32),
    /// The device has no more than WebGL 2's limits, which hold no compute.
    LowLimits,
}

/// The lane.
pub struct Wgpu {
    info: LaneInfo,
    gpu: Gpu,
    limits: chunk::Limits,
    resident: Resident,
}

impl Wgpu {
    /// Opens an adapter as the lane `name`.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when there is no adapter, or not the variant that is asked for,
    /// [`crate::Error::Input`] when the adapter that was named is not there, [`crate::Error::Backend`]
    /// when it breaks.
    pub fn open(options: &Options, name: LaneName) -> Result<Self> {
        if options.kernel.is_none() && options.output == OutputType::F16 {
            return Err(no_f16(&name));
        }
        let instance = adapters::instance(options.noop);
        let (adapter, info) = adapters::select(adapters::enumerate(&instance), &options.adapter)?;
        let mut gpu = Gpu::new(&adapter, name.clone(), options)?;
        let arithmetic = arithmetic::probe(&mut gpu)?;
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
            info: LaneInfo {
                name,
                device: info.name,
                driver: info.driver,
                api: info.api,
                software: info.software || options.noop,
                arithmetic,
                kernel_variant: match &gpu.program {
                    Program::User(kernel) => kernel.source_name(),
                    Program::Own { reach: 1, .. } => "workgroup memory".into(),
                    Program::Own { reach, .. } => format!("subgroups, reach {reach}"),
                },
                kernel_checksum: checksum(gpu.program.text().as_bytes()),
                output: gpu.program.output(),
            },
            gpu,
            resident: Resident::default(),
        })
    }
}

impl Lane for Wgpu {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn clock(&self) -> &'static str {
        if self.gpu.timer.is_some() {
            "wgpu timestamp queries"
        } else {
            "wall"
        }
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        let loaded = strip.tensor().and_then(|tensor| {
            let limits = &self.limits;
            self.resident.load(&mut self.gpu, limits, tensor)
        });
        // A buffer that could not be made must not be taken for one by the next load.
        loaded.inspect_err(|_| self.unload())
    }

    fn run(&mut self) -> Result<Timed> {
        self.resident.run(&mut self.gpu)
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        self.resident.read(&mut self.gpu, out)
    }

    fn copy(&mut self, bytes: u64) -> Result<Option<Timed>> {
        self.resident.copy(&mut self.gpu, bytes).map(Some)
    }

    fn unload(&mut self) {
        self.resident = Resident::default();
    }
}
