//! Which lanes run, as options.

use super::console::Console;
use super::{named, seconds, tell};
use crate::Error;
use crate::error::{Result, printable};
use crate::lane::exec::{Exec, ExternalProgram};
use crate::lane::kernel::Manifest;
use crate::lane::{self, Slot};
use crate::record::{CudaDevices, LaneConfig, LaneKind, LaneName, Status, Unmet};
use std::path::PathBuf;

/// Which device a lane runs on.
#[derive(clap::Args)]
#[command(next_help_heading = "Lanes")]
pub struct DeviceArgs {
    /// wgpu adapter: index, part of its name, or `all` for each as its own lane
    ///
    /// When left out, a discrete one before an integrated one, and software last.
    #[arg(long, value_name = "NAME|INDEX|all")]
    adapter: Option<String>,
    /// CUDA device: index, or `all` for each as its own lane
    #[arg(long, value_name = "INDEX|all", default_value = "0")]
    cuda_device: String,
    /// Compile the CUDA kernel for the device's own architecture, with NVRTC
    #[arg(long)]
    nvrtc: bool,
}

/// Which lanes to run.
#[derive(clap::Args)]
#[command(next_help_heading = "Lanes")]
pub struct LaneArgs {
    /// Lanes to run: reference, cuda, wgpu; all there are when left out
    ///
    /// With commas between. The reference always runs. A lane that is named must run, as by --require, unless a
    /// --recording stands in for it.
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    lanes: Vec<String>,
    /// Lanes that must run: exit code 3 when one is not available
    ///
    /// With commas between. The name of a --recording too, which then has to hold every tensor.
    #[arg(long, value_name = "LANE", value_delimiter = ',')]
    require: Vec<String>,
    /// Take a software adapter for a lane that must run
    ///
    /// Such as llvmpipe, SwiftShader or an emulated device.
    #[arg(long)]
    allow_software: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    own: OwnArgs,
}

/// Kernels and programs of the user's as lanes.
#[derive(clap::Args)]
#[command(next_help_heading = "Your kernel")]
struct OwnArgs {
    /// A kernel as a lane, by its manifest; may be repeated
    ///
    /// FILE.toml says its name, its source (.cu through NVRTC, .ptx, .cubin on the CUDA device; .wgsl on the wgpu
    /// adapter), its entry point, what its arguments are and its grid and block; see docs/manifest.md and
    /// examples/kernels. It must run.
    #[arg(long, value_name = "FILE.toml")]
    kernel: Vec<PathBuf>,
    /// A program as a lane; may be repeated
    ///
    /// It is started once and gets a line of JSON on stdin for each strip: `input`, a safetensors file with `packed`,
    /// `scales`, `signs` and `centroids`; `output`, the file for the raw row-major values; `rows`, `cols`, `bits`,
    /// `group_size` and others. It answers by a line on stdout, {"ok": true, "seconds": 0.1} or
    /// {"ok": false, "error": "why"}. Values are bf16, or of TYPE: f16 or f32. A COMMAND with {input} and {output} is
    /// started for each strip instead, with the files' names in these places. No shell is used.
    #[arg(long, value_name = "NAME[:TYPE]=COMMAND")]
    exec: Vec<String>,
    /// Most seconds that a program of --exec may take for a strip
    ///
    /// Then it is killed, and its lane has failed.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60.0,
        requires = "exec"
    )]
    exec_timeout: f64,
}

/// The kernels and programs of the user's in a run.
#[derive(Default)]
pub struct UserLanes {
    /// The kernels, on no device yet.
    pub kernels: Vec<Manifest>,
    /// The programs, each as `NAME:TYPE=COMMAND`, for the report.
    pub programs: Vec<String>,
    /// The programs' lanes.
    pub slots: Vec<Slot>,
}

impl UserLanes {
    /// Whether one of them has this name.
    pub fn has(&self, name: &LaneName) -> bool {
        let kernel = self.kernels.iter().any(|k| k.name() == name);
        kernel || self.slots.iter().any(|s| s.name() == name)
    }

    /// The kernels, each as `NAME=HASH`, for the report.
    pub fn hashes(&self) -> Vec<String> {
        let hashes = self.kernels.iter();
        hashes
            .map(|k| format!("{}={}", k.name(), k.hash()))
            .collect()
    }

