//! The CUDA driver's functions, and what their codes mean.
//!
//! cudarc finds and opens the library. The functions are looked up here, because cudarc's own bindings
//! panic when a driver lacks one, and turn the driver's code into a Rust enum, which is undefined
//! behaviour for a code newer than the enum.

use super::code::{Effect, NO_DEVICE, meaning};
use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use cudarc::driver::sys;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// Device memory as the driver names it.
pub(super) type DevicePtr = u64;
/// Context, module, function, stream or event.
pub(super) type Handle = *mut c_void;

/// Where an error of this lane is.
pub(super) const PLACE: &str = "lane cuda";

macro_rules! functions {
    (
        required { $($field:ident = $($symbol:literal)|+ ($($ty:ty),*);)* }
        optional { $($maybe:ident = $name:literal ($($of:ty),*);)* }
    ) => {
        /// The functions that the lane calls.
        #[derive(Debug)]
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($ty),*) -> c_int,)*
            $(pub(super) $maybe: Option<unsafe extern "C" fn($($of),*) -> c_int>,)*
        }

        impl Api {
            /// The symbol that is missing is the error; of several names of one function the first.
            fn load() -> Result<Self, &'static str> {
                // SAFETY: `is_culib_present` was asked before, so the library is there. The types are
                // those of cuda.h for these symbols, which the driver keeps forever.
                unsafe {
                    let library = sys::culib();
                    Ok(Self {
                        $($field: [$($symbol),+]
                            .iter()
                            .find_map(|symbol| library
                                .get::<unsafe extern "C" fn($($ty),*) -> c_int>(symbol.as_bytes())
                                .ok())
                            .map(|found| *found)
                            .ok_or([$($symbol),+][0])?,)*
                        $($maybe: library
                            .get::<unsafe extern "C" fn($($of),*) -> c_int>($name.as_bytes())
                            .ok()
                            .map(|found| *found),)*
                    })
                }
            }
        }
    };
}

