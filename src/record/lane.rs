//! Lanes as records have them: how they were asked for, who computed, what became of them.

use super::{DeviceArithmetic, LaneKind, LaneName};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which CUDA devices: a number or `all` in reports and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CudaDevices {
    /// The one of this index.
    One(usize),
    /// Each as its own lane.
    All,
}

impl Default for CudaDevices {
    fn default() -> Self {
        Self::One(0)
    }
}

impl fmt::Display for CudaDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(index) => write!(f, "{index}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Serialize for CudaDevices {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(index) => index.serialize(to),
            Self::All => to.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for CudaDevices {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Index(usize),
            Word(String),
        }
        match Wire::deserialize(from)? {
            Wire::Index(index) => Ok(Self::One(index)),
            Wire::Word(word) => word.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl FromStr for CudaDevices {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(index) => Ok(Self::One(index)),
            Err(_) => Err(Error::input(
                format!("{text:?} is no CUDA device"),
                "",
                "give its index, or all; tq4 devices lists them",
            )),
        }
    }
}

/// Which lanes run, and how: what is asked for, what a report keeps, and what opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneConfig {
    /// Lanes asked for, which must run; empty for all there are.
    pub lanes: Vec<LaneKind>,
    /// Lanes that must run: [`LaneKind`]s, and the users' own lanes and recordings.
    pub require: Vec<LaneName>,
    /// Whether a lane that must run may do so on a software adapter.
    #[serde(default)]
    pub allow_software: bool,
    /// wgpu adapter: index, part of a name, or `all`; null for the best one.
    pub adapter: Option<String>,
    /// Index of the CUDA device, or `all`.
    pub cuda_device: CudaDevices,
    /// Whether the CUDA kernel is compiled for the device's own architecture.
    pub nvrtc: bool,
}

impl LaneConfig {
    /// Whether a kind of lane was asked for.
    pub fn wants(&self, kind: LaneKind) -> bool {
        self.lanes.is_empty() || self.lanes.contains(&kind)
    }
}

impl fmt::Display for LaneConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<String>, none: &str| match &names[..] {
            [] => none.to_owned(),
            some => some.join(","),
        };
        write!(
            f,
            "{} (required: {}{}, adapter {}, CUDA device {}{})",
            list(self.lanes.iter().map(LaneKind::to_string).collect(), "all"),
            list(
                self.require.iter().map(LaneName::to_string).collect(),
                "none"
            ),
            if self.allow_software {
                ", software allowed"
            } else {
                ""
            },
            self.adapter.as_deref().unwrap_or("by itself"),
            self.cuda_device,
            if self.nvrtc { ", NVRTC" } else { "" },
        )
    }
}

/// Type of the values that a lane returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputType {
    /// Rounded to BF16, 2 bytes an element.
    #[default]
    #[serde(alias = "bfloat16", alias = "torch.bfloat16")]
    Bf16,
    /// Rounded to F16, 2 bytes an element.
    #[serde(alias = "float16", alias = "torch.float16")]
    F16,
    /// The f32 values before rounding, 4 bytes an element.
    #[serde(alias = "float32", alias = "torch.float32")]
    F32,
}

impl OutputType {
    /// Its name: `bf16`, `f16` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

impl FromStr for OutputType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::Bf16, Self::F16, Self::F32];
        let found = all.into_iter().find(|t| t.name() == text);
        found.ok_or_else(|| {
            let what = format!("no output type {text:?}");
            Error::input(what, "", "types are bf16, f16, f32")
        })
    }
}

/// Who computes, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneInfo {
    /// Name of the lane.
    #[serde(rename = "lane")]
    pub name: LaneName,
    /// The device as its driver names it.
    pub device: String,
    /// Driver name and version.
    pub driver: String,
    /// `CPU`, `Vulkan`, `Metal`, `D3D12`, `Vulkan on D3D12` or `CUDA`; `exec` of a program.
    pub api: String,
    /// Whether the device is a software rasteriser or an emulation.
    pub software: bool,
    /// What the device makes of f32 arithmetic. `None` where it was not probed: only shaders need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<DeviceArithmetic>,
    /// Which form of the kernel runs, where a lane has several: `products by fma` or
    /// `products handed over`, `PTX 8.0, compute_80`, `NVRTC, compute_90` or `NVRTC, sm_90`.
    pub kernel_variant: String,
    /// SHA-256 of the kernel's text as it was given to the driver, first 16 hex digits.
    pub kernel_checksum: String,
    /// Type of the values.
    #[serde(default)]
    pub output: OutputType,
    /// Where the device is on the PCI bus: `0000:41:00.0`. `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// The device's UUID, `GPU-...` of NVIDIA. `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

