//! The lane's memory: one strip at a time stays on the device while its kernel runs, once or many times.

use super::api::{Api, Handle, call};
use super::kernel::{LaunchInput, Work};
use super::memory::{DeviceMemory, Event, HostMemory, Stream, free_memory};
use crate::error::{Error, Result};
use crate::lane::kernel::Launch;
use crate::lane::{POISON_F32, Round, Timed, broke};
use crate::record::{LaneName, OutputType};
use crate::tensor::TqTensor;
use std::time::{Duration, Instant};

/// Bytes of poison behind the output, which no kernel may write.
const GUARD: usize = 4096;

/// Bytes on the host that uploads and downloads go through.
const STAGING: usize = 16 << 20;

/// What the lane holds on the device. The stream is idle before any of it goes, see `Drop`.
#[derive(Debug)]
pub(super) struct Resident {
    api: &'static Api,
    input: Option<DeviceMemory>,
    output: Option<DeviceMemory>,
    copy: Option<[DeviceMemory; 2]>,
    staging: HostMemory,
    /// Starts and ends of what is timed.
    events: [Event; 6],
    stream: Stream,
    work: Option<Work>,
}

impl Resident {
    pub(super) fn new(api: &'static Api) -> Result<Self> {
        Ok(Self {
            api,
            input: None,
            output: None,
            copy: None,
            staging: HostMemory::new(api, STAGING)?,
            events: array(|| Event::new(api))?,
            stream: Stream::new(api)?,
            work: None,
        })
    }

    /// Uploads `tensor` and poisons its output, to run `function`.
    pub(super) fn load(
        &mut self,
        (function, launch): (Handle, Launch),
        tensor: &TqTensor,
        output: OutputType,
    ) -> Result<()> {
        // What a failed call left under way must not meet what follows.
        self.stream.synchronize()?;
        let input = LaunchInput::new(&launch, tensor);
        let work = Work {
            function,
            launch,
            starts: input.starts(),
            out_bytes: tensor.elements() * output.size(),
        };
        self.reserve(&input, &work)?;
        self.upload(&input)?;
        self.poison(held(&self.output), work.out_bytes + GUARD)?;
        self.stream.synchronize()?;
        self.work = Some(work);
        Ok(())
    }

    /// Makes room for a strip: memory that is large enough stays.
    fn reserve(&mut self, input: &LaunchInput, work: &Work) -> Result<()> {
        let mut needed = 0;
        for (memory, len) in [
            (&mut self.input, input.len),
            (&mut self.output, work.out_bytes + GUARD),
        ] {
            if memory.as_ref().is_none_or(|m| m.len < len) {
                *memory = None;
                needed += len;
            }
        }
        let free = free_memory(self.api)?;
        if needed > free {
            let what = format!("{needed} bytes of device memory are needed, {free} are free");
            return Err(broke(&LaneName::Cuda, what, "take smaller strips"));
        }
        for (memory, len) in [
            (&mut self.input, input.len),
            (&mut self.output, work.out_bytes + GUARD),
        ] {
            if memory.is_none() {
                *memory = Some(DeviceMemory::new(self.api, len)?);
            }
        }
        Ok(())
    }

    fn upload(&mut self, input: &LaunchInput) -> Result<()> {
        let to = held(&self.input).ptr;
        for start in (0..input.len).step_by(STAGING) {
            let len = STAGING.min(input.len - start);
            input.fill(start..start + len, &mut self.staging.bytes()[..len]);
            // SAFETY: `len` bytes lie in the staging memory and, from `start`, in the input; both stay
            // until the stream is idle.
            unsafe {
                call!(
                    self.api,
                    upload = "cuMemcpyHtoDAsync"(
                        to + start as u64,
                        self.staging.as_ptr(),
                        len,
                        self.stream.handle
                    )
                )?;
            }
            self.stream.synchronize()?;
        }
        Ok(())
    }

    /// Queues the poison for the first `bytes` of `memory`, rounded down to words.
    fn poison(&self, memory: &DeviceMemory, bytes: usize) -> Result<()> {
        assert!(bytes <= memory.len);
        // SAFETY: the words lie in the memory, which stays until the stream is idle.
        unsafe {
            call!(
                self.api,
                fill = "cuMemsetD32Async"(memory.ptr, POISON_F32, bytes / 4, self.stream.handle)
            )
        }
    }

    fn work(&self) -> &Work {
        self.work.as_ref().expect("a strip is loaded")
    }

    /// Queues the kernel on the strip.
    fn queue_kernel(&self) -> Result<()> {
        let (input, output) = (held(&self.input).ptr, held(&self.output).ptr);
        // SAFETY: the memory was made and filled for this strip, and stays until the stream is idle; the
        // driver's addresses are multiples of 256.
        unsafe { self.work().launch(self.api, &self.stream, input, output) }
    }

