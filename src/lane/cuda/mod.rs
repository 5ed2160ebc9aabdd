//! The CUDA lane: the kernels of `kernels/` on an NVIDIA device.
//!
//! Nothing but the driver is needed. The kernels' PTX is part of this program.

mod api;
mod code;
mod compile;
mod device;
mod kernel;
mod memory;
mod module;
mod nvrtc;
mod own;
mod program;
mod resident;
mod signature;

pub use device::{CudaDeviceInfo, list};
#[doc(hidden)]
pub use own::{OwnKernel, Room, Variant};

use super::kernel::{Form, Manifest};
use super::{Lane, Round, Timed, checksum};
use crate::error::{Error, Result};
use crate::record::{LaneInfo, LaneName, OutputType};
use crate::strip::Strip;
use api::{Api, PLACE};
use device::{cuda_version, device_count, handle, info};
use memory::{Context, free_memory};
use module::{Image, Module};
use nvrtc::{Nvrtc, Version};
use program::{Brought, CudaProgram, Origin, User};
use resident::Resident;

/// How to open a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CudaOptions {
    /// The device's index in [`list`].
    pub device: usize,
    /// Compile the kernel for the device's own architecture, with the NVRTC of this machine.
    pub nvrtc: bool,
    /// PTX to load in place of the kernel's own. It takes precedence over `nvrtc`.
    pub ptx: Option<String>,
    /// Type of the values, which chooses the entry point; of a user's kernel its manifest says it.
    pub output: OutputType,
    /// A user's kernel, to run in place of this project's.
    pub kernel: Option<Manifest>,
    /// Whether the lane is one of several, and its name has the device's index.
    pub numbered: bool,
}

impl CudaOptions {
    /// The lane's name.
    pub fn name(&self) -> LaneName {
        match (&self.kernel, self.numbered) {
            (None, false) => LaneName::Cuda,
            (None, true) => LaneName::CudaDevice(self.device),
            (Some(kernel), false) => kernel.name().clone(),
            (Some(kernel), true) => kernel.name().numbered(self.device),
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
    program: CudaProgram,
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
    pub fn open(options: &CudaOptions) -> Result<Self> {
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
        // Before there is a context.
        if options.kernel.is_none() {
            own_kernel(&info)?;
        }
        let version = cuda_version(api)?;
        let compiled = |k: &Manifest| k.form() == Form::Cuda;
        if options.kernel.as_ref().is_some_and(compiled) {
            Nvrtc::for_driver(version)?;
        }
        let context = Context::new(api, handle(api, options.device)?)?;
        let (program, kernel_variant, kernel_checksum) = match &options.kernel {
            Some(kernel) => {
                let user = User::new(kernel.clone(), capability, version, info.driver.clone());
                let program = CudaProgram::User(Box::new(user));
                (program, kernel.source_name(), checksum(kernel.code()))
            }
            None => own_program(api, options, &info, version)?,
        };
        let output = options.kernel.as_ref().map(Manifest::output);
        Ok(Self {
            info: LaneInfo {
                name: options.name(),
                device: info.name,
                driver: info.driver,
                api: "CUDA".into(),
                software: info.software,
                arithmetic: None,
                kernel_variant,
                kernel_checksum,
                output: output.unwrap_or(options.output),
                pci: info.pci,
                uuid: info.uuid,
            },
            api,
            resident: None,
            program,
            context,
        })
    }

    /// Bytes that are free on the device.
    ///
    /// # Errors
    /// [`Error::Backend`] when the driver fails.
    pub fn free_memory(&self) -> Result<u64> {
        self.context.make_current()?;
        Ok(free_memory(self.api)? as u64)
    }

    /// A failure of the driver, with this lane's name where it has one of its own.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| match e.problem().place == PLACE {
            true => e.at(format!("lane {}", self.info.name)),
            false => e,
        })
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

/// Which of this project's kernels a device gets.
fn own_kernel(info: &CudaDeviceInfo) -> Result<OwnKernel> {
    let capability = info.compute_capability;
    OwnKernel::of(capability).ok_or_else(|| {
        let least = OwnKernel::Sm75.capability();
        Error::unavailable(
            format!(
                "{} has compute capability {}.{}, the kernel needs {}.{}",
                info.name, capability.0, capability.1, least.0, least.1
            ),
            PLACE,
            "use a device of the Turing generation or later",
        )
    })
}

/// This project's kernels, their variant and their checksum.
fn own_program(
    api: &'static Api,
    options: &CudaOptions,
    info: &CudaDeviceInfo,
    version: Version,
) -> Result<(CudaProgram, String, String)> {
    let capability = info.compute_capability;
    let own = own_kernel(info)?;
    let origin = match &options.ptx {
        Some(ptx) => Origin::Given(ptx.clone()),
        None if options.nvrtc => Origin::Nvrtc(version),
        None => Origin::Committed,
    };
    let image = origin.image(own, capability)?;
    let variant = match (&image, &origin) {
        (Image::Cubin(_), _) => format!("NVRTC, sm_{}{}", capability.0, capability.1),
        (_, Origin::Nvrtc(_)) => format!("NVRTC, compute_{}{}", capability.0, capability.1),
        (Image::Ptx(ptx), _) => module::described(ptx),
    };
    // Of the kernel for other codecs, which is made ready where it is needed, the text counts.
    let other = match &origin {
        Origin::Given(_) => "",
        Origin::Nvrtc(_) => OwnKernel::Codecs.source().text,
        Origin::Committed => OwnKernel::Codecs.ptx(),
    };
    let checksum = checksum(&[image.bytes(), other.as_bytes()].concat());
    let module = Module::load(api, &image, &info.driver)?;
    let program = CudaProgram::Own(Brought {
        own,
        module,
        codecs: None,
        origin,
        output: options.output,
        capability,
        multiprocessors: info.multiprocessors,
        driver: info.driver.clone(),
    });
    Ok((program, variant, checksum))
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
            let work = self.program.ready(self.api, tensor)?;
            self.resident()?.load(work, tensor, output)
        };
        let loaded = load().inspect_err(|_| self.unload());
        self.named(loaded)
    }

    fn run(&mut self) -> Result<Timed> {
        let timed = self.resident().and_then(|r| r.run());
        self.named(timed)
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let read = self.resident().and_then(|r| r.read(out));
        self.named(read)
    }

    fn copy(&mut self, bytes: u64) -> Result<Option<Timed>> {
        let copied = self.resident().and_then(|r| r.copy(bytes as usize));
        self.named(copied.map(Some))
    }

    fn round(&mut self, bytes: u64) -> Result<Round> {
        let round = self.resident().and_then(|r| r.round(bytes as usize));
        self.named(round)
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
            Cuda::open(&CudaOptions::default()).unwrap_err(),
        ] {
            assert!(matches!(e, Error::Unavailable(_)), "{e}");
            assert!(e.to_string().contains("no CUDA driver"), "{e}");
        }
    }
}
