//! Recording files: what they are of, who made them, and their values by rows.

use super::dump::Dump;
use super::fit::{Loose, Placed, Wanted, place};
use super::given::RecordingPath;
use super::identity::{Identity, RecordedRows};
use super::input::{Bytes, OpenRecording, RecordingKind};
use super::values::{StoredValues, type_of};
use super::{ANY_FORMAT, FORMAT, RecordingHeader, npy, values_of};
use crate::checkpoint::{Checkpoint, Shard, Sum};
use crate::error::{Error, Result};
use crate::hash::{Hashing, hex};
use crate::lane::Output;
use crate::record::{LaneInfo, OutputType};
use crate::tensor::base_of;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open recording.
pub struct RecordingFile {
    path: PathBuf,
    header: RecordingHeader,
    /// Of each entry of the identity.
    values: Vec<StoredValues>,
    /// What is not known to be of a tensor of the run, until [`RecordingFile::fit`].
    loose: Vec<Loose>,
    bytes: Hashed,
}

/// How the SHA-256 of a recording is had.
enum Hashed {
    /// It was taken when the bytes came by.
    Known(String),
    /// From these files.
    Files(Vec<PathBuf>),
}

impl RecordingFile {
    /// Opens a recording of any form: this project's own, a safetensors file or a directory of them, NumPy's
    /// `.npy`, plain values, or JSON.
    ///
    /// # Errors
    /// When it is none of these, or is damaged.
    pub fn open(given: &RecordingPath) -> Result<Self> {
        if given.path.is_dir() {
            return Self::from_directory(given);
        }
        let OpenRecording { path, kind, bytes } = OpenRecording::open(given)?;
        if kind == RecordingKind::Json {
            return Self::from_json(path, bytes, given.of);
        }
        let file = bytes.into_file();
        let (file, hash) = file.map_err(|e| Error::io("read the recording", &path, e))?;
        let bytes = match hash {
            Some(hash) => Hashed::Known(hash),
            None => Hashed::Files(vec![path.clone()]),
        };
        match kind {
            RecordingKind::Safetensors => Self::from_safetensors(path, file, given.of, bytes),
            RecordingKind::Npy => Self::from_npy(path, file, given.of, bytes),
            RecordingKind::Json | RecordingKind::Raw => Self::from_raw(path, file, given.of, bytes),
        }
    }

    fn new(path: PathBuf, loose: Vec<Loose>, bytes: Hashed) -> Self {
        Self {
            path,
            header: RecordingHeader::unknown(),
            values: Vec::new(),
            loose,
            bytes,
        }
    }

    fn from_json(path: PathBuf, bytes: Bytes, told: Option<OutputType>) -> Result<Self> {
        let mut text = Hashing::new(bytes.into_stream());
        let dump = Dump::read(&path, &mut text, told)?;
        let hash = Hashed::Known(text.finish());
        let beside = dump.beside;
        let mut file = Self::new(path, Vec::new(), hash);
        file.header.identity.bits = beside.bits;
        file.header.identity.group_size = beside.group_size;
        match (beside.tensor_base, &dump.shape[..]) {
            (Some(name), &[rows, cols]) => {
                let start = beside.row_start.unwrap_or(0);
                let end = start.checked_add(rows);
                let end = end.ok_or_else(|| file.damaged("its rows make no sense"))?;
                let at = Placed {
                    base: base_of(&name).to_owned(),
                    rows: start..end,
                    cols,
                };
                file.put(vec![(at, dump.values)]);
            }
            (name, _) => file.loose.push(Loose {
                name,
                shape: Some(dump.shape),
                row_start: beside.row_start,
                values: Ok(dump.values),
            }),
        }
        Ok(file)
    }

    fn from_npy(
        path: PathBuf,
        file: File,
        told: Option<OutputType>,
        bytes: Hashed,
    ) -> Result<Self> {
        let io = |e: std::io::Error| Error::io("read the recording", &path, e);
        let (mut head, length) = (Vec::new(), file.metadata().map_err(io)?.len());
        (&file)
            .take(npy::HEAD as u64)
            .read_to_end(&mut head)
            .map_err(io)?;
        let bad = |what: String, help: &str| Error::input(what, path.display().to_string(), help);
        let npy = npy::header(&head, told).map_err(|[what, help]| bad(what, &help))?;
        let elements = npy.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let held = length - npy.start as u64;
        let expected = elements.and_then(|n| n.checked_mul(npy.of.size()));
        if expected.is_none_or(|e| e as u64 != held) {
            let what = format!("{held} bytes of values found for shape {:?}", npy.shape);
            return Err(bad(what, "it is truncated or damaged; save it again"));
        }
        let values = StoredValues {
            file: Arc::new(file),
            start: npy.start as u64,
            stored: npy.of,
            of: npy.of,
            elements: elements.unwrap_or(0),
        };
        let loose = Loose {
            name: None,
            shape: Some(npy.shape),
            row_start: None,
            values: Ok(values),
        };
        Ok(Self::new(path, vec![loose], bytes))
    }

