//! The CUDA lane: `kernels/tq4_dequant.cu` through the driver API.
//!
//! The PTX is part of the program, so that a machine needs the driver and nothing else. A tensor goes
//! through in tiles of whole rows on two streams, so that the copies of one tile overlap the kernel of
//! the other.

mod driver;
mod tile;

pub use driver::{CudaDeviceInfo, MIN_CUDA, list};

use super::{Backend, Cost, Device, OutMut, broke, checksum};
use crate::error::{Error, Result};
use crate::tensor::{Layout, TqTensor};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};
use driver::failed;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// The kernel's source.
pub const SOURCE: &str = include_str!("../../../kernels/tq4_dequant.cu");

/// The kernel as PTX for compute_75, made from [`SOURCE`] by `kernels/build_ptx.py`.
pub const PTX: &str = include_str!("../../../kernels/tq4_dequant.ptx");

/// How to open the lane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Index of the device.
    pub device: usize,
    /// Compile the source for the device's own architecture, with the NVRTC library.
    pub nvrtc: bool,
    /// Largest output of one tile, bytes; a share of the free memory when it is smaller.
    pub max_tile_bytes: Option<usize>,
}

/// The lane.
pub struct Cuda {
    device: Device,
    context: Arc<CudaContext>,
    module: Arc<CudaModule>,
    functions: HashMap<(Layout, bool), CudaFunction>,
    max_tile_bytes: Option<usize>,
}

impl Cuda {
    /// Opens a device and loads the kernel.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without libcuda, without a device, or with a driver too old for the PTX;
    /// [`Error::Input`] when the device's index is not there; [`Error::Backend`] when a call fails.
    pub fn open(options: &Options, lane: &str) -> Result<Self> {
        let devices = list()?;
        let Some(info) = devices.get(options.device) else {
            return Err(Error::input(
                format!(
                    "no CUDA device {}, there are {}",
                    options.device,
                    devices.len()
                ),
                "--cuda-device",
                "tq4 devices lists them",
            ));
        };
        let context =
            CudaContext::new(options.device).map_err(|e| failed(lane, "open the device", e))?;
        let text = if options.nvrtc {
            compile(lane, info.compute_capability)?
        } else {
            PTX.to_owned()
        };
        let kernel_checksum = checksum(text.as_bytes());
        let module = context
            .load_module(Ptx::from_src(text))
            .map_err(|e| failed(lane, "load the PTX", e))?;
        Ok(Self {
            device: Device {
                lane: lane.to_owned(),
                device: info.name.clone(),
                driver: info.driver.clone(),
                api: "CUDA".into(),
                software: info.software,
                kernel_checksum,
            },
            context,
            module,
            functions: HashMap::new(),
            max_tile_bytes: options.max_tile_bytes,
        })
    }

    fn function(&mut self, layout: Layout, is_f32: bool) -> Result<CudaFunction> {
        if let Some(f) = self.functions.get(&(layout, is_f32)) {
            return Ok(f.clone());
        }
        let name = format!(
            "tq4_dequant_b{}_g{}_{}",
            layout.stored_bits(),
            layout.group_size(),
            if is_f32 { "f32" } else { "bf16" }
        );
        let f = self
            .module
            .load_function(&name)
            .map_err(|e| failed(&self.device.lane, &format!("find {name}"), e))?;
        self.functions.insert((layout, is_f32), f.clone());
        Ok(f)
    }
}

/// Compiles the source for the device's own architecture.
fn compile(lane: &str, (major, minor): (i32, i32)) -> Result<String> {
    // SAFETY: only tries to open the library, and closes it again.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Err(Error::unavailable(
            "--nvrtc was given and the NVRTC library is not there",
            format!("lane {lane}"),
            "install the CUDA toolkit's libnvrtc, or leave --nvrtc out: the PTX is built in",
        ));
    }
    let options = CompileOptions {
        options: vec![
            format!("--gpu-architecture=compute_{major}{minor}"),
            "--fmad=false".into(),
        ],
        ..Default::default()
    };
    compile_ptx_with_opts(SOURCE, options)
        .map(|ptx| ptx.to_src())
        .map_err(|e| {
            broke(
                lane,
                format!("NVRTC cannot compile the kernel: {e}"),
                "leave --nvrtc out",
            )
        })
}

impl Backend for Cuda {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, mut out: OutMut<'_>) -> Result<Cost> {
        assert_eq!(out.len(), tensor.elements(), "one output per element");
        let start = Instant::now();
        out.poison();
        let function = self.function(tensor.layout(), matches!(out, OutMut::F32(_)))?;
        let job = tile::Job {
            lane: &self.device.lane,
            context: &self.context,
            function: &function,
            tensor,
            element_size: out.element_size(),
            max_tile_bytes: self.max_tile_bytes,
        };
        let mut cost = job.run(out.bytes_mut())?;
        cost.total = start.elapsed();
        Ok(cost)
    }
}
