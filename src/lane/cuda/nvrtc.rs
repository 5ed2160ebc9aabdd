//! NVRTC, the compiler of a CUDA toolkit, where this machine has one.
//!
//! It is opened here, since cudarc's names of the library end at CUDA 12.

use super::api::PLACE;
use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

/// A program that is compiled.
pub(super) type NvrtcProgram = *mut c_void;

/// A CUDA version, major and minor.
pub(super) type Version = (c_int, c_int);

/// The library's names, of every CUDA release whose NVRTC compiles the kernel.
const NAMES: &[&str] = if cfg!(windows) {
    &[
        "nvrtc64_130_0.dll",
        "nvrtc64_120_0.dll",
        "nvrtc64_112_0.dll",
    ]
} else {
    &[
        "libnvrtc.so",
        "libnvrtc.so.13",
        "libnvrtc.so.12",
        "libnvrtc.so.11.2",
    ]
};

macro_rules! functions {
    ($($field:ident = $symbol:literal($($ty:ty),*) -> $returns:ty;)*) => {
        /// An open library.
        #[derive(Debug)]
        pub(super) struct Nvrtc {
            $(pub(super) $field: unsafe extern "C" fn($($ty),*) -> $returns,)*
            version: Version,
            // The functions are good as long as it is open.
            _library: Library,
        }

        impl Nvrtc {
            /// `None` where it is not there, or is something else.
            fn open(name: &str) -> Option<Self> {
                // SAFETY: opening the library runs its initialisers, which are NVIDIA's. The types are those
                // of nvrtc.h, the same in every release, and both numbers outlive the call that writes them.
                unsafe {
                    let library = Library::new(name).ok()?;
                    let mut nvrtc = Self {
                        $($field: *library
                            .get::<unsafe extern "C" fn($($ty),*) -> $returns>($symbol.as_bytes())
                            .ok()?,)*
                        version: (0, 0),
                        _library: library,
                    };
                    let (major, minor) = (&mut nvrtc.version.0, &mut nvrtc.version.1);
                    ((nvrtc.get_version)(major, minor) == 0).then_some(nvrtc)
                }
            }
        }
    };
}

functions! {
    get_version = "nvrtcVersion"(*mut c_int, *mut c_int) -> c_int;
    error_string = "nvrtcGetErrorString"(c_int) -> *const c_char;
    create = "nvrtcCreateProgram"(*mut NvrtcProgram, *const c_char, *const c_char, c_int,
        *const *const c_char, *const *const c_char) -> c_int;
    compile = "nvrtcCompileProgram"(NvrtcProgram, c_int, *const *const c_char) -> c_int;
    destroy = "nvrtcDestroyProgram"(*mut NvrtcProgram) -> c_int;
    log_size = "nvrtcGetProgramLogSize"(NvrtcProgram, *mut usize) -> c_int;
    log = "nvrtcGetProgramLog"(NvrtcProgram, *mut c_char) -> c_int;
    ptx_size = "nvrtcGetPTXSize"(NvrtcProgram, *mut usize) -> c_int;
    ptx = "nvrtcGetPTX"(NvrtcProgram, *mut c_char) -> c_int;
    cubin_size = "nvrtcGetCUBINSize"(NvrtcProgram, *mut usize) -> c_int;
    cubin = "nvrtcGetCUBIN"(NvrtcProgram, *mut c_char) -> c_int;
}

/// A function that tells a size, and one that writes so many bytes.
type SizeFn = unsafe extern "C" fn(NvrtcProgram, *mut usize) -> c_int;
type WriteFn = unsafe extern "C" fn(NvrtcProgram, *mut c_char) -> c_int;

impl Nvrtc {
    /// The one that suits a driver of this CUDA version best.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none.
    pub(super) fn for_driver(driver: Version) -> Result<&'static Self> {
        static ALL: OnceLock<Vec<Nvrtc>> = OnceLock::new();
        let all = ALL.get_or_init(|| NAMES.iter().filter_map(|name| Self::open(name)).collect());
        let versions: Vec<Version> = all.iter().map(|n| n.version).collect();
        best(&versions, driver).map(|i| &all[i]).ok_or_else(|| {
            Error::unavailable(
                "the kernel cannot be compiled: the library libnvrtc is not found",
                PLACE,
                "install the CUDA toolkit's NVRTC and put it on the library path, or use the kernel that tq4 brings",
            )
        })
    }

    /// Whether its PTX may be too new for a driver of this CUDA version.
    pub(super) fn is_newer_than(&self, driver: Version) -> bool {
        self.version > driver
    }

    /// What a code means.
    pub(super) fn describe(&self, code: c_int) -> String {
        // SAFETY: the text that is pointed to lives forever.
        unsafe {
            let text = (self.error_string)(code);
            if text.is_null() {
                return format!("error {code}");
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }

    /// The bytes that a pair of functions has of a program.
    ///
    /// # Safety
    /// `program` is one of this library, and `read` writes as many bytes as `size` tells.
    pub(super) unsafe fn bytes(
        &self,
        program: NvrtcProgram,
        size: SizeFn,
        read: WriteFn,
    ) -> std::result::Result<Vec<u8>, c_int> {
        let mut len = 0;
        // SAFETY: as the caller vouches; `len` and the memory outlive the calls that write them.
        unsafe {
            match size(program, &mut len) {
                0 => {}
                code => return Err(code),
            }
            let mut bytes = vec![0u8; len];
            match read(program, bytes.as_mut_ptr().cast()) {
                0 => Ok(bytes),
                code => Err(code),
            }
        }
    }
}

/// The newest of these that is not newer than the driver, else the oldest.
fn best(versions: &[Version], driver: Version) -> Option<usize> {
    (0..versions.len()).max_by_key(|i| match versions[*i] {
        (major, minor) if (major, minor) <= driver => (true, major, minor),
        (major, minor) => (false, -major, -minor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_suits_the_driver() {
        let all = [(13, 5), (12, 0), (12, 8)];
        for (driver, suits) in [
            ((13, 9), 0),
            ((13, 5), 0),
            ((13, 4), 2),
            ((12, 4), 1),
            ((11, 8), 1),
        ] {
            assert_eq!(best(&all, driver), Some(suits), "{driver:?}");
        }
        assert_eq!(best(&[], (13, 0)), None);
    }
}