    fn from_raw(
        path: PathBuf,
        file: File,
        told: Option<OutputType>,
        bytes: Hashed,
    ) -> Result<Self> {
        let of = told.expect("plain values have the type that was given");
        let length = file.metadata();
        let length = length
            .map_err(|e| Error::io("read the recording", &path, e))?
            .len();
        let size = of.size() as u64;
        if !length.is_multiple_of(size) {
            let what = format!("{length} bytes found, which are no whole values of {size} bytes");
            return Err(Error::input(
                what,
                path.display().to_string(),
                "check the type and the file",
            ));
        }
        let values = StoredValues {
            file: Arc::new(file),
            start: 0,
            stored: of,
            of,
            // More than a 32-bit machine counts fit no tensor.
            elements: usize::try_from(length / size).unwrap_or(usize::MAX),
        };
        let loose = Loose {
            name: None,
            shape: None,
            row_start: None,
            values: Ok(values),
        };
        Ok(Self::new(path, vec![loose], bytes))
    }

    fn from_safetensors(
        path: PathBuf,
        file: File,
        told: Option<OutputType>,
        bytes: Hashed,
    ) -> Result<Self> {
        let shard = Shard::of(&path, file)?;
        match shard.metadata().get("format").map(String::as_str) {
            Some(FORMAT) => return Self::from_own(path, &shard, bytes),
            Some(other) if other.starts_with(ANY_FORMAT) => {
                return Err(Error::input(
                    format!("format {other:?} found, expected {FORMAT:?}"),
                    path.display().to_string(),
                    "record it again with this version of tq4",
                ));
            }
            _ => {}
        }
        let loose = shard.names().map(|name| loose_of(&shard, name, told));
        Ok(Self::new(path, loose.collect(), bytes))
    }

    fn from_directory(given: &RecordingPath) -> Result<Self> {
        let all = Checkpoint::open(&given.path)?;
        let loose = all.names().map(|name| {
            let shard = all.shard_of(name).expect("the checkpoint holds its names");
            loose_of(shard, name, given.of)
        });
        let files = all.shards().map(|(_, shard, _)| shard.path().to_owned());
        Ok(Self::new(
            given.path.clone(),
            loose.collect(),
            Hashed::Files(files.collect()),
        ))
    }

    /// What `tq4 record` wrote. Every shape is held against every other, so that nothing later can fail on a
    /// damaged file.
    fn from_own(path: PathBuf, shard: &Shard, bytes: Hashed) -> Result<Self> {
        let mut file = Self::new(path, Vec::new(), bytes);
        let header = shard
            .metadata()
            .get("recording")
            .cloned()
            .unwrap_or_default();
        file.header = serde_json::from_str(&header)
            .map_err(|e| file.damaged(&format!("its metadata: {e}")))?;
        let tensors = file.header.identity.tensors.clone();
        for (i, t) in tensors.iter().enumerate() {
            let twice = tensors[..i].iter().any(|o| o.tensor_base == t.tensor_base);
            let end = t.row_start.checked_add(t.shape[0]);
            let elements = t.shape[0].checked_mul(t.shape[1]);
            if end.is_none() || elements.is_none_or(|e| e == 0) || twice {
                return Err(file.damaged(&format!("rows of {} make no sense", t.tensor_base)));
            }
            let name = values_of(&t.tensor_base);
            let held = loose_of(shard, &name, None);
            if held.shape.as_deref() != Some(&t.shape[..]) {
                let what = format!("{name} is {:?}, expected {:?}", held.shape, t.shape);
                return Err(file.damaged(&what));
            }
            file.values
                .push(held.values.map_err(|what| file.damaged(&what))?);
        }
        let first = file
            .values
            .first()
            .ok_or_else(|| file.damaged("it holds no tensor"))?;
        file.header.device.output = first.of;
        Ok(file)
    }

    fn damaged(&self, what: &str) -> Error {
        Error::input(
            format!("the recording is damaged: {what}"),
            self.path.display().to_string(),
            "record it again",
        )
    }

    /// Takes the values of tensors in.
    fn put(&mut self, placed: Vec<(Placed, StoredValues)>) {
        for (at, values) in placed {
            self.header.device.output = values.of;
            self.header.identity.tensors.push(RecordedRows {
                tensor_base: at.base,
                row_start: at.rows.start,
                shape: [at.rows.len(), at.cols],
                tensor_checksum: None,
            });
            self.values.push(values);
        }
    }

    /// Finds of which of these tensors the file is, where it does not say so itself: by the names of its
    /// tensors, `BASE` or `BASE.weight`, or by their shapes.
    ///
    /// # Errors
    /// When it fits none of them, or several.
    pub fn fit(&mut self, wanted: &[Wanted]) -> Result<()> {
        if self.loose.is_empty() {
            return Ok(());
        }
        let placed = place(std::mem::take(&mut self.loose), wanted);
        let placed = placed
            .map_err(|[what, help]| Error::input(what, self.path.display().to_string(), help))?;
        self.put(placed);
        Ok(())
    }

