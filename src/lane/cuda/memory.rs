//! What the driver lends, given back when dropped.
//!
//! Every value here belongs to the context that was current when it was made. [`super::Cuda`] makes
//! that context current before it makes, uses or drops one.

use super::api::{Api, DevicePtr, Handle, call};
use crate::error::Result;
use std::ffi::c_void;

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

/// Page-locked memory on the host, which copies can run from and to by themselves.
#[derive(Debug)]
pub(super) struct PinnedMemory {
    api: &'static Api,
    ptr: *mut c_void,
    len: usize,
}

impl PinnedMemory {
    pub(super) fn new(api: &'static Api, len: usize) -> Result<Self> {
        let mut ptr = std::ptr::null_mut();
        // SAFETY: `ptr` outlives the call, which writes it.
        unsafe { call!(api, alloc_host = "cuMemHostAlloc"(&mut ptr, len, 0))? };
        let memory = Self { api, ptr, len };
        // SAFETY: the driver gave `len` bytes at `ptr`; they must be initialised to be a slice.
        unsafe { std::ptr::write_bytes(memory.ptr.cast::<u8>(), 0, len) };
        Ok(memory)
    }

    /// The memory. No copy may be under way in it.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `len` initialised bytes at `ptr`, borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.cast(), self.len) }
    }

    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.ptr
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once.
        unsafe { (self.api.free_host)(self.ptr) };
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
