//! The adapters of this machine, and the choice of one.

use crate::error::{Error, Result};

/// One adapter and the limits that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its place among the adapters.
    pub index: usize,
    /// Name as the driver has it.
    pub name: String,
    /// Driver name and version.
    pub driver: String,
    /// `Vulkan`, `Metal`, `D3D12` or `Noop`.
    pub api: String,
    /// Whether it is a software rasteriser.
    pub software: bool,
    /// Largest storage buffer binding, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Workgroup memory, bytes.
    pub workgroup_memory: u32,
    /// Whether it has subgroup operations.
    pub subgroups: bool,
    /// Least and most invocations in a subgroup.
    pub subgroup_sizes: [u32; 2],
    /// Whether it has timestamp queries.
    pub timestamps: bool,
}

/// Which adapter to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Select {
    /// The first hardware adapter, else the first software one.
    #[default]
    Auto,
    /// By index.
    Index(usize),
    /// By part of its name, whatever the case.
    Name(String),
}

pub(super) fn instance(noop: bool) -> ::wgpu::Instance {
    let mut desc = ::wgpu::InstanceDescriptor::new_without_display_handle();
    // Validation layers are another project's tool; with them a user's machine behaves differently.
    desc.flags = ::wgpu::InstanceFlags::empty();
    // A conformant driver is not asked for: what a driver does is what this tool measures.
    desc.flags |= ::wgpu::InstanceFlags::ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER;
    desc.backends = if noop {
        ::wgpu::Backends::NOOP
    } else {
        ::wgpu::Backends::VULKAN | ::wgpu::Backends::METAL | ::wgpu::Backends::DX12
    };
    desc.backend_options.noop.enable = noop;
    // Beyond it a driver moves buffers to the host's memory without a word, and figures are the bus's.
    desc.memory_budget_thresholds.for_resource_creation = Some(85);
    ::wgpu::Instance::new(desc)
}

pub(super) fn enumerate(instance: &::wgpu::Instance) -> Vec<::wgpu::Adapter> {
    let mut adapters = pollster::block_on(instance.enumerate_adapters(::wgpu::Backends::all()));
    // A loader may list one device twice, through two ICD files.
    let mut seen = Vec::new();
    adapters.retain(|a| {
        let i = a.get_info();
        let key = (
            i.name,
            i.driver_info,
            i.backend,
            i.device_pci_bus_id,
            i.device,
        );
        let fresh = !seen.contains(&key);
        seen.push(key);
        fresh
    });
    adapters
}

pub(super) fn describe(index: usize, adapter: &::wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let features = adapter.features();
    AdapterInfo {
        index,
        subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        api: match info.backend {
            ::wgpu::Backend::Dx12 => "D3D12".to_owned(),
            other => format!("{other:?}"),
        },
        software: info.device_type == ::wgpu::DeviceType::Cpu,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        subgroups: features.contains(::wgpu::Features::SUBGROUP),
        timestamps: features.contains(::wgpu::Features::TIMESTAMP_QUERY),
    }
}

/// Every adapter of this machine.
pub fn list() -> Vec<AdapterInfo> {
    let listed = super::loss::quietly(|| {
        let instance = instance(false);
        let adapters = enumerate(&instance);
        let infos = adapters.iter().enumerate().map(|(i, a)| describe(i, a));
        infos.collect()
    });
    // wgpu panics where a driver has no memory to list its extensions: opening says so.
    listed.unwrap_or_default()
}

/// Takes the selected adapter.
pub(super) fn select(
    adapters: Vec<::wgpu::Adapter>,
    select: &Select,
) -> Result<(::wgpu::Adapter, AdapterInfo)> {
    let infos: Vec<AdapterInfo> = adapters
        .iter()
        .enumerate()
        .map(|(i, a)| describe(i, a))
        .collect();
    if infos.is_empty() {
        return Err(Error::unavailable(
            "no Vulkan, Metal or D3D12 adapter found",
            "lane wgpu",
            "install the GPU's Vulkan driver, or Mesa's for the CPU (Debian: mesa-vulkan-drivers libvulkan1)",
        ));
    }
    let found = match select {
        Select::Auto => Some(infos.iter().position(|i| !i.software).unwrap_or(0)),
        Select::Index(i) => Some(*i).filter(|i| *i < infos.len()),
        Select::Name(name) => {
            let name = name.to_lowercase();
            infos
                .iter()
                .position(|i| i.name.to_lowercase().contains(&name))
        }
    };
    let Some(at) = found else {
        let names: Vec<String> = infos
            .iter()
            .map(|i| format!("{} {}", i.index, i.name))
            .collect();
        return Err(Error::input(
            match select {
                Select::Name(name) => format!("no adapter has {name:?} in its name"),
                Select::Index(i) => format!("no adapter {i}"),
                Select::Auto => "no adapter".into(),
            },
            "lane wgpu",
            format!("adapters are: {}", names.join("; ")),
        ));
    };
    let adapter = adapters.into_iter().nth(at).expect("found above");
    Ok((adapter, infos[at].clone()))
}
