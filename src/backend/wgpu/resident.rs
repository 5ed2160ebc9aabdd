//! A tensor that stays on the device, so that the kernel is timed without its copies.

use super::chunk;
use super::dispatch::Dispatch;
use super::gpu::{Gpu, READ, RESULT};
use super::timer::Timer;
use crate::backend::Timed;
use crate::error::Result;
use crate::tensor::TqTensor;
use ::wgpu::{self, BufferUsages};
use std::ops::Range;
use std::time::Instant;

/// One dispatch, ready to run again and again.
struct Chunk {
    bind_group: wgpu::BindGroup,
    grid: [u32; 2],
    result: wgpu::Buffer,
    /// Where its result lies in the tensor's.
    bytes: Range<usize>,
}

/// Sets of one tensor's buffers, and two buffers to copy between.
pub(super) struct Resident {
    pipeline: wgpu::ComputePipeline,
    sets: Vec<Vec<Chunk>>,
    copy: [wgpu::Buffer; 2],
}

impl Resident {
    /// Uploads `tensor` `sets` times, with poisoned BF16 results, and makes two buffers of `copy_bytes`.
    pub(super) fn load(
        gpu: &mut Gpu,
        limits: &chunk::Limits,
        tensor: &TqTensor,
        sets: usize,
        copy_bytes: u64,
    ) -> Result<Self> {
        let group_bytes = tensor.layout().group_size() * 2;
        let chunks = chunk::plan(limits, tensor, group_bytes, &gpu.lane)?;
        let resident = gpu.scoped(|gpu| {
            let pipeline = gpu.pipeline(tensor.layout(), false);
            let sets = (0..sets)
                .map(|_| {
                    chunks
                        .iter()
                        .map(|groups| load_chunk(gpu, limits, tensor, groups.clone(), group_bytes))
                        .collect()
                })
                .collect();
            let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let copy = [(); 2].map(|()| gpu.allocate("copy", copy_bytes, usage));
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            for buffer in &copy {
                // Written once: memory that was never written may not be there yet.
                gpu.poison(&mut encoder, buffer, buffer.size());
            }
            gpu.queue.submit([encoder.finish()]);
            Self {
                pipeline,
                sets,
                copy,
            }
        })?;
        gpu.wait()?;
        Ok(resident)
    }

    /// Runs the kernel on one set.
    pub(super) fn kernel(&self, gpu: &mut Gpu, set: usize) -> Result<Timed> {
        self.timed(gpu, |gpu, encoder| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: gpu.timer.as_ref().map(Timer::of_pass),
            });
            pass.set_pipeline(&self.pipeline);
            for chunk in &self.sets[set] {
                let [x, y] = chunk.grid;
                pass.set_bind_group(0, &chunk.bind_group, &[]);
                pass.dispatch_workgroups(x, y, 1);
            }
            gpu.timer.is_some()
        })
    }

    /// Copies one of the two buffers to the other.
    pub(super) fn copy(&self, gpu: &mut Gpu) -> Result<Timed> {
        let [from, to] = &self.copy;
        self.timed(gpu, |gpu, encoder| {
            let timer = gpu.timer.as_ref().filter(|t| t.around_copies);
            if let Some(t) = timer {
                t.mark(encoder, 0);
            }
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
            if let Some(t) = timer {
                t.mark(encoder, 1);
            }
            timer.is_some()
        })
    }

    /// Submits what `encode` puts down and waits for it. `encode` says whether it set timestamps.
    fn timed(
        &self,
        gpu: &mut Gpu,
        encode: impl FnOnce(&Gpu, &mut wgpu::CommandEncoder) -> bool,
    ) -> Result<Timed> {
        let (start, stamped) = gpu.scoped(|gpu| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            let stamped = encode(gpu, &mut encoder);
            if let Some(t) = gpu.timer.as_ref().filter(|_| stamped) {
                t.resolve(&mut encoder);
            }
            let commands = encoder.finish();
            let start = Instant::now();
            gpu.queue.submit([commands]);
            (start, stamped)
        })?;
        gpu.wait()?;
        let wall = start.elapsed();
        Ok(Timed {
            device: if stamped { gpu.elapsed() } else { None },
            wall,
        })
    }

    /// Reads one set's result.
    pub(super) fn read(&self, gpu: &mut Gpu, set: usize, out: &mut [u8]) -> Result<()> {
        for chunk in &self.sets[set] {
            let size = chunk.bytes.len() as u64;
            let read = gpu.scoped(|gpu| {
                let read = gpu.buffer("read", size, READ);
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(&chunk.result, 0, &read, 0, size);
                gpu.queue.submit([encoder.finish()]);
                read
            })?;
            let view = gpu.map(&read, size)?;
            out[chunk.bytes.clone()].copy_from_slice(&view);
            drop(view);
            read.unmap();
        }
        Ok(())
    }
}

fn load_chunk(
    gpu: &mut Gpu,
    limits: &chunk::Limits,
    tensor: &TqTensor,
    groups: Range<usize>,
    group_bytes: usize,
) -> Chunk {
    let dispatch = Dispatch::new(tensor, groups.clone(), limits.workgroups, false);
    let inputs = dispatch.inputs().map(|(name, bytes, usage)| {
        let buffer = gpu.allocate(name, bytes.len() as u64, usage | BufferUsages::COPY_DST);
        gpu.write(&buffer, bytes);
        buffer
    });
    let result = gpu.allocate("result", dispatch.out_bytes, RESULT);
    let bind_group = gpu.bind(&inputs, &result, dispatch.out_bytes);
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    gpu.poison(&mut encoder, &result, dispatch.out_bytes);
    gpu.queue.submit([encoder.finish()]);
    Chunk {
        bind_group,
        grid: dispatch.grid,
        result,
        bytes: groups.start * group_bytes..groups.end * group_bytes,
    }
}
