//! A program of the user's as a lane: HIP, Metal, Triton, MLX, whatever reads and writes files.
//!
//! The strip's stored parts go into a file, the program writes the values into another. It is started once
//! and asked by a line of JSON for each strip, or started for each strip; `docs/exec.md` has the words.

mod printed;
mod process;
mod program;
mod protocol;

pub use program::ExternalProgram;

use super::{Lane, Timed, checksum};
use crate::codec::ScaleType;
use crate::error::{Error, Result};
use crate::record::LaneInfo;
use crate::strip::Strip;
use crate::tensor::{Layout, TqTensor};
use process::Process;
use protocol::{Request, answer};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The clock of a program that tells its own seconds.
const OWN_CLOCK: &str = "the program's own";

/// A program that takes part in a run.
pub struct Exec {
    info: LaneInfo,
    program: ExternalProgram,
    limit: Duration,
    /// Holds the input and the output; removed with the lane.
    folder: TempDir,
    loaded: Option<LoadedStrip>,
    /// Strips so far: each has files of other names.
    strips: u64,
    /// The program while it runs.
    process: Option<Process>,
    /// Whether its last answer told its seconds.
    own_clock: bool,
}

/// The strip that lies in the input.
struct LoadedStrip {
    input: PathBuf,
    output: PathBuf,
    base: String,
    rows: [usize; 2],
    cols: usize,
    layout: Layout,
}

impl LoadedStrip {
    /// Bytes of values of `size` bytes each.
    fn bytes(&self, size: usize) -> u64 {
        (self.rows[1] * self.cols * size) as u64
    }
}

impl Exec {
    /// The program as a lane that may take `limit` for each strip. It is started by the first one.
    ///
    /// # Errors
    /// When there is no temporary directory.
    pub fn open(program: ExternalProgram, limit: Duration) -> Result<Self> {
        let temp = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("tq4-").tempdir();
        let folder =
            folder.map_err(|e| Error::io("make a directory for the program's files", &temp, e))?;
        if folder.path().to_str().is_none() {
            return Err(Error::input(
                "the name of the temporary directory is not UTF-8, which a program is told it in",
                folder.path().display().to_string(),
                "name another directory in TMPDIR",
            ));
        }
        let file = program.path().file_name().unwrap_or_default();
        let form = if program.is_started_each_time() {
            "started for each strip, its start is timed"
        } else {
            "kept running"
        };
        Ok(Self {
            info: LaneInfo {
                name: program.name().clone(),
                device: "a program".into(),
                driver: String::new(),
                api: "exec".into(),
                software: false,
                arithmetic: None,
                kernel_variant: format!("{}, {form}", file.display()),
                kernel_checksum: checksum(program.command().as_bytes()),
                output: program.output(),
                pci: None,
                uuid: None,
            },
            program,
            limit,
            folder,
            loaded: None,
            strips: 0,
            process: None,
            own_clock: false,
        })
    }

    fn loaded(&self) -> &LoadedStrip {
        self.loaded.as_ref().expect("a strip is loaded")
    }

    /// Has the program decode what is loaded; its own seconds where it tells them, and the wall's.
    fn decode(&mut self) -> Result<(Option<Duration>, Duration), String> {
        let loaded = self.loaded.as_ref().expect("a strip is loaded");
        let name = |path: &Path| path.to_str().expect("UTF-8, as the folder's").to_owned();
        let (input, output) = (name(&loaded.input), name(&loaded.output));
        let request = Request {
            input: &input,
            output: &output,
            tensor: &loaded.base,
            rows: loaded.rows[1],
            cols: loaded.cols,
            row_start: loaded.rows[0],
            bits: loaded.layout.bits(),
            group_size: loaded.layout.group_size(),
            dtype: self.info.output,
            codec: loaded.layout.into(),
        };
        let (path, arguments) = (self.program.path(), self.program.arguments());
        let started = |e: std::io::Error| format!("it does not start: {e}");
        if self.program.is_started_each_time() {
            let filled: Vec<String> = arguments.iter().map(|a| request.fill(a)).collect();
            let start = Instant::now();
            let process = Process::once(path, &filled).map_err(started)?;
            self.process.insert(process).finish(self.limit)?;
            let wall = start.elapsed();
            self.process = None;
            return Ok((None, wall));
        }
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::keep(path, arguments).map_err(started)?),
        };
        let start = Instant::now();
        let line = process.ask(request.to_line(), self.limit)?;
        let wall = start.elapsed();
        Ok((answer(&line)?, wall))
    }

    /// What is wrong with the file that was to be written.
    fn check_output(&self) -> Result<(), String> {
        let (loaded, of) = (self.loaded(), self.info.output);
        let expected = loaded.bytes(of.size());
        match fs::metadata(&loaded.output) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err("it wrote no output".into()),
            Err(e) => Err(format!("its output cannot be read: {e}")),
            Ok(file) if !file.is_file() => Err("its output is no file".into()),
            Ok(file) if file.len() != expected => Err(format!(
                "its output holds {} bytes, expected {expected}: {} x {} values of {}",
                file.len(),
                loaded.rows[1],
                loaded.cols,
                of.name()
            )),
            Ok(_) => Ok(()),
        }
    }

    /// Removes the output of an earlier run, so that it cannot pass for that of the next.
    fn remove_output(&self) -> Result<(), String> {
        match fs::remove_file(&self.loaded().output) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(format!("its last output cannot be removed: {e}"))
            }
            _ => Ok(()),
        }
    }

    /// The lane's failure, with the end of what the program printed, led by the line that says most. The next run
    /// starts it anew.
    fn failed(&mut self, what: String) -> Error {
        let said = self.process.take().map(|mut p| p.last_words());
        let what = match said.as_deref() {
            None | Some("") => what,
            Some(said) => match printed::exception(said) {
                Some(exception) => format!("{exception}; {what}\n{said}"),
                None if said.lines().count() == 1 => format!("{what}; it printed: {said}"),
                None => format!("{what}; it printed: {}\n{said}", printed::telling(said)),
            },
        };
        let help = "docs/exec.md says what a program is asked and what it must do";
        Error::backend(what, format!("lane {}", self.info.name), help)
    }
}

