//! Lanes as records name them: which there are, how they were asked for, what became of them.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A kind of lane that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneKind {
    /// The CPU reference.
    Reference,
    /// The CUDA kernel.
    Cuda,
    /// The WGSL shader.
    Wgpu,
}

impl LaneKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reference, Self::Cuda, Self::Wgpu];

    /// Its name: `reference`, `cuda` or `wgpu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        }
    }
}

impl fmt::Display for LaneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LaneKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let kind = Self::ALL.into_iter().find(|k| k.name() == text);
        kind.ok_or_else(|| {
            Error::input(
                format!("no lane {text:?}"),
                "",
                "lanes are reference, cuda, wgpu",
            )
        })
    }
}

/// A lane's name. One of two machines' or users' own lanes is [`LaneName::Named`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LaneName {
    /// The original weights.
    Source,
    /// The CPU reference.
    Reference,
    /// The CUDA kernel.
    Cuda,
    /// The shader on one adapter: `wgpu`, `wgpu:INDEX` where there are several, either with
    /// `:workgroup` for the variant through workgroup memory beside the other one.
    Wgpu {
        /// Index of the adapter, where it is part of the name.
        adapter: Option<usize>,
        /// Whether it is the second of two variants on this adapter.
        workgroup: bool,
    },
    /// A recording under a name of its own.
    Named(String),
}

impl LaneName {
    /// The shader on the adapter that was chosen.
    pub const WGPU: Self = Self::Wgpu {
        adapter: None,
        workgroup: false,
    };

    /// The kind of lane that it is; `None` for the source and for recordings.
    pub fn kind(&self) -> Option<LaneKind> {
        match self {
            Self::Reference => Some(LaneKind::Reference),
            Self::Cuda => Some(LaneKind::Cuda),
            Self::Wgpu { .. } => Some(LaneKind::Wgpu),
            Self::Source | Self::Named(_) => None,
        }
    }

    /// The name in the published report's metrics: `bf16_source`, `reference_dequant`,
    /// `cuda_dequant`; a recording's own.
    pub fn published(&self) -> String {
        match self {
            Self::Source => "bf16_source".into(),
            Self::Named(name) => name.clone(),
            _ => format!("{self}_dequant"),
        }
    }

    /// The lane that a published name means.
    pub fn from_published(name: &str) -> Self {
        if name == "bf16_source" {
            return Self::Source;
        }
        match name.strip_suffix("_dequant").map(Self::from) {
            None | Some(Self::Named(_) | Self::Source) => Self::Named(name.into()),
            Some(lane) => lane,
        }
    }
}

impl From<LaneKind> for LaneName {
    fn from(kind: LaneKind) -> Self {
        match kind {
            LaneKind::Reference => Self::Reference,
            LaneKind::Cuda => Self::Cuda,
            LaneKind::Wgpu => Self::WGPU,
        }
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Reference => f.write_str("reference"),
            Self::Cuda => f.write_str("cuda"),
            Self::Wgpu { adapter, workgroup } => {
                f.write_str("wgpu")?;
                if let Some(index) = adapter {
                    write!(f, ":{index}")?;
                }
                f.write_str(if *workgroup { ":workgroup" } else { "" })
            }
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl From<&str> for LaneName {
    fn from(text: &str) -> Self {
        match text {
            "source" => return Self::Source,
            "reference" => return Self::Reference,
            "cuda" => return Self::Cuda,
            _ => {}
        }
        let named = || Self::Named(text.into());
        let Some(rest) = text.strip_prefix("wgpu") else {
            return named();
        };
        let (rest, workgroup) = match rest.strip_suffix(":workgroup") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let adapter = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            // Only what `Display` writes is taken: no sign, no leading zeros.
            Some(index) => match index.parse::<usize>() {
                Ok(i) if i.to_string() == index => Some(i),
                _ => return named(),
            },
            None => return named(),
        };
        Self::Wgpu { adapter, workgroup }
    }
}

impl From<String> for LaneName {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl Serialize for LaneName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LaneName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::from)
    }
}

/// [`LaneName`] as the published metrics have it, for `#[serde(with)]`.
pub(crate) mod published {
    use super::LaneName;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(lane: &LaneName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&lane.published())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LaneName, D::Error> {
        String::deserialize(from).map(|name| LaneName::from_published(&name))
    }
}

/// Which variants of the shader run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShaderVariant {
    /// With subgroups where the adapter has them.
    #[default]
    Auto,
    /// With subgroups.
    Subgroup,
    /// Through workgroup memory.
    Workgroup,
    /// Both, as two lanes.
    Both,
}

