//! Proof that a submission ran: a number that goes to the device with it and comes back.
//!
//! A driver may tell of work that failed as of work that is done: wgpu takes the error of a command buffer on
//! Metal for its end. What is read then is what was there before.

use super::compute::ComputeShader;
use super::program::Binding;
use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use ::wgpu::{self, BufferUsages};

/// The number, beside the first word of what was to be done before it.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> sent: u32;
@group(0) @binding(1) var<storage, read> done: u32;
@group(0) @binding(2) var<storage, read_write> back: vec2<u32>;
@compute @workgroup_size(1)
fn token() {
    back = vec2<u32>(sent, done);
}
";

/// Bytes of the number.
pub(super) const BYTES: u64 = 4;

/// From one number to the next: odd, so that all of them come, and none that memory often holds comes first.
const STEP: u32 = 0x9E37_79B9;

/// The number and its way.
pub(super) struct Token {
    number: u32,
    sent: wgpu::Buffer,
    back: wgpu::Buffer,
    read: wgpu::Buffer,
    pass: ComputeShader,
}

impl Token {
    /// Its buffers and its pipeline; errors go to the scope that is open.
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let buffer = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let (from, to) = (BufferUsages::COPY_SRC, BufferUsages::COPY_DST);
        let storage = BufferUsages::STORAGE;
        let kinds = [Binding::Read, Binding::Read, Binding::Out];
        Self {
            number: 0,
            sent: buffer("token sent", BYTES, storage | to),
            back: buffer("token", 2 * BYTES, storage | from),
            read: buffer("token read", BYTES, BufferUsages::MAP_READ | to),
            pass: ComputeShader::new(device, "token", SHADER, &kinds),
        }
    }

    /// Puts down that another number comes back once `done` is written; to be submitted at once.
    ///
    /// It is a pass of the kernel's kind, on the same queue, and reads what the kernel or the copy before it
    /// used: it waits for them, and no engine for copies does it in their stead. The number goes with the
    /// uploads that wait for this submission, so it is not there where these did not run. Whether all of the
    /// kernel's invocations ran it cannot tell; the poison can.
    pub(super) fn follow(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        done: &wgpu::Buffer,
    ) {
        self.number = self.number.wrapping_add(STEP);
        queue.write_buffer(&self.sent, 0, &self.number.to_ne_bytes());
        let bound = [(&self.sent, BYTES), (done, BYTES), (&self.back, 2 * BYTES)];
        let bound = self.pass.bind(device, bound);
        self.pass.encode(encoder, &bound, [1, 1], None);
        encoder.copy_buffer_to_buffer(&self.back, 0, &self.read, 0, BYTES);
    }

    /// Where the number arrives.
    pub(super) fn read(&self) -> &wgpu::Buffer {
        &self.read
    }

    /// Holds what arrived to what was sent.
    pub(super) fn check(&self, lane: &LaneName, bytes: &[u8]) -> Result<()> {
        if bytes == self.number.to_ne_bytes() {
            return Ok(());
        }
        Err(did_not_run(lane))
    }
}

fn did_not_run(lane: &LaneName) -> Error {
    broke(
        lane,
        "the device did not run the work, and its driver reported no error",
        "see the driver's log for a reset or a fault of the GPU; smaller strips may help",
    )
}
