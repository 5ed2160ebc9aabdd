//! Bindings and passes: of the kernels, and of this program's own small shaders.

use super::program::Binding;
use ::wgpu;

/// The bindings of group 0, as a shader declares them. Not derived from it: wgpu panics at that
/// on adapters that promise more bind groups than it holds.
pub(super) fn layout(device: &wgpu::Device, bindings: &[Binding]) -> wgpu::BindGroupLayout {
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    let entry = |(binding, kind): (u32, &Binding)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match kind {
                Binding::Uniform => wgpu::BufferBindingType::Uniform,
                Binding::Read => storage(true),
                Binding::Out => storage(false),
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..).zip(bindings).map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    })
}

/// Pipelines over these bindings.
pub(super) fn pipeline_layout(
    device: &wgpu::Device,
    bindings: &wgpu::BindGroupLayout,
) -> wgpu::PipelineLayout {
    device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(bindings)],
        ..Default::default()
    })
}

/// Binds so many bytes of each buffer, in whole words.
pub(super) fn bind<'a>(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    bound: impl IntoIterator<Item = (&'a wgpu::Buffer, u64)>,
) -> wgpu::BindGroup {
    let entry = |(binding, (buffer, bytes)): (u32, (&'a wgpu::Buffer, u64))| {
        let buffer = wgpu::BufferBinding {
            buffer,
            offset: 0,
            size: std::num::NonZeroU64::new(bytes.next_multiple_of(4)),
        };
        wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(buffer),
        }
    };
    let entries: Vec<_> = (0..).zip(bound).map(entry).collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout,
        entries: &entries,
    })
}

/// A small shader of this program's own, ready to run.
pub(super) struct ComputeShader {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl ComputeShader {
    /// Compiles `text`; errors go to the scope that is open. Workgroup memory is not cleared: what is read of it
    /// was written.
    pub(super) fn new(
        device: &wgpu::Device,
        entry: &str,
        text: &str,
        bindings: &[Binding],
    ) -> Self {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(entry),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let layout = layout(device, bindings);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&pipeline_layout(device, &layout)),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Self { pipeline, layout }
    }

    /// Binds so many bytes of each buffer.
    pub(super) fn bind<'a>(
        &self,
        device: &wgpu::Device,
        bound: impl IntoIterator<Item = (&'a wgpu::Buffer, u64)>,
    ) -> wgpu::BindGroup {
        bind(device, &self.layout, bound)
    }

    /// Puts a run over these workgroups down.
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        bound: &wgpu::BindGroup,
        [x, y]: [u32; 2],
        timestamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: timestamps,
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, bound, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }
}