    /// Makes room for copies of `bytes`.
    fn reserve_copy(&mut self, bytes: usize) -> Result<()> {
        if self.copy.as_ref().is_none_or(|[m, _]| m.len < bytes) {
            self.copy = None;
            let room = array(|| DeviceMemory::new(self.api, bytes)).map_err(|e| match e {
                // A benchmark shows what was found alone.
                Error::Backend(p) => {
                    let what = format!("{}: copies of {bytes} bytes find no room", p.what);
                    broke(
                        &LaneName::Cuda,
                        what,
                        "take smaller copies with --copy-size",
                    )
                }
                e => e,
            });
            let [from, to] = room?;
            // Written once: memory that was never written may not be there yet.
            self.poison(&from, bytes)?;
            self.poison(&to, bytes)?;
            self.copy = Some([from, to]);
        }
        Ok(())
    }

    /// Queues a copy of `bytes`, for which there is room.
    fn queue_copy(&self, bytes: usize) -> Result<()> {
        let [from, to] = self.copy.as_ref().expect("reserved before");
        // SAFETY: both hold `bytes` and stay until the stream is idle.
        unsafe {
            call!(
                self.api,
                copy = "cuMemcpyDtoDAsync"(to.ptr, from.ptr, bytes, self.stream.handle)
            )
        }
    }

    /// Runs the kernel on the strip.
    pub(super) fn run(&self) -> Result<Timed> {
        let [timed] = self.timed([&|| self.queue_kernel()])?;
        Ok(timed)
    }

    /// Copies `bytes` from one buffer to another.
    pub(super) fn copy(&mut self, bytes: usize) -> Result<Timed> {
        self.reserve_copy(bytes)?;
        let [timed] = self.timed([&|| self.queue_copy(bytes)])?;
        Ok(timed)
    }

    /// A copy and the kernel twice, waited for once.
    pub(super) fn round(&mut self, bytes: usize) -> Result<Round> {
        self.reserve_copy(bytes)?;
        let kernel = || self.queue_kernel();
        let [copy, cold, warm] = self.timed([&|| self.queue_copy(bytes), &kernel, &kernel])?;
        Ok(Round {
            copy: Some(copy),
            cold,
            warm,
        })
    }

    /// Queues pieces of work, each between two events, and waits for all: while the device is at the first,
    /// the host launches the rest.
    fn timed<const N: usize>(&self, work: [&dyn Fn() -> Result<()>; N]) -> Result<[Timed; N]> {
        let begin = Instant::now();
        for (work, events) in work.into_iter().zip(self.events.chunks_exact(2)) {
            events[0].record(&self.stream)?;
            work()?;
            events[1].record(&self.stream)?;
        }
        self.stream.synchronize()?;
        let wall = begin.elapsed();
        let mut pairs = self.events.chunks_exact(2);
        array(|| {
            let events = pairs.next().expect("a pair for each piece");
            let ms = f64::from(events[0].milliseconds_until(&events[1])?);
            let device = (ms.is_finite() && ms > 0.0).then(|| Duration::from_secs_f64(ms / 1e3));
            Ok(Timed { device, wall })
        })
    }

    /// Reads the output.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<()> {
        assert_eq!(out.len(), self.work().out_bytes, "the output's length");
        for (i, piece) in out.chunks_mut(STAGING).enumerate() {
            let from = i * STAGING;
            self.download(from, piece.len())?;
            piece.copy_from_slice(&self.staging.bytes()[..piece.len()]);
        }
        self.download(out.len(), GUARD)?;
        let guard = self.staging.bytes()[..GUARD].chunks_exact(4);
        if guard
            .into_iter()
            .any(|word| word != POISON_F32.to_ne_bytes())
        {
            let what = "the kernel writes behind the end of its output";
            let help = "look at its grid and at its check for the last rows";
            return Err(broke(&LaneName::Cuda, what, help));
        }
        Ok(())
    }

    /// Fetches `len` bytes of the output's memory to the staging memory.
    fn download(&mut self, start: usize, len: usize) -> Result<()> {
        let from = held(&self.output).ptr + start as u64;
        // SAFETY: the bytes lie in the output's memory and fit the staging memory; both stay until the
        // stream is idle.
        unsafe {
            call!(
                self.api,
                download =
                    "cuMemcpyDtoHAsync"(self.staging.as_ptr(), from, len, self.stream.handle)
            )?;
        }
        self.stream.synchronize()
    }
}

/// So many of what `make` makes, or its first error.
fn array<T, const N: usize>(mut make: impl FnMut() -> Result<T>) -> Result<[T; N]> {
    let made: Vec<T> = (0..N).map(|_| make()).collect::<Result<_>>()?;
    Ok(made
        .try_into()
        .unwrap_or_else(|_| unreachable!("N were made")))
}

/// The memory of a strip.
fn held(memory: &Option<DeviceMemory>) -> &DeviceMemory {
    memory.as_ref().expect("a strip is loaded")
}

impl Drop for Resident {
    fn drop(&mut self) {
        // After a failure, work may still be under way in memory that is about to go.
        let _ = self.stream.synchronize();
    }
}