    /// Puts the kernels, opened, and the programs behind the lanes of `config`.
    ///
    /// # Errors
    /// When an adapter was named that is not there.
    pub fn open(self, config: &LaneConfig, slots: &mut Vec<Slot>) -> Result<()> {
        for kernel in &self.kernels {
            slots.extend(lane::open_kernel(config, kernel)?);
        }
        slots.extend(self.slots);
        Ok(())
    }
}

impl LaneArgs {
    /// What was asked for; [`required`] checks the names of lanes that must run.
    pub fn config(&self) -> Result<LaneConfig> {
        let kinds = self.lanes.iter().map(|n| kind(n, "--lanes"));
        Ok(LaneConfig {
            lanes: kinds.collect::<Result<_>>()?,
            require: self.require.iter().map(|n| n.as_str().into()).collect(),
            allow_software: self.allow_software,
            ..self.device.config()?
        })
    }

    /// The kernels and programs that were asked for, none of them opened or started.
    ///
    /// # Errors
    /// When a manifest or a command is wrong, a program is not found, or one has the name of another lane.
    pub fn own(&self) -> Result<UserLanes> {
        let OwnArgs {
            kernel,
            exec,
            exec_timeout,
        } = &self.own;
        let limit = seconds("--exec-timeout", *exec_timeout)?;
        let mut own = UserLanes::default();
        let twice = |name: &LaneName, option: String| {
            let what = format!("two lanes are named {name}");
            Err(Error::input(what, option, "give each its own name"))
        };
        for path in kernel {
            let manifest = Manifest::read(path)?;
            if own.has(manifest.name()) {
                return twice(manifest.name(), format!("--kernel {}", path.display()));
            }
            own.kernels.push(manifest);
        }
        for given in exec {
            let option = format!("--exec {given}");
            let program: ExternalProgram = named(&option, given.parse())?;
            if own.has(program.name()) {
                return twice(program.name(), option);
            }
            own.programs.push(program.to_string());
            let lane = Exec::open(program, limit)?;
            own.slots.push(Slot::Live(Box::new(lane)));
        }
        Ok(own)
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
        let lane = printable(&lane.to_string());
        tell(&match software {
            Some(device) => format!(
                "error: lane {lane} is required and ran only on a software adapter ({}); give --allow-software to accept it",
                printable(device)
            ),
            None => format!("error: lane {lane} is required and did not run{on}"),
        });
    }
}

/// Tells what to know before the results of some lanes are used.
pub fn tell_warnings(slots: &[Slot], console: &Console) {
    for lane in slots.iter().map(Slot::record) {
        if let Some(warning) = &lane.warning {
            console.note(&format!(
                "warning: lane {}: {}",
                lane.name,
                printable(warning)
            ));
        }
    }
}

/// Checks that each lane that must run is one of tq4's, or of the user's as `is_own` tells.
pub fn required(config: &LaneConfig, is_own: impl Fn(&LaneName) -> bool) -> Result<()> {
    for name in config.require.iter().filter(|name| !is_own(name)) {
        kind(&name.to_string(), "--require")?;
    }
    Ok(())
}

/// A kind of lane by name.
pub fn kind(name: &str, option: &str) -> Result<LaneKind> {
    named(option, name.parse())
}

impl DeviceArgs {
    fn config(&self) -> Result<LaneConfig> {
        Ok(LaneConfig {
            adapter: self.adapter.clone(),
            cuda_device: named("--cuda-device", self.cuda_device.parse())?,
            nvrtc: self.nvrtc,
            ..LaneConfig::default()
        })
    }

    /// Opens one lane; `None`, with the reason on stderr, when this machine does not have it. The
    /// configuration is for the report.
    pub fn open_one(&self, name: &str, console: &Console) -> Result<Option<(Slot, LaneConfig)>> {
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
            ..self.config()?
        };
        if config.cuda_device == CudaDevices::All {
            return Err(Error::input(
                "one CUDA device is needed here, not all",
                "--cuda-device",
                "tq4 devices lists them",
            ));
        }
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
            Some(slot) => {
                tell_warnings(std::slice::from_ref(&slot), console);
                Ok(Some((slot, config)))
            }
            None => Err(Error::backend(
                "it did not open",
                format!("lane {name}"),
                "",
            )),
        }
    }
}
