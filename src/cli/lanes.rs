//! Which lanes run, as options.

use super::{named, tell};
use crate::Error;
use crate::error::{Result, printable};
use crate::lane::{self, Slot};
use crate::record::{LaneConfig, LaneKind, ShaderVariant, Status, Unmet};

/// Which device a lane runs on.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// wgpu adapter: index, part of its name, or `all` for each as its own lane
    #[arg(long, value_name = "NAME|INDEX|all")]
    adapter: Option<String>,
    /// Index of the CUDA device
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    cuda_device: usize,
    /// Compile the CUDA kernel for the device's own architecture, with NVRTC
    #[arg(long)]
    nvrtc: bool,
}

/// Which lanes to run.
#[derive(clap::Args)]
pub struct LaneArgs {
    /// Lanes to run, with commas between: reference, cuda, wgpu; all there are when left out. The
    /// reference always runs. A lane that is named must run, as by --require, unless a --recording stands
    /// in for it
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    lanes: Vec<String>,
    /// Lanes that must run, with commas between: exit code 3 when one is not available
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    require: Vec<String>,
    /// Take a software adapter (llvmpipe, SwiftShader, an emulated device) for a lane that must run
    #[arg(long)]
    allow_software: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Variant of the wgpu shader: with subgroups, through workgroup memory, or both, as two lanes; with
    /// subgroups where the adapter has them when left out
    #[arg(long, value_enum, value_name = "VARIANT")]
    shader_variant: Option<Variant>,
}

/// Variants of the wgpu shader.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Variant {
    Subgroup,
    Workgroup,
    Both,
}

impl LaneArgs {
    /// What was asked for, with its names checked.
    pub fn config(&self) -> Result<LaneConfig> {
        let kinds = |names: &[String], option| -> Result<Vec<LaneKind>> {
            names.iter().map(|n| kind(n, option)).collect()
        };
        Ok(LaneConfig {
            lanes: kinds(&self.lanes, "--lanes")?,
            require: kinds(&self.require, "--require")?,
            allow_software: self.allow_software,
            shader_variant: match self.shader_variant {
                None => ShaderVariant::Auto,
                Some(Variant::Subgroup) => ShaderVariant::Subgroup,
                Some(Variant::Workgroup) => ShaderVariant::Workgroup,
                Some(Variant::Both) => ShaderVariant::Both,
            },
            ..self.device.config()
        })
    }
}

/// Tells of the required lanes that did not run as they must.
pub fn tell_unmet(unmet: &[Unmet]) {
    for Unmet {
        lane,
        software,
        several,
    } in unmet
    {
        let on = if *several { " on every tensor" } else { "" };
        tell(&match software {
            Some(device) => format!(
                "error: lane {lane} is required and ran only on a software adapter ({}); give --allow-software to accept it",
                printable(device)
            ),
            None => format!("error: lane {lane} is required and did not run{on}"),
        });
    }
}

/// A kind of lane by name.
pub fn kind(name: &str, option: &str) -> Result<LaneKind> {
    named(option, name.parse())
}

impl DeviceArgs {
    fn config(&self) -> LaneConfig {
        LaneConfig {
            adapter: self.adapter.clone(),
            cuda_device: self.cuda_device,
            nvrtc: self.nvrtc,
            ..LaneConfig::default()
        }
    }

    /// Opens one lane; `None`, with the reason on stderr, when this machine does not have it. The
    /// configuration is for the report.
    pub fn open_one(&self, name: &str) -> Result<Option<(Slot, LaneConfig)>> {
        let kind = kind(name, "--lane")?;
        if self.adapter.as_deref() == Some("all") {
            return Err(Error::input(
                "one adapter is needed here, not all",
                "--adapter",
                "tq4 devices lists them",
            ));
        }
        let config = LaneConfig {
            lanes: vec![kind],
            // One lane by name: it runs on the device that there is, or the command ends here.
            allow_software: true,
            ..self.config()
        };
        let mut slots = lane::open(&config)?;
        slots.retain(|s| s.name().kind() == Some(kind));
        match slots.pop() {
            Some(Slot::Absent(lane)) => {
                let (what, help) = (
                    lane.reason.unwrap_or_default(),
                    lane.help.unwrap_or_default(),
                );
                let place = format!("lane {name}");
                if lane.status == Status::Unavailable {
                    tell(&format!("error: {}", Error::unavailable(what, place, help)));
                    return Ok(None);
                }
                Err(Error::backend(what, place, help))
            }
            Some(slot) => Ok(Some((slot, config))),
            None => Err(Error::backend(
                "it did not open",
                format!("lane {name}"),
                "",
            )),
        }
    }
}
