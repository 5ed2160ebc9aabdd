//! The wgpu lane: `shaders/tq4_dequant.wgsl` on any Vulkan, Metal or D3D12 adapter.

mod adapters;
#[doc(hidden)]
pub mod arithmetic;
mod chunk;
mod compiler;
mod compute;
mod copy;
mod diagnostic;
mod dispatch;
mod gpu;
mod loss;
mod program;
mod resident;
mod scope;
mod shader;
mod submit;
mod timer;
mod token;

pub use adapters::{AdapterInfo, Class, Select, list, no_adapter};
#[doc(hidden)]
pub use dispatch::{BoundBuffer, Dispatch, constants, entry, guard};
#[doc(hidden)]
pub use program::{Binding, ShaderProgram};
pub use shader::SHADER;

use super::kernel::Manifest;
use super::{Lane, Round, Timed, broke, checksum};
use crate::error::{Error, Result};
use crate::record::{DeviceArithmetic, LaneInfo, LaneName, OutputType};
use crate::strip::Strip;
use gpu::{DeviceCounts, Gpu};
use loss::Why;
use resident::Resident;
use std::time::Duration;

/// How to open the lane.
#[derive(Debug, Clone, Default)]
pub struct WgpuOptions {
    /// Which adapter.
    pub adapter: Select,
    /// Type of the values; of a user's kernel its manifest says it.
    pub output: OutputType,
    /// A user's kernel, to run in place of this project's.
    pub kernel: Option<Manifest>,
    /// Whether another invocation multiplies; `None` where the device's arithmetic says.
    #[doc(hidden)]
    pub hand_over: Option<bool>,
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
    /// How long the device may take for what is submitted; a minute, or ten of a software adapter.
    #[doc(hidden)]
    pub limit: Option<Duration>,
    /// A failure of the device, to test that it is said and survived.
    #[doc(hidden)]
    pub fail: Option<Failure>,
}

/// A failure of the device that a test asks for; numbers count from 1, on whatever device the lane opens.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The buffer of this allocation cannot be made.
    Allocation(u32),
    /// The device is lost before this run.
    DeviceLost(u32),
    /// The device is lost before this run and each after it.
    AlwaysLost(u32),
    /// The device has no timestamps outside a pass, as Apple's.
    NoStampsAroundCopies,
    /// The device gets no time for this run and each after it.
    Silent(u32),
    /// What this run submits is dropped, and the driver says that it is done.
    Dropped(u32),
    /// The device has no more than WebGL 2's limits, which hold no compute.
    LowLimits,
}

/// The lane. A device that is lost is opened again, once: by the load after the loss.
pub struct Wgpu {
    info: LaneInfo,
    options: WgpuOptions,
    adapter: AdapterInfo,
    clock: &'static str,
    limits: chunk::Limits,
    /// None while it is lost.
    gpu: Option<Gpu>,
    resident: Resident,
    counts: DeviceCounts,
    /// The last loss.
    lost: Option<Error>,
    /// Losses that were not for want of memory; with the second the lane is at its end.
    losses: u32,
}

impl Wgpu {
    /// Opens an adapter as the lane `name`.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when there is no adapter, [`crate::Error::Input`] when the adapter that
    /// was named is not there, [`crate::Error::Backend`] when it breaks.
    pub fn open(options: &WgpuOptions, name: LaneName) -> Result<Self> {
        let counts = DeviceCounts::default();
        let (gpu, adapter) = device(options, &options.adapter, &name, counts)?;
        let (mut gpu, arithmetic) = kept(gpu, arithmetic::probe)?;
        gpu.choose(options.hand_over, arithmetic);
        Ok(Self {
            limits: chunk::Limits {
                buffer: adapter
                    .max_binding
                    .min(adapter.max_buffer)
                    .min(options.max_chunk_bytes.unwrap_or(u64::MAX)),
                workgroups: adapter
                    .max_workgroups
                    .min(options.max_workgroups.unwrap_or(u32::MAX)),
            },
            clock: match gpu.timer {
                Some(_) => "wgpu timestamp queries",
                None => "wall",
            },
            info: info(name, options, &adapter, &gpu, arithmetic),
            options: options.clone(),
            adapter,
            gpu: Some(gpu),
            resident: Resident::default(),
            counts,
            lost: None,
            losses: 0,
        })
    }

