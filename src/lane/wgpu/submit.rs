//! Handing work to the device, and waiting for it.

use super::gpu::Gpu;
use super::loss::{Why, gave_up, quietly};
use super::scope::Scope;
use super::{Failure, token};
use crate::error::{Error, Result};
use crate::lane::{Timed, broke};
use ::wgpu;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Puts a piece of work down.
pub(super) type EncodeFn<'a> = &'a dyn Fn(&Gpu, &mut wgpu::CommandEncoder, u32);

impl Gpu {
    /// Does `work` and reports the errors that it made.
    pub(super) fn scoped<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T> {
        let scope = Scope::open(&self.device);
        let made = quietly(|| work(self));
        let closed = scope.close(&self.lane);
        // What is made on a lost device is invalid, without a word of why.
        let made = self.alive(made)?;
        closed?;
        Ok(made)
    }

    /// Calls wgpu where no error scope is told of its errors.
    fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.alive(quietly(work))
    }

    /// What was done, where the device is not lost and wgpu did not panic.
    fn alive<T>(&self, done: std::result::Result<T, String>) -> Result<T> {
        let done = done.map_err(|text| self.loss.set(gave_up(&text)));
        self.loss.check(&self.lane)?;
        Ok(done.unwrap_or_else(|()| unreachable!("a panic is a loss")))
    }

    /// Submits pieces of work together and waits once, so that no launch lies between them. Each is given the
    /// number of its pair of timestamps, which it sets where the device has some; the last uses `done`.
    pub(super) fn timed<const N: usize>(
        &mut self,
        done: &wgpu::Buffer,
        pieces: [EncodeFn<'_>; N],
    ) -> Result<[Timed; N]> {
        let start = self.scoped(|gpu| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            for (pair, piece) in (0..).zip(pieces) {
                piece(gpu, &mut encoder, pair);
            }
            if let Some(t) = &gpu.timer {
                t.resolve(&mut encoder, N);
            }
            gpu.follow(&mut encoder, done);
            let commands = encoder.finish();
            let start = Instant::now();
            if !std::mem::take(&mut gpu.drops) {
                gpu.queue.submit([commands]);
            }
            start
        })?;
        self.wait()?;
        let wall = start.elapsed();
        self.confirm()?;
        Ok(self.elapsed().map(|device| Timed { device, wall }))
    }

    /// Submits what `encode` puts down and waits until it has run; it yields what it made and the buffer that
    /// it uses last.
    pub(super) fn done<T>(
        &mut self,
        encode: impl FnOnce(&mut Self, &mut wgpu::CommandEncoder) -> (T, wgpu::Buffer),
    ) -> Result<T> {
        let made = self.scoped(|gpu| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            let (made, last) = encode(gpu, &mut encoder);
            gpu.follow(&mut encoder, &last);
            gpu.queue.submit([encoder.finish()]);
            made
        })?;
        self.confirm()?;
        Ok(made)
    }

    fn follow(&mut self, encoder: &mut wgpu::CommandEncoder, done: &wgpu::Buffer) {
        self.token.follow(&self.device, &self.queue, encoder, done);
    }

    /// Waits for what was submitted last, and holds it to have run.
    fn confirm(&self) -> Result<()> {
        let arrived = self.map(self.token.read(), token::BYTES, <[u8]>::to_vec)?;
        self.token.check(&self.lane, &arrived)
    }

    /// Has the run fail that a test asked for.
    pub(super) fn count_run(&mut self) {
        self.counts.runs += 1;
        let run = self.counts.runs;
        match self.fail {
            Some(Failure::DeviceLost(n)) if n == run => self.device.destroy(),
            Some(Failure::AlwaysLost(n)) if n <= run => self.device.destroy(),
            Some(Failure::Silent(n)) if n <= run => self.limit = Duration::from_micros(1),
            Some(Failure::Dropped(n)) => self.drops = n == run,
            _ => (),
        }
    }

    /// Waits until all that was submitted is done, as long as the device may take for it.
    fn wait(&self) -> Result<()> {
        let wait = wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(self.limit),
        };
        match self.guarded(|| self.device.poll(wait))? {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => {
                self.loss.set(Why::Silent(self.limit));
                self.loss.check(&self.lane)
            }
            Err(e) => Err(self.no_result(&e)),
        }
    }

    fn no_result(&self, e: &dyn std::fmt::Display) -> Error {
        broke(
            &self.lane,
            format!("the device did not return its result: {e}"),
            "see the driver's log",
        )
    }

    /// Hands the first `size` bytes of `buffer` to `take`.
    pub(super) fn map<T>(
        &self,
        buffer: &wgpu::Buffer,
        size: u64,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        self.guarded(|| {
            buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
                // The receiver is gone only when the wait below failed.
                let _ = sender.send(result);
            });
        })?;
        self.wait()?;
        receiver
            .recv()
            .map_err(|e| self.no_result(&e))?
            .map_err(|e| self.no_result(&e))?;
        let view = self
            .guarded(|| buffer.get_mapped_range(0..size))?
            .map_err(|e| self.no_result(&e))?;
        let taken = take(&view);
        self.guarded(|| {
            drop(view);
            buffer.unmap();
        })?;
        Ok(taken)
    }

    /// Time between the timestamps of each pair; `None` where they are missing, tie or run backwards.
    fn elapsed<const N: usize>(&self) -> [Option<Duration>; N] {
        let read = || {
            let timer = self.timer.as_ref()?;
            let (buffer, size) = timer.read(N);
            self.map(buffer, size, |bytes| timer.elapsed(bytes)).ok()
        };
        read().unwrap_or([None; N])
    }
}
