//! One lane, for the commands that run just one.

use super::tell;
use tq4::Error;
use tq4::backend::Backend;
use tq4::error::{Result, printable};
use tq4::lane::{self, Choice, State};
use tq4::report::Status;

/// Which device a lane runs on.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// wgpu adapter: index, or part of its name
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
    /// Index of the CUDA device
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    cuda_device: usize,
    /// Compile the CUDA kernel for the device's own architecture, with NVRTC
    #[arg(long)]
    nvrtc: bool,
}

impl DeviceArgs {
    /// Opens the lane `name`; `None`, with the reason on stderr, when this machine does not have it.
    pub fn backend(&self, name: &str) -> Result<Option<Box<dyn Backend>>> {
        if !["reference", "cuda", "wgpu"].contains(&name) {
            return Err(Error::input(
                format!("no lane {name:?}"),
                "--lane",
                "lanes are reference, cuda, wgpu",
            ));
        }
        if self.adapter.as_deref() == Some("all") {
            return Err(Error::input(
                "one adapter is needed here, not all",
                "--adapter",
                "tq4 devices lists them",
            ));
        }
        let choice = Choice {
            lanes: vec![name.to_owned()],
            adapter: self.adapter.clone(),
            cuda_device: self.cuda_device,
            nvrtc: self.nvrtc,
            ..Choice::default()
        };
        let lanes = lane::open(&choice, Vec::new())?;
        let lane = lanes.into_iter().find(|l| l.name() == name);
        match lane.map(lane::Lane::into_state) {
            Some(State::Ready(backend)) => Ok(Some(backend)),
            Some(State::Absent(Status::Unavailable, reason, help)) => {
                let problem = Error::unavailable(reason, format!("lane {name}"), help);
                tell(&format!("error: {problem}"));
                Ok(None)
            }
            Some(State::Absent(_, reason, help)) => {
                Err(Error::backend(reason, format!("lane {name}"), help))
            }
            _ => Err(Error::backend("it did not open", printable(name), "")),
        }
    }
}
