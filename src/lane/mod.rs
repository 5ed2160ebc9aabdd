//! Lanes: what produces a dequantised tensor. A device, the CPU reference, a program, or a file.
//!
//! A strip is loaded, the kernel runs, the result is read: a decode is the three in turn, and a benchmark
//! runs the middle one again and again on the memory that was checked.

pub mod cpu;
#[cfg(feature = "gpu")]
pub mod cuda;
mod decoded;
pub mod exec;
pub mod kernel;
mod open;
pub mod recorded;
pub mod recording;
#[cfg(feature = "gpu")]
pub mod wgpu;

pub use crate::tensor::{POISON_BF16, POISON_F32};
pub use decoded::{Decoded, LaneOutput, LaneState, SpareOutputs};
pub use open::{open, open_kernel};

use crate::error::{Error, Result};
use crate::record::{LaneInfo, LaneName, LaneRecord, OutputType, Status};
use crate::rounding::bf16_bits;
use crate::strip::{Strip, copy_rows};
use half::{bf16, f16};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// How long one piece of work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// By the device's own timestamps; `None` when there are none, or they tie or run backwards.
    pub device: Option<Duration>,
    /// By the wall, from the moment the work was handed over until it was done.
    pub wall: Duration,
}

impl Timed {
    /// Of work since `start` on a lane whose clock is the wall.
    pub fn by_wall(start: Instant) -> Self {
        let wall = start.elapsed();
        Self {
            device: Some(wall),
            wall,
        }
    }
}

/// What a benchmark times of a lane at a time. Of parts that were queued together `wall` is that of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// The copy; `None` for a lane without memory of its own.
    pub copy: Option<Timed>,
    /// The kernel after the copy.
    pub cold: Timed,
    /// The kernel again.
    pub warm: Timed,
}

/// A producer of a dequantised tensor.
pub trait Lane: Send {
    /// Who computes, and the type of the values of what is loaded.
    fn info(&self) -> &LaneInfo;

    /// What [`Timed::device`] comes from: `CUDA events`, `wgpu timestamp queries`, or `wall` for a lane
    /// whose device has no clock of its own. A program's is known after its first run.
    fn clock(&self) -> &'static str {
        "wall"
    }

    /// Puts a strip where the kernel reads it and poisons the output, here and nowhere else. Memory of an
    /// earlier strip is used again where it is large enough.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails, most often for want of memory, [`Error::Lost`] when it is
    /// gone, here and below; [`Error::Input`] and
    /// [`Error::Unavailable`] from a recording that does not fit; [`Error::Io`] when a program's input
    /// cannot be written. Nothing is then loaded.
    fn load(&mut self, strip: &Strip) -> Result<()>;

    /// Runs the kernel on what is loaded.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    ///
    /// # Panics
    /// When nothing is loaded.
    fn run(&mut self) -> Result<Timed>;

    /// Reads the output of the loaded strip: row-major values of the lane's [`OutputType`], in the
    /// machine's byte order.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    ///
    /// # Panics
    /// When nothing is loaded or `out` has another length than the output.
    fn read(&mut self, out: &mut [u8]) -> Result<()>;

    /// The output of the loaded strip, of so many elements; nothing is loaded then. It is read into `spare` where that
    /// has the same type and length. A lane whose output is in this machine's memory gives that away, and keeps `spare`
    /// for the next.
    ///
    /// # Errors
    /// As [`Lane::read`].
    ///
    /// # Panics
    /// As [`Lane::read`].
    fn output(&mut self, elements: usize, spare: Option<Output>) -> Result<Output> {
        read(self, elements, spare)
    }

    /// Copies `bytes` from one buffer of the device to another, which moves twice as many; `None` for a
    /// lane without memory of its own. The buffers are made by the first call and kept until
    /// [`Lane::unload`].
    ///
    /// # Errors
    /// [`Error::Backend`] when the device fails.
    fn copy(&mut self, bytes: u64) -> Result<Option<Timed>> {
        let _ = bytes;
        Ok(None)
    }

    /// What a benchmark times: a copy of `bytes`, the kernel after it, the kernel again. A lane whose device
    /// has a queue queues all three and waits once.
    ///
    /// # Errors
    /// As those of [`Lane::copy`] and [`Lane::run`].
    ///
    /// # Panics
    /// When nothing is loaded.
    fn round(&mut self, bytes: u64) -> Result<Round> {
        Ok(Round {
            copy: self.copy(bytes)?,
            cold: self.run()?,
            warm: self.run()?,
        })
    }

    /// Gives back the memory that [`Lane::load`] and [`Lane::copy`] took.
    fn unload(&mut self) {}
}

