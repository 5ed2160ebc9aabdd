//! Device, pipelines and buffers of one adapter.

use super::chunk;
use crate::backend::{Cost, POISON_F32, broke};
use crate::error::Result;
use crate::tensor::{Layout, TqTensor};
use ::wgpu::{self, BufferUsages, Features};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

/// Bytes of poison copied at a time.
const POISON_BYTES: u64 = 1 << 20;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    groups_per_row: u32,
    first_group: u32,
    workgroups_x: u32,
    centroids: [f32; 16],
}

struct Timer {
    queries: wgpu::QuerySet,
    resolve: wgpu::Buffer,
    read: wgpu::Buffer,
    period: f64,
}

/// An open device.
pub(super) struct Gpu {
    lane: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    module: wgpu::ShaderModule,
    bindings: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    pipelines: HashMap<(Layout, bool), wgpu::ComputePipeline>,
    buffers: HashMap<&'static str, wgpu::Buffer>,
    poison: wgpu::Buffer,
    timer: Option<Timer>,
}

impl Gpu {
    pub(super) fn new(adapter: &wgpu::Adapter, lane: &str, shader: &str) -> Result<Self> {
        let features = adapter.features() & Features::TIMESTAMP_QUERY;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tq4"),
            required_features: features,
            // The adapter's own: the defaults would hold a large GPU to 128 MiB.
            required_limits: adapter.limits(),
            ..Default::default()
        }))
        .map_err(|e| broke(lane, format!("no device: {e}"), "try another --adapter"))?;
        // Errors are asked for in scopes; what arrives outside one must not end the program.
        device.on_uncaptured_error(std::sync::Arc::new(|_| ()));
        let scope = Scope::open(&device);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("tq4_dequant"),
            source: wgpu::ShaderSource::Wgsl(shader.into()),
        });
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
        let timer = (!features.is_empty()).then(|| Timer::new(&device, &queue));
        scope.close(lane)?;
        queue.write_buffer(
            &poison,
            0,
            &POISON_F32.to_ne_bytes().repeat(POISON_BYTES as usize / 4),
        );
        Ok(Self {
            lane: lane.to_owned(),
            device,
            queue,
            module,
            bindings,
            pipeline_layout,
            pipelines: HashMap::new(),
            buffers: HashMap::new(),
            poison,
            timer,
        })
    }

    fn pipeline(&mut self, layout: Layout, is_f32: bool) -> wgpu::ComputePipeline {
        let make = || {
            let n = layout.group_size() as f64;
            self.device
                .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some("tq4_dequant"),
                    layout: Some(&self.pipeline_layout),
                    module: &self.module,
                    entry_point: Some("tq4_dequant"),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &[
                            ("N", n),
                            ("STORED_BITS", layout.stored_bits().into()),
                            ("INV_SQRT_N", f64::from((1.0 / n.sqrt()) as f32)),
                            ("OUT_F32", f64::from(u8::from(is_f32))),
                        ],
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

    /// A buffer of at least `size` bytes, kept for the next call.
    fn buffer(&mut self, name: &'static str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        let size = size.next_multiple_of(16);
        match self.buffers.get(name) {
            Some(b) if b.size() >= size => b.clone(),
            _ => {
                let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(name),
                    size,
                    usage,
                    mapped_at_creation: false,
                });
                self.buffers.insert(name, buffer.clone());
                buffer
            }
        }
    }

    /// Writes `bytes` to a buffer of its own, padded to whole words.
    fn upload(&mut self, name: &'static str, bytes: &[u8], usage: BufferUsages) -> wgpu::Buffer {
        let buffer = self.buffer(name, bytes.len() as u64, usage | BufferUsages::COPY_DST);
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(&buffer, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut word = [0; 4];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(&buffer, whole as u64, &word);
        }
        buffer
    }

    /// Decodes the given groups of `tensor` into `out`.
    pub(super) fn run(
        &mut self,
        tensor: &TqTensor<'_>,
        groups: Range<usize>,
        max_workgroups: u32,
        is_f32: bool,
        out: &mut [u8],
    ) -> Result<Cost> {
        let scope = Scope::open(&self.device);
        let submitted = self.submit(tensor, groups, max_workgroups, is_f32, out.len() as u64);
        // Validation and memory errors come first: mapping would only repeat them, less clearly.
        scope.close(&self.lane)?;
        let (read, bytes_copied) = submitted;
        let bytes = self.map(&read, out.len() as u64)?;
        out.copy_from_slice(&bytes);
        drop(bytes);
        read.unmap();
        let kernel = self.kernel_time();
        Ok(Cost {
            kernel,
            bytes_copied: bytes_copied + out.len() as u64,
            ..Cost::default()
        })
    }

    fn submit(
        &mut self,
        tensor: &TqTensor<'_>,
        groups: Range<usize>,
        max_workgroups: u32,
        is_f32: bool,
        out_bytes: u64,
    ) -> (wgpu::Buffer, u64) {
        let layout = tensor.layout();
        let pipeline = self.pipeline(layout, is_f32);
        let packed_group = layout.packed_group();
        let packed = &tensor.packed()[groups.start * packed_group..groups.end * packed_group];
        let scales: &[u8] = bytemuck::cast_slice(&tensor.scales()[groups.clone()]);
        let signs: &[u8] = bytemuck::cast_slice(tensor.signs());
        let workgroups =
            (groups.len() * layout.group_size()).div_ceil(chunk::ELEMENTS_PER_WORKGROUP);
        let [x, y] = chunk::grid(workgroups as u32, max_workgroups);
        let mut params = Params {
            groups: groups.len() as u32,
            groups_per_row: tensor.groups_per_row() as u32,
            first_group: (groups.start % tensor.groups_per_row()) as u32,
            workgroups_x: x,
            centroids: [0.0; 16],
        };
        params.centroids[..layout.levels()].copy_from_slice(tensor.codebook().centroids());
        let bytes_copied = (packed.len() + scales.len() + signs.len()) as u64;
        let inputs = [
            self.upload("params", bytemuck::bytes_of(&params), BufferUsages::UNIFORM),
            self.upload("packed", packed, BufferUsages::STORAGE),
            self.upload("scales", scales, BufferUsages::STORAGE),
            self.upload("signs", signs, BufferUsages::STORAGE),
        ];
        let result_usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let result = self.buffer("result", out_bytes, result_usage);
        let read = self.buffer(
            "read",
            out_bytes,
            BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        );
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
                buffer: &result,
                offset: 0,
                size: std::num::NonZeroU64::new(out_bytes),
            }),
        });
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.bindings,
            entries: &entries,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for start in (0..out_bytes).step_by(POISON_BYTES as usize) {
            let size = POISON_BYTES.min(out_bytes - start);
            encoder.copy_buffer_to_buffer(&self.poison, 0, &result, start, size);
        }
        {
            let timestamp_writes = self
                .timer
                .as_ref()
                .map(|t| wgpu::ComputePassTimestampWrites {
                    query_set: &t.queries,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes,
            });
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }
        if let Some(t) = &self.timer {
            encoder.resolve_query_set(&t.queries, 0..2, &t.resolve, 0);
            encoder.copy_buffer_to_buffer(&t.resolve, 0, &t.read, 0, 16);
        }
        encoder.copy_buffer_to_buffer(&result, 0, &read, 0, out_bytes);
        self.queue.submit([encoder.finish()]);
        (read, bytes_copied)
    }

    fn map(&self, buffer: &wgpu::Buffer, size: u64) -> Result<wgpu::BufferView> {
        let (sender, receiver) = mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            // The receiver is gone only when the wait below failed.
            let _ = sender.send(result);
        });
        let failed = |e: &dyn std::fmt::Display| {
            broke(
                &self.lane,
                format!("the device did not return its result: {e}"),
                "see the driver's log",
            )
        };
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| failed(&e))?;
        receiver
            .recv()
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        buffer.get_mapped_range(0..size).map_err(|e| failed(&e))
    }

    /// Time of the last pass; `None` when the timestamps are missing, tie or run backwards.
    fn kernel_time(&self) -> Option<Duration> {
        let t = self.timer.as_ref()?;
        let view = self.map(&t.read, 16).ok()?;
        let ticks: Vec<u64> = view
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")))
            .collect();
        drop(view);
        t.read.unmap();
        let elapsed = ticks[1].checked_sub(ticks[0]).filter(|d| *d > 0)?;
        Some(Duration::from_nanos((elapsed as f64 * t.period) as u64))
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

impl Timer {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolve: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            read: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            period: f64::from(queue.get_timestamp_period()),
        }
    }
}

/// Error scopes for every kind of error, opened and closed together.
struct Scope([wgpu::ErrorScopeGuard; 3]);

impl Scope {
    fn open(device: &wgpu::Device) -> Self {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        Self([Internal, OutOfMemory, Validation].map(|f| device.push_error_scope(f)))
    }

    fn close(self, lane: &str) -> Result<()> {
        let [internal, memory, validation] = self.0;
        let errors: Vec<wgpu::Error> = [validation, memory, internal]
            .into_iter()
            .filter_map(|g| pollster::block_on(g.pop()))
            .collect();
        match errors.into_iter().next() {
            None => Ok(()),
            Some(e @ wgpu::Error::OutOfMemory { .. }) => Err(broke(
                lane,
                format!("the device is out of memory: {e}"),
                "validate fewer rows at a time",
            )),
            Some(e) => {
                // The first line names the failure; the rest is wgpu's own trace.
                let text = e.to_string();
                let lines: Vec<&str> = text
                    .lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty())
                    .collect();
                Err(broke(
                    lane,
                    lines.join(" "),
                    "report this with the output of tq4 devices",
                ))
            }
        }
    }
}