impl Lane for Exec {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn clock(&self) -> &'static str {
        if self.own_clock { OWN_CLOCK } else { "wall" }
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        self.unload();
        let tensor = strip.tensor()?;
        self.strips += 1;
        let (folder, number) = (self.folder.path(), self.strips);
        let input = folder.join(format!("input-{number}.safetensors"));
        write_input(&input, tensor)?;
        self.loaded = Some(LoadedStrip {
            input,
            output: folder.join(format!("output-{number}")),
            base: strip.base.clone(),
            rows: [strip.rows.start, strip.rows.len()],
            cols: strip.stored_cols(),
            layout: tensor.layout(),
        });
        Ok(())
    }

    fn run(&mut self) -> Result<Timed> {
        let ran = self.remove_output().and_then(|()| self.decode());
        let ran = ran.and_then(|times| self.check_output().map(|()| times));
        let (device, wall) = ran.map_err(|what| self.failed(what))?;
        self.own_clock = device.is_some();
        Ok(Timed { device, wall })
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let loaded = self.loaded();
        assert_eq!(out.len() as u64, loaded.bytes(self.info.output.size()));
        let read = File::open(&loaded.output).and_then(|mut file| file.read_exact(out));
        read.map_err(|e| self.failed(format!("its output cannot be read: {e}")))
    }

    fn unload(&mut self) {
        if let Some(loaded) = self.loaded.take() {
            // What is left here goes with the folder.
            let _ = fs::remove_file(&loaded.input);
            let _ = fs::remove_file(&loaded.output);
        }
    }
}

/// Name, type, shape and bytes of a tensor.
type InputTensor<'t> = (&'static str, Dtype, Vec<usize>, Cow<'t, [u8]>);

/// Writes codes, scales, signs and codebook of a strip.
fn write_input(path: &Path, tensor: &TqTensor) -> Result<()> {
    let (rows, cols, layout) = (tensor.rows(), tensor.cols(), tensor.layout());
    let centroids = tensor.codebook().centroids();
    let mut parts: Vec<InputTensor<'_>> = vec![
        (
            "packed",
            Dtype::U8,
            vec![rows, layout.packed_len(cols)],
            tensor.packed().into(),
        ),
        (
            "scales",
            match layout.scales().stored {
                ScaleType::F16 => Dtype::F16,
                ScaleType::F32 => Dtype::F32,
                ScaleType::E3m5 => Dtype::U8,
            },
            vec![rows, tensor.scales_per_row()],
            tensor.scales().bytes().into(),
        ),
        (
            "signs",
            Dtype::I8,
            vec![cols],
            bytemuck::cast_slice(tensor.signs()).into(),
        ),
        (
            "centroids",
            Dtype::F32,
            vec![centroids.len()],
            bytemuck::cast_slice(centroids).into(),
        ),
    ];
    if let Some(signs) = layout.signs_before() {
        let n = layout.group_size();
        let signs: Vec<u8> = (0..n).map(|i| signs.of(i) as u8).collect();
        parts.push(("signs_before", Dtype::I8, vec![n], signs.into()));
    }
    if layout.is_interleaved() {
        let per_row = tensor.groups_per_row() * layout.group_bytes();
        let blocks = tensor.blocks(0..tensor.groups());
        parts.push(("blocks", Dtype::U8, vec![rows, per_row], blocks.into()));
    }
    let views = parts.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data);
        (name, view.expect("the parts fit their shapes"))
    });
    safetensors::serialize_to_file(views, None, path).map_err(|e| {
        let e = match e {
            safetensors::SafeTensorError::IoError(e) => e,
            e => std::io::Error::other(e),
        };
        Error::io("write the program's input", path, e)
    })
}