functions! {
    required {
        init = "cuInit"(c_uint);
        driver_version = "cuDriverGetVersion"(*mut c_int);
        error_name = "cuGetErrorName"(c_int, *mut *const c_char);
        error_string = "cuGetErrorString"(c_int, *mut *const c_char);
        device_count = "cuDeviceGetCount"(*mut c_int);
        device_get = "cuDeviceGet"(*mut c_int, c_int);
        device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
        device_memory = "cuDeviceTotalMem_v2"(*mut usize, c_int);
        device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
        context_retain = "cuDevicePrimaryCtxRetain"(*mut Handle, c_int);
        context_release = "cuDevicePrimaryCtxRelease_v2"(c_int);
        context_set = "cuCtxSetCurrent"(Handle);
        memory_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
        alloc = "cuMemAlloc_v2"(*mut DevicePtr, usize);
        free = "cuMemFree_v2"(DevicePtr);
        alloc_host = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
        free_host = "cuMemFreeHost"(*mut c_void);
        upload = "cuMemcpyHtoDAsync_v2"(DevicePtr, *const c_void, usize, Handle);
        download = "cuMemcpyDtoHAsync_v2"(*mut c_void, DevicePtr, usize, Handle);
        copy = "cuMemcpyDtoDAsync_v2"(DevicePtr, DevicePtr, usize, Handle);
        fill = "cuMemsetD32Async"(DevicePtr, c_uint, usize, Handle);
        stream_create = "cuStreamCreate"(*mut Handle, c_uint);
        stream_synchronize = "cuStreamSynchronize"(Handle);
        stream_destroy = "cuStreamDestroy_v2"(Handle);
        event_create = "cuEventCreate"(*mut Handle, c_uint);
        event_record = "cuEventRecord"(Handle, Handle);
        // CUDA 13's header has the second name alone.
        event_elapsed = "cuEventElapsedTime" | "cuEventElapsedTime_v2" (*mut f32, Handle, Handle);
        event_destroy = "cuEventDestroy_v2"(Handle);
        module_load = "cuModuleLoadDataEx"(*mut Handle, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
        module_unload = "cuModuleUnload"(Handle);
        module_function = "cuModuleGetFunction"(*mut Handle, Handle, *const c_char);
        function_attribute = "cuFuncSetAttribute"(Handle, c_int, c_int);
        room = "cuOccupancyMaxActiveBlocksPerMultiprocessor"(*mut c_int, Handle, c_int, usize);
        launch = "cuLaunchKernel"(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle,
            *mut *mut c_void, *mut *mut c_void);
    }
    // What is told of a device; the lane works without.
    optional {
        pci_bus_id = "cuDeviceGetPCIBusId"(*mut c_char, c_int, c_int);
        uuid = "cuDeviceGetUuid_v2"(*mut [u8; 16], c_int);
        whole_uuid = "cuDeviceGetUuid"(*mut [u8; 16], c_int);
    }
}

/// The driver, ready for use.
///
/// # Errors
/// [`Error::Unavailable`] when there is no driver, or it does not start.
pub(super) fn driver() -> Result<&'static Api> {
    static API: OnceLock<Result<Api, &'static str>> = OnceLock::new();
    // SAFETY: opening the driver's library runs its initialisers, which are NVIDIA's.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::unavailable(
            "no CUDA driver on this machine (the library libcuda is not found)",
            PLACE,
            "install the NVIDIA driver, 525 or later; no CUDA toolkit is needed",
        ));
    }
    let api = API.get_or_init(Api::load).as_ref().map_err(|symbol| {
        Error::unavailable(
            format!("the CUDA driver has no function {symbol}"),
            PLACE,
            "install the NVIDIA driver, 525 or later",
        )
    })?;
    // SAFETY: cuInit takes no pointer and may be called again.
    match unsafe { (api.init)(0) } {
        0 => Ok(api),
        NO_DEVICE => Err(no_device()),
        code => {
            let what = api.describe("cuInit", code);
            let help = match meaning(code) {
                (_, "") => "check that nvidia-smi works on this machine",
                (_, help) => help,
            };
            let what = format!("the CUDA driver does not start: {what}");
            Err(Error::unavailable(what, PLACE, help))
        }
    }
}

/// The driver is there and no device is.
pub(super) fn no_device() -> Error {
    Error::unavailable(
        "the CUDA driver finds no device",
        PLACE,
        "check nvidia-smi and CUDA_VISIBLE_DEVICES",
    )
}

impl Api {
    /// `cuX failed: CUDA_ERROR_Y (2): what that is`.
    pub(super) fn describe(&self, call: &str, code: c_int) -> String {
        let text = |function: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text: *const c_char = std::ptr::null();
            // SAFETY: the driver writes a pointer to a string that lives forever, or null.
            unsafe {
                if function(code, &mut text) == 0 && !text.is_null() {
                    CStr::from_ptr(text).to_string_lossy().into_owned()
                } else {
                    "unknown error".to_owned()
                }
            }
        };
        let [name, what] = [self.error_name, self.error_string].map(text);
        format!("{call} failed: {name} ({code}): {what}")
    }

    /// An error unless `code` is success.
    pub(super) fn check(&self, call: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let what = self.describe(call, code);
        Err(match meaning(code) {
            (Effect::Failed, help) => broke(&LaneName::Cuda, what, help),
            (Effect::Unavailable, help) => Error::unavailable(what, PLACE, help),
            (Effect::Lost, help) => Error::lost(what, PLACE, help),
        })
    }
}

/// Calls a driver function and checks its code: `call!(api, alloc = "cuMemAlloc"(&mut p, n))`.
macro_rules! call {
    ($api:expr, $field:ident = $name:literal($($arg:expr),* $(,)?)) => {
        $api.check($name, ($api.$field)($($arg),*))
    };
}
pub(super) use call;
