//! Is there a driver, what devices has it, and what do its errors say.

use crate::backend::broke;
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, DriverError, result, sys};

/// Oldest CUDA version whose driver takes the PTX: ISA 8.0 came with CUDA 12.0, driver 525.
pub const MIN_CUDA: (i32, i32) = (12, 0);

/// One CUDA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaDeviceInfo {
    /// Index for `--cuda-device`.
    pub index: usize,
    /// Name as the driver has it.
    pub name: String,
    /// CUDA version of the driver.
    pub driver: String,
    /// Compute capability, major and minor.
    pub compute_capability: (i32, i32),
    /// Memory, bytes.
    pub memory: usize,
    /// Whether it is an emulation: the tests' stand-in driver says so in its name.
    pub software: bool,
}

fn unavailable(what: String, help: &str) -> Error {
    Error::unavailable(what, "lane cuda", help)
}

/// A failed driver call, with the driver's own name for the error.
pub(super) fn failed(lane: &str, doing: &str, e: DriverError) -> Error {
    let part = |text: std::result::Result<&std::ffi::CStr, DriverError>| {
        text.map(|t| t.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let help = match e.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "free memory on the device, or validate fewer rows"
        }
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the PTX needs driver 525 (CUDA 12.0) or newer"
        }
        sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | sys::CUresult::CUDA_ERROR_INVALID_PTX => {
            "the PTX needs a device of compute capability 7.5 or newer"
        }
        _ => "see the driver's log (dmesg) and nvidia-smi",
    };
    let what = format!(
        "cannot {doing}: {} ({})",
        part(e.error_name()),
        part(e.error_string())
    );
    broke(lane, what, help)
}

/// Every CUDA device.
///
/// # Errors
/// [`Error::Unavailable`] without libcuda, without a device or with a driver that is too old.
pub fn list() -> Result<Vec<CudaDeviceInfo>> {
    // SAFETY: only tries to open the library, and closes it again. Asked first, since every other
    // call panics without it.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable(
            "libcuda is not on this machine".into(),
            "install the NVIDIA driver (525 or newer); the CUDA toolkit is not needed",
        ));
    }
    let ask = |doing: &str, e: DriverError| {
        let p = failed("cuda", doing, e);
        unavailable(
            p.problem().what.clone(),
            "check that nvidia-smi lists a device",
        )
    };
    result::init().map_err(|e| ask("start the driver", e))?;
    let mut version = 0;
    // SAFETY: the pointer is to a live integer.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| ask("ask for the driver's version", e))?;
    let (major, minor) = (version / 1000, version % 1000 / 10);
    if (major, minor) < MIN_CUDA {
        return Err(unavailable(
            format!("the driver is of CUDA {major}.{minor}, the kernel's PTX needs 12.0"),
            "install the NVIDIA driver 525 or newer",
        ));
    }
    let count = CudaContext::device_count().map_err(|e| ask("count the devices", e))?;
    if count == 0 {
        return Err(unavailable(
            "the driver has no device".into(),
            "check that nvidia-smi lists a device",
        ));
    }
    (0..count)
        .map(|index| {
            let of = |e| ask(&format!("ask about device {index}"), e);
            let device = result::device::get(index).map_err(of)?;
            let name = result::device::get_name(device).map_err(of)?;
            use sys::CUdevice_attribute_enum as Attribute;
            // SAFETY: the device was just returned by the driver.
            let attribute = |a| unsafe { result::device::get_attribute(device, a) }.map_err(of);
            Ok(CudaDeviceInfo {
                index: index as usize,
                software: name.contains("emulated"),
                name,
                driver: format!("CUDA {major}.{minor}"),
                compute_capability: (
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
                ),
                // SAFETY: the device was just returned by the driver.
                memory: unsafe { result::device::total_mem(device) }.map_err(of)?,
            })
        })
        .collect()
}
