//! A kernel's code: compiling it, and loading it.

use super::api::{Api, Handle, PLACE, call};
use super::code::{JIT_COMPILER_NOT_FOUND, NO_BINARY_FOR_GPU, UNSUPPORTED_PTX_VERSION};
use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use cudarc::nvrtc;
use std::ffi::{CStr, CString, c_int, c_void};

/// PTX made from the kernel by NVRTC 12.0 for compute capability 7.5 and later.
pub(super) const PTX: &str = include_str!("../../../kernels/tq4_dequant.ptx");

/// Compute capability that the kernel is made for at least.
pub(super) const MIN_CAPABILITY: (i32, i32) = (7, 5);

/// PTX versions, the CUDA release that brought each and the first Linux driver that reads it.
const RELEASES: [(&str, &str, u32); 9] = [
    ("8.0", "12.0", 525),
    ("8.1", "12.1", 530),
    ("8.2", "12.2", 535),
    ("8.3", "12.3", 545),
    ("8.4", "12.4", 550),
    ("8.5", "12.5", 555),
    ("8.6", "12.7", 565),
    ("8.7", "12.8", 570),
    ("8.8", "12.9", 575),
];

/// The version in a PTX text's `.version` line.
pub(super) fn isa(ptx: &str) -> &str {
    ptx.lines()
        .find_map(|l| l.trim().strip_prefix(".version"))
        .map_or("unknown", str::trim)
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

/// CUDA C++ to compile.
pub(super) struct Source<'a> {
    /// Name of the file, for the compiler's messages.
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// What to do where it does not compile.
    pub(super) help: &'a str,
}

/// This project's kernel.
pub(super) const OWN: Source<'static> = Source {
    name: "tq4_dequant.cu",
    text: include_str!("../../../kernels/tq4_dequant.cu"),
    help: "the NVRTC of this machine may be too old for its device: update it, or use the kernel that tq4 brings",
};

/// Options that it is compiled with.
pub(super) const OWN_OPTIONS: [&str; 1] = ["--fmad=false"];

/// Checks that this machine has NVRTC.
///
/// # Errors
/// [`Error::Unavailable`] where it does not.
pub(super) fn check_compiler() -> Result<()> {
    // SAFETY: opening the library runs its initialisers, which are NVIDIA's.
    if unsafe { nvrtc::sys::is_culib_present() } {
        return Ok(());
    }
    Err(Error::unavailable(
        "the kernel cannot be compiled: the library libnvrtc is not found",
        PLACE,
        "install the CUDA toolkit's NVRTC and put it on the library path, or use a kernel that is compiled",
    ))
}

/// Compiles CUDA C++ to PTX for a device's own architecture, with the NVRTC of this machine.
pub(super) fn compile(
    source: &Source<'_>,
    capability: (i32, i32),
    options: &[String],
) -> Result<String> {
    check_compiler()?;
    let failed = |call: &str, e: nvrtc::result::NvrtcError, log: &str| {
        let log = if log.is_empty() {
            String::new()
        } else {
            format!("\n{log}")
        };
        broke(
            &LaneName::Cuda,
            format!("{call} failed: {e}{log}"),
            source.help,
        )
    };
    let nul = |_| Error::input(format!("{} holds a NUL byte", source.name), PLACE, "");
    let [text, name] = [source.text, source.name].map(CString::new);
    let (text, name) = (text.map_err(nul)?, name.map_err(nul)?);
    let program = nvrtc::result::create_program(&text, Some(&name))
        .map_err(|e| failed("nvrtcCreateProgram", e, ""))?;
    let (major, minor) = capability;
    let mut all = vec![format!("--gpu-architecture=compute_{major}{minor}")];
    all.extend_from_slice(options);
    // SAFETY: `program` was made above and is destroyed once, after its last use. The log and the PTX
    // end in NUL.
    unsafe {
        let compiled = nvrtc::result::compile_program(program, &all);
        let result = match compiled {
            Err(e) => {
                let log = nvrtc::result::get_program_log(program)
                    .map(|log| CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned())
                    .unwrap_or_default();
                Err(failed("nvrtcCompileProgram", e, log.trim()))
            }
            Ok(()) => nvrtc::result::get_ptx(program)
                .map(|ptx| CStr::from_ptr(ptx.as_ptr()).to_string_lossy().into_owned())
                .map_err(|e| failed("nvrtcGetPTX", e, "")),
        };
        let _ = nvrtc::result::destroy_program(program);
        result
    }
}

/// A kernel's code as a driver takes it.
pub(super) enum Image {
    /// PTX text.
    Ptx(String),
    /// A cubin or a fatbin, which says its own length.
    Binary(Vec<u8>),
}

/// A loaded module.
#[derive(Debug)]
pub(super) struct Module {
    api: &'static Api,
    handle: Handle,
}

impl Module {
    /// Has the driver take `image` for the current context's device.
    pub(super) fn load(api: &'static Api, image: &Image, driver: &str) -> Result<Self> {
        const ERROR_LOG: c_int = 5;
        const ERROR_LOG_SIZE: c_int = 6;
        let (bytes, isa) = match image {
            Image::Ptx(text) => {
                let nul = |_| Error::input("the PTX holds a NUL byte", PLACE, "");
                let bytes = CString::new(text.as_str()).map_err(nul)?;
                (bytes.into_bytes_with_nul(), isa(text))
            }
            Image::Binary(bytes) => (bytes.clone(), "in a binary"),
        };
        let mut log = vec![0u8; 4096];
        let mut options = [ERROR_LOG, ERROR_LOG_SIZE];
        // The driver takes the size as a number in the place of a pointer.
        let mut values: [*mut c_void; 2] = [
            log.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(log.len() - 1),
        ];
        let mut handle = std::ptr::null_mut();
        // SAFETY: text ends in NUL and a binary says its length, `options` and `values` have two entries each, and the driver
        // writes no more of the log than it was told; all outlive the call.
        let code = unsafe {
            (api.module_load)(
                &mut handle,
                bytes.as_ptr().cast(),
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
        Err(match code {
            UNSUPPORTED_PTX_VERSION => Error::unavailable(
                format!("the driver ({driver}) does not read PTX {isa}: {what}"),
                PLACE,
                needed(isa),
            ),
            NO_BINARY_FOR_GPU => Error::unavailable(
                format!("the kernel does not run on this device: {what}"),
                PLACE,
                format!(
                    "use a device of compute capability {}.{} or later, or of what a kernel of your own was made for",
                    MIN_CAPABILITY.0, MIN_CAPABILITY.1
                ),
            ),
            JIT_COMPILER_NOT_FOUND => Error::unavailable(
                format!("the driver is installed without its compiler: {what}"),
                PLACE,
                "install the driver's libnvidia-ptxjitcompiler",
            ),
            _ => broke(&LaneName::Cuda, what, ""),
        })
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
        // SAFETY: loaded once, unloaded once; its kernels have come to an end, for every call of the
        // lane waits for them.
        unsafe { call!(self.api, module_unload = "cuModuleUnload"(self.handle)).ok() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_ptx_names_its_driver() {
        assert_eq!(isa(PTX), "8.0");
        assert_eq!(
            needed("8.0"),
            "install the NVIDIA driver 525 or later (CUDA 12.0 or later)"
        );
        assert_eq!(needed("99.0"), "install a newer NVIDIA driver");
    }
}
