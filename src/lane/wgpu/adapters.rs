//! The adapters of this machine, and the choice of one.

use super::compiler::Compiler;
use crate::error::{Error, Result};

/// One adapter and the limits that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its place among the adapters.
    pub index: usize,
    /// Name as the driver has it; identical ones of one API end in `#1`, `#2` and so on.
    pub name: String,
    /// Driver name and version, of D3D12 with what compiles the shaders: DXC or FXC.
    pub driver: String,
    /// `Vulkan`, `Metal`, `D3D12` or `Noop`; `Vulkan on D3D12` through Mesa's translation layer (dzn).
    pub api: String,
    /// Where it is on the PCI bus, `0000:41:00.0`, where its API says it of this very one.
    pub pci: Option<String>,
    /// What it is.
    pub class: Class,
    /// Whether [`Select::Auto`] takes it.
    pub automatic: bool,
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

/// What an adapter is, the one to prefer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU that a virtual machine lends.
    Virtual,
    /// Its driver does not say.
    Other,
    /// A software rasteriser.
    Cpu,
}

impl Class {
    fn of(kind: ::wgpu::DeviceType) -> Self {
        match kind {
            ::wgpu::DeviceType::DiscreteGpu => Self::Discrete,
            ::wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            ::wgpu::DeviceType::VirtualGpu => Self::Virtual,
            ::wgpu::DeviceType::Other => Self::Other,
            ::wgpu::DeviceType::Cpu => Self::Cpu,
        }
    }

    /// `discrete`, `integrated`, `virtual`, `other` or `cpu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Cpu => "cpu",
        }
    }
}

/// Which adapter to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Select {
    /// The first of the best [`Class`]; hardware through a translation layer only before software.
    #[default]
    Auto,
    /// By index.
    Index(usize),
    /// By part of its name, whatever the case; of several the one that is preferred.
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
    desc.backend_options.dx12.shader_compiler = Compiler::here().option();
    // Beyond it a driver moves buffers to the host's memory without a word, and figures are the bus's.
    desc.memory_budget_thresholds.for_resource_creation = Some(85);
    ::wgpu::Instance::new(desc)
}

pub(super) fn enumerate(instance: &::wgpu::Instance) -> Vec<::wgpu::Adapter> {
    let adapters = pollster::block_on(instance.enumerate_adapters(::wgpu::Backends::all()));
    let infos: Vec<_> = adapters.iter().map(::wgpu::Adapter::get_info).collect();
    let again = listed_again(&infos);
    let kept = adapters.into_iter().zip(again).filter(|(_, again)| !again);
    kept.map(|(adapter, _)| adapter).collect()
}

/// Whether each adapter is one before it once more, listed by a Vulkan loader through two ICD files.
fn listed_again(infos: &[::wgpu::AdapterInfo]) -> Vec<bool> {
    let key = |i: &::wgpu::AdapterInfo| {
        (
            i.device_pci_bus_id.clone(),
            i.device,
            i.name.clone(),
            i.driver.clone(),
            i.driver_info.clone(),
        )
    };
    let mut seen = Vec::new();
    let mut again = |i: &::wgpu::AdapterInfo| {
        if pci(i).is_none() {
            return false;
        }
        let key = key(i);
        let again = seen.contains(&key);
        seen.push(key);
        again
    };
    infos.iter().map(&mut again).collect()
}

/// Where an adapter is on the PCI bus: on D3D12 wgpu has the first device of the same model, on Metal none.
fn pci(info: &::wgpu::AdapterInfo) -> Option<String> {
    let known = info.backend == ::wgpu::Backend::Vulkan && !info.device_pci_bus_id.is_empty();
    known.then(|| info.device_pci_bus_id.to_lowercase())
}

/// The names to show: identical ones of one API are numbered from 1.
fn names(infos: &[::wgpu::AdapterInfo]) -> Vec<String> {
    let same = |a: &::wgpu::AdapterInfo, b: &::wgpu::AdapterInfo| {
        (&a.name, a.backend) == (&b.name, b.backend)
    };
    let name = |(at, info): (usize, &::wgpu::AdapterInfo)| {
        let before = infos[..at].iter().filter(|i| same(i, info)).count();
        let all = infos.iter().filter(|i| same(i, info)).count();
        if all < 2 {
            info.name.clone()
        } else {
            format!("{} #{}", info.name, before + 1)
        }
    };
    infos.iter().enumerate().map(name).collect()
}

