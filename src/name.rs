//! Names of lanes, in reports and in published metrics: made and read here and nowhere else.

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
    /// The CUDA kernel on one of several devices: `cuda:INDEX`.
    CudaDevice(usize),
    /// The shader.
    Wgpu,
    /// The shader on one of several adapters: `wgpu:INDEX`.
    WgpuAdapter(usize),
    /// A recording, a program or a user's kernel under a name of its own.
    Named(String),
}

impl LaneName {
    /// The name of a user's own program or kernel: none that another lane or a published metric has.
    ///
    /// # Errors
    /// When it has other characters than letters, digits, `.`, `_` and `-`, or is taken.
    pub(crate) fn own(text: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
            let what = format!(
                "{text:?} found, expected a name of at most 64 letters, digits, '.', '_' and '-'"
            );
            return Err(Error::input(what, "", ""));
        }
        let name = Self::Named(text.to_owned());
        if Self::from(text) != name || Self::from_published(text) != name {
            let what = format!("{text} is the name of one of tq4's own lanes");
            return Err(Error::input(what, "", "give it another name"));
        }
        Ok(name)
    }

    /// The kind of lane that it is; `None` for the source and for names of users.
    pub fn kind(&self) -> Option<LaneKind> {
        match self {
            Self::Reference => Some(LaneKind::Reference),
            Self::Cuda | Self::CudaDevice(_) => Some(LaneKind::Cuda),
            Self::Wgpu | Self::WgpuAdapter(_) => Some(LaneKind::Wgpu),
            Self::Source | Self::Named(_) => None,
        }
    }

    /// A user's kernel on one of several devices: `mine:1` of `mine`.
    #[cfg(feature = "gpu")]
    pub(crate) fn numbered(&self, index: usize) -> Self {
        Self::Named(format!("{self}:{index}"))
    }

    /// Whether it is `kernel`, or that on one of several devices: `mine:1` of `mine`.
    pub(crate) fn is_of(&self, kernel: &Self) -> bool {
        match (self, kernel) {
            (Self::Named(name), Self::Named(kernel)) => {
                let rest = name.strip_prefix(kernel.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            }
            _ => self == kernel,
        }
    }

    /// Whether it is what a requirement of `required` means: a lane of that kind, or [`Self::is_of`] it.
    pub(crate) fn meets(&self, required: &Self) -> bool {
        match required.kind() {
            Some(kind) => self.kind() == Some(kind),
            None => self.is_of(required),
        }
    }

    /// The name in the published report's metrics: `bf16_source`, `reference_dequant`,
    /// `cuda_dequant`; a recording's or a program's own.
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
            LaneKind::Wgpu => Self::Wgpu,
        }
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Reference => f.write_str("reference"),
            Self::Cuda => f.write_str("cuda"),
            Self::CudaDevice(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::WgpuAdapter(index) => write!(f, "wgpu:{index}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// An index as `Display` writes it: no sign, no leading zeros.
fn index(text: &str) -> Option<usize> {
    text.parse().ok().filter(|i: &usize| i.to_string() == text)
}

impl From<&str> for LaneName {
    fn from(text: &str) -> Self {
        match text {
            "source" => return Self::Source,
            "reference" => return Self::Reference,
            "cuda" => return Self::Cuda,
            "wgpu" => return Self::Wgpu,
            _ => {}
        }
        let named = || Self::Named(text.into());
        if let Some(device) = text.strip_prefix("cuda:") {
            return index(device).map_or_else(named, Self::CudaDevice);
        }
        match text.strip_prefix("wgpu:").and_then(index) {
            Some(adapter) => Self::WgpuAdapter(adapter),
            None => named(),
        }
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
            "cuda:1",
            "cuda:01",
            "cuda:",
            "wgpu",
            "wgpu:3",
            "mine",
            "wgpu:01",
            "wgpux",
        ] {
            let lane = LaneName::from(name);
            assert_eq!(lane.to_string(), name);
            assert_eq!(LaneName::from_published(&lane.published()), lane, "{name}");
        }
        assert_eq!(LaneName::from("cuda").published(), "cuda_dequant");
        let second = LaneName::from("cuda:1");
        assert_eq!(second, LaneName::CudaDevice(1));
        assert_eq!(second.published(), "cuda:1_dequant");
        assert_eq!(second.kind(), Some(LaneKind::Cuda));
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