/// A lane's values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// BF16.
    Bf16(Vec<bf16>),
    /// F16.
    F16(Vec<f16>),
    /// f32.
    F32(Vec<f32>),
}

impl Output {
    /// Memory for `elements` values, filled with zeros: what a lane poisons is its own.
    pub fn zeroed(of: OutputType, elements: usize) -> Self {
        match of {
            OutputType::Bf16 => Self::Bf16(vec![bf16::ZERO; elements]),
            OutputType::F16 => Self::F16(vec![f16::ZERO; elements]),
            OutputType::F32 => Self::F32(vec![0.0; elements]),
        }
    }

    /// f32 values rounded to a type, to nearest, ties to even.
    pub fn rounding(values: Vec<f32>, to: OutputType) -> Self {
        match to {
            OutputType::Bf16 => Self::Bf16(values.into_iter().map(bf16::from_f32).collect()),
            OutputType::F16 => Self::F16(values.into_iter().map(f16::from_f32).collect()),
            OutputType::F32 => Self::F32(values),
        }
    }

    /// A copy of some of the values.
    ///
    /// # Panics
    /// When the range reaches outside.
    pub fn part(&self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Bf16(v) => Self::Bf16(v[range].to_vec()),
            Self::F16(v) => Self::F16(v[range].to_vec()),
            Self::F32(v) => Self::F32(v[range].to_vec()),
        }
    }

    /// The memory as bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bf16(v) => bytemuck::cast_slice(v),
            Self::F16(v) => bytemuck::cast_slice(v),
            Self::F32(v) => bytemuck::cast_slice(v),
        }
    }

    /// The memory as bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Bf16(v) => bytemuck::cast_slice_mut(v),
            Self::F16(v) => bytemuck::cast_slice_mut(v),
            Self::F32(v) => bytemuck::cast_slice_mut(v),
        }
    }

    /// Type of the values.
    pub fn of(&self) -> OutputType {
        match self {
            Self::Bf16(_) => OutputType::Bf16,
            Self::F16(_) => OutputType::F16,
            Self::F32(_) => OutputType::F32,
        }
    }

    /// The first `cols` of each row of `stored` values: without what pads the rows.
    #[must_use]
    pub fn narrowed(self, stored: usize, cols: usize) -> Self {
        if stored == cols {
            return self;
        }
        match self {
            Self::Bf16(v) => Self::Bf16(narrowed(&v, stored, cols)),
            Self::F16(v) => Self::F16(narrowed(&v, stored, cols)),
            Self::F32(v) => Self::F32(narrowed(&v, stored, cols)),
        }
    }

    /// Rows of `cols` values as the first of rows of `padding`, whose others stay, rounded.
    #[must_use]
    pub(crate) fn widened(&self, cols: usize, stored: usize, padding: &[f32]) -> Self {
        let pad = |of: OutputType| Self::rounding(padding.to_vec(), of);
        match (self, pad(self.of())) {
            (Self::Bf16(v), Self::Bf16(all)) => Self::Bf16(widened(v, cols, stored, all)),
            (Self::F16(v), Self::F16(all)) => Self::F16(widened(v, cols, stored, all)),
            (Self::F32(v), Self::F32(all)) => Self::F32(widened(v, cols, stored, all)),
            _ => unreachable!("the padding has the type of the values"),
        }
    }

    /// The values as BF16, rounded to the nearest, ties to even, where they are of another type.
    pub fn rounded(&self) -> Cow<'_, [bf16]> {
        match self {
            Self::Bf16(v) => Cow::Borrowed(v),
            Self::F16(v) => Cow::Owned(v.iter().map(|v| bf16::from_f32(v.to_f32())).collect()),
            Self::F32(v) => {
                let rounded = v.iter().map(|v| bf16::from_bits(bf16_bits(*v)));
                Cow::Owned(rounded.collect())
            }
        }
    }

    /// The values as f32, which holds each exactly.
    pub fn single(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Bf16(v) => Cow::Owned(v.iter().map(|v| v.to_f32()).collect()),
            Self::F16(v) => Cow::Owned(v.iter().map(|v| v.to_f32()).collect()),
            Self::F32(v) => Cow::Borrowed(v),
        }
    }

    /// The values, to compare them.
    pub fn values(&self) -> crate::metrics::Values<'_> {
        match self {
            Self::Bf16(v) => crate::metrics::Values::Bf16(v),
            Self::F16(v) => crate::metrics::Values::F16(v),
            Self::F32(v) => crate::metrics::Values::F32(v),
        }
    }
}

