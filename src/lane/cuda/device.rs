//! The CUDA devices of this machine, and what the driver says of each.

use super::api::{self, Api, call};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use std::ffi::{c_char, c_int};

/// The device name of the emulation that tests run in the driver's place.
const STAND_IN: &str = "tq4 stand-in (emulated)";

/// A device that the CUDA driver knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaDeviceInfo {
    /// The driver's number for it, which `CUDA_VISIBLE_DEVICES` may change.
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// Compute capability, major and minor.
    pub compute_capability: (i32, i32),
    /// Its multiprocessors.
    pub multiprocessors: u32,
    /// CUDA version of the driver and, where the system tells it, the driver's own.
    pub driver: String,
    /// Bytes of memory on the device.
    pub memory: u64,
    /// Bytes of its second-level cache.
    pub l2: Option<u64>,
    /// Where it is on the PCI bus, as `nvidia-smi` and Vulkan have it: `0000:41:00.0`.
    pub pci: Option<String>,
    /// What `nvidia-smi -L` calls it: `GPU-`, of a part of one `MIG-`, and 32 hex digits.
    pub uuid: Option<String>,
    /// Which processes may use it: `default`, `exclusive process`, `exclusive thread` or `prohibited`.
    pub compute_mode: Option<&'static str>,
    /// Whether it is the emulation of the test suite.
    pub software: bool,
}

/// Every CUDA device of this machine by its index, or why the driver says nothing of it.
///
/// # Errors
/// [`Error::Unavailable`] when there is no driver, it does not start or finds no device;
/// [`Error::Backend`] when it fails later. A device that fails is one of the list.
pub fn list() -> Result<Vec<Result<CudaDeviceInfo>>> {
    let api = api::driver()?;
    Ok((0..device_count(api)?).map(|i| info(api, i)).collect())
}

pub(super) fn device_count(api: &Api) -> Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: `count` outlives the call, which writes it.
    unsafe { call!(api, device_count = "cuDeviceGetCount"(&mut count))? };
    match usize::try_from(count) {
        Ok(0) | Err(_) => Err(api::no_device()),
        Ok(count) => Ok(count),
    }
}

/// The driver's handle of a device.
pub(super) fn handle(api: &Api, index: usize) -> Result<c_int> {
    let mut device: c_int = 0;
    let index = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: `device` outlives the call, which writes it.
    unsafe { call!(api, device_get = "cuDeviceGet"(&mut device, index))? };
    Ok(device)
}

pub(super) fn info(api: &Api, index: usize) -> Result<CudaDeviceInfo> {
    const COMPUTE_MODE: c_int = 20;
    const MULTIPROCESSOR_COUNT: c_int = 16;
    const L2_CACHE_SIZE: c_int = 38;
    const CAPABILITY_MAJOR: c_int = 75;
    const CAPABILITY_MINOR: c_int = 76;
    let device = handle(api, index)?;
    let mut name = [0u8; 256];
    let mut memory = 0;
    let (mut major, mut minor, mut multiprocessors) = (0, 0, 0);
    // SAFETY: every destination outlives its call, and the driver writes at most 255 bytes of name.
    unsafe {
        let at = name.as_mut_ptr().cast::<c_char>();
        call!(api, device_name = "cuDeviceGetName"(at, 255, device))?;
        call!(api, device_memory = "cuDeviceTotalMem"(&mut memory, device))?;
        for (value, attribute) in [
            (&mut major, CAPABILITY_MAJOR),
            (&mut minor, CAPABILITY_MINOR),
            (&mut multiprocessors, MULTIPROCESSOR_COUNT),
        ] {
            call!(
                api,
                device_attribute = "cuDeviceGetAttribute"(value, attribute, device)
            )?;
        }
    }
    let name = text(&name);
    Ok(CudaDeviceInfo {
        index,
        l2: attribute(api, L2_CACHE_SIZE, device).and_then(|bytes| u64::try_from(bytes).ok()),
        pci: pci(api, device),
        uuid: uuid(api, device, &name),
        compute_mode: attribute(api, COMPUTE_MODE, device).and_then(compute_mode),
        software: name == STAND_IN,
        driver: driver_version(api)?,
        name,
        compute_capability: (major, minor),
        multiprocessors: u32::try_from(multiprocessors).unwrap_or(0),
        memory: memory as u64,
    })
}

/// The text up to its NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An attribute that the lane does not need.
fn attribute(api: &Api, attribute: c_int, device: c_int) -> Option<c_int> {
    let mut value = 0;
    // SAFETY: `value` outlives the call, which writes it.
    let code = unsafe { (api.device_attribute)(&mut value, attribute, device) };
    (code == 0).then_some(value)
}

fn compute_mode(mode: c_int) -> Option<&'static str> {
    match mode {
        0 => Some("default"),
        1 => Some("exclusive thread"),
        2 => Some("prohibited"),
        3 => Some("exclusive process"),
        _ => None,
    }
}

fn pci(api: &Api, device: c_int) -> Option<String> {
    let mut id = [0u8; 32];
    // SAFETY: the driver writes at most 31 bytes, and `id` outlives the call.
    let code = unsafe { (api.pci_bus_id?)(id.as_mut_ptr().cast(), 31, device) };
    // Vulkan writes it in small letters.
    (code == 0).then(|| text(&id).to_lowercase())
}

fn uuid(api: &Api, device: c_int, name: &str) -> Option<String> {
    let mut bytes = [0u8; 16];
    // Of a MIG instance the first has its own, and the second that of the whole card.
    let own = api.uuid.is_some();
    // SAFETY: the driver writes 16 bytes to `bytes`, which outlives the call.
    let code = unsafe { (api.uuid.or(api.whole_uuid)?)(&mut bytes, device) };
    (code == 0).then(|| uuid_text(&bytes, own && name.contains(" MIG ")))
}

/// `GPU-01234567-89ab-cdef-0123-456789abcdef`.
fn uuid_text(bytes: &[u8; 16], mig: bool) -> String {
    let hex = crate::hash::hex(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|r| &hex[r]);
    format!("{}-{}", if mig { "MIG" } else { "GPU" }, parts.join("-"))
}

/// The newest CUDA version that the driver serves.
pub(super) fn cuda_version(api: &Api) -> Result<(c_int, c_int)> {
    let mut version = 0;
    // SAFETY: `version` outlives the call, which writes it.
    unsafe { call!(api, driver_version = "cuDriverGetVersion"(&mut version))? };
    Ok((version / 1000, version % 1000 / 10))
}

/// `CUDA 12.4, driver 550.54.14`; the second half where the system tells it.
fn driver_version(api: &Api) -> Result<String> {
    let (major, minor) = cuda_version(api)?;
    let cuda = format!("CUDA {major}.{minor}");
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
    fn uuids_are_as_nvidia_smi_has_them() {
        let bytes = std::array::from_fn(|i| i as u8 * 0x11);
        let digits = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(uuid_text(&bytes, false), format!("GPU-{digits}"));
        assert_eq!(uuid_text(&bytes, true), format!("MIG-{digits}"));
    }
}
