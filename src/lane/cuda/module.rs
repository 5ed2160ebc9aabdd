//! What the driver loads: where it comes from, and loading it.

use super::api::{Api, Handle, PLACE, call};
use super::code::{
    INVALID_IMAGE, JIT_COMPILER_NOT_FOUND, NO_BINARY_FOR_GPU, UNSUPPORTED_PTX_VERSION,
};
use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use std::ffi::{CString, c_int, c_void};

/// PTX versions, the CUDA release that brought each and the first Linux driver that reads it.
const RELEASES: [(&str, &str, u32); 14] = [
    ("8.0", "12.0", 525),
    ("8.1", "12.1", 530),
    ("8.2", "12.2", 535),
    ("8.3", "12.3", 545),
    ("8.4", "12.4", 550),
    ("8.5", "12.5", 555),
    ("8.6", "12.7", 565),
    ("8.7", "12.8", 570),
    ("8.8", "12.9", 575),
    ("9.0", "13.0", 580),
    ("9.1", "13.1", 590),
    ("9.2", "13.2", 595),
    ("9.3", "13.3", 610),
    ("9.4", "13.4", 615),
];

/// What a PTX text's line `.version` or `.target` says.
fn directive<'a>(ptx: &'a str, name: &str) -> &'a str {
    ptx.lines()
        .find_map(|l| l.trim().strip_prefix(name))
        .map_or("unknown", str::trim)
}

/// The version of a PTX text.
fn isa(ptx: &str) -> &str {
    directive(ptx, ".version")
}

/// A PTX text by its version and target: `PTX 8.0, compute_80`.
pub(super) fn described(ptx: &str) -> String {
    let target = directive(ptx, ".target").replace("sm_", "compute_");
    format!("PTX {}, {target}", isa(ptx))
}

/// What a driver must be to read `isa`.
fn needed(isa: &str) -> String {
    RELEASES.iter().find(|(v, ..)| *v == isa).map_or_else(
        || "install a newer NVIDIA driver".to_owned(),
        |(_, cuda, driver)| {
            format!("install the NVIDIA driver {driver} or later (CUDA {cuda} or later)")
        },
    )
}

/// What the driver loads.
pub(super) enum Image {
    /// Text that the driver compiles for its device.
    Ptx(String),
    /// Machine code: a cubin of one architecture, or a fatbin.
    Cubin(Vec<u8>),
}

impl Image {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Ptx(text) => text.as_bytes(),
            Self::Cubin(bytes) => bytes,
        }
    }
}

/// A loaded module.
#[derive(Debug)]
pub(super) struct Module {
    api: &'static Api,
    handle: Handle,
}