/// Whether an adapter is Mesa's dzn, which makes D3D12 of Vulkan; the card may have a driver of its own.
fn translated(info: &::wgpu::AdapterInfo) -> bool {
    info.backend == ::wgpu::Backend::Vulkan && info.name.starts_with("Microsoft Direct3D12 (")
}

/// The first of the adapters that is preferred, among those that `wanted` takes by their index.
fn preferred(infos: &[::wgpu::AdapterInfo], wanted: impl Fn(usize) -> bool) -> Option<usize> {
    (0..infos.len()).filter(|i| wanted(*i)).min_by_key(|i| {
        let class = Class::of(infos[*i].device_type);
        // Hardware behind a translation layer still is hardware.
        (class == Class::Cpu, translated(&infos[*i]), class)
    })
}

/// Every one of `adapters` with its name.
fn describe_all(adapters: &[::wgpu::Adapter]) -> Vec<AdapterInfo> {
    let infos: Vec<_> = adapters.iter().map(::wgpu::Adapter::get_info).collect();
    let automatic = preferred(&infos, |_| true);
    let named = adapters.iter().zip(names(&infos)).enumerate();
    let describe = |(i, (a, name))| AdapterInfo {
        automatic: automatic == Some(i),
        ..describe(i, name, a)
    };
    named.map(describe).collect()
}

/// Driver name and version, of D3D12 with what compiles the shaders.
fn driver(info: &::wgpu::AdapterInfo, compiler: Compiler) -> String {
    let driver = format!("{} {}", info.driver, info.driver_info);
    match info.backend {
        ::wgpu::Backend::Dx12 => format!("{}, shaders by {}", driver.trim(), compiler.name()),
        _ => driver.trim().to_owned(),
    }
}

fn describe(index: usize, name: String, adapter: &::wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let features = adapter.features();
    AdapterInfo {
        index,
        name,
        driver: driver(&info, Compiler::here()),
        api: match info.backend {
            _ if translated(&info) => "Vulkan on D3D12".to_owned(),
            ::wgpu::Backend::Dx12 => "D3D12".to_owned(),
            other => format!("{other:?}"),
        },
        pci: pci(&info),
        class: Class::of(info.device_type),
        automatic: false,
        software: info.device_type == ::wgpu::DeviceType::Cpu,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        subgroups: features.contains(::wgpu::Features::SUBGROUP),
        subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        timestamps: features.contains(::wgpu::Features::TIMESTAMP_QUERY),
    }
}

/// Every adapter of this machine.
pub fn list() -> Vec<AdapterInfo> {
    // wgpu panics where a driver has no memory to list its extensions: opening says so.
    super::loss::quietly(|| describe_all(&enumerate(&instance(false)))).unwrap_or_default()
}

/// This machine has none.
pub fn no_adapter() -> Error {
    Error::unavailable(
        "no Vulkan, Metal or D3D12 adapter found",
        "lane wgpu",
        "install the GPU's Vulkan driver, or Mesa's for the CPU (Debian: mesa-vulkan-drivers libvulkan1)",
    )
}