fn narrowed<T: Copy>(values: &[T], stored: usize, cols: usize) -> Vec<T> {
    let rows = values.chunks_exact(stored);
    rows.flat_map(|row| &row[..cols]).copied().collect()
}

fn widened<T: Copy>(values: &[T], cols: usize, stored: usize, mut all: Vec<T>) -> Vec<T> {
    copy_rows(values, cols, &mut all, stored);
    all
}

/// Loads, runs and reads: a strip's values, without what pads its rows, the kernel's time and the wall time of all three.
///
/// # Errors
/// As those of the three.
pub fn decode(lane: &mut dyn Lane, strip: &Strip) -> Result<(Output, Timed)> {
    decode_by(lane, strip, |lane, elements| read(lane, elements, None))
}

/// [`decode`] where nothing more is asked of the lane for this strip: its output may be given away.
pub(crate) fn decode_once(
    lane: &mut dyn Lane,
    strip: &Strip,
    spare: Option<Output>,
) -> Result<(Output, Timed)> {
    decode_by(lane, strip, |lane, elements| lane.output(elements, spare))
}

/// Reads into spare memory that fits, or new.
fn read<L: Lane + ?Sized>(lane: &mut L, elements: usize, spare: Option<Output>) -> Result<Output> {
    let of = lane.info().output;
    let fits = |spare: &Output| spare.of() == of && spare.values().len() == elements;
    let mut out = spare
        .filter(fits)
        .unwrap_or_else(|| Output::zeroed(of, elements));
    lane.read(out.bytes_mut())?;
    Ok(out)
}

fn decode_by(
    lane: &mut dyn Lane,
    strip: &Strip,
    output: impl FnOnce(&mut dyn Lane, usize) -> Result<Output>,
) -> Result<(Output, Timed)> {
    let start = Instant::now();
    lane.load(strip)?;
    let kernel = lane.run()?;
    let stored = strip.stored_cols();
    let out = output(lane, strip.rows.len() * stored)?;
    let out = out.narrowed(stored, strip.cols);
    let timed = Timed {
        device: kernel.device,
        wall: start.elapsed(),
    };
    Ok((out, timed))
}

/// A place among the lanes of a run.
pub enum Slot {
    /// A lane that computes here.
    Live(Box<dyn Lane>),
    /// A lane that reads a recording.
    Recorded(Box<recorded::Recorded>),
    /// A lane that is not there, and why.
    Absent(Box<LaneRecord>),
}

impl Slot {
    /// A lane that was not asked for.
    pub fn skipped(name: LaneName) -> Self {
        let mut record = LaneRecord::new(name, Status::Skipped);
        record.reason = Some("not asked for".into());
        Self::Absent(Box::new(record))
    }

    /// A lane that could not be opened.
    pub fn failed(name: LaneName, error: &Error) -> Self {
        let mut record = LaneRecord::new(name, Status::Failed);
        let status = match error {
            Error::Unavailable(_) => Status::Unavailable,
            _ => Status::Failed,
        };
        record.fail(status, error);
        Self::Absent(Box::new(record))
    }

    /// The lane's name.
    pub fn name(&self) -> &LaneName {
        match self {
            Self::Live(lane) => &lane.info().name,
            Self::Recorded(lane) => &lane.info().name,
            Self::Absent(record) => &record.name,
        }
    }

    /// The lane, where there is one.
    pub fn lane(&mut self) -> Option<&mut dyn Lane> {
        match self {
            Self::Live(lane) => Some(&mut **lane),
            Self::Recorded(lane) => Some(&mut **lane),
            Self::Absent(_) => None,
        }
    }

    /// The lane as it is recorded when all goes well.
    pub fn record(&self) -> LaneRecord {
        match self {
            Self::Live(lane) => LaneRecord::of(lane.info(), Status::Ran),
            Self::Recorded(lane) => LaneRecord::of(lane.info(), Status::Recorded),
            Self::Absent(record) => (**record).clone(),
        }
    }
}

/// First 16 hex digits of the SHA-256 of a kernel's text, or of an output.
pub fn checksum(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    crate::hash::hex(&Sha256::digest(bytes)[..8])
}

/// A failure inside a lane, with its name.
#[cfg(feature = "gpu")]
pub(crate) fn broke(lane: &LaneName, what: impl std::fmt::Display, help: &str) -> Error {
    Error::backend(what.to_string(), format!("lane {lane}"), help)
}
