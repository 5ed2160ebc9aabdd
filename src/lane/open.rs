//! Opening the lanes that compute.

use super::kernel::Manifest;
use super::{Slot, cpu::Cpu};
use crate::error::Result;
use crate::record::{LaneConfig, LaneKind, LaneName, OutputType};

#[cfg(feature = "gpu")]
use super::{Lane, cuda, wgpu};
#[cfg(feature = "gpu")]
use crate::error::Error;
#[cfg(feature = "gpu")]
use crate::record::CudaDevices;

/// Opens the reference, then every lane with a device; those that were not asked for or are not there
/// are absent.
///
/// # Errors
/// [`crate::Error::Input`] when an adapter was named that is not there.
pub fn open(config: &LaneConfig) -> Result<Vec<Slot>> {
    let mut slots = vec![Slot::Live(Box::new(Cpu::new(OutputType::F32)))];
    for kind in [LaneKind::Cuda, LaneKind::Wgpu] {
        if config.wants(kind) {
            open_kind(config, kind, &mut slots)?;
        } else {
            slots.push(Slot::skipped(kind.into()));
        }
    }
    Ok(slots)
}

/// Opens a user's kernel on the CUDA device, or the wgpu adapter, that `config` chooses; as one lane for each
/// adapter, `NAME:INDEX`, where it chooses all.
///
/// # Errors
/// [`crate::Error::Input`] when an adapter was named that is not there.
pub fn open_kernel(config: &LaneConfig, kernel: &Manifest) -> Result<Vec<Slot>> {
    let mut slots = Vec::new();
    open_user(config, kernel, &mut slots)?;
    Ok(slots)
}

#[cfg(not(feature = "gpu"))]
fn absent(name: LaneName, slots: &mut Vec<Slot>) {
    let error = crate::Error::unavailable(
        "this build has no GPU lanes",
        format!("lane {name}"),
        "build with the feature gpu",
    );
    slots.push(Slot::failed(name, &error));
}

#[cfg(not(feature = "gpu"))]
fn open_kind(_: &LaneConfig, kind: LaneKind, slots: &mut Vec<Slot>) -> Result<()> {
    absent(kind.into(), slots);
    Ok(())
}

#[cfg(not(feature = "gpu"))]
fn open_user(_: &LaneConfig, kernel: &Manifest, slots: &mut Vec<Slot>) -> Result<()> {
    absent(kernel.name().clone(), slots);
    Ok(())
}

#[cfg(feature = "gpu")]
fn open_user(config: &LaneConfig, kernel: &Manifest, slots: &mut Vec<Slot>) -> Result<()> {
    if kernel.form().is_cuda() {
        return open_cuda(config, Some(kernel), slots);
    }
    on_adapters(config, |select, adapter| {
        let name = match adapter {
            None => kernel.name().clone(),
            Some(index) => kernel.name().numbered(index),
        };
        let options = wgpu::WgpuOptions {
            adapter: select,
            kernel: Some(kernel.clone()),
            ..Default::default()
        };
        slots.push(slot(name.clone(), wgpu::Wgpu::open(&options, name))?);
        Ok(())
    })
}

#[cfg(feature = "gpu")]
fn open_kind(config: &LaneConfig, kind: LaneKind, slots: &mut Vec<Slot>) -> Result<()> {
    if kind == LaneKind::Wgpu {
        return open_wgpu(config, slots);
    }
    open_cuda(config, None, slots)
}

/// The lane on the CUDA device that was asked for, or one for each device; of a user's kernel where one is
/// given.
#[cfg(feature = "gpu")]
fn open_cuda(config: &LaneConfig, kernel: Option<&Manifest>, slots: &mut Vec<Slot>) -> Result<()> {
    let mut open = |device: usize, numbered: bool, known: Option<cuda::CudaDeviceInfo>| {
        let options = cuda::CudaOptions {
            device,
            numbered,
            nvrtc: config.nvrtc,
            kernel: kernel.cloned(),
            ..Default::default()
        };
        let mut slot = slot(options.name(), cuda::Cuda::open(&options))?;
        // Of several devices, which one it is that does not open.
        if let (Slot::Absent(record), Some(known)) = (&mut slot, known) {
            record.device = Some(known.name);
            record.driver = Some(known.driver);
            record.pci = known.pci;
            record.uuid = known.uuid;
        }
        slots.push(slot);
        Ok(())
    };
    match config.cuda_device {
        CudaDevices::One(device) => open(device, false, None),
        CudaDevices::All => match cuda::list() {
            // What is wrong is said by opening the first.
            Err(_) => open(0, false, None),
            Ok(devices) if devices.len() < 2 => open(0, false, None),
            Ok(devices) => (devices.into_iter().enumerate())
                .try_for_each(|(i, known)| open(i, true, known.ok())),
        },
    }
}

/// The lane on the adapter that was asked for, or one for each adapter.
#[cfg(feature = "gpu")]
fn open_wgpu(config: &LaneConfig, slots: &mut Vec<Slot>) -> Result<()> {
    on_adapters(config, |select, adapter| {
        let name = adapter.map_or(LaneName::Wgpu, LaneName::WgpuAdapter);
        let options = wgpu::WgpuOptions {
            adapter: select,
            ..Default::default()
        };
        slots.push(slot(name.clone(), wgpu::Wgpu::open(&options, name))?);
        Ok(())
    })
}

/// Does `open` for the adapter that was asked for, or for each with its index.
#[cfg(feature = "gpu")]
fn on_adapters(
    config: &LaneConfig,
    mut open: impl FnMut(wgpu::Select, Option<usize>) -> Result<()>,
) -> Result<()> {
    use wgpu::Select;
    match config.adapter.as_deref() {
        None => open(Select::Auto, None),
        Some("all") => {
            let adapters = wgpu::list();
            if adapters.len() < 2 {
                return open(Select::Auto, None);
            }
            adapters
                .iter()
                .try_for_each(|a| open(Select::Index(a.index), Some(a.index)))
        }
        Some(text) => open(
            text.parse()
                .map_or_else(|_| Select::Name(text.to_owned()), Select::Index),
            None,
        ),
    }
}

/// A lane, or why it is not there.
#[cfg(feature = "gpu")]
fn slot<L: Lane + 'static>(name: LaneName, opened: Result<L>) -> Result<Slot> {
    match opened {
        Ok(lane) => Ok(Slot::Live(Box::new(lane))),
        Err(e @ Error::Input(_)) => Err(e),
        Err(e) => Ok(Slot::failed(name, &e)),
    }
}
