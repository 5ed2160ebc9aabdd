//! Device and pipelines of one adapter.

use super::dispatch::constants;
use super::scope::Scope;
use super::timer::Timer;
use super::{Failure, Options, probe, shader::shader};
use crate::error::{Error, Result};
use crate::lane::{POISON_F32, Timed, broke};
use crate::record::{LaneName, OutputType};
use crate::tensor::Layout;
use ::wgpu::{self, BufferUsages, Features};
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes of poison copied at a time.
const POISON_BYTES: u64 = 1 << 20;

/// Usage of a result.
pub(super) const RESULT: BufferUsages = BufferUsages::STORAGE
    .union(BufferUsages::COPY_SRC)
    .union(BufferUsages::COPY_DST);

/// How a buffer that the host reads is used.
pub(super) const READ: BufferUsages = BufferUsages::MAP_READ.union(BufferUsages::COPY_DST);

/// An open device.
pub(super) struct Gpu {
    pub(super) lane: LaneName,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) timer: Option<Timer>,
    /// Strides that go by shuffles are below it; 1 in the variant without subgroups.
    pub(super) reach: u32,
    /// The text that the driver got.
    pub(super) shader: String,
    module: Option<wgpu::ShaderModule>,
    bindings: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    pipelines: HashMap<Layout, wgpu::ComputePipeline>,
    allocations: u32,
    runs: u32,
    output: OutputType,
    fail: Option<Failure>,
    poison: wgpu::Buffer,
}

