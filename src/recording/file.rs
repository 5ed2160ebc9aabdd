//! Recording files: what they are of, who made them, and their contents tensor by tensor.

use super::digest::{Cut, Digest, Digester, SKETCHES};
use super::header::{FORMAT_1, FORMAT_2, Header, Kind, part};
use super::identity::{Entry, Identity};
use super::{Data, Dump, Recording};
use crate::backend::Device;
use crate::checkpoint::{Shard, read_json_text};
use crate::error::{Error, Result};
use half::bf16;
use safetensors::Dtype;
use std::io::Read;
use std::path::{Path, PathBuf};

enum Content {
    /// The published dump.
    Dump(Box<Recording>),
    /// A safetensors file; `true` where values have no name but `values`.
    Mapped(Box<Shard>, bool),
}

/// An open recording.
pub struct RecordingFile {
    path: PathBuf,
    header: Header,
    content: Content,
}

impl RecordingFile {
    /// Opens a recording of any form: the published dump or this project's own.
    ///
    /// # Errors
    /// When the file is none, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let meta =
            std::fs::metadata(path).map_err(|e| Error::io("read the recording", path, &e))?;
        if !meta.is_file() {
            return Err(Error::input(
                "not a regular file",
                place,
                "name a recording",
            ));
        }
        let mut head = Vec::new();
        std::fs::File::open(path)
            .and_then(|f| f.take(9).read_to_end(&mut head))
            .map_err(|e| Error::io("read the recording", path, &e))?;
        if head.get(8) == Some(&b'{') && head[7] == 0 {
            return Self::from_safetensors(path);
        }
        let dump: Dump = read_dump(path)?;
        let recording = Recording::from_dump("recorded", dump)
            .map_err(|e| Error::input(&e.problem().what, &place, &e.problem().help))?;
        recording.check(path)?;
        let header = Header {
            kind: Kind::Full,
            tool: String::new(),
            host: String::new(),
            device: recording.device.clone(),
            identity: Identity {
                tensors: vec![Entry {
                    tensor_base: recording.tensor_base.clone(),
                    row_start: recording.row_start,
                    shape: recording.shape,
                    tensor_checksum: None,
                }],
                bits: recording.bits,
                group_size: recording.group_size,
                ..Identity::default()
            },
            groups_per_block: 0,
        };
        Ok(Self {
            path: path.to_owned(),
            header,
            content: Content::Dump(Box::new(recording)),
        })
    }

    fn from_safetensors(path: &Path) -> Result<Self> {
        let bad = |what: &str| {
            Error::input(
                what,
                path.display().to_string(),
                "write recordings with tq4 record",
            )
        };
        let shard = Shard::open(path)?;
        let meta = shard.metadata();
        let text = |key: &str| meta.get(key).cloned().unwrap_or_default();
        let first = text("format") == FORMAT_1;
        let header = match text("format").as_str() {
            FORMAT_1 => Header::from_format_1(&shard).map_err(|e| bad(&e))?,
            FORMAT_2 => serde_json::from_str(&text("recording"))
                .map_err(|e| bad(&format!("its metadata are damaged: {e}")))?,
            _ => return Err(bad("a safetensors file, but not a tq4 recording")),
        };
        let file = Self {
            path: path.to_owned(),
            header,
            content: Content::Mapped(Box::new(shard), first),
        };
        file.check()?;
        Ok(file)
    }

    /// Every shape against every other, so that nothing later can fail on a damaged file.
    fn check(&self) -> Result<()> {
        let group_size = self.header.identity.group_size.unwrap_or(0);
        for (i, t) in self.identity().tensors.iter().enumerate() {
            let twice = self.identity().tensors[..i]
                .iter()
                .any(|o| o.tensor_base == t.tensor_base);
            let end = t.row_start.checked_add(t.shape[0]);
            let elements = t.shape[0].checked_mul(t.shape[1]);
            let (Some(elements), Some(_), false) = (elements.filter(|e| *e > 0), end, twice) else {
                return Err(self.damaged(&format!("rows of {} make no sense", t.tensor_base)));
            };
            if self.kind() == Kind::Full {
                let shape = [t.shape[0], t.shape[1]];
                self.data(&t.tensor_base, "values", &[Dtype::BF16, Dtype::F32], &shape)?;
                continue;
            }
            let per_block = self.header.groups_per_block;
            if per_block == 0 || !crate::tensor::GROUP_SIZES.contains(&group_size) {
                return Err(self.damaged("group_size or groups_per_block make no sense"));
            }
            if !t.shape[1].is_multiple_of(group_size) {
                return Err(self.damaged(&format!("{} has no whole groups", t.tensor_base)));
            }
            let groups = elements / group_size;
            let blocks = groups.div_ceil(per_block);
            self.data(&t.tensor_base, "sums", &[Dtype::U64], &[blocks])?;
            self.data(
                &t.tensor_base,
                "sketches",
                &[Dtype::F32],
                &[blocks, SKETCHES],
            )?;
            self.data(&t.tensor_base, "squares", &[Dtype::F32], &[blocks])?;
            let sample = self.sampled(&t.tensor_base);
            if sample == 0 || sample > groups {
                return Err(
                    self.damaged(&format!("the sample of {} makes no sense", t.tensor_base))
                );
            }
            self.data(
                &t.tensor_base,
                "sample",
                &[Dtype::BF16],
                &[sample, group_size],
            )?;
        }
        if self.identity().tensors.is_empty() {
            return Err(self.damaged("it holds no tensor"));
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::input(
            format!("the recording is damaged: {what}"),
            self.path.display().to_string(),
            "record it again",
        )
    }

    fn sampled(&self, base: &str) -> usize {
        match &self.content {
            Content::Mapped(shard, _) => shard
                .info(&part(base, "sample"))
                .and_then(|i| i.shape.first().copied())
                .unwrap_or(0),
            Content::Dump(_) => 0,
        }
    }

    fn data(
        &self,
        base: &str,
        suffix: &str,
        dtypes: &[Dtype],
        shape: &[usize],
    ) -> Result<(Dtype, &[u8])> {
        let Content::Mapped(shard, first) = &self.content else {
            return Err(self.damaged("it holds no tensors"));
        };
        let name = if *first {
            suffix.to_owned()
        } else {
            part(base, suffix)
        };
        match (shard.info(&name), shard.data(&name)) {
            (Some(info), Some(data)) if info.shape == shape && dtypes.contains(&info.dtype) => {
                Ok((info.dtype, data))
            }
            (Some(info), _) => Err(self.damaged(&format!(
                "{name} is {:?} {:?}, expected {:?} {shape:?}",
                info.dtype, info.shape, dtypes[0]
            ))),
            (None, _) => Err(self.damaged(&format!("no tensor {name:?}"))),
        }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is of.
    pub fn identity(&self) -> &Identity {
        &self.header.identity
    }

    /// Who computed it, as far as the file says.
    pub fn device(&self) -> &Device {
        &self.header.device
    }

    /// The program that wrote it, and the system that it ran on; empty where the file does not say.
    pub fn tool(&self) -> [&str; 2] {
        [&self.header.tool, &self.header.host]
    }

    /// What it holds of each tensor.
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// How a tensor of a digest is cut; `None` where every value is there.
    pub fn cut(&self, base: &str) -> Option<Cut> {
        (self.kind() == Kind::Digest).then(|| Cut {
            group_size: self.identity().group_size.unwrap_or(0),
            groups_per_block: self.header.groups_per_block,
            sampled: self.sampled(base),
        })
    }

    /// The values of a tensor, as a recording called `name`.
    ///
    /// # Errors
    /// When the tensor is not there or the file is a digest.
    pub fn recording(&self, name: &str, base: &str) -> Result<Recording> {
        if let Content::Dump(recording) = &self.content {
            let mut recording = (**recording).clone();
            name.clone_into(&mut recording.name);
            recording.device.lane = name.to_owned();
            return Ok(recording);
        }
        if self.kind() == Kind::Digest {
            return Err(Error::input(
                "a digest holds no values",
                self.path.display().to_string(),
                "tq4 compare takes it; record without --digest for values",
            ));
        }
        let Some(entry) = self.identity().entry(base) else {
            return Err(Error::input(
                format!("no tensor {base:?}"),
                self.path.display().to_string(),
                "",
            ));
        };
        let shape = [entry.shape[0], entry.shape[1]];
        let (dtype, bytes) = self.data(base, "values", &[Dtype::BF16, Dtype::F32], &shape)?;
        let data = if dtype == Dtype::BF16 {
            Data::Bf16(bf16s(bytes))
        } else {
            Data::F32(f32s(bytes))
        };
        Ok(Recording {
            name: name.to_owned(),
            tensor_base: entry.tensor_base.clone(),
            row_start: entry.row_start,
            shape,
            bits: self.identity().bits,
            group_size: self.identity().group_size,
            device: self.device().clone(),
            data,
        })
    }

    /// The digest of a tensor: as recorded, which must be by `cut`, or made of the values.
    ///
    /// # Errors
    /// When the tensor is not there, its columns are not whole groups or it was cut otherwise.
    pub(super) fn digest(&self, base: &str, cut: Cut) -> Result<Digest> {
        if self.kind() == Kind::Full {
            let recording = self.recording("", base)?;
            if !recording.shape[1].is_multiple_of(cut.group_size) {
                return Err(self.damaged(&format!("{base} has no whole groups")));
            }
            let values = recording.values();
            let rounded: Vec<bf16> = (0..values.len()).map(|i| values.bf16(i)).collect();
            let mut digester = Digester::new(rounded.len() / cut.group_size, cut);
            digester.push(&rounded);
            return Ok(digester.finish());
        }
        let entry = self
            .identity()
            .entry(base)
            .ok_or_else(|| self.damaged(base))?;
        if self.cut(base) != Some(cut) {
            return Err(self.damaged(&format!(
                "{base} is cut as {:?}, expected {cut:?}",
                self.cut(base)
            )));
        }
        let groups = entry.shape[0] * entry.shape[1] / cut.group_size;
        let blocks = groups.div_ceil(cut.groups_per_block);
        let data = |suffix, dtype, shape: &[usize]| {
            self.data(base, suffix, &[dtype], shape)
                .map(|(_, bytes)| bytes)
        };
        let sketches = f32s(data("sketches", Dtype::F32, &[blocks, SKETCHES])?);
        Ok(Digest {
            group_size: cut.group_size,
            groups,
            groups_per_block: cut.groups_per_block,
            sums: data("sums", Dtype::U64, &[blocks])?
                .chunks_exact(8)
                .map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes")))
                .collect(),
            sketches: sketches
                .chunks_exact(SKETCHES)
                .map(|s| s.try_into().expect("four sketches"))
                .collect(),
            squares: f32s(data("squares", Dtype::F32, &[blocks])?),
            sample: bf16s(data("sample", Dtype::BF16, &[cut.sampled, cut.group_size])?),
        })
    }
}

fn bf16s(bytes: &[u8]) -> Vec<bf16> {
    bytes
        .chunks_exact(2)
        .map(|b| bf16::from_le_bytes([b[0], b[1]]))
        .collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// Reads a dump. Python writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have: they are read
/// as null, which stands for NaN. No value that is not finite passes a gate.
fn read_dump(path: &Path) -> Result<Dump> {
    let text = read_json_text(path)?;
    serde_json::from_slice(&text)
        .or_else(|e| serde_json::from_slice(&with_nulls(&text)).map_err(|_| e))
        .map_err(|e| {
            Error::input(
                format!("not the JSON expected here: {e}"),
                path.display().to_string(),
                "a dump is {\"tensor_base\", \"row_start\", \"shape\": [rows, cols], \"values\": [...]}, the \
                 values one flat list of numbers",
            )
        })
}

/// `text` with null in place of Python's constants, strings left alone.
fn with_nulls(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let [first, ..] = rest {
        let taken = match first {
            b'"' => {
                in_string = !in_string;
                1
            }
            b'\\' if in_string => 2.min(rest.len()),
            _ if in_string => 1,
            _ => {
                let constant = [&b"NaN"[..], b"Infinity", b"-Infinity"]
                    .into_iter()
                    .find(|c| rest.starts_with(c));
                if let Some(constant) = constant {
                    out.extend(b"null");
                    rest = &rest[constant.len()..];
                    continue;
                }
                1
            }
        };
        out.extend(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_python_become_null_outside_strings() {
        let text = br#"{"NaN": "a\"NaN", "v": [NaN, -Infinity, Infinity, -1e3]}"#;
        let want = br#"{"NaN": "a\"NaN", "v": [null, null, null, -1e3]}"#;
        assert_eq!(with_nulls(text), want);
    }
}