impl Module {
    /// Has the driver load `image`, compiled, for the current context's device.
    pub(super) fn load(api: &'static Api, image: &Image, driver: &str) -> Result<Self> {
        const ERROR_LOG: c_int = 5;
        const ERROR_LOG_SIZE: c_int = 6;
        let text = match image {
            Image::Ptx(ptx) => CString::new(ptx.as_str())
                .map_err(|_| Error::input("the PTX holds a NUL byte", PLACE, ""))?,
            Image::Cubin(_) => CString::default(),
        };
        let start = match image {
            Image::Ptx(_) => text.as_ptr().cast(),
            Image::Cubin(code) => code.as_ptr().cast(),
        };
        let mut log = vec![0u8; 4096];
        let mut options = [ERROR_LOG, ERROR_LOG_SIZE];
        // The driver takes the size as a number in the place of a pointer.
        let mut values: [*mut c_void; 2] = [
            log.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(log.len() - 1),
        ];
        let mut handle = std::ptr::null_mut();
        // SAFETY: a text ends in NUL and code says its own length, `options` and `values` have two entries each, and the driver
        // writes no more of the log than it was told; all outlive the call.
        let code = unsafe {
            (api.module_load)(
                &mut handle,
                start,
                2,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        if code == 0 {
            return Ok(Self { api, handle });
        }
        let end = log.iter().position(|&b| b == 0).unwrap_or(0);
        let log = String::from_utf8_lossy(&log[..end]).trim().to_owned();
        let mut what = api.describe("cuModuleLoadDataEx", code);
        if !log.is_empty() {
            what = format!("{what}\n{log}");
        }
        let isa = match image {
            Image::Ptx(ptx) => isa(ptx),
            Image::Cubin(_) if [INVALID_IMAGE, NO_BINARY_FOR_GPU].contains(&code) => {
                return Err(Error::unavailable(
                    format!("the driver ({driver}) does not load this machine code: {what}"),
                    PLACE,
                    "it was made for another device, or by an NVRTC that is newer than the driver: update the driver, or load PTX",
                ));
            }
            Image::Cubin(_) => return Err(broke(&LaneName::Cuda, what, "")),
        };
        Err(match code {
            UNSUPPORTED_PTX_VERSION => Error::unavailable(
                format!("the driver ({driver}) does not read PTX {isa}: {what}"),
                PLACE,
                needed(isa),
            ),
            NO_BINARY_FOR_GPU => Error::unavailable(
                format!("the kernel does not run on this device: {what}"),
                PLACE,
                "use a device of compute capability 7.5 or later, or of what a kernel of your own was made for",
            ),
            JIT_COMPILER_NOT_FOUND => Error::unavailable(
                format!("the driver is installed without its compiler: {what}"),
                PLACE,
                "install the driver's libnvidia-ptxjitcompiler",
            ),
            _ => broke(&LaneName::Cuda, what, ""),
        })
    }

    /// Blocks of so many threads that a multiprocessor has room for.
    pub(super) fn room(&self, function: Handle, threads: u32) -> Result<u32> {
        let mut blocks = 0;
        // SAFETY: the function is one of the loaded module's, and the number outlives the call.
        unsafe {
            call!(
                self.api,
                room = "cuOccupancyMaxActiveBlocksPerMultiprocessor"(
                    &mut blocks,
                    function,
                    threads as c_int,
                    0
                )
            )?;
        }
        Ok(u32::try_from(blocks).unwrap_or(0))
    }

    /// The entry point of that name.
    pub(super) fn function(&self, name: &str) -> Result<Handle> {
        let text = CString::new(name).expect("names have no NUL");
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is loaded, `text` ends in NUL, `function` outlives the call.
        unsafe {
            let code = (self.api.module_function)(&mut function, self.handle, text.as_ptr());
            if code != 0 {
                let what = self.api.describe("cuModuleGetFunction", code);
                return Err(broke(
                    &LaneName::Cuda,
                    format!("{what} (entry point {name})"),
                    "name an extern \"C\" __global__ function of the kernel's file",
                ));
            }
        }
        Ok(function)
    }

    /// Lets a kernel of this module have so many bytes of dynamic shared memory.
    pub(super) fn allow_shared_memory(&self, function: Handle, bytes: u32) -> Result<()> {
        const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // SAFETY: the function is one of the loaded module's.
        unsafe {
            call!(
                self.api,
                function_attribute =
                    "cuFuncSetAttribute"(function, MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes)
            )
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once; its kernels have ended, for every call of the
        // lane waits for them.
        unsafe { call!(self.api, module_unload = "cuModuleUnload"(self.handle)).ok() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::cuda::own::OwnKernel;

    #[test]
    fn committed_ptx_names_its_driver() {
        let all = OwnKernel::ALL.map(|own| described(own.ptx()));
        assert_eq!(
            all,
            ["75", "80", "75"].map(|c| format!("PTX 8.0, compute_{c}"))
        );
        assert_eq!(
            needed("8.0"),
            "install the NVIDIA driver 525 or later (CUDA 12.0 or later)"
        );
        assert_eq!(
            needed("9.0"),
            "install the NVIDIA driver 580 or later (CUDA 13.0 or later)"
        );
        assert_eq!(needed("99.0"), "install a newer NVIDIA driver");
    }
}