    /// Opens the device again, the same as before.
    fn reopen(&mut self) -> Result<()> {
        let lost = self.lost();
        if self.losses > 1 {
            return Err(lost);
        }
        let select = Select::Index(self.adapter.index);
        let (name, known) = (&self.info.name, self.info.arithmetic);
        let opened = device(&self.options, &select, name, self.counts);
        let opened = opened.and_then(|(mut gpu, adapter)| {
            gpu.choose(self.options.hand_over, known);
            let same = adapter == self.adapter
                && info(name.clone(), &self.options, &adapter, &gpu, known) == self.info;
            let what = "it is another device than before";
            same.then_some(gpu).ok_or_else(|| broke(name, what, ""))
        });
        match opened {
            Ok(gpu) => {
                self.gpu = Some(gpu);
                Ok(())
            }
            Err(e) => {
                let (lost, again) = (lost.problem(), &e.problem().what);
                let what = format!("{}; opened again: {again}", lost.what);
                if self.losses == 0 {
                    return Err(broke(name, what, &lost.help));
                }
                self.losses += 1;
                let error = Error::lost(what, &lost.place, &lost.help);
                self.lost = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Works on the device; one that is lost meanwhile is closed.
    fn with<T>(&mut self, work: impl FnOnce(&mut Gpu, &mut Resident) -> Result<T>) -> Result<T> {
        let Some(gpu) = &mut self.gpu else {
            return Err(self.lost());
        };
        let done = work(gpu, &mut self.resident);
        self.counts = gpu.counts;
        match gpu.loss.why() {
            None => done,
            Some(why) => {
                self.lose(&why);
                Err(self.lost())
            }
        }
    }

    fn lost(&self) -> Error {
        self.lost.clone().expect("a device is gone by a loss alone")
    }

    fn lose(&mut self, why: &Why) {
        self.close();
        let mut error = why.error(&self.info.name);
        // After a want of memory it takes no more than less work.
        self.losses += u32::from(*why != Why::Memory);
        if self.losses > 1 {
            let p = error.problem();
            let what = format!("{}; for the second time, it is not opened again", p.what);
            error = Error::lost(what, &p.place, &p.help);
        }
        self.lost = Some(error);
    }

    /// Drops all that belongs to the device.
    fn close(&mut self) {
        let resident = std::mem::take(&mut self.resident);
        if let Some(gpu) = self.gpu.take() {
            gpu.loss.clone().discard((resident, gpu));
        }
    }
}

impl Drop for Wgpu {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens the adapter that `select` chooses.
fn device(
    options: &WgpuOptions,
    select: &Select,
    name: &LaneName,
    counts: DeviceCounts,
) -> Result<(Gpu, AdapterInfo)> {
    let opened = loss::quietly(|| {
        let instance = adapters::instance(options.noop);
        let (adapter, info) = adapters::select(adapters::enumerate(&instance), select)?;
        let gpu = Gpu::new(&adapter, name.clone(), options, counts)?;
        let (gpu, ()) = kept(gpu, Gpu::compile)?;
        Ok((gpu, info))
    });
    opened.unwrap_or_else(|text| Err(loss::gave_up(&text).error(name)))
}

/// A device that was just opened with what `work` makes of it; where that fails it is dropped as a lost one is.
fn kept<T>(mut gpu: Gpu, work: impl FnOnce(&mut Gpu) -> Result<T>) -> Result<(Gpu, T)> {
    match work(&mut gpu) {
        Ok(made) => Ok((gpu, made)),
        Err(e) => {
            gpu.loss.clone().discard(gpu);
            Err(e)
        }
    }
}

/// What is known of the lane once its device is open.
fn info(
    name: LaneName,
    options: &WgpuOptions,
    adapter: &AdapterInfo,
    gpu: &Gpu,
    arithmetic: Option<DeviceArithmetic>,
) -> LaneInfo {
    LaneInfo {
        name,
        device: adapter.name.clone(),
        driver: adapter.driver.clone(),
        api: adapter.api.clone(),
        software: adapter.software || options.noop,
        arithmetic,
        kernel_variant: gpu.program.variant(),
        kernel_checksum: checksum(gpu.program.text().as_bytes()),
        output: gpu.program.output(),
        pci: adapter.pci.clone(),
        uuid: None,
    }
}

impl Lane for Wgpu {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn clock(&self) -> &'static str {
        self.clock
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        if self.gpu.is_none() {
            self.reopen()?;
        }
        let limits = self.limits;
        let loaded = self.with(|gpu, resident| {
            let tensor = strip.tensor()?;
            resident.load(gpu, &limits, tensor)
        });
        // A buffer that could not be made must not be taken for one by the next load.
        loaded.inspect_err(|_| self.unload())
    }

    fn run(&mut self) -> Result<Timed> {
        self.with(|gpu, resident| resident.run(gpu))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        self.with(|gpu, resident| resident.read(gpu, out))
    }

    fn copy(&mut self, bytes: u64) -> Result<Option<Timed>> {
        let limits = self.limits;
        self.with(|gpu, resident| resident.copy(gpu, &limits, bytes).map(Some))
    }

    fn round(&mut self, bytes: u64) -> Result<Round> {
        let limits = self.limits;
        self.with(|gpu, resident| resident.round(gpu, &limits, bytes))
    }

    fn unload(&mut self) {
        // Without a device there is nothing to drop.
        if let Some(gpu) = &self.gpu {
            gpu.loss.discard(std::mem::take(&mut self.resident));
        }
    }
}
