//! Writing a lane's output as a recording, strip by strip.

use super::{Job, Sink, Target};
use crate::checkpoint::{Dtype, PlannedTensor, StreamWriter};
use crate::error::Result;
use crate::format::TqModel;
use crate::lane::recording::{Identity, RecordedRows, RecordingHeader, values_of};
use crate::lane::{Decoded, LaneOutput};
use crate::record::{LaneInfo, LaneName, OutputType, TensorRecord, Tool};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A checksum that is not known yet: as long as one that is.
const UNKNOWN: &str = "00000000000000000000000000000000";

/// The file under construction.
struct Open {
    writer: StreamWriter,
    header: RecordingHeader,
}

impl Open {
    fn create(path: &Path, info: &LaneInfo, identity: Identity) -> Result<Self> {
        let tool = Tool::this();
        let header = RecordingHeader {
            tool: tool.version,
            host: tool.host,
            device: LaneInfo {
                output: OutputType::Bf16,
                ..info.clone()
            },
            identity,
        };
        let planned = header.identity.tensors.iter().map(|t| PlannedTensor {
            name: values_of(&t.tensor_base),
            dtype: Dtype::BF16,
            shape: t.shape.to_vec(),
        });
        let writer = StreamWriter::create(path, planned.collect(), Some(header.to_metadata()))?;
        Ok(Self { writer, header })
    }

    fn finish(self) -> Result<()> {
        self.writer.rewrite_metadata(self.header.to_metadata())?;
        self.writer.sync()?;
        self.writer.commit()
    }
}

/// Where recordings go.
enum Destination {
    /// All tensors of one lane into one file.
    File(PathBuf),
    /// A file for each tensor and lane.
    Directory(PathBuf),
}

/// A sink that records lanes, rounded to BF16: one into a file, or every kernel lane into a directory.
pub struct Recorder {
    place: Destination,
    /// Index and description of each recorded lane.
    lanes: Vec<(usize, LaneInfo)>,
    /// What is recorded, without checksums.
    identity: Identity,
    open: HashMap<usize, Open>,
}

impl Recorder {
    /// Records the lane at `index` of the run, all tensors of `job`, into the file at `path`.
    pub fn to_file(path: &Path, job: &Job<'_>, index: usize, info: &LaneInfo) -> Self {
        Self::new(
            Destination::File(path.to_owned()),
            job,
            vec![(index, info.clone())],
        )
    }

    /// Records each of `lanes`, by index in the run, into a file of its own for each tensor below `dir`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn to_directory(dir: &Path, job: &Job<'_>, lanes: Vec<(usize, LaneInfo)>) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| crate::Error::io("make the directory", dir, e))?;
        Ok(Self::new(
            Destination::Directory(dir.to_owned()),
            job,
            lanes,
        ))
    }

    fn new(place: Destination, job: &Job<'_>, lanes: Vec<(usize, LaneInfo)>) -> Self {
        let model = job.header.model.tq.as_ref();
        let codebook = job.model.and_then(TqModel::codec);
        let codebook = codebook.map(|c| c.codebook.centroids().to_vec());
        Self {
            place,
            lanes,
            identity: Identity {
                model: model.map_or_else(String::new, |m| m.name.clone()),
                model_checksum: model.map(|m| m.fingerprint.clone()),
                bits: job.header.model.bits,
                group_size: job.header.model.group_size,
                codebook,
                tensors: job.targets.iter().map(entry).collect(),
            },
            open: HashMap::new(),
        }
    }

    /// Gives the file its name; one that was to be recorded into a directory has it already.
    ///
    /// # Errors
    /// When the disk is full; nothing is left then.
    pub fn finish(mut self) -> Result<()> {
        self.open.drain().try_for_each(|(_, open)| open.finish())
    }

    fn path(&self, base: &str, lane: &LaneName) -> PathBuf {
        match &self.place {
            Destination::File(path) => path.clone(),
            Destination::Directory(dir) => dir.join(file_name(base, lane)),
        }
    }
}

impl Sink for Recorder {
    fn strip(&mut self, target: &Target, decoded: &Decoded) -> Result<()> {
        for (index, info) in self.lanes.clone() {
            let values = match &decoded.outputs[index] {
                LaneOutput::Values(values, _) => values.rounded(),
                // The one file that was asked for cannot be whole any more.
                LaneOutput::Failed(e) if matches!(self.place, Destination::File(_)) => {
                    return Err(e.clone());
                }
                LaneOutput::Failed(_) => {
                    self.open.remove(&index);
                    continue;
                }
                LaneOutput::Idle => continue,
            };
            if !self.open.contains_key(&index) {
                let mut identity = self.identity.clone();
                if matches!(self.place, Destination::Directory(_)) {
                    identity.tensors = vec![entry(target)];
                }
                let path = self.path(&target.base, &info.name);
                self.open
                    .insert(index, Open::create(&path, &info, identity)?);
            }
            let row = decoded.strip.rows.start - target.rows.start;
            let offset = (row * target.shape[1] * 2) as u64;
            self.open[&index].writer.write_at(
                &values_of(&target.base),
                offset,
                bytemuck::cast_slice(&values),
            )?;
        }
        Ok(())
    }

    fn tensor(&mut self, target: &Target, record: &TensorRecord) -> Result<()> {
        if let (Some(e), Destination::File(_)) = (&record.error, &self.place) {
            return Err(e.to_error());
        }
        for open in self.open.values_mut() {
            let tensors = &mut open.header.identity.tensors;
            if let Some(t) = tensors.iter_mut().find(|t| t.tensor_base == target.base) {
                t.tensor_checksum.clone_from(&record.checksum);
            }
        }
        if matches!(self.place, Destination::Directory(_)) {
            let whole = record.error.is_none();
            for (_, open) in self.open.drain().filter(|_| whole) {
                open.finish()?;
            }
        }
        Ok(())
    }
}

fn entry(target: &Target) -> RecordedRows {
    RecordedRows {
        tensor_base: target.base.clone(),
        row_start: target.rows.start,
        shape: [target.rows.len(), target.shape[1]],
        tensor_checksum: Some(UNKNOWN.to_owned()),
    }
}

/// A file name for a lane's recording: tensor names may hold anything, and no two have the same. All but
/// letters, digits, `.`, `-` and `_` of ASCII are written as `%XX`, byte by byte.
pub fn file_name(base: &str, lane: &LaneName) -> String {
    let safe = |text: &str| -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        text.bytes()
            .map(|b| match plain(b) {
                true => char::from(b).to_string(),
                false => format!("%{b:02X}"),
            })
            .collect()
    };
    format!("{}.{}.safetensors", safe(base), safe(&lane.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tensors_share_a_file() {
        let name = |base| file_name(base, &LaneName::Cuda);
        assert_eq!(name("a/b"), "a%2Fb.cuda.safetensors");
        assert_eq!(name("a_b"), "a_b.cuda.safetensors");
        assert_ne!(name("a%2Fb"), name("a/b"));
    }
}
