//! Copies from one buffer to another: what a device's bandwidth is measured by.

use super::chunk;
use super::compute::ComputeShader;
use super::gpu::Gpu;
use super::program::Binding;
use super::timer::Timer;
use crate::error::Result;
use crate::lane::broke;
use ::wgpu::{self, BufferUsages};

/// The shader that copies where the API has no timestamps around a copy of its own.
const SHADER: &str = include_str!("../../../shaders/copy.wgsl");

/// Bytes that a workgroup of the shader copies.
const BYTES_PER_WORKGROUP: u64 = 256 * 16;

/// Two buffers, and how one is copied to the other.
pub(super) struct Copy {
    from: wgpu::Buffer,
    to: wgpu::Buffer,
    /// The shader, its bindings and workgroups, where it is used.
    pass: Option<(ComputeShader, wgpu::BindGroup, [u32; 2])>,
}

impl Copy {
    /// Buffers of `bytes`, written once: memory that was never written may not be there yet.
    pub(super) fn new(gpu: &mut Gpu, bytes: u64, max_workgroups: u32) -> Result<Self> {
        let by_pass = gpu.timer.as_ref().is_some_and(|t| !t.around_copies);
        if by_pass && bytes > gpu.device.limits().max_storage_buffer_binding_size {
            let what = format!("a buffer of {bytes} bytes cannot be bound");
            return Err(broke(
                &gpu.lane,
                what,
                "take smaller copies with --copy-size",
            ));
        }
        gpu.done(|gpu, encoder| {
            let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST | BufferUsages::STORAGE;
            let [from, to] = [(); 2].map(|()| gpu.allocate("copy", bytes, usage));
            for buffer in [&from, &to] {
                gpu.poison(encoder, buffer, bytes);
            }
            let pass = by_pass.then(|| {
                let workgroups = bytes.div_ceil(BYTES_PER_WORKGROUP) as u32;
                let kinds = [Binding::Read, Binding::Out];
                let pass = ComputeShader::new(&gpu.device, "copy", SHADER, &kinds);
                let bound = pass.bind(&gpu.device, [&from, &to].map(|b| (b, b.size())));
                (pass, bound, chunk::grid(workgroups, max_workgroups))
            });
            let last = to.clone();
            (Self { from, to, pass }, last)
        })
    }

    /// The buffer that is written.
    pub(super) fn written(&self) -> &wgpu::Buffer {
        &self.to
    }

    /// Whether the buffers hold so many bytes.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        self.from.size() >= bytes
    }

    /// Puts a copy of `bytes` down, between the timestamps of `pair` where the device has some.
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        bytes: u64,
        timer: Option<&Timer>,
        pair: u32,
    ) {
        if let (Some((pass, bound, grid)), Some(timer)) = (&self.pass, timer) {
            return pass.encode(encoder, bound, *grid, Some(timer.of_pass(pair)));
        }
        if let Some(t) = timer {
            t.mark(encoder, pair, 0);
        }
        encoder.copy_buffer_to_buffer(&self.from, 0, &self.to, 0, bytes);
        if let Some(t) = timer {
            t.mark(encoder, pair, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gpu::{DeviceCounts, READ};
    use super::super::submit::EncodeFn;
    use super::super::{Failure, Select, WgpuOptions, adapters};
    use super::*;
    use crate::record::LaneName;

    /// Copies so many bytes and checks that they arrive; `None` where there is no adapter.
    fn copied(fail: Option<Failure>, bytes: u64, max_workgroups: u32) -> Option<()> {
        let instance = adapters::instance(false);
        let (adapter, _) = adapters::select(adapters::enumerate(&instance), &Select::Auto).ok()?;
        let options = WgpuOptions {
            fail,
            ..Default::default()
        };
        let mut gpu =
            Gpu::new(&adapter, LaneName::Wgpu, &options, DeviceCounts::default()).unwrap();
        let copy = Copy::new(&mut gpu, bytes, max_workgroups).unwrap();
        let timed = gpu.timer.is_some();
        assert_eq!(copy.pass.is_some(), timed && fail.is_some());
        let data: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        gpu.queue.write_buffer(&copy.from, 0, &data);
        let piece: EncodeFn<'_> =
            &|gpu, encoder, pair| copy.encode(encoder, bytes, gpu.timer.as_ref(), pair);
        let [time] = gpu.timed(copy.written(), [piece]).unwrap();
        assert_eq!(time.device.is_some(), timed);
        let read = gpu.scoped(|gpu| {
            let read = gpu.allocate("read", bytes, READ);
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&copy.to, 0, &read, 0, bytes);
            gpu.queue.submit([encoder.finish()]);
            read
        });
        let arrived = gpu.map(&read.unwrap(), bytes, <[u8]>::to_vec).unwrap();
        assert!(
            arrived == data,
            "{bytes} bytes, {max_workgroups} workgroups"
        );
        Some(())
    }

    #[test]
    fn every_byte_is_copied_by_either_way() {
        for fail in [None, Some(Failure::NoStampsAroundCopies)] {
            for (bytes, max_workgroups) in [(16, 1), (4096, 1), (65_552, 5), (1 << 20, 65_535)] {
                if copied(fail, bytes, max_workgroups).is_none() {
                    eprintln!("NOT RUN: copies: no adapter");
                }
            }
        }
    }
}