/// Takes the selected adapter.
pub(super) fn select(
    adapters: Vec<::wgpu::Adapter>,
    select: &Select,
) -> Result<(::wgpu::Adapter, AdapterInfo)> {
    let infos = describe_all(&adapters);
    let seen: Vec<_> = adapters.iter().map(::wgpu::Adapter::get_info).collect();
    if infos.is_empty() {
        return Err(no_adapter());
    }
    let found = match select {
        Select::Auto => preferred(&seen, |_| true),
        Select::Index(i) => Some(*i).filter(|i| *i < infos.len()),
        Select::Name(name) => {
            let name = name.to_lowercase();
            preferred(&seen, |i| infos[i].name.to_lowercase().contains(&name))
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

#[cfg(test)]
mod tests {
    use super::*;
    use ::wgpu::Backend::{Dx12, Metal, Vulkan};
    use ::wgpu::DeviceType::{self, Cpu, DiscreteGpu, IntegratedGpu, Other, VirtualGpu};

    fn seen(
        name: &str,
        backend: ::wgpu::Backend,
        kind: DeviceType,
        bus: &str,
    ) -> ::wgpu::AdapterInfo {
        ::wgpu::AdapterInfo {
            name: name.into(),
            device_pci_bus_id: bus.into(),
            ..::wgpu::AdapterInfo::new(kind, backend)
        }
    }

    #[test]
    fn identical_cards_stay_apart_and_are_numbered() {
        // D3D12 gives both the bus id of the first, Metal none.
        for (backend, name, bus) in [
            (Dx12, "NVIDIA GeForce RTX 4090", "0000:01:00.0"),
            (Metal, "AMD Radeon Pro W6800X", ""),
        ] {
            let two = [(); 2].map(|()| seen(name, backend, DiscreteGpu, bus));
            assert_eq!(listed_again(&two), [false, false]);
            assert_eq!(names(&two), [format!("{name} #1"), format!("{name} #2")]);
        }
        let vulkan = ["0000:01:00.0", "0000:41:00.0"]
            .map(|bus| seen("NVIDIA GeForce RTX 4090", Vulkan, DiscreteGpu, bus));
        assert_eq!(listed_again(&vulkan), [false, false]);
        assert!(names(&vulkan)[1].ends_with(" #2"));
    }

    #[test]
    fn one_card_through_two_icd_files_is_one() {
        let radv = seen(
            "AMD Radeon RX 7900 XTX",
            Vulkan,
            DiscreteGpu,
            "0000:03:00.0",
        );
        let mut other_driver = radv.clone();
        other_driver.driver = "AMD open-source driver".into();
        let all = [radv.clone(), other_driver, radv];
        assert_eq!(listed_again(&all), [false, false, true]);
        // A software adapter is on no bus, so nothing says that it is the same one.
        let llvmpipe = [(); 2].map(|()| seen("llvmpipe", Vulkan, Cpu, ""));
        assert_eq!(listed_again(&llvmpipe), [false, false]);
        assert_eq!(names(&llvmpipe), ["llvmpipe #1", "llvmpipe #2"]);
    }

    #[test]
    fn one_card_through_two_apis_keeps_its_name() {
        let both = [Vulkan, Dx12].map(|api| seen("Intel Arc A770", api, DiscreteGpu, ""));
        assert_eq!(names(&both), ["Intel Arc A770"; 2]);
    }

    #[test]
    fn discrete_adapters_are_preferred_and_software_is_last() {
        let taken = |kinds: &[DeviceType]| {
            let infos: Vec<_> = kinds.iter().map(|k| seen("a", Vulkan, *k, "")).collect();
            preferred(&infos, |_| true)
        };
        assert_eq!(taken(&[]), None);
        assert_eq!(taken(&[Cpu, Cpu]), Some(0));
        assert_eq!(taken(&[Cpu, Other, VirtualGpu]), Some(2));
        assert_eq!(taken(&[Other, VirtualGpu, IntegratedGpu]), Some(2));
        assert_eq!(taken(&[IntegratedGpu, DiscreteGpu, DiscreteGpu]), Some(1));
    }

    #[test]
    fn a_translation_layer_is_taken_before_software_only() {
        let dzn = seen("Microsoft Direct3D12 (NVIDIA L4)", Vulkan, DiscreteGpu, "");
        let warp = seen("Microsoft Direct3D12 (WARP)", Vulkan, Cpu, "");
        let native = seen("Intel UHD", Vulkan, IntegratedGpu, "");
        let llvmpipe = seen("llvmpipe", Vulkan, Cpu, "");
        let taken = |infos: &[&::wgpu::AdapterInfo]| {
            let infos: Vec<_> = infos.iter().map(|i| (*i).clone()).collect();
            preferred(&infos, |_| true)
        };
        assert_eq!(taken(&[&dzn, &native]), Some(1));
        assert_eq!(taken(&[&llvmpipe, &dzn]), Some(1));
        assert_eq!(taken(&[&warp, &llvmpipe]), Some(1));
        // By a name that both have, the native one.
        let d3d12 = seen("NVIDIA L4", Dx12, DiscreteGpu, "");
        let both = [dzn.clone(), d3d12];
        let named = |i: usize| both[i].name.contains("NVIDIA L4");
        assert_eq!(preferred(&both, named), Some(1));
        assert!(translated(&dzn) && !translated(&native));
        // The driver of D3D12 itself may be named so.
        assert!(!translated(&seen(&dzn.name, Dx12, DiscreteGpu, "")));
    }

    #[test]
    fn d3d12_says_what_compiles() {
        let mut d3d12 = seen("NVIDIA L4", Dx12, DiscreteGpu, "");
        d3d12.driver = "32.0.15.6094".into();
        let text = driver(&d3d12, Compiler::Fxc);
        assert_eq!(text, "32.0.15.6094, shaders by FXC");
        d3d12.backend = Vulkan;
        assert_eq!(driver(&d3d12, Compiler::Fxc), "32.0.15.6094");
    }
}
