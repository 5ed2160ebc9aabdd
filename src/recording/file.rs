//! Recording files: what they are of, who made them, and their contents tensor by tensor.

use super::header::{FORMAT, Header, values_of};
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
    /// This project's own form.
    Mapped(Box<Shard>),
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
        let (bits, group_size) = (dump.bits, dump.group_size);
        let recording = Recording::from_dump("recorded", dump)
            .map_err(|e| Error::input(&e.problem().what, &place, &e.problem().help))?;
        recording.check(path)?;
        let header = Header {
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
                bits,
                group_size,
                ..Identity::default()
            },
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
        if text("format") != FORMAT {
            return Err(bad("a safetensors file, but not a tq4 recording"));
        }
        let header = serde_json::from_str(&text("recording"))
            .map_err(|e| bad(&format!("its metadata are damaged: {e}")))?;
        let file = Self {
            path: path.to_owned(),
            header,
            content: Content::Mapped(Box::new(shard)),
        };
        file.check()?;
        Ok(file)
    }

    /// Every shape against every other, so that nothing later can fail on a damaged file.
    fn check(&self) -> Result<()> {
        for (i, t) in self.identity().tensors.iter().enumerate() {
            let twice = self.identity().tensors[..i]
                .iter()
                .any(|o| o.tensor_base == t.tensor_base);
            let end = t.row_start.checked_add(t.shape[0]);
            let elements = t.shape[0].checked_mul(t.shape[1]);
            if end.is_none() || elements.is_none_or(|e| e == 0) || twice {
                return Err(self.damaged(&format!("rows of {} make no sense", t.tensor_base)));
            }
            self.data(t)?;
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

    /// Type and bytes of a tensor's values.
    fn data(&self, entry: &Entry) -> Result<(Dtype, &[u8])> {
        let Content::Mapped(shard) = &self.content else {
            return Err(self.damaged("it holds no tensors"));
        };
        let name = values_of(&entry.tensor_base);
        match (shard.info(&name), shard.data(&name)) {
            (Some(info), Some(data))
                if info.shape == entry.shape && matches!(info.dtype, Dtype::BF16 | Dtype::F32) =>
            {
                Ok((info.dtype, data))
            }
            (Some(info), _) => Err(self.damaged(&format!(
                "{name} is {:?} {:?}, expected BF16 {:?}",
                info.dtype, info.shape, entry.shape
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

    /// The values of a tensor, as a recording called `name`.
    ///
    /// # Errors
    /// When the tensor is not there.
    pub fn recording(&self, name: &str, base: &str) -> Result<Recording> {
        if let Content::Dump(recording) = &self.content {
            let mut recording = (**recording).clone();
            name.clone_into(&mut recording.name);
            recording.device.lane = name.to_owned();
            return Ok(recording);
        }
        let Some(entry) = self.identity().entry(base) else {
            return Err(Error::input(
                format!("no tensor {base:?}"),
                self.path.display().to_string(),
                "",
            ));
        };
        let (dtype, bytes) = self.data(entry)?;
        let data = if dtype == Dtype::BF16 {
            Data::Bf16(bf16s(bytes))
        } else {
            Data::F32(f32s(bytes))
        };
        Ok(Recording {
            name: name.to_owned(),
            tensor_base: entry.tensor_base.clone(),
            row_start: entry.row_start,
            shape: entry.shape,
            device: self.device().clone(),
            data,
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