impl Gpu {
    /// Opens `adapter` and compiles the variant of the shader that suits it.
    pub(super) fn new(adapter: &wgpu::Adapter, lane: LaneName, options: &Options) -> Result<Self> {
        let limits = match options.fail {
            Some(Failure::LowLimits) => wgpu::Limits::downlevel_webgl2_defaults(),
            // The adapter's own: the defaults would hold a large GPU to 128 MiB.
            _ => adapter.limits(),
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tq4"),
            required_features: adapter.features() & (Timer::FEATURES | Features::SUBGROUP),
            required_limits: limits,
            ..Default::default()
        }))
        .map_err(|e| broke(&lane, format!("no device: {e}"), "use another adapter"))?;
        // Errors are asked for in scopes; what arrives outside one must not end the program.
        device.on_uncaptured_error(std::sync::Arc::new(|_| ()));
        let scope = Scope::open(&device);
        let bindings = bind_group_layout(&device);
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&bindings)],
            ..Default::default()
        });
        let poison = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("poison"),
            size: POISON_BYTES,
            usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let timer = Timer::new(&device, &queue);
        scope.close(&lane)?;
        queue.write_buffer(
            &poison,
            0,
            &POISON_F32.to_ne_bytes().repeat(POISON_BYTES as usize / 4),
        );
        let mut gpu = Self {
            lane,
            device,
            queue,
            timer,
            reach: 1,
            shader: String::new(),
            module: None,
            bindings,
            pipeline_layout,
            pipelines: HashMap::new(),
            allocations: 0,
            runs: 0,
            output: options.output,
            fail: options.fail,
            poison,
        };
        let text = options.shader.as_deref();
        gpu.choose_variant(text, least_subgroup(&adapter.get_info()), options.subgroups)?;
        Ok(gpu)
    }

    fn choose_variant(
        &mut self,
        text: Option<&str>,
        promised: u32,
        wanted: Option<bool>,
    ) -> Result<()> {
        let there = self.device.features().contains(Features::SUBGROUP);
        if there && wanted != Some(false) {
            // A device that cannot do the probe has the other variant.
            self.reach = match probe::reach(self, promised) {
                Err(e) if wanted == Some(true) => return Err(e),
                probed => probed.unwrap_or(1),
            };
        }
        if wanted == Some(true) && self.reach < 2 {
            return Err(Error::unavailable(
                "the adapter has no subgroups of consecutive invocations",
                format!("lane {}", self.lane),
                "use the variant that works through workgroup memory",
            ));
        }
        self.shader = text.unwrap_or(shader(self.reach > 1)).to_owned();
        let module = self.scoped(|gpu| {
            gpu.device
                .create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: Some("tq4_dequant"),
                    source: wgpu::ShaderSource::Wgsl(gpu.shader.as_str().into()),
                })
        })?;
        self.module = Some(module);
        Ok(())
    }

    /// Does `work` and reports the errors that it made.
    pub(super) fn scoped<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T> {
        let scope = Scope::open(&self.device);
        let made = work(self);
        scope.close(&self.lane)?;
        Ok(made)
    }

    pub(super) fn pipeline(&mut self, layout: Layout) -> wgpu::ComputePipeline {
        let module = self.module.as_ref().expect("made when opened");
        let is_f32 = self.output == OutputType::F32;
        let make = || {
            self.device
                .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some("tq4_dequant"),
                    layout: Some(&self.pipeline_layout),
                    module,
                    entry_point: Some("tq4_dequant"),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &constants(layout, is_f32, self.reach),
                        // Every element is written before it is read.
                        zero_initialize_workgroup_memory: false,
                    },
                    cache: None,
                })
        };
        self.pipelines.entry(layout).or_insert_with(make).clone()
    }

    /// A new buffer of at least `size` bytes.
    pub(super) fn allocate(&mut self, label: &str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.allocations += 1;
        let size = match self.fail {
            Some(Failure::Allocation(n)) if n == self.allocations => u64::MAX / 16 * 16,
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

    /// Binds the inputs and `bytes` of `result`.
    pub(super) fn bind(
        &self,
        inputs: &[wgpu::Buffer; 4],
        result: &wgpu::Buffer,
        bytes: u64,
    ) -> wgpu::BindGroup {
        let mut entries: Vec<wgpu::BindGroupEntry<'_>> = inputs
            .iter()
            .enumerate()
            .map(|(i, b)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: b.as_entire_binding(),
            })
            .collect();
        entries.push(wgpu::BindGroupEntry {
            binding: 4,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: result,
                offset: 0,
                size: std::num::NonZeroU64::new(bytes),
            }),
        });
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.bindings,
            entries: &entries,
        })
    }

    /// Fills `bytes` of `buffer` with poison.
    pub(super) fn poison(&self, buffer: &wgpu::Buffer, bytes: u64) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for start in (0..bytes).step_by(POISON_BYTES as usize) {
            let size = POISON_BYTES.min(bytes - start);
            encoder.copy_buffer_to_buffer(&self.poison, 0, buffer, start, size);
        }
        self.queue.submit([encoder.finish()]);
    }

    /// Submits what `encode` puts down and waits for it. `encode` says whether it set timestamps.
    pub(super) fn timed(
        &mut self,
        encode: impl FnOnce(&Self, &mut wgpu::CommandEncoder) -> bool,
    ) -> Result<Timed> {
        let (start, stamped) = self.scoped(|gpu| {
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
        self.wait()?;
        let wall = start.elapsed();
        Ok(Timed {
            device: if stamped { self.elapsed() } else { None },
            wall,
        })
    }

    /// Loses the device before the run that a test asked for.
    pub(super) fn count_run(&mut self) {
        self.runs += 1;
        if self.fail == Some(Failure::DeviceLost(self.runs)) {
            self.device.destroy();
        }
    }

    /// Waits until all that was submitted is done.
    pub(super) fn wait(&self) -> Result<()> {
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| self.lost(&e))?;
        Ok(())
    }

    fn lost(&self, e: &dyn std::fmt::Display) -> Error {
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
        buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            // The receiver is gone only when the wait below failed.
            let _ = sender.send(result);
        });
        self.wait()?;
        receiver
            .recv()
            .map_err(|e| self.lost(&e))?
            .map_err(|e| self.lost(&e))?;
        let view = buffer
            .get_mapped_range(0..size)
            .map_err(|e| self.lost(&e))?;
        let taken = take(&view);
        drop(view);
        buffer.unmap();
        Ok(taken)
    }

    /// Time between the last pair of timestamps; `None` when they are missing, tie or run backwards.
    fn elapsed(&self) -> Option<Duration> {
        let timer = self.timer.as_ref()?;
        self.map(timer.read(), 16, |bytes| timer.elapsed(bytes))
            .ok()?
    }
}

/// Least invocations in a subgroup. For Metal wgpu has the range of all devices, 4 to 64; Apple's have 32.
fn least_subgroup(info: &wgpu::AdapterInfo) -> u32 {
    if info.backend == wgpu::Backend::Metal && info.name.starts_with("Apple") {
        32
    } else {
        info.subgroup_min_size
    }
}

/// Parameters, three inputs and the result, as the shader declares them.
fn bind_group_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &[
            entry(0, wgpu::BufferBindingType::Uniform),
            entry(1, storage(true)),
            entry(2, storage(true)),
            entry(3, storage(true)),
            entry(4, storage(false)),
        ],
    })
}