    /// Takes the file at its word where there is no model to hold it to: every matrix under its own name.
    ///
    /// # Errors
    /// When it holds none.
    pub fn fit_itself(&mut self) -> Result<()> {
        let matrices = self.loose.iter().filter_map(|l| {
            let [rows, cols] = l.shape.as_deref()?.try_into().ok()?;
            let base = base_of(l.name.as_deref().unwrap_or("values")).to_owned();
            let wanted = Wanted {
                base,
                shape: [rows, cols],
                rows: 0..rows,
            };
            (rows > 0 && cols > 0 && l.values.is_ok()).then_some(wanted)
        });
        let matrices: Vec<Wanted> = matrices.collect();
        if matrices.is_empty() && !self.loose.is_empty() {
            return Err(Error::input(
                "no matrix of BF16, F16 or F32 found",
                self.path.display().to_string(),
                "give --tq-model, which says the shape of each tensor",
            ));
        }
        self.fit(&matrices)
    }

    /// Leaves out what only one of two recordings holds, unless they have nothing in common; how many
    /// tensors that is.
    pub fn keep_common(&mut self, other: &mut Self) -> usize {
        let names = |file: &Self| -> BTreeSet<String> {
            let tensors = file.identity().tensors.iter();
            tensors.map(|t| t.tensor_base.clone()).collect()
        };
        let (mine, theirs) = (names(self), names(other));
        let common: BTreeSet<&String> = mine.intersection(&theirs).collect();
        if common.is_empty() {
            return 0;
        }
        for file in [self, other] {
            let tensors = std::mem::take(&mut file.header.identity.tensors);
            let values = std::mem::take(&mut file.values);
            let pairs = tensors.into_iter().zip(values);
            let kept = pairs.filter(|(t, _)| common.contains(&t.tensor_base));
            (file.header.identity.tensors, file.values) = kept.unzip();
        }
        mine.union(&theirs).count() - common.len()
    }

    /// SHA-256 of the file's bytes, hexadecimal; of a directory, of its shards' one after the other.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sha256(&self) -> Result<String> {
        match &self.bytes {
            Hashed::Known(hash) => Ok(hash.clone()),
            Hashed::Files(files) => match &files[..] {
                [one] => Ok(Sum::of(one)?.sha256),
                several => {
                    let mut all = Sha256::new();
                    for file in several {
                        all.update(Sum::of(file)?.sha256);
                    }
                    Ok(hex(&all.finalize()))
                }
            },
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
    pub fn info(&self) -> &LaneInfo {
        &self.header.device
    }

    /// A tensor with its values.
    fn find(&self, base: &str) -> Option<(&RecordedRows, &StoredValues)> {
        let mut all = self.identity().tensors.iter().zip(&self.values);
        all.find(|(entry, _)| entry.tensor_base == base)
    }

    /// Type of a tensor's values; `None` when it is not in the file.
    pub fn output(&self, base: &str) -> Option<OutputType> {
        self.find(base).map(|(_, values)| values.of)
    }

    /// The values of some rows of a tensor, numbered as in the whole tensor.
    ///
    /// # Errors
    /// When the tensor or the rows are not in the file, or it cannot be read.
    pub fn rows(&self, base: &str, rows: Range<usize>) -> Result<Output> {
        let place = || self.path.display().to_string();
        let Some((entry, values)) = self.find(base) else {
            let what = format!("the recording is not of tensor {base}");
            return Err(Error::unavailable(what, place(), ""));
        };
        let held = entry.rows();
        if rows.start < held.start || rows.end > held.end {
            return Err(Error::unavailable(
                format!(
                    "the recording holds rows {}..{}, asked for are rows {}..{}",
                    held.start, held.end, rows.start, rows.end
                ),
                place(),
                "",
            ));
        }
        let cols = entry.shape[1];
        let elements = (rows.start - held.start) * cols..(rows.end - held.start) * cols;
        values.read(&self.path, elements)
    }
}

/// A tensor of a safetensors file.
fn loose_of(shard: &Shard, name: &str, told: Option<OutputType>) -> Loose {
    let row_start = shard
        .metadata()
        .get("row_start")
        .and_then(|n| n.parse().ok());
    let (Some(info), Some((file, start))) = (shard.info(name), shard.place(name)) else {
        return Loose {
            name: Some(name.to_owned()),
            shape: None,
            row_start,
            values: Err("it is not in the file".into()),
        };
    };
    let of = type_of(info.dtype, told);
    let values = of.map(|of| StoredValues {
        file,
        start,
        stored: of,
        of,
        elements: info.bytes as usize / of.size(),
    });
    Loose {
        name: Some(name.to_owned()),
        shape: Some(info.shape.clone()),
        row_start,
        values: values
            .ok_or_else(|| format!("dtype {:?} found, expected BF16, F16 or F32", info.dtype)),
    }
}
