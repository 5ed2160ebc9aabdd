//! The lane's memory: one strip at a time stays on the device while its kernel runs, once or many times.

use super::chunk::{self, Limits};
use super::dispatch::Dispatch;
use super::gpu::{Gpu, READ, RESULT};
use super::timer::Timer;
use crate::error::Result;
use crate::lane::Timed;
use crate::record::OutputType;
use crate::tensor::TqTensor;
use ::wgpu::{self, Buffer, BufferUsages};
use std::ops::Range;

/// What the lane holds on the device. Each chunk of a strip has buffers of its own, by its place.
#[derive(Default)]
pub(super) struct Resident {
    /// Inputs and result.
    buffers: Vec<[Option<Buffer>; 5]>,
    read: Option<Buffer>,
    copy: Option<[Buffer; 2]>,
    loaded: Option<Loaded>,
}

struct Loaded {
    pipeline: wgpu::ComputePipeline,
    chunks: Vec<Chunk>,
}

/// One dispatch, ready to run again and again.
struct Chunk {
    bind_group: wgpu::BindGroup,
    grid: [u32; 2],
    result: Buffer,
    /// Where its result lies in the strip's.
    bytes: Range<usize>,
}

impl Resident {
    /// Uploads `tensor` and poisons its output.
    pub(super) fn load(
        &mut self,
        gpu: &mut Gpu,
        limits: &Limits,
        tensor: &TqTensor,
        output: OutputType,
    ) -> Result<()> {
        let group = tensor.layout().group_size() * output.size();
        let plan = chunk::plan(limits, tensor, group, &gpu.lane)?;
        let pipeline = gpu.scoped(|gpu| gpu.pipeline(tensor.layout()))?;
        self.buffers
            .resize_with(self.buffers.len().max(plan.len()), Default::default);
        let mut chunks = Vec::with_capacity(plan.len());
        for (buffers, groups) in self.buffers.iter_mut().zip(plan) {
            let bytes = groups.start * group..groups.end * group;
            let dispatch = Dispatch::new(tensor, groups, limits.workgroups, output);
            chunks.push(gpu.scoped(|gpu| load_chunk(gpu, buffers, &dispatch, bytes))?);
            // The host's copy of the inputs goes when they have arrived.
            gpu.wait()?;
        }
        self.loaded = Some(Loaded { pipeline, chunks });
        Ok(())
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.as_ref().expect("a strip is loaded")
    }

    /// Runs the kernel on the strip.
    pub(super) fn run(&self, gpu: &mut Gpu) -> Result<Timed> {
        let Loaded { pipeline, chunks } = self.loaded();
        gpu.count_run();
        gpu.timed(|gpu, encoder| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: gpu.timer.as_ref().map(Timer::of_pass),
            });
            pass.set_pipeline(pipeline);
            for chunk in chunks {
                let [x, y] = chunk.grid;
                pass.set_bind_group(0, &chunk.bind_group, &[]);
                pass.dispatch_workgroups(x, y, 1);
            }
            gpu.timer.is_some()
        })
    }

    /// Copies `bytes` from one buffer to another.
    pub(super) fn copy(&mut self, gpu: &mut Gpu, bytes: u64) -> Result<Timed> {
        if self.copy.as_ref().is_none_or(|[b, _]| b.size() < bytes) {
            self.copy = None;
            self.copy = Some(gpu.scoped(|gpu| {
                let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
                let copy = [(); 2].map(|()| gpu.allocate("copy", bytes, usage));
                // Written once: memory that was never written may not be there yet.
                for buffer in &copy {
                    gpu.poison(buffer, bytes);
                }
                copy
            })?);
            gpu.wait()?;
        }
        let [from, to] = self.copy.as_ref().expect("made above");
        gpu.timed(|gpu, encoder| {
            let timer = gpu.timer.as_ref().filter(|t| t.around_copies);
            if let Some(t) = timer {
                t.mark(encoder, 0);
            }
            encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
            if let Some(t) = timer {
                t.mark(encoder, 1);
            }
            timer.is_some()
        })
    }

    /// Reads the output.
    pub(super) fn read(&mut self, gpu: &mut Gpu, out: &mut [u8]) -> Result<()> {
        let chunks = &self.loaded.as_ref().expect("a strip is loaded").chunks;
        let end = chunks.last().map_or(0, |chunk| chunk.bytes.end);
        assert_eq!(out.len(), end, "the output's length");
        for chunk in chunks {
            let size = chunk.bytes.len() as u64;
            // Kept only when all went well: it may be invalid, or still mapped.
            let mut kept = self.read.take();
            let read = gpu.scoped(|gpu| {
                let read = grown(gpu, &mut kept, "read", size, READ);
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(&chunk.result, 0, &read, 0, size);
                gpu.queue.submit([encoder.finish()]);
                read
            })?;
            let to = &mut out[chunk.bytes.clone()];
            gpu.map(&read, size, |bytes| to.copy_from_slice(bytes))?;
            self.read = Some(read);
        }
        Ok(())
    }
}

/// The buffer that is kept if it is large enough, else a new one in its place.
fn grown(
    gpu: &mut Gpu,
    kept: &mut Option<Buffer>,
    name: &str,
    size: u64,
    usage: BufferUsages,
) -> Buffer {
    if kept.as_ref().is_none_or(|b| b.size() < size) {
        *kept = None;
        *kept = Some(gpu.allocate(name, size, usage));
    }
    kept.clone().expect("made above")
}

fn load_chunk(
    gpu: &mut Gpu,
    buffers: &mut [Option<Buffer>; 5],
    dispatch: &Dispatch<'_>,
    bytes: Range<usize>,
) -> Chunk {
    let [inputs @ .., result] = buffers;
    let mut kept = inputs.iter_mut();
    let inputs = dispatch.inputs().map(|(name, bytes, usage)| {
        let kept = kept.next().expect("as many as inputs");
        let usage = usage | BufferUsages::COPY_DST;
        let buffer = grown(gpu, kept, name, bytes.len() as u64, usage);
        gpu.write(&buffer, bytes);
        buffer
    });
    let result = grown(gpu, result, "result", dispatch.out_bytes, RESULT);
    gpu.poison(&result, dispatch.out_bytes);
    Chunk {
        bind_group: gpu.bind(&inputs, &result, dispatch.out_bytes),
        grid: dispatch.grid,
        result,
        bytes,
    }
}
