//! A tensor that stays on the device, so that the kernel is timed without its copies.

use super::api::{Caller, Handle, call};
use super::kernel::{Input, MAX_ELEMENTS, launch};
use super::memory::{DeviceMemory, Event, PinnedMemory, Stream};
use super::tiles::SPARE;
use crate::backend::{POISON_F32, Timed, broke};
use crate::error::Result;
use crate::tensor::TqTensor;
use std::time::{Duration, Instant};

/// Page-locked bytes that uploads and downloads go through.
const STAGING: usize = 64 << 20;

/// Sets of one tensor's memory, and two buffers to copy between. The stream is idle before any of it
/// goes, see `Drop`.
#[derive(Debug)]
pub(super) struct Resident {
    caller: Caller,
    kernel: Handle,
    input: Input,
    elements: usize,
    cols: usize,
    /// Input and output.
    sets: Vec<[DeviceMemory; 2]>,
    copy: [DeviceMemory; 2],
    staging: PinnedMemory,
    start: Event,
    end: Event,
    stream: Stream,
}

impl Resident {
    /// Uploads `tensor` `sets` times, with poisoned BF16 results, and makes two buffers of `copy_bytes`.
    /// `kernel` is the entry point of the tensor's layout.
    pub(super) fn load(
        caller: &Caller,
        kernel: Handle,
        tensor: &TqTensor,
        sets: usize,
        copy_bytes: u64,
    ) -> Result<Self> {
        let input = Input::new(tensor, tensor.rows());
        let elements = tensor.elements();
        let output = elements * 2;
        let needed = (sets * (input.len + output)) as u64 + 2 * copy_bytes;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both numbers outlive the call, which writes them.
        unsafe { call!(caller, memory_info = "cuMemGetInfo"(&mut free, &mut total))? };
        if needed > free as u64 - free as u64 / SPARE || elements > MAX_ELEMENTS {
            return Err(broke(
                &caller.lane,
                format!("{needed} bytes of device memory are needed at once, {free} are free"),
                "take fewer rows, or free memory on the device",
            ));
        }
        let copy = || DeviceMemory::new(caller, copy_bytes as usize);
        let mut resident = Self {
            caller: caller.clone(),
            kernel,
            input,
            elements,
            cols: tensor.cols(),
            sets: (0..sets)
                .map(|_| {
                    Ok([
                        DeviceMemory::new(caller, input.len)?,
                        DeviceMemory::new(caller, output)?,
                    ])
                })
                .collect::<Result<_>>()?,
            copy: [copy()?, copy()?],
            staging: PinnedMemory::new(caller, STAGING.min(input.len.max(output)))?,
            start: Event::new(caller)?,
            end: Event::new(caller)?,
            stream: Stream::new(caller)?,
        };
        resident.upload(tensor)?;
        Ok(resident)
    }

    fn upload(&mut self, tensor: &TqTensor) -> Result<()> {
        let mut image = vec![0; self.input.len];
        self.input.fill(tensor, 0..tensor.rows(), &mut image);
        let step = self.staging.len();
        for (i, piece) in image.chunks(step).enumerate() {
            self.staging.bytes()[..piece.len()].copy_from_slice(piece);
            for [input, _] in &self.sets {
                // SAFETY: the piece lies in the staging memory and in the set's input, both of which stay
                // until the stream is idle.
                unsafe {
                    call!(
                        self.caller,
                        upload = "cuMemcpyHtoDAsync"(
                            input.ptr + (i * step) as u64,
                            self.staging.as_ptr(),
                            piece.len(),
                            self.stream.handle
                        )
                    )?;
                }
            }
            self.stream.synchronize()?;
        }
        let outputs = self.sets.iter().map(|[_, output]| output);
        for memory in outputs.chain(&self.copy) {
            // SAFETY: the words lie in the memory, which stays until the stream is idle.
            unsafe {
                call!(
                    self.caller,
                    fill = "cuMemsetD32Async"(
                        memory.ptr,
                        POISON_F32,
                        memory.len / 4,
                        self.stream.handle
                    )
                )?;
            }
        }
        self.stream.synchronize()
    }

    /// Runs the kernel on one set.
    pub(super) fn kernel(&self, set: usize) -> Result<Timed> {
        let [input, output] = &self.sets[set];
        self.timed(|| {
            // SAFETY: the memory was allocated and filled for these elements, and stays until the stream
            // is idle; the driver's addresses are multiples of 256.
            unsafe {
                launch(
                    &self.caller,
                    self.kernel,
                    &self.stream,
                    &self.input,
                    input.ptr,
                    output.ptr,
                    self.elements,
                    self.cols,
                )
            }
        })
    }

    /// Copies one of the two buffers to the other.
    pub(super) fn copy(&self) -> Result<Timed> {
        let [from, to] = &self.copy;
        self.timed(|| {
            // SAFETY: both hold `len` bytes and stay until the stream is idle.
            unsafe {
                call!(
                    self.caller,
                    copy = "cuMemcpyDtoDAsync"(to.ptr, from.ptr, from.len, self.stream.handle)
                )
            }
        })
    }

    fn timed(&self, work: impl FnOnce() -> Result<()>) -> Result<Timed> {
        let start = Instant::now();
        self.start.record(&self.stream)?;
        work()?;
        self.end.record(&self.stream)?;
        self.stream.synchronize()?;
        let wall = start.elapsed();
        let ms = f64::from(self.start.milliseconds_until(&self.end)?);
        Ok(Timed {
            device: (ms.is_finite() && ms > 0.0).then(|| Duration::from_secs_f64(ms / 1e3)),
            wall,
        })
    }

    /// Reads one set's result.
    pub(super) fn read(&mut self, set: usize, out: &mut [u8]) -> Result<()> {
        let from = self.sets[set][1].ptr;
        let step = self.staging.len();
        for (i, piece) in out.chunks_mut(step).enumerate() {
            // SAFETY: the piece lies in the output and fits the staging memory; both stay until the
            // stream is idle.
            unsafe {
                call!(
                    self.caller,
                    download = "cuMemcpyDtoHAsync"(
                        self.staging.as_ptr(),
                        from + (i * step) as u64,
                        piece.len(),
                        self.stream.handle
                    )
                )?;
            }
            self.stream.synchronize()?;
            piece.copy_from_slice(&self.staging.bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // After a failure, work may still be under way in memory that is about to go.
        let _ = self.stream.synchronize();
    }
}
