//! Device and pipelines of one adapter.

use super::compute;
use super::diagnostic;
use super::loss::{Loss, Why};
use super::program::{ShaderProgram, refused};
use super::scope::Scope;
use super::timer::Timer;
use super::token::Token;
use super::{Failure, WgpuOptions};
use crate::error::{Error, Result};
use crate::lane::{POISON_F32, broke};
use crate::record::{DeviceArithmetic, LaneName};
use ::wgpu::{self, BufferUsages, Features};
use std::collections::HashMap;
use std::time::Duration;

/// Bytes of poison copied at a time.
const POISON_BYTES: u64 = 1 << 20;

/// Usage of a result.
pub(super) const RESULT: BufferUsages = BufferUsages::STORAGE
    .union(BufferUsages::COPY_SRC)
    .union(BufferUsages::COPY_DST);

/// How a buffer that the host reads is used.
pub(super) const READ: BufferUsages = BufferUsages::MAP_READ.union(BufferUsages::COPY_DST);

/// A device that has not answered for so long hangs: a driver's own limit for a dispatch is seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// A CPU is shared with others, and does not hang.
const SOFTWARE_LIMIT: Duration = LIMIT.saturating_mul(10);

/// What a test counts, over every device that a lane opens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DeviceCounts {
    allocations: u32,
    pub(super) runs: u32,
}

/// An open device.
pub(super) struct Gpu {
    pub(super) lane: LaneName,
    /// What became of it.
    pub(super) loss: Loss,
    /// How long it may take for what is submitted.
    pub(super) limit: Duration,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) timer: Option<Timer>,
    pub(super) token: Token,
    /// What it runs.
    pub(super) program: ShaderProgram,
    module: Option<wgpu::ShaderModule>,
    bindings: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    /// By entry point and constants, the bits of their values.
    pipelines: HashMap<(String, Vec<(String, u64)>), wgpu::ComputePipeline>,
    pub(super) counts: DeviceCounts,
    pub(super) fail: Option<Failure>,
    /// Whether what is submitted next is dropped, for a test.
    pub(super) drops: bool,
    poison: wgpu::Buffer,
}

