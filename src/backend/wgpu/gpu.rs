//! Device, pipelines and buffers of one adapter.

use super::dispatch::{Dispatch, constants};
use super::scope::Scope;
use super::timer::Timer;
use super::{Failure, probe, shader::shader};
use crate::backend::{Cost, POISON_F32, broke};
use crate::error::{Error, Result};
use crate::tensor::Layout;
use ::wgpu::{self, BufferUsages, Features};
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

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
    pub(super) lane: String,
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
    pipelines: HashMap<(Layout, bool), wgpu::ComputePipeline>,
    buffers: HashMap<&'static str, wgpu::Buffer>,
    allocations: u32,
    dispatches: u32,
    fail: Option<Failure>,
    poison: wgpu::Buffer,
}

impl Gpu {
    /// Opens `adapter` and compiles the variant that suits it, or `text` in its place; `subgroups` forces one.
    pub(super) fn new(
        adapter: &wgpu::Adapter,
        lane: &str,
        text: Option<&str>,
        subgroups: Option<bool>,
        fail: Option<Failure>,
    ) -> Result<Self> {
        let limits = match fail {
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
        .map_err(|e| broke(lane, format!("no device: {e}"), "try another --adapter"))?;
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
        scope.close(lane)?;
        queue.write_buffer(
            &poison,
            0,
            &POISON_F32.to_ne_bytes().repeat(POISON_BYTES as usize / 4),
        );
        let mut gpu = Self {
            lane: lane.to_owned(),
            device,
            queue,
            timer,
            reach: 1,
            shader: String::new(),
            module: None,
            bindings,
            pipeline_layout,
            pipelines: HashMap::new(),
            buffers: HashMap::new(),
            allocations: 0,
            dispatches: 0,
            fail,
            poison,
        };
        gpu.choose_variant(text, least_subgroup(&adapter.get_info()), subgroups)?;
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

    pub(super) fn pipeline(&mut self, layout: Layout, is_f32: bool) -> wgpu::ComputePipeline {
        let module = self.module.as_ref().expect("made when opened");
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
        self.pipelines
            .entry((layout, is_f32))
            .or_insert_with(make)
            .clone()
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

    /// A buffer of at least `size` bytes, kept for the next call.
    pub(super) fn buffer(
        &mut self,
        name: &'static str,
        size: u64,
        usage: BufferUsages,
    ) -> wgpu::Buffer {
        match self.buffers.get(name) {
            Some(b) if b.size() >= size => b.clone(),
            _ => {
                let buffer = self.allocate(name, size, usage);
                self.buffers.insert(name, buffer.clone());
                buffer
            }
        }
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

    /// Uploads, decodes and reads back one dispatch. The result is poisoned first when `poison` says so.
    pub(super) fn run(
        &mut self,
        dispatch: &Dispatch<'_>,
        poison: bool,
        out: &mut [u8],
    ) -> Result<Cost> {
        let before = self.allocations;
        self.dispatches += 1;
        if self.fail == Some(Failure::DeviceLost(self.dispatches)) {
            self.device.destroy();
        }
        // Validation and memory errors come first: mapping would only repeat them, less clearly.
        let submitted = self.scoped(|gpu| gpu.submit(dispatch, poison));
        if submitted.is_err() {
            // A buffer that could not be made must not be taken for one by the next call.
            self.buffers.clear();
        }
        let read = submitted?;
        let bytes = self.map(&read, dispatch.out_bytes)?;
        out.copy_from_slice(&bytes);
        drop(bytes);
        read.unmap();
        Ok(Cost {
            kernel: self.elapsed(),
            launches: 1,
            bytes_copied: dispatch.input_bytes() + dispatch.out_bytes,
            allocations: self.allocations - before,
            ..Cost::default()
        })
    }

    fn submit(&mut self, dispatch: &Dispatch<'_>, poison: bool) -> wgpu::Buffer {
        let pipeline = self.pipeline(dispatch.layout, dispatch.is_f32);
        let inputs = dispatch.inputs().map(|(name, bytes, usage)| {
            let buffer = self.buffer(name, bytes.len() as u64, usage | BufferUsages::COPY_DST);
            self.write(&buffer, bytes);
            buffer
        });
        let result = self.buffer("result", dispatch.out_bytes, RESULT);
        let read = self.buffer("read", dispatch.out_bytes, READ);
        let bind_group = self.bind(&inputs, &result, dispatch.out_bytes);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        if poison {
            self.poison(&mut encoder, &result, dispatch.out_bytes);
        }
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: self.timer.as_ref().map(Timer::of_pass),
            });
            let [x, y] = dispatch.grid;
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }
        if let Some(t) = &self.timer {
            t.resolve(&mut encoder);
        }
        encoder.copy_buffer_to_buffer(&result, 0, &read, 0, dispatch.out_bytes);
        self.queue.submit([encoder.finish()]);
        read
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

    pub(super) fn map(&self, buffer: &wgpu::Buffer, size: u64) -> Result<wgpu::BufferView> {
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
        buffer.get_mapped_range(0..size).map_err(|e| self.lost(&e))
    }

    /// Time between the last pair of timestamps; `None` when they are missing, tie or run backwards.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        let timer = self.timer.as_ref()?;
        let view = self.map(timer.read(), 16).ok()?;
        let elapsed = timer.elapsed(&view);
        drop(view);
        timer.read().unmap();
        elapsed
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
