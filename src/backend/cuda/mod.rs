//! The CUDA lane: the kernel of `kernels/tq4_dequant.cu` on an NVIDIA device.
//!
//! Nothing but the driver is needed. The kernel's PTX is part of this program.

mod api;
mod kernel;
mod memory;
mod module;
mod resident;
mod tiles;

use super::{Backend, Cost, Device, OutMut, Timed, Timing, checksum};
use crate::error::{Error, Result};
use crate::tensor::{Layout, TqTensor};
use api::{Caller, Handle, call};
use half::bf16;
use memory::Context;
use module::{MIN_CAPABILITY, Module};
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The device's index in [`list`].
    pub device: usize,
    /// Compile the kernel for the device's own architecture, with the NVRTC of this machine.
    pub nvrtc: bool,
    /// Most bytes of device memory that a tile may take (there are up to two tiles at a time); 256 MiB
    /// when `None`, and never more than the free memory allows.
    pub max_tile_bytes: Option<u64>,
    /// PTX to load in place of the kernel's own. It takes precedence over `nvrtc`.
    pub ptx: Option<String>,
}

/// Every CUDA device of this machine.
///
/// # Errors
/// [`Error::Unavailable`] when there is no driver, it does not start or finds no device;
/// [`Error::Backend`] when it fails later.
pub fn list() -> Result<Vec<CudaDeviceInfo>> {
    let caller = Caller {
        api: api::driver("cuda")?,
        lane: "cuda".into(),
    };
    (0..device_count(&caller)?)
        .map(|i| info(&caller, i))
        .collect()
}

fn device_count(caller: &Caller) -> Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: `count` outlives the call, which writes it.
    unsafe { call!(caller, device_count = "cuDeviceGetCount"(&mut count))? };
    match usize::try_from(count) {
        Ok(0) | Err(_) => Err(api::no_device(&caller.lane)),
        Ok(count) => Ok(count),
    }
}

/// The driver's handle of a device.
fn handle(caller: &Caller, index: usize) -> Result<c_int> {
    let mut device: c_int = 0;
    let index = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: `device` outlives the call, which writes it.
    unsafe { call!(caller, device_get = "cuDeviceGet"(&mut device, index))? };
    Ok(device)
}

fn info(caller: &Caller, index: usize) -> Result<CudaDeviceInfo> {
    const CAPABILITY_MAJOR: c_int = 75;
    const CAPABILITY_MINOR: c_int = 76;
    let device = handle(caller, index)?;
    let mut name = [0u8; 256];
    let mut memory = 0;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: every destination outlives its call, and the driver writes at most 255 bytes of name.
    unsafe {
        let at = name.as_mut_ptr().cast::<c_char>();
        call!(caller, device_name = "cuDeviceGetName"(at, 255, device))?;
        call!(
            caller,
            device_memory = "cuDeviceTotalMem"(&mut memory, device)
        )?;
        for (value, attribute) in [
            (&mut major, CAPABILITY_MAJOR),
            (&mut minor, CAPABILITY_MINOR),
        ] {
            call!(
                caller,
                device_attribute = "cuDeviceGetAttribute"(value, attribute, device)
            )?;
        }
    }
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(&name[..end]).into_owned();
    Ok(CudaDeviceInfo {
        index,
        software: name == STAND_IN,
        driver: driver_version(caller)?,
        name,
        compute_capability: (major, minor),
        memory: memory as u64,
    })
}

/// `CUDA 12.4, driver 550.54.14`; the second half where the system tells it.
fn driver_version(caller: &Caller) -> Result<String> {
    let mut version = 0;
    // SAFETY: `version` outlives the call, which writes it.
    unsafe { call!(caller, driver_version = "cuDriverGetVersion"(&mut version))? };
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
    device: Device,
    max_tile_bytes: Option<u64>,
    caller: Caller,
    // These go in this order, the context last.
    slots: Vec<tiles::Slot>,
    resident: Option<Resident>,
    module: Module,
    context: Context,
}

// SAFETY: the driver's handles may be used from any thread in which their context is current, and every
// use makes it so first. The page-locked memory is owned.
unsafe impl Send for Cuda {}

