//! The CUDA lane: the kernel of `kernels/tq4_dequant.cu` on an NVIDIA device.
//!
//! Nothing but the driver is needed. The kernel's PTX is part of this program.

mod api;
mod kernel;
mod memory;
mod module;
mod program;
mod resident;

use super::kernel::{Form, Manifest};
use super::{Lane, Timed, checksum};
use crate::error::{Error, Result};
use crate::record::{LaneInfo, LaneName, OutputType};
use crate::strip::Strip;
use api::{Api, PLACE, call};
use memory::Context;
use module::{Image, MIN_CAPABILITY, Module};
use program::{Program, User};
use resident::Resident;
use serde::Serialize;
use std::ffi::{c_char, c_int};

/// The device name of the emulation that tests run in the driver's place.
const STAND_IN: &str = "tq4 stand-in (emulated)";

/// A device that the CUDA driver knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CudaDeviceInfo {
    /// The driver's number for it, which `CUDA_VISIBLE_DEVICES` may change.
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// Compute capability, major and minor.
    pub compute_capability: (i32, i32),
    /// CUDA version of the driver and, where the system tells it, the driver's own.
    pub driver: String,
    /// Bytes of memory on the device.
    pub memory: u64,
    /// Whether it is the emulation of the test suite.
    pub software: bool,
}

/// How to open a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
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
}

/// Every CUDA device of this machine.
///
/// # Errors
/// [`Error::Unavailable`] when there is no driver, it does not start or finds no device;
/// [`Error::Backend`] when it fails later.
pub fn list() -> Result<Vec<CudaDeviceInfo>> {
    let api = api::driver()?;
    (0..device_count(api)?).map(|i| info(api, i)).collect()
}

fn device_count(api: &Api) -> Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: `count` outlives the call, which writes it.
    unsafe { call!(api, device_count = "cuDeviceGetCount"(&mut count))? };
    match usize::try_from(count) {
        Ok(0) | Err(_) => Err(api::no_device()),
        Ok(count) => Ok(count),
    }
}

/// The driver's handle of a device.
fn handle(api: &Api, index: usize) -> Result<c_int> {
    let mut device: c_int = 0;
    let index = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: `device` outlives the call, which writes it.
    unsafe { call!(api, device_get = "cuDeviceGet"(&mut device, index))? };
    Ok(device)
}

fn info(api: &Api, index: usize) -> Result<CudaDeviceInfo> {
    const CAPABILITY_MAJOR: c_int = 75;
    const CAPABILITY_MINOR: c_int = 76;
    let device = handle(api, index)?;
    let mut name = [0u8; 256];
    let mut memory = 0;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: every destination outlives its call, and the driver writes at most 255 bytes of name.
    unsafe {
        let at = name.as_mut_ptr().cast::<c_char>();
        call!(api, device_name = "cuDeviceGetName"(at, 255, device))?;
        call!(api, device_memory = "cuDeviceTotalMem"(&mut memory, device))?;
        for (value, attribute) in [
            (&mut major, CAPABILITY_MAJOR),
            (&mut minor, CAPABILITY_MINOR),
        ] {
            call!(
                api,
                device_attribute = "cuDeviceGetAttribute"(value, attribute, device)
            )?;
        }
    }
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(&name[..end]).into_owned();
    Ok(CudaDeviceInfo {
        index,
        software: name == STAND_IN,
        driver: driver_version(api)?,
        name,
        compute_capability: (major, minor),
        memory: memory as u64,
    })
}

/// `CUDA 12.4, driver 550.54.14`; the second half where the system tells it.
fn driver_version(api: &Api) -> Result<String> {
    let mut version = 0;
    // SAFETY: `version` outlives the call, which writes it.
    unsafe { call!(api, driver_version = "cuDriverGetVersion"(&mut version))? };
    let cuda = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    Ok(
        match std::fs::read_to_string("/proc/driver/nvidia/version")
            .ok()
            .as_deref()
            .and_then(kernel_module_version)
        {
            Some(driver) => format!("{cuda}, driver {driver}"),
            None => cuda,
        },
    )
}

/// The version in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu ...`.
fn kernel_module_version(text: &str) -> Option<&str> {
    text.lines()
        .next()?
        .split_whitespace()
        .find(|word| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// A CUDA device that computes.
#[derive(Debug)]
pub struct Cuda {
    info: LaneInfo,
    api: &'static Api,
    // These go in this order, the context last.
    resident: Option<Resident>,
    program: Program,
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
        if options.kernel.is_none() && capability < MIN_CAPABILITY {
            return Err(Error::unavailable(
                format!(
                    "{} has compute capability {}.{}, the kernel needs {}.{}",
                    info.name, capability.0, capability.1, MIN_CAPABILITY.0, MIN_CAPABILITY.1
                ),
                PLACE,
                "use a device of the Turing generation or later",
            ));
        }
        if options
            .kernel
            .as_ref()
            .is_some_and(|k| k.form() == Form::Cuda)
        {
            module::check_compiler()?;
        }
        let context = Context::new(api, handle(api, options.device)?)?;
        let (name, output) = match &options.kernel {
            Some(kernel) => (kernel.name().clone(), kernel.output()),
            None => (LaneName::Cuda, options.output),
        };
        let (program, kernel_variant, kernel_checksum) = match &options.kernel {
            Some(kernel) => {
                let user = User::new(kernel.clone(), capability, info.driver.clone());
                let program = Program::User(Box::new(user));
                (program, kernel.source_name(), checksum(kernel.code()))
            }
            None => own_program(api, options, &info)?,
        };
        Ok(Self {
            info: LaneInfo {
                name,
                device: info.name,
                driver: info.driver,
                api: "CUDA".into(),
                software: info.software,
                arithmetic: None,
                kernel_variant,
                kernel_checksum,
                output,
            },
            api,
            resident: None,
            program,
            context,
        })
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

/// This project's kernel, its variant and its checksum.
fn own_program(
    api: &'static Api,
    options: &Options,
    info: &CudaDeviceInfo,
) -> Result<(Program, String, String)> {
    let capability = info.compute_capability;
    let compiled = options.nvrtc && options.ptx.is_none();
    let ptx = match &options.ptx {
        Some(ptx) => ptx.clone(),
        None if compiled => module::compile(
            &module::OWN,
            capability,
            &module::OWN_OPTIONS.map(str::to_owned),
        )?,
        None => module::PTX.to_owned(),
    };
    let variant = match compiled {
        true => format!("NVRTC, compute_{}{}", capability.0, capability.1),
        false => format!("PTX {}", module::isa(&ptx)),
    };
    let checksum = checksum(ptx.as_bytes());
    let module = Module::load(api, &Image::Ptx(ptx), &info.driver)?;
    Ok((Program::Own(module, options.output), variant, checksum))
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
    fn kernel_module_versions() {
        for text in [
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC 12.2.0",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build",
        ] {
            assert_eq!(kernel_module_version(text), Some("550.54.14"));
        }
        assert_eq!(kernel_module_version(""), None);
    }

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