/// Which lanes run, and how: what is asked for, what a report keeps, and what opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneConfig {
    /// Lanes asked for; empty for all.
    pub lanes: Vec<LaneKind>,
    /// Lanes that must run.
    pub require: Vec<LaneKind>,
    /// wgpu adapter: index, part of a name, or `all`; null for the best one.
    pub adapter: Option<String>,
    /// Index of the CUDA device.
    pub cuda_device: usize,
    /// Whether the CUDA kernel is compiled for the device's own architecture.
    pub nvrtc: bool,
    /// Which variants of the shader.
    pub shader_variant: ShaderVariant,
}

impl LaneConfig {
    /// Whether a kind of lane was asked for.
    pub fn wants(&self, kind: LaneKind) -> bool {
        self.lanes.is_empty() || self.lanes.contains(&kind)
    }
}

impl fmt::Display for LaneConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |kinds: &[LaneKind], none: &str| match kinds {
            [] => none.to_owned(),
            some => some.iter().map(|k| k.name()).collect::<Vec<_>>().join(","),
        };
        write!(
            f,
            "{} (required: {}, adapter {}, CUDA device {}{}{})",
            list(&self.lanes, "all"),
            list(&self.require, "none"),
            self.adapter.as_deref().unwrap_or("by itself"),
            self.cuda_device,
            if self.nvrtc { ", NVRTC" } else { "" },
            match self.shader_variant {
                ShaderVariant::Auto => "",
                ShaderVariant::Subgroup => ", shader with subgroups",
                ShaderVariant::Workgroup => ", shader through workgroup memory",
                ShaderVariant::Both => ", both shaders",
            }
        )
    }
}

/// Type of the values that a lane returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputType {
    /// Rounded to BF16, 2 bytes an element.
    #[default]
    Bf16,
    /// The f32 values before rounding, 4 bytes an element.
    F32,
}

impl OutputType {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
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
    /// `CPU`, `Vulkan`, `Metal`, `D3D12` or `CUDA`.
    pub api: String,
    /// Whether the device is a software rasteriser or an emulation.
    pub software: bool,
    /// Which form of the kernel runs, where a lane has several: `subgroups, reach 8` or
    /// `workgroup memory`, `PTX 8.0` or `NVRTC, compute_90`.
    pub kernel_variant: String,
    /// SHA-256 of the kernel's text as it was given to the driver, first 16 hex digits.
    pub kernel_checksum: String,
    /// Type of the values.
    #[serde(default)]
    pub output: OutputType,
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
    /// `CPU`, `Vulkan`, `Metal`, `D3D12` or `CUDA`.
    pub api: Option<String>,
    /// Whether the device is a software one.
    pub software: Option<bool>,
    /// Which form of the kernel runs; null where a lane has one only.
    #[serde(default)]
    pub kernel_variant: Option<String>,
    /// First 16 hex digits of the SHA-256 of the kernel.
    pub kernel_checksum: Option<String>,
    /// Seconds by the wall for upload, kernel and download.
    pub seconds: Option<f64>,
    /// Seconds in the kernel by the device's own clock.
    pub kernel_seconds: Option<f64>,
    /// First 32 hex digits of the SHA-256 of the output's bytes in order, the reference's rounded to
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
            software: None,
            kernel_variant: None,
            kernel_checksum: None,
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
            software: Some(info.software),
            kernel_variant: some(&info.kernel_variant),
            kernel_checksum: some(&info.kernel_checksum),
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
    use proptest::prelude::*;

    #[test]
    fn names_are_read_back() {
        for name in [
            "source",
            "reference",
            "cuda",
            "wgpu",
            "wgpu:3",
            "wgpu:workgroup",
            "wgpu:0:workgroup",
            "mine",
            "wgpu:01",
            "wgpux",
        ] {
            let lane = LaneName::from(name);
            assert_eq!(lane.to_string(), name);
            assert_eq!(LaneName::from_published(&lane.published()), lane, "{name}");
        }
        assert_eq!(LaneName::from("cuda").published(), "cuda_dequant");
        assert_eq!(LaneName::from("mine").published(), "mine");
        assert!(matches!(LaneName::from("wgpu:x"), LaneName::Named(_)));
    }

    proptest! {
        #[test]
        fn any_published_name_survives(name in "[a-z_:0-9]{0,12}(_dequant)?") {
            let lane = LaneName::from_published(&name);
            prop_assert_eq!(lane.published(), name);
        }
    }
}
