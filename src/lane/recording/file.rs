//! Recording files: what they are of, who made them, and their values by rows.

use super::dump::Dump;
use super::identity::{Entry, Identity};
use super::{FORMAT, Header, values_of};
use crate::checkpoint::{Dtype, Shard};
use crate::error::{Error, Result};
use crate::lane::Output;
use crate::record::{LaneInfo, LaneName, OutputType};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

enum Content {
    /// The published dump.
    Dump(Output),
    /// This project's own form.
    Shard(Box<Shard>),
}

/// An open recording.
pub struct RecordingFile {
    path: PathBuf,
    header: Header,
    content: Content,
}

impl RecordingFile {
    /// Opens a recording of either form.
    ///
    /// # Errors
    /// When the file is neither, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Error::io("read the recording", path, e);
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            let place = path.display().to_string();
            return Err(Error::input(
                "not a regular file",
                place,
                "name a recording",
            ));
        }
        let mut head = Vec::new();
        std::fs::File::open(path)
            .and_then(|f| f.take(9).read_to_end(&mut head))
            .map_err(io)?;
        // A safetensors file begins with the length of its JSON header, 8 bytes.
        if head.get(8) == Some(&b'{') && head[7] == 0 {
            Self::from_safetensors(path)
        } else {
            Dump::read(path).map(|dump| Self::from_dump(path, dump))
        }
    }

    fn from_dump(path: &Path, dump: Dump) -> Self {
        let output = dump.values.of();
        let header = Header {
            tool: String::new(),
            host: String::new(),
            device: LaneInfo {
                name: LaneName::Named(String::new()),
                device: "recorded".into(),
                driver: String::new(),
                api: String::new(),
                software: false,
                kernel_variant: String::new(),
                kernel_checksum: String::new(),
                output,
            },
            identity: Identity {
                tensors: vec![Entry {
                    tensor_base: dump.tensor_base,
                    row_start: dump.row_start,
                    shape: dump.shape,
                    tensor_checksum: None,
                }],
                bits: dump.bits,
                group_size: dump.group_size,
                ..Identity::default()
            },
        };
        Self {
            path: path.to_owned(),
            header,
            content: Content::Dump(dump.values),
        }
    }

    fn from_safetensors(path: &Path) -> Result<Self> {
        let bad = |what: &str| {
            let place = path.display().to_string();
            Error::input(what, place, "write recordings with tq4 record")
        };
        let shard = Shard::open(path)?;
        let text = |key: &str| shard.metadata().get(key).cloned().unwrap_or_default();
        if text("format") != FORMAT {
            return Err(bad("a safetensors file, but not a tq4 recording"));
        }
        let header: Header = serde_json::from_str(&text("recording"))
            .map_err(|e| bad(&format!("its metadata are damaged: {e}")))?;
        let mut file = Self {
            path: path.to_owned(),
            header,
            content: Content::Shard(Box::new(shard)),
        };
        file.header.device.output = file.check()?;
        Ok(file)
    }

    /// Every shape against every other, so that nothing later can fail on a damaged file. Returns the
    /// narrowest type that holds all values.
    fn check(&self) -> Result<OutputType> {
        let mut output = None;
        for (i, t) in self.identity().tensors.iter().enumerate() {
            let mut before = self.identity().tensors[..i].iter();
            let twice = before.any(|o| o.tensor_base == t.tensor_base);
            let end = t.row_start.checked_add(t.shape[0]);
            let elements = t.shape[0].checked_mul(t.shape[1]);
            if end.is_none() || elements.is_none_or(|e| e == 0) || twice {
                return Err(self.damaged(&format!("rows of {} make no sense", t.tensor_base)));
            }
            let this = self.type_of(t)?;
            output = match output {
                None => Some(this),
                Some(other) if other == this => Some(this),
                Some(_) => Some(OutputType::F32),
            };
        }
        output.ok_or_else(|| self.damaged("it holds no tensor"))
    }

    fn damaged(&self, what: &str) -> Error {
        Error::input(
            format!("the recording is damaged: {what}"),
            self.path.display().to_string(),
            "record it again",
        )
    }

    /// Type of a tensor's values, whose shape must be the entry's.
    fn type_of(&self, entry: &Entry) -> Result<OutputType> {
        let shard = match &self.content {
            Content::Dump(_) => return Ok(self.info().output),
            Content::Shard(shard) => shard,
        };
        let name = values_of(&entry.tensor_base);
        let info = shard.info(&name);
        let info = info.ok_or_else(|| self.damaged(&format!("no tensor {name:?}")))?;
        match info.dtype {
            Dtype::BF16 if info.shape == entry.shape => Ok(OutputType::Bf16),
            Dtype::F16 if info.shape == entry.shape => Ok(OutputType::F16),
            Dtype::F32 if info.shape == entry.shape => Ok(OutputType::F32),
            dtype => Err(self.damaged(&format!(
                "{name} is {dtype:?} {:?}, expected BF16 {:?}",
                info.shape, entry.shape
            ))),
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

    /// Who computed it, as far as the file says, and the type of the values.
    pub fn info(&self) -> &LaneInfo {
        &self.header.device
    }

    /// The values of some rows of a tensor, numbered as in the whole tensor, of the type that
    /// [`RecordingFile::info`] names.
    ///
    /// # Errors
    /// When the tensor or the rows are not in the file, or it cannot be read.
    pub fn rows(&self, base: &str, rows: Range<usize>) -> Result<Output> {
        let entry = self.identity().entry(base);
        let entry = entry.ok_or_else(|| {
            let what = format!("the recording is not of tensor {base}");
            Error::unavailable(what, self.path.display().to_string(), "")
        })?;
        let held = entry.rows();
        if rows.start < held.start || rows.end > held.end {
            return Err(Error::unavailable(
                format!(
                    "the recording holds rows {}..{}, asked for are rows {}..{}",
                    held.start, held.end, rows.start, rows.end
                ),
                self.path.display().to_string(),
                "",
            ));
        }
        let cols = entry.shape[1];
        let elements = (rows.start - held.start) * cols..(rows.end - held.start) * cols;
        let name = values_of(base);
        let values = match (&self.content, self.type_of(entry)?) {
            (Content::Dump(Output::Bf16(v)), _) => Output::Bf16(v[elements].to_vec()),
            (Content::Dump(Output::F16(v)), _) => Output::F16(v[elements].to_vec()),
            (Content::Dump(Output::F32(v)), _) => Output::F32(v[elements].to_vec()),
            (Content::Shard(shard), OutputType::Bf16) => Output::Bf16(shard.read(&name, elements)?),
            (Content::Shard(shard), OutputType::F16) => Output::F16(shard.read(&name, elements)?),
            (Content::Shard(shard), OutputType::F32) => Output::F32(shard.read(&name, elements)?),
        };
        Ok(match self.info().output {
            OutputType::F32 => Output::F32(values.single().into_owned()),
            OutputType::Bf16 | OutputType::F16 => values,
        })
    }
}
