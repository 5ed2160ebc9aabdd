//! Proof that a submission ran: a number that goes to the device with it and comes back.
//!
//! A driver may tell of work that failed as of work that is done: wgpu takes the error of a command buffer on
//! Metal for its end. What is read then is what was there before.

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
    bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
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
        let bindings = layout(device);
        Self {
            number: 0,
            sent: buffer("token sent", BYTES, storage | to),
            back: buffer("token", 2 * BYTES, storage | from),
            read: buffer("token read", BYTES, BufferUsages::MAP_READ | to),
            pipeline: pipeline(device, &bindings),
            bindings,
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
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
            .zip(bound)
            .map(|(binding, (buffer, bytes))| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: std::num::NonZeroU64::new(bytes),
                }),
            })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("token"),
            layout: &self.bindings,
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        drop(pass);
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

/// The bindings of the shader. Not derived from it, as those of the probe.
fn layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entries =
        [(0, true), (1, true), (2, false)].map(|(binding, read_only)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        });
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("token"),
        entries: &entries,
    })
}

fn pipeline(device: &wgpu::Device, bindings: &wgpu::BindGroupLayout) -> wgpu::ComputePipeline {
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("token"),
        bind_group_layouts: &[Some(bindings)],
        ..Default::default()
    });
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("token"),
        source: wgpu::ShaderSource::Wgsl(SHADER.into()),
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("token"),
        layout: Some(&layout),
        module: &module,
        entry_point: Some("token"),
        compilation_options: Default::default(),
        cache: None,
    })
}