impl Gpu {
    /// Opens `adapter`.
    pub(super) fn new(
        adapter: &wgpu::Adapter,
        lane: LaneName,
        options: &WgpuOptions,
        counts: DeviceCounts,
    ) -> Result<Self> {
        let limits = match options.fail {
            Some(Failure::LowLimits) => wgpu::Limits::downlevel_webgl2_defaults(),
            // The adapter's own: the defaults would hold a large GPU to 128 MiB.
            _ => adapter.limits(),
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tq4"),
            required_features: adapter.features() & features(options),
            required_limits: limits,
            ..Default::default()
        }))
        .map_err(|e| no_device(&lane, &e))?;
        let loss = Loss::default();
        loss.watch(&device);
        // Errors are asked for in scopes; what arrives outside one must not end the program.
        device.on_uncaptured_error(std::sync::Arc::new(|_| ()));
        let mut program = match &options.kernel {
            Some(kernel) => ShaderProgram::User(Box::new(kernel.clone())),
            None => ShaderProgram::own(options.hand_over == Some(true), options.output),
        };
        if let (Some(other), ShaderProgram::Own { text, .. }) = (&options.shader, &mut program) {
            text.clone_from(other);
        }
        let scope = Scope::open(&device);
        let bindings = compute::layout(&device, &program.bindings());
        let pipeline_layout = compute::pipeline_layout(&device, &bindings);
        let poison = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("poison"),
            size: POISON_BYTES,
            usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let timer = Timer::new(&device, &queue);
        let token = Token::new(&device);
        let closed = scope.close(&lane);
        loss.check(&lane)?;
        closed?;
        queue.write_buffer(
            &poison,
            0,
            &POISON_F32.to_ne_bytes().repeat(POISON_BYTES as usize / 4),
        );
        let info = adapter.get_info();
        let limit = match info.device_type {
            wgpu::DeviceType::Cpu => SOFTWARE_LIMIT,
            _ => LIMIT,
        };
        Ok(Self {
            lane,
            loss,
            limit: options.limit.unwrap_or(limit),
            device,
            queue,
            timer,
            token,
            program,
            module: None,
            bindings,
            pipeline_layout,
            pipelines: HashMap::new(),
            counts,
            fail: options.fail,
            drops: false,
            poison,
        })
    }

    /// Compiles the program.
    pub(super) fn compile(&mut self) -> Result<()> {
        let text = self.program.text();
        let mut said = None;
        let module = self.scoped(|gpu| {
            let module = gpu
                .device
                .create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: Some("tq4_dequant"),
                    source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
                });
            let info = pollster::block_on(module.get_compilation_info());
            said = info.messages.into_iter().next();
            module
        });
        let module = module.map_err(|e| match (&self.program, &said) {
            (ShaderProgram::User(kernel), Some(said)) => {
                let what = diagnostic::in_lines(&kernel.source_name(), &text, said);
                broke(&self.lane, what, "look at the source")
            }
            _ => self.refused(e),
        });
        self.module = Some(module?);
        Ok(())
    }

    /// Takes the form of the shader that is safe on a device with this arithmetic, unless a test asks for one.
    pub(super) fn choose(&mut self, wanted: Option<bool>, found: Option<DeviceArithmetic>) {
        if let ShaderProgram::Own { hand_over, .. } = &mut self.program {
            *hand_over = wanted.unwrap_or(found.is_some_and(|a| !a.guard_by_fma));
        }
    }

    /// An error over a shader; a user's has another cause than this project's.
    fn refused(&self, e: Error) -> Error {
        match (&self.program, &e) {
            (ShaderProgram::User(kernel), Error::Backend(p)) => {
                refused(&self.lane, kernel, &p.what)
            }
            _ => e,
        }
    }

    /// The pipeline of an entry point with these constants.
    pub(super) fn pipeline(
        &mut self,
        entry: String,
        constants: Vec<(String, f64)>,
    ) -> Result<wgpu::ComputePipeline> {
        let bits = constants
            .iter()
            .map(|(name, v)| (name.clone(), v.to_bits()));
        let key = (entry, bits.collect());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let made = self.scoped(|gpu| {
            let constants: Vec<(&str, f64)> = constants
                .iter()
                .map(|(name, v)| (name.as_str(), *v))
                .collect();
            gpu.device
                .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some("tq4_dequant"),
                    layout: Some(&gpu.pipeline_layout),
                    module: gpu.module.as_ref().expect("made when opened"),
                    entry_point: Some(&key.0),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &constants,
                        // This project's shader writes every element before it is read.
                        zero_initialize_workgroup_memory: matches!(
                            gpu.program,
                            ShaderProgram::User(_)
                        ),
                    },
                    cache: None,
                })
        });
        let pipeline = made.map_err(|e| self.refused(e))?;
        self.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// A new buffer of at least `size` bytes.
    pub(super) fn allocate(&mut self, label: &str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.counts.allocations += 1;
        let size = match self.fail {
            Some(Failure::Allocation(n)) if n == self.counts.allocations => u64::MAX / 16 * 16,
            _ => size.next_multiple_of(16),
        };
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Writes `bytes` to a buffer, padded to whole words.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(buffer, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut word = [0; 4];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(buffer, whole as u64, &word);
        }
    }

    /// Binds so many bytes of each buffer, in whole words.
    pub(super) fn bind(&self, bound: &[(wgpu::Buffer, u64)]) -> wgpu::BindGroup {
        let bound = bound.iter().map(|(buffer, bytes)| (buffer, *bytes));
        compute::bind(&self.device, &self.bindings, bound)
    }

    /// Puts down that `bytes` of `buffer` are filled with poison.
    pub(super) fn poison(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        bytes: u64,
    ) {
        for start in (0..bytes).step_by(POISON_BYTES as usize) {
            let size = POISON_BYTES.min(bytes - start);
            encoder.copy_buffer_to_buffer(&self.poison, 0, buffer, start, size);
        }
    }
}

/// A driver that fails while it makes a device says why in words alone.
fn no_device(lane: &LaneName, e: &wgpu::RequestDeviceError) -> Error {
    let text = format!("no device: {e}");
    match Why::told(&text) {
        Why::Lost(_) if !text.contains("is lost") => broke(lane, text, "use another adapter"),
        why => why.error(lane),
    }
}

/// What a program may use of what an adapter has.
fn features(options: &WgpuOptions) -> Features {
    let mut own = Timer::FEATURES;
    if options.fail == Some(Failure::NoStampsAroundCopies) {
        own.remove(Features::TIMESTAMP_QUERY_INSIDE_ENCODERS);
    }
    match options.kernel {
        None => own,
        Some(_) => own | Features::SUBGROUP | Features::SHADER_F16 | Features::SHADER_INT64,
    }
}
