//! The CUDA lane: the kernel of `kernels/tq4_dequant.cu` on an NVIDIA device.
//!
//! Nothing but the driver is needed. The kernel's PTX is part of this program.

mod api;
mod device;
mod kernel;
mod memory;
mod module;
mod nvrtc;
mod resident;

pub use device::{CudaDeviceInfo, list};

use super::{Lane, Timed, checksum, no_f16};
use crate::error::{Error, Result};
use crate::record::{LaneInfo, LaneName, OutputType};
use crate::strip::Strip;
use crate::tensor::Layout;
use api::{Api, Handle, PLACE, call};
use device::{cuda_version, device_count, handle, info};
use memory::Context;
use module::{Image, MIN_CAPABILITY, Module};
use resident::Resident;

/// How to open a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The device's index in [`list`].
    pub device: usize,
    /// Compile the kernel for the device's own architecture, with the NVRTC of this machine.
    pub nvrtc: bool,
    /// PTX to load in place of the kernel's own. It takes precedence over `nvrtc`.
    pub ptx: Option<String>,
    /// Type of the values, which chooses the entry point.
    pub output: OutputType,
    /// Whether the lane is one of several, and its name has the device's index.
    pub numbered: bool,
}

impl Options {
    /// The lane's name.
    pub fn name(&self) -> LaneName {
        match self.numbered {
            true => LaneName::CudaDevice(self.device),
            false => LaneName::Cuda,
        }
    }
}

/// A CUDA device that computes.
#[derive(Debug)]
pub struct Cuda {
    info: LaneInfo,
    api: &'static Api,
    // These go in this order, the context last.
    resident: Option<Resident>,
    module: Module,
    context: Context,
}

// SAFETY: the driver's handles may be used from any thread in which their context is current, and every
// use makes it so first. The page-locked memory is owned.
unsafe impl Send for Cuda {}

impl Cuda {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no driver, no such device, the device or driver is too old for
    /// the kernel, or NVRTC is asked for and missing; [`Error::Backend`] when the driver fails.
    pub fn open(options: &Options) -> Result<Self> {
        let api = api::driver()?;
        let count = device_count(api)?;
        if options.device >= count {
            return Err(Error::unavailable(
                format!(
                    "no CUDA device {}: there are {count}, from 0",
                    options.device
                ),
                PLACE,
                "see `tq4 devices`",
            ));
        }
        let info = info(api, options.device)?;
        let capability = info.compute_capability;
        if capability < MIN_CAPABILITY {
            return Err(Error::unavailable(
                format!(
                    "{} has compute capability {}.{}, the kernel needs {}.{}",
                    info.name, capability.0, capability.1, MIN_CAPABILITY.0, MIN_CAPABILITY.1
                ),
                PLACE,
                "use a device of the Turing generation or later",
            ));
        }
        let image = match &options.ptx {
            Some(ptx) => Image::Ptx(ptx.clone()),
            None if options.nvrtc => module::compile(capability, cuda_version(api)?)?,
            None => Image::Ptx(module::PTX.to_owned()),
        };
        let context = Context::new(api, handle(api, options.device)?)?;
        let module = Module::load(api, &image, &info.driver)?;
        Ok(Self {
            info: LaneInfo {
                name: options.name(),
                device: info.name,
                driver: info.driver,
                api: "CUDA".into(),
                software: info.software,
                kernel_variant: match &image {
                    Image::Cubin(_) => format!("NVRTC, sm_{}{}", capability.0, capability.1),
                    Image::Ptx(_) if options.nvrtc && options.ptx.is_none() => {
                        format!("NVRTC, compute_{}{}", capability.0, capability.1)
                    }
                    Image::Ptx(ptx) => format!("PTX {}", module::isa(ptx)),
                },
                kernel_checksum: checksum(image.bytes()),
                output: options.output,
                pci: info.pci,
                uuid: info.uuid,
            },
            api,
            resident: None,
            module,
            context,
        })
    }

    /// Bytes that are free on the device.
    ///
    /// # Errors
    /// [`Error::Backend`] when the driver fails.
    pub fn free_memory(&self) -> Result<u64> {
        self.context.make_current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both numbers outlive the call, which writes them.
        unsafe {
            call!(
                self.api,
                memory_info = "cuMemGetInfo"(&mut free, &mut total)
            )?;
        }
        Ok(free as u64)
    }

    /// The kernel for a layout.
    fn entry_point(&self, layout: Layout) -> Result<Handle> {
        let output = match self.info.output {
            OutputType::Bf16 => "bf16",
            OutputType::F32 => "f32",
            OutputType::F16 => return Err(no_f16(&self.info.name)),
        };
        self.module.function(&format!(
            "tq4_dequant_b{}_g{}_{output}",
            layout.stored_bits(),
            layout.group_size(),
        ))
    }

    /// The memory, with its context current.
    fn resident(&mut self) -> Result<&mut Resident> {
        self.context.make_current()?;
        Ok(match &mut self.resident {
            Some(resident) => resident,
            none => none.insert(Resident::new(self.api)?),
        })
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // The fields that follow are given back in this context.
        let _ = self.context.make_current();
    }
}

impl Lane for Cuda {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn clock(&self) -> &'static str {
        "CUDA events"
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        let output = self.info.output;
        let mut load = || {
            let tensor = strip.tensor()?;
            self.context.make_current()?;
            let kernel = self.entry_point(tensor.layout())?;
            self.resident()?.load(kernel, tensor, output)
        };
        load().inspect_err(|_| self.unload())
    }

    fn run(&mut self) -> Result<Timed> {
        self.resident()?.run()
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        self.resident()?.read(out)
    }

    fn copy(&mut self, bytes: u64) -> Result<Option<Timed>> {
        self.resident()?.copy(bytes as usize).map(Some)
    }

    fn unload(&mut self) {
        // Memory is given back in its own context; where that fails there is nothing left to do.
        let _ = self.context.make_current();
        self.resident = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_says_so() {
        // SAFETY: opens the library if there is one, as the lane does.
        if unsafe { cudarc::driver::sys::is_culib_present() } {
            return;
        }
        for e in [
            list().unwrap_err(),
            Cuda::open(&Options::default()).unwrap_err(),
        ] {
            assert!(matches!(e, Error::Unavailable(_)), "{e}");
            assert!(e.to_string().contains("no CUDA driver"), "{e}");
        }
    }
}