impl LaneInfo {
    /// What to know before its results are used; `None` where there is nothing.
    pub fn warning(&self) -> Option<String> {
        // A user's shader need not have such products.
        let own = self.name.kind() == Some(LaneKind::Wgpu);
        self.arithmetic.filter(|_| own)?.warning()
    }
}

/// What became of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It computed.
    Ran,
    /// A recording was read in its place.
    Recorded,
    /// It was not asked for.
    Skipped,
    /// It is not there on this machine.
    Unavailable,
    /// It was there and broke.
    Failed,
}

impl Status {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Recorded => "recorded",
            Self::Unavailable => "NOT RUN",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// One lane in a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneRecord {
    /// Name of the lane.
    pub name: LaneName,
    /// What became of it.
    pub status: Status,
    /// Why it did not run; null when it did.
    pub reason: Option<String>,
    /// What would bring it; null when it ran.
    pub help: Option<String>,
    /// The device as its driver names it.
    pub device: Option<String>,
    /// Driver name and version.
    pub driver: Option<String>,
    /// `CPU`, `Vulkan`, `Metal`, `D3D12`, `Vulkan on D3D12` or `CUDA`; `exec` of a program.
    pub api: Option<String>,
    /// Where the device is on the PCI bus: `0000:41:00.0`; left out where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// The device's UUID, `GPU-...` of NVIDIA; left out where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Whether the device is a software one.
    pub software: Option<bool>,
    /// Which form of the kernel runs; null where a lane has one only.
    #[serde(default)]
    pub kernel_variant: Option<String>,
    /// First 16 hex digits of the SHA-256 of the kernel.
    pub kernel_checksum: Option<String>,
    /// What the device makes of f32 arithmetic; left out where it was not probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<DeviceArithmetic>,
    /// What to know before its results are used; left out where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Wall-clock seconds for upload, kernel and download.
    pub seconds: Option<f64>,
    /// Seconds in the kernel by the device's own clock.
    pub kernel_seconds: Option<f64>,
    /// First 32 hex digits of the BLAKE3 of the output's bytes in order, the reference's rounded to
    /// BF16; null when the lane has none. Two reports of one input tell by it whether two lanes that
    /// never meet are bit-identical.
    #[serde(default)]
    pub output_hash: Option<String>,
}

impl LaneRecord {
    /// A lane of that name of which nothing is known.
    pub fn new(name: LaneName, status: Status) -> Self {
        Self {
            name,
            status,
            reason: None,
            help: None,
            device: None,
            driver: None,
            api: None,
            pci: None,
            uuid: None,
            software: None,
            kernel_variant: None,
            kernel_checksum: None,
            arithmetic: None,
            warning: None,
            seconds: None,
            kernel_seconds: None,
            output_hash: None,
        }
    }

    /// A lane that is there.
    pub fn of(info: &LaneInfo, status: Status) -> Self {
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        Self {
            device: some(&info.device),
            driver: some(&info.driver),
            api: some(&info.api),
            pci: info.pci.clone(),
            uuid: info.uuid.clone(),
            software: Some(info.software),
            kernel_variant: some(&info.kernel_variant),
            kernel_checksum: some(&info.kernel_checksum),
            arithmetic: info.arithmetic,
            warning: info.warning().filter(|_| status == Status::Ran),
            ..Self::new(info.name.clone(), status)
        }
    }

    /// The lane did not do its work: why, and what would help.
    pub fn fail(&mut self, status: Status, error: &Error) {
        let p = error.problem();
        self.status = status;
        self.reason = Some(p.what.clone());
        self.help = Some(p.help.clone()).filter(|h| !h.is_empty());
        self.seconds = None;
        self.kernel_seconds = None;
        self.output_hash = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_devices_are_a_number_or_all() {
        for (devices, json) in [(CudaDevices::One(3), "3"), (CudaDevices::All, "\"all\"")] {
            assert_eq!(serde_json::to_string(&devices).unwrap(), json);
            assert_eq!(serde_json::from_str::<CudaDevices>(json).unwrap(), devices);
            assert_eq!(devices.to_string().parse::<CudaDevices>().unwrap(), devices);
        }
        assert!(serde_json::from_str::<CudaDevices>("-1").is_err());
        assert!(serde_json::from_str::<CudaDevices>("\"some\"").is_err());
    }
}