impl Cuda {
    /// Opens a device as the lane `lane`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no driver, no such device, the device or driver is too old for
    /// the kernel, or NVRTC is asked for and missing; [`Error::Backend`] when the driver fails.
    pub fn open(options: &Options, lane: &str) -> Result<Self> {
        let caller = Caller {
            api: api::driver(lane)?,
            lane: lane.to_owned(),
        };
        let place = || format!("lane {lane}");
        let count = device_count(&caller)?;
        if options.device >= count {
            return Err(Error::unavailable(
                format!(
                    "no CUDA device {}: there are {count}, from 0",
                    options.device
                ),
                place(),
                "see `tq4 devices`",
            ));
        }
        let info = info(&caller, options.device)?;
        let capability = info.compute_capability;
        if capability < MIN_CAPABILITY {
            return Err(Error::unavailable(
                format!(
                    "{} has compute capability {}.{}, the kernel needs {}.{}",
                    info.name, capability.0, capability.1, MIN_CAPABILITY.0, MIN_CAPABILITY.1
                ),
                place(),
                "use a device of the Turing generation or later",
            ));
        }
        let ptx = match &options.ptx {
            Some(ptx) => ptx.clone(),
            None if options.nvrtc => module::compile(lane, capability)?,
            None => module::PTX.to_owned(),
        };
        let context = Context::new(&caller, handle(&caller, options.device)?)?;
        let module = Module::load(&caller, &ptx, &info.driver)?;
        Ok(Self {
            device: Device {
                lane: lane.to_owned(),
                device: info.name,
                driver: info.driver,
                api: "CUDA".into(),
                software: info.software,
                kernel_variant: if options.nvrtc && options.ptx.is_none() {
                    format!("NVRTC, compute_{}{}", capability.0, capability.1)
                } else {
                    format!("PTX {}", module::isa(&ptx))
                },
                kernel_checksum: checksum(ptx.as_bytes()),
            },
            max_tile_bytes: options.max_tile_bytes,
            caller,
            slots: Vec::new(),
            resident: None,
            module,
            context,
        })
    }

    /// The kernel for a layout and a type of output, `bf16` or `f32`.
    fn entry_point(&self, layout: Layout, out: &str) -> Result<Handle> {
        self.module.function(&format!(
            "tq4_dequant_b{}_g{}_{out}",
            layout.stored_bits(),
            layout.group_size()
        ))
    }

    fn decode(&mut self, tensor: &TqTensor, out: OutMut<'_>, poison: bool) -> Result<Cost> {
        assert_eq!(out.len(), tensor.elements(), "one output per element");
        self.context.make_current()?;
        let kernel = self.entry_point(
            tensor.layout(),
            match out {
                OutMut::Bf16(_) => "bf16",
                OutMut::F32(_) => "f32",
            },
        )?;
        let mode = tiles::Mode {
            max_tile: self.max_tile_bytes,
            poison,
        };
        let cost = tiles::run(&self.caller, kernel, &mut self.slots, tensor, out, mode);
        if cost.is_err() {
            self.slots.clear();
        }
        cost
    }

    /// What is loaded, with the context current.
    fn loaded(&mut self) -> Result<&mut Resident> {
        self.context.make_current()?;
        Ok(self.resident.as_mut().expect("a tensor is loaded"))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // The fields that follow are given back in this context.
        let _ = self.context.make_current();
    }
}

impl Backend for Cuda {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor, out: OutMut<'_>) -> Result<Cost> {
        self.decode(tensor, out, true)
    }

    fn timing(&mut self) -> Option<&mut dyn Timing> {
        Some(self)
    }
}

impl Timing for Cuda {
    fn clock(&self) -> &'static str {
        "CUDA events"
    }

    fn load(&mut self, tensor: &TqTensor, sets: usize, copy_bytes: u64) -> Result<()> {
        self.unload();
        self.context.make_current()?;
        let kernel = self.entry_point(tensor.layout(), "bf16")?;
        let loaded = Resident::load(&self.caller, kernel, tensor, sets, copy_bytes)?;
        self.resident = Some(loaded);
        Ok(())
    }

    fn kernel(&mut self, set: usize) -> Result<Timed> {
        self.loaded()?.kernel(set)
    }

    fn copy(&mut self) -> Result<Timed> {
        self.loaded()?.copy()
    }

    fn read(&mut self, set: usize, out: &mut [bf16]) -> Result<()> {
        self.loaded()?.read(set, bytemuck::cast_slice_mut(out))
    }

    fn end_to_end(&mut self, tensor: &TqTensor, out: &mut [bf16]) -> Result<Cost> {
        self.decode(tensor, OutMut::Bf16(out), false)
    }

    fn unload(&mut self) {
        // Memory is given back in its own context; where that fails there is nothing left to do.
        let _ = self.context.make_current();
        self.resident = None;
        self.slots.clear();
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
            Cuda::open(&Options::default(), "cuda").unwrap_err(),
        ] {
            assert!(matches!(e, Error::Unavailable(_)), "{e}");
            assert!(e.to_string().contains("no CUDA driver"), "{e}");
        }
    }
}
