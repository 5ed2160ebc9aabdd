//! The lane's memory: one strip at a time stays on the device while its kernel runs, once or many times.

use super::chunk::Limits;
use super::copy::Copy;
use super::dispatch::{BoundBuffer, Dispatch};
use super::gpu::{Gpu, READ, RESULT};
use super::submit::EncodeFn;
use crate::error::Result;
use crate::lane::{Round, Timed};
use crate::tensor::TqTensor;
use ::wgpu::{self, Buffer, BufferUsages};
use std::ops::Range;

/// What the lane holds on the device. Each chunk of a strip has buffers of its own, by its place.
#[derive(Default)]
pub(super) struct Resident {
    /// By binding.
    buffers: Vec<Vec<Option<Buffer>>>,
    read: Option<Buffer>,
    copy: Option<Copy>,
    /// The chunks of the loaded strip.
    loaded: Option<Vec<Chunk>>,
}

/// One dispatch, ready to run again and again.
struct Chunk {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    result: Buffer,
    /// Where its result lies in the strip's.
    bytes: Range<usize>,
}

impl Resident {
    /// Uploads `tensor` and poisons its output.
    pub(super) fn load(&mut self, gpu: &mut Gpu, limits: &Limits, tensor: &TqTensor) -> Result<()> {
        let group = tensor.layout().group_size() * gpu.program.output().size();
        let plan = gpu.program.plan_dispatches(limits, tensor, &gpu.lane)?;
        self.buffers
            .resize_with(self.buffers.len().max(plan.len()), Default::default);
        let mut chunks = Vec::with_capacity(plan.len());
        for (buffers, groups) in self.buffers.iter_mut().zip(plan) {
            let bytes = groups.start * group..groups.end * group;
            let (entry, constants) = gpu.program.pipeline(tensor, &groups)?;
            let pipeline = gpu.pipeline(entry, constants)?;
            let dispatch = gpu.program.dispatch(tensor, groups, limits.workgroups)?;
            // What is written waits on the host for a submission, and one chunk is enough there.
            chunks.push(gpu.done(|gpu, encoder| {
                let chunk = load_chunk(gpu, encoder, buffers, pipeline, &dispatch, bytes);
                let result = chunk.result.clone();
                (chunk, result)
            })?);
        }
        self.loaded = Some(chunks);
        Ok(())
    }

    fn loaded(&self) -> &[Chunk] {
        self.loaded.as_ref().expect("a strip is loaded")
    }

    /// Runs the kernel on the strip.
    pub(super) fn run(&self, gpu: &mut Gpu) -> Result<Timed> {
        gpu.count_run();
        let chunks = self.loaded();
        let [timed] = gpu.timed(
            result(chunks),
            [&|gpu, encoder, pair| encode(chunks, gpu, encoder, pair)],
        )?;
        Ok(timed)
    }

    /// Makes room for copies of `bytes`.
    fn reserve_copy(&mut self, gpu: &mut Gpu, limits: &Limits, bytes: u64) -> Result<&Copy> {
        if self.copy.as_ref().is_none_or(|c| !c.holds(bytes)) {
            self.copy = None;
            self.copy = Some(Copy::new(gpu, bytes, limits.workgroups)?);
        }
        Ok(self.copy.as_ref().expect("made above"))
    }

    /// Copies `bytes` from one buffer to another.
    pub(super) fn copy(&mut self, gpu: &mut Gpu, limits: &Limits, bytes: u64) -> Result<Timed> {
        let copy = self.reserve_copy(gpu, limits, bytes)?;
        let [timed] = gpu.timed(
            copy.written(),
            [&|gpu, encoder, pair| {
                copy.encode(encoder, bytes, gpu.timer.as_ref(), pair);
            }],
        )?;
        Ok(timed)
    }

    /// A copy and the kernel twice, submitted together.
    pub(super) fn round(&mut self, gpu: &mut Gpu, limits: &Limits, bytes: u64) -> Result<Round> {
        self.reserve_copy(gpu, limits, bytes)?;
        gpu.count_run();
        gpu.count_run();
        let copy = self.copy.as_ref().expect("reserved above");
        let chunks = self.loaded();
        let kernel: EncodeFn<'_> = &|gpu, encoder, pair| encode(chunks, gpu, encoder, pair);
        let copy: EncodeFn<'_> = &|gpu, encoder, pair| {
            copy.encode(encoder, bytes, gpu.timer.as_ref(), pair);
        };
        let [copy, cold, warm] = gpu.timed(result(chunks), [copy, kernel, kernel])?;
        Ok(Round {
            copy: Some(copy),
            cold,
            warm,
        })
    }

    /// Reads the output.
    pub(super) fn read(&mut self, gpu: &mut Gpu, out: &mut [u8]) -> Result<()> {
        let chunks = self.loaded.as_ref().expect("a strip is loaded");
        let end = chunks.last().map_or(0, |chunk| chunk.bytes.end);
        assert_eq!(out.len(), end, "the output's length");
        for chunk in chunks {
            let size = chunk.bytes.len() as u64;
            // Kept only when all went well: it may be invalid, or still mapped.
            let mut kept = self.read.take();
            let read = gpu.done(|gpu, encoder| {
                let read = grown(gpu, &mut kept, "read", size, READ);
                encoder.copy_buffer_to_buffer(&chunk.result, 0, &read, 0, size);
                // No shader reads what the host does; the copy's source is the shader's to read after it.
                (read, chunk.result.clone())
            })?;
            let to = &mut out[chunk.bytes.clone()];
            gpu.map(&read, size, |bytes| to.copy_from_slice(bytes))?;
            self.read = Some(read);
        }
        Ok(())
    }
}

/// What the kernel writes last.
fn result(chunks: &[Chunk]) -> &Buffer {
    &chunks.last().expect("a tensor has a group").result
}

/// Puts the kernel down, in a pass with timestamps where the device has some.
fn encode(chunks: &[Chunk], gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, pair: u32) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
        label: None,
        timestamp_writes: gpu.timer.as_ref().map(|t| t.of_pass(pair)),
    });
    for chunk in chunks {
        let [x, y, z] = chunk.grid;
        pass.set_pipeline(&chunk.pipeline);
        pass.set_bind_group(0, &chunk.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
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
    encoder: &mut wgpu::CommandEncoder,
    kept: &mut Vec<Option<Buffer>>,
    pipeline: wgpu::ComputePipeline,
    dispatch: &Dispatch<'_>,
    bytes: Range<usize>,
) -> Chunk {
    kept.resize(dispatch.bindings.len(), None);
    let mut bound = Vec::with_capacity(kept.len());
    let mut result = None;
    for (kept, binding) in kept.iter_mut().zip(&dispatch.bindings) {
        let (data, usage): (&[u8], _) = match binding {
            BoundBuffer::Uniform(data) => (data, BufferUsages::UNIFORM),
            BoundBuffer::Read(data) => (data, BufferUsages::STORAGE),
            BoundBuffer::Out(size) => {
                let buffer = grown(gpu, kept, "result", *size, RESULT);
                gpu.poison(encoder, &buffer, *size);
                bound.push((buffer.clone(), *size));
                result = Some(buffer);
                continue;
            }
        };
        let size = data.len() as u64;
        let buffer = grown(gpu, kept, "input", size, usage | BufferUsages::COPY_DST);
        gpu.write(&buffer, data);
        bound.push((buffer, size));
    }
    Chunk {
        bind_group: gpu.bind(&bound),
        pipeline,
        grid: dispatch.grid,
        result: result.expect("every shader has an output"),
        bytes,
    }
}
