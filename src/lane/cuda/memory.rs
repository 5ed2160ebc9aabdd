//! What the driver lends, given back when dropped.
//!
//! Every value here belongs to the context that was current when it was made. [`super::Cuda`] makes
//! that context current before it makes, uses or drops one.

use super::api::{Api, DevicePtr, Handle, call};
use super::code::OUT_OF_MEMORY;
use crate::error::Result;
use std::ffi::c_void;

/// Bytes that are free on the current context's device.
pub(super) fn free_memory(api: &Api) -> Result<usize> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: both numbers outlive the call, which writes them.
    unsafe { call!(api, memory_info = "cuMemGetInfo"(&mut free, &mut total))? };
    Ok(free)
}

/// Memory on the device.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    api: &'static Api,
    pub(super) ptr: DevicePtr,
    pub(super) len: usize,
}

impl DeviceMemory {
    pub(super) fn new(api: &'static Api, len: usize) -> Result<Self> {
        let mut ptr = 0;
        // SAFETY: `ptr` outlives the call, which writes it.
        unsafe { call!(api, alloc = "cuMemAlloc"(&mut ptr, len))? };
        Ok(Self { api, ptr, len })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once. A failure here leaves nothing to do.
        unsafe { (self.api.free)(self.ptr) };
    }
}

/// Memory on the host that copies go through: page-locked, from and to which they run by themselves, or
/// pageable where the system locks no more, as WSL does.
#[derive(Debug)]
pub(super) enum HostMemory {
    Locked {
        api: &'static Api,
        ptr: *mut c_void,
        len: usize,
    },
    Pageable(Vec<u8>),
}

impl HostMemory {
    /// # Errors
    /// What the driver says, but for memory that it cannot lock.
    pub(super) fn new(api: &'static Api, len: usize) -> Result<Self> {
        let mut ptr = std::ptr::null_mut();
        // SAFETY: `ptr` outlives the call, which writes it.
        let code = unsafe { (api.alloc_host)(&mut ptr, len, 0) };
        if code == OUT_OF_MEMORY {
            return Ok(Self::Pageable(vec![0; len]));
        }
        api.check("cuMemHostAlloc", code)?;
        // SAFETY: the driver gave `len` bytes at `ptr`; they must be initialised to be a slice.
        unsafe { std::ptr::write_bytes(ptr.cast::<u8>(), 0, len) };
        Ok(Self::Locked { api, ptr, len })
    }

    /// The memory. No copy may be under way in it.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        match self {
            // SAFETY: `len` initialised bytes at `ptr`, borrowed as long as `self`.
            Self::Locked { ptr, len, .. } => unsafe {
                std::slice::from_raw_parts_mut(ptr.cast(), *len)
            },
            Self::Pageable(bytes) => bytes,
        }
    }

    pub(super) fn as_ptr(&mut self) -> *mut c_void {
        match self {
            Self::Locked { ptr, .. } => *ptr,
            Self::Pageable(bytes) => bytes.as_mut_ptr().cast(),
        }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if let Self::Locked { api, ptr, .. } = self {
            // SAFETY: allocated in `new`, freed once.
            unsafe { (api.free_host)(*ptr) };
        }
    }
}

/// A queue of work.
#[derive(Debug)]
pub(super) struct Stream {
    api: &'static Api,
    pub(super) handle: Handle,
}

impl Stream {
    pub(super) fn new(api: &'static Api) -> Result<Self> {
        const NON_BLOCKING: u32 = 1;
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` outlives the call, which writes it.
        unsafe {
            call!(
                api,
                stream_create = "cuStreamCreate"(&mut handle, NON_BLOCKING)
            )?
        };
        Ok(Self { api, handle })
    }

    /// Waits until all its work is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream lives as long as `self`.
        unsafe {
            call!(
                self.api,
                stream_synchronize = "cuStreamSynchronize"(self.handle)
            )
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        unsafe { (self.api.stream_destroy)(self.handle) };
    }
}

/// A time stamp in a stream.
#[derive(Debug)]
pub(super) struct Event {
    api: &'static Api,
    handle: Handle,
}

impl Event {
    pub(super) fn new(api: &'static Api) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` outlives the call, which writes it.
        unsafe { call!(api, event_create = "cuEventCreate"(&mut handle, 0))? };
        Ok(Self { api, handle })
    }

    pub(super) fn record(&self, stream: &Stream) -> Result<()> {
        // SAFETY: both live as long as their owners.
        unsafe {
            call!(
                self.api,
                event_record = "cuEventRecord"(self.handle, stream.handle)
            )
        }
    }

    /// Milliseconds from `self` to `end`; both have been reached.
    pub(super) fn milliseconds_until(&self, end: &Self) -> Result<f32> {
        let mut ms = 0.0;
        // SAFETY: `ms` outlives the call, which writes it.
        unsafe {
            call!(
                self.api,
                event_elapsed = "cuEventElapsedTime"(&mut ms, self.handle, end.handle)
            )?;
        }
        Ok(ms)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        unsafe { (self.api.event_destroy)(self.handle) };
    }
}

/// A device's primary context, retained.
#[derive(Debug)]
pub(super) struct Context {
    api: &'static Api,
    device: i32,
    handle: Handle,
}

impl Context {
    pub(super) fn new(api: &'static Api, device: i32) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` outlives the call, which writes it.
        unsafe {
            call!(
                api,
                context_retain = "cuDevicePrimaryCtxRetain"(&mut handle, device)
            )?;
        }
        let context = Self {
            api,
            device,
            handle,
        };
        context.make_current()?;
        Ok(context)
    }

    /// Makes it this thread's context.
    pub(super) fn make_current(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        unsafe { call!(self.api, context_set = "cuCtxSetCurrent"(self.handle)) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `new`, released once.
        unsafe { (self.api.context_release)(self.device) };
    }
}
