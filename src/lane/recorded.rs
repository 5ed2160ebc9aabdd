//! A recording as a lane: its run reads the rows from the file.

use super::{Lane, Output, Timed};
use crate::error::{Error, Result};
use crate::lane::recording::{RecordingFile, RecordingPath, Wanted};
use crate::record::{LaneInfo, LaneName};
use crate::strip::{Strip, copy_rows};
use std::ops::Range;
use std::time::Instant;

/// A recording that takes part in a run.
pub struct Recorded {
    info: LaneInfo,
    file: RecordingFile,
    /// Tensor and rows.
    loaded: Option<(String, Range<usize>)>,
    output: Option<Output>,
}

impl Recorded {
    /// Opens a recording as the lane `name`; a lane's name makes it a stand-in for that lane. Values that
    /// are not said to be of a tensor must be of one of those `wanted`.
    ///
    /// # Errors
    /// When the file is no recording, is damaged or fits none of them.
    pub fn open(name: LaneName, given: &RecordingPath, wanted: &[Wanted]) -> Result<Self> {
        let mut file = RecordingFile::open(given)?;
        file.fit(wanted)?;
        Ok(Self::new(name, file))
    }

    /// An open recording as the lane `name`.
    pub fn new(name: LaneName, file: RecordingFile) -> Self {
        Self {
            info: LaneInfo {
                name,
                ..file.info().clone()
            },
            file,
            loaded: None,
            output: None,
        }
    }

    /// The file.
    pub fn file(&self) -> &RecordingFile {
        &self.file
    }

    /// Refuses a recording whose rows of a tensor were made from other codes, scales or signs than those
    /// of this checksum.
    pub(crate) fn same_input(&self, base: &str, rows: &Range<usize>, checksum: &str) -> Result<()> {
        let entry = self.file.identity().entry(base);
        // A checksum is of all the rows that were recorded.
        let entry = entry.filter(|e| e.rows() == *rows);
        let Some(of) = entry.and_then(|e| e.tensor_checksum.as_deref()) else {
            return Ok(());
        };
        if of == checksum {
            return Ok(());
        }
        let name = &self.info.name;
        Err(Error::input(
            format!(
                "the recording {name} was made from other weights: their checksum is {of}, here it is {checksum}"
            ),
            format!("lane {name}"),
            "record the same rows of the same model",
        ))
    }
}

impl Lane for Recorded {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        self.output = None;
        self.loaded = None;
        let place = || self.file.path().display().to_string();
        if let Some(entry) = self.file.identity().entry(&strip.base)
            && entry.shape[1] != strip.cols
        {
            return Err(Error::unavailable(
                format!(
                    "the recording holds rows of {} columns, asked for are {}",
                    entry.shape[1], strip.cols
                ),
                place(),
                "",
            ));
        }
        if let Some(tensor) = &strip.tensor
            && let Some(what) = self.file.identity().mismatch(tensor)
        {
            return Err(Error::unavailable(what, place(), ""));
        }
        // A file may hold tensors of several types.
        if let Some(of) = self.file.output(&strip.base) {
            self.info.output = of;
        }
        self.loaded = Some((strip.base.clone(), strip.rows.clone()));
        Ok(())
    }

    fn run(&mut self) -> Result<Timed> {
        let start = Instant::now();
        let (base, rows) = self.loaded.clone().expect("a strip is loaded");
        self.output = Some(self.file.rows(&base, rows)?);
        Ok(Timed {
            device: None,
            wall: start.elapsed(),
        })
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let output = self.output.as_ref().expect("the recording was read");
        let (_, rows) = self.loaded.as_ref().expect("a strip is loaded");
        // A recording has the weight's columns; what pads them is nobody's.
        let (from, to) = (output.bytes().len() / rows.len(), out.len() / rows.len());
        copy_rows(output.bytes(), from, out, to);
        Ok(())
    }
}
