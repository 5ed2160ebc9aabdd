//! Lanes: what computes or has computed, or is not there.

use crate::backend::cpu::Cpu;
use crate::backend::cuda::{self, Cuda};
use crate::backend::wgpu::{self, Wgpu};
use crate::backend::{Backend, Device};
use crate::error::{Error, Result};
use crate::recording::Recording;
use crate::report::{LaneReport, Status};

/// What a lane is made of.
pub enum State {
    /// It can compute.
    Ready(Box<dyn Backend>),
    /// Its output was read from a file.
    Recorded(Box<Recording>),
    /// It is not there: status, reason and what would bring it.
    Absent(Status, String, String),
}

/// A named lane.
pub struct Lane {
    name: String,
    state: State,
}

impl Lane {
    /// The CPU reference, which every validation needs.
    pub fn reference() -> Self {
        Self {
            name: "reference".into(),
            state: State::Ready(Box::new(Cpu::new())),
        }
    }

    /// A lane that computes with `backend`.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            name: backend.device().lane.clone(),
            state: State::Ready(backend),
        }
    }

    /// A recording, under its own name.
    pub fn recorded(recording: Recording) -> Self {
        Self {
            name: recording.name.clone(),
            state: State::Recorded(Box::new(recording)),
        }
    }

    /// A lane that was not asked for.
    pub fn skipped(name: &str) -> Self {
        Self {
            name: name.into(),
            state: State::Absent(Status::Skipped, "not asked for".into(), String::new()),
        }
    }

    /// A lane that could not be opened.
    fn absent(name: &str, error: &Error) -> Self {
        let status = match error {
            Error::Unavailable(_) => Status::Unavailable,
            _ => Status::Failed,
        };
        let p = error.problem();
        Self {
            name: name.into(),
            state: State::Absent(status, p.what.clone(), p.help.clone()),
        }
    }

    /// Name of the lane.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the CPU reference.
    pub fn is_reference(&self) -> bool {
        self.name == "reference"
    }

    /// What it is made of.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it is made of, to run it.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// What it is made of, to keep.
    pub fn into_state(self) -> State {
        self.state
    }

    /// Name in the report's metrics.
    pub fn metric_name(&self) -> String {
        metric_name(&self.name, matches!(self.state, State::Recorded(_)))
    }

    /// The lane as the report has it, before it runs.
    pub fn report(&self) -> LaneReport {
        let mut report = LaneReport {
            name: self.name.clone(),
            status: Status::Ran,
            reason: None,
            help: None,
            device: None,
            driver: None,
            api: None,
            software: None,
            kernel_variant: None,
            kernel_checksum: None,
            seconds: None,
            kernel_seconds: None,
        };
        let mut of = |d: &Device| {
            report.device = Some(d.device.clone());
            report.driver = Some(d.driver.clone());
            report.api = Some(d.api.clone());
            report.software = Some(d.software);
            report.kernel_variant = Some(d.kernel_variant.clone()).filter(|v| !v.is_empty());
            report.kernel_checksum = Some(d.kernel_checksum.clone());
        };
        match &self.state {
            State::Ready(backend) => of(backend.device()),
            State::Recorded(recording) => {
                of(&recording.device);
                report.status = Status::Recorded;
            }
            State::Absent(status, reason, help) => {
                report.status = *status;
                report.reason = Some(reason.clone());
                report.help = Some(help.clone()).filter(|h| !h.is_empty());
            }
        }
        report
    }
}

/// Name of a lane in the report's metrics: a lane and its stand-in as `NAME_dequant`, another
/// recording by its name.
pub(crate) fn metric_name(lane: &str, recorded: bool) -> String {
    if recorded && !matches!(lane, "cuda" | "wgpu") {
        lane.to_owned()
    } else {
        format!("{lane}_dequant")
    }
}

/// Which lanes to open, and how.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Lanes asked for; empty for all.
    pub lanes: Vec<String>,
    /// `--adapter`: index, part of a name, or `all`; `None` for the best one.
    pub adapter: Option<String>,
    /// `--device`: index of the CUDA device.
    pub cuda_device: usize,
    /// Compile the CUDA kernel for the device's own architecture.
    pub nvrtc: bool,
    /// The shader's variant: with subgroups, through workgroup memory, or the one that suits the adapter.
    pub subgroups: Option<bool>,
    /// The variant through workgroup memory as a lane of its own besides, `NAME:workgroup`.
    pub both_variants: bool,
}

/// Opens the reference, then every kernel lane that was asked for; `recordings` named after a lane
/// take its place.
///
/// # Errors
/// When an adapter was named that is not there. A lane that is merely absent is no error.
pub fn open(choice: &Choice, recordings: Vec<Recording>) -> Result<Vec<Lane>> {
    let mut lanes = vec![Lane::reference()];
    let wanted = |name: &str| choice.lanes.is_empty() || choice.lanes.iter().any(|l| l == name);
    let replaced = |name: &str| recordings.iter().any(|r| r.name == name);
    if !replaced("cuda") {
        lanes.push(if wanted("cuda") {
            let options = cuda::Options {
                device: choice.cuda_device,
                nvrtc: choice.nvrtc,
                ..Default::default()
            };
            match Cuda::open(&options, "cuda") {
                Ok(lane) => Lane::new(Box::new(lane)),
                Err(e @ Error::Input(_)) => return Err(e),
                Err(e) => Lane::absent("cuda", &e),
            }
        } else {
            Lane::skipped("cuda")
        });
    }
    if !replaced("wgpu") {
        if wanted("wgpu") {
            open_wgpu(choice, &mut lanes)?;
        } else {
            lanes.push(Lane::skipped("wgpu"));
        }
    }
    lanes.extend(recordings.into_iter().map(Lane::recorded));
    Ok(lanes)
}

fn open_wgpu(choice: &Choice, lanes: &mut Vec<Lane>) -> Result<()> {
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
