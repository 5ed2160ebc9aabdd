//! Opening the lanes that need a device.

use super::{Choice, Lane};
use crate::backend::cuda::{self, Cuda};
use crate::backend::wgpu::{self, Wgpu};
use crate::error::{Error, Result};

/// The CUDA lane, or why it is not there.
pub(super) fn open_cuda(choice: &Choice) -> Result<Lane> {
    let options = cuda::Options {
        device: choice.cuda_device,
        nvrtc: choice.nvrtc,
        ..Default::default()
    };
    match Cuda::open(&options, "cuda") {
        Ok(lane) => Ok(Lane::new(Box::new(lane))),
        Err(e @ Error::Input(_)) => Err(e),
        Err(e) => Ok(Lane::absent("cuda", &e)),
    }
}

/// The wgpu lane, or one for each adapter.
pub(super) fn open_wgpu(choice: &Choice, lanes: &mut Vec<Lane>) -> Result<()> {
    let mut open_one = |adapter: wgpu::Select, subgroups, name: &str| {
        let options = wgpu::Options {
            adapter,
            subgroups,
            ..Default::default()
        };
        match Wgpu::open(&options, name) {
            Ok(lane) => lanes.push(Lane::new(Box::new(lane))),
            Err(e @ Error::Input(_)) => return Err(e),
            Err(e) => lanes.push(Lane::absent(name, &e)),
        }
        Ok(())
    };
    let mut open = |adapter: wgpu::Select, name: &str| {
        open_one(adapter.clone(), choice.subgroups, name)?;
        if choice.both_variants {
            open_one(adapter, Some(false), &format!("{name}:workgroup"))?;
        }
        Ok(())
    };
    match choice.adapter.as_deref() {
        None => open(wgpu::Select::Auto, "wgpu"),
        Some("all") => {
            let adapters = wgpu::list();
            if adapters.len() < 2 {
                return open(wgpu::Select::Auto, "wgpu");
            }
            for a in adapters {
                open(wgpu::Select::Index(a.index), &format!("wgpu:{}", a.index))?;
            }
            Ok(())
        }
        Some(text) => open(
            text.parse()
                .map_or_else(|_| wgpu::Select::Name(text.to_owned()), wgpu::Select::Index),
            "wgpu",
        ),
    }
}
