//! Compiling CUDA C++ with the NVRTC of this machine.

use super::api::PLACE;
use super::module::Image;
use super::nvrtc::{Nvrtc, Version};
use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use std::ffi::{CString, c_char, c_int};

/// CUDA C++ to compile.
pub(super) struct CudaSource<'a> {
    /// Name of the file, for the compiler's messages.
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// What to do where it does not compile.
    pub(super) help: &'a str,
}

/// Options that this project's kernels are compiled with.
pub(super) const OWN_OPTIONS: [&str; 1] = ["--fmad=false"];

/// Compiles CUDA C++ for a device's own architecture with an NVRTC of this machine.
///
/// To PTX, or to machine code where NVRTC is newer than the driver: a driver reads no PTX that is newer than
/// it is, and loads the code of any minor version of its own major one.
pub(super) fn compile(
    source: &CudaSource<'_>,
    options: &[String],
    capability: (i32, i32),
    driver: Version,
) -> Result<Image> {
    let nvrtc = Nvrtc::for_driver(driver)?;
    let failed = |call: &str, code: c_int, log: &str| {
        let what = nvrtc.describe(code);
        let log = if log.is_empty() {
            String::new()
        } else {
            format!("\n{log}")
        };
        broke(
            &LaneName::Cuda,
            format!("{call} failed: {what}{log}"),
            source.help,
        )
    };
    let nul = |_| {
        Error::input(
            format!("{} or an option holds a NUL byte", source.name),
            PLACE,
            "",
        )
    };
    let [text, name] = [source.text, source.name].map(CString::new);
    let (code, name) = (text.map_err(nul)?, name.map_err(nul)?);
    let to_code = nvrtc.is_newer_than(driver);
    let target = if to_code { "sm" } else { "compute" };
    let (major, minor) = capability;
    let architecture = format!("--gpu-architecture={target}_{major}{minor}");
    let options = [&architecture].into_iter().chain(options);
    let options: Vec<CString> = options
        .map(|o| CString::new(o.as_str()).map_err(nul))
        .collect::<Result<_>>()?;
    let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
    let count = c_int::try_from(options.len()).unwrap_or(c_int::MAX);
    let mut program = std::ptr::null_mut();
    // SAFETY: `program` is made here and destroyed once, after its last use; the texts end in NUL and
    // outlive the calls. The log and the PTX end in NUL as well.
    unsafe {
        let none = std::ptr::null();
        match (nvrtc.create)(&mut program, code.as_ptr(), name.as_ptr(), 0, none, none) {
            0 => {}
            code => return Err(failed("nvrtcCreateProgram", code, "")),
        }
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes);
            text.trim_end_matches('\0').to_owned()
        };
        let result = match (nvrtc.compile)(program, count, options.as_ptr()) {
            0 if to_code => nvrtc
                .bytes(program, nvrtc.cubin_size, nvrtc.cubin)
                .map(Image::Cubin)
                .map_err(|code| failed("nvrtcGetCUBIN", code, "")),
            0 => nvrtc
                .bytes(program, nvrtc.ptx_size, nvrtc.ptx)
                .map(|ptx| Image::Ptx(text(ptx)))
                .map_err(|code| failed("nvrtcGetPTX", code, "")),
            code => {
                let log = nvrtc.bytes(program, nvrtc.log_size, nvrtc.log);
                let log = log.map(text).unwrap_or_default();
                Err(failed("nvrtcCompileProgram", code, log.trim()))
            }
        };
        (nvrtc.destroy)(&mut program);
        result
    }
}
