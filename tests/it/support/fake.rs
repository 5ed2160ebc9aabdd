//! The one fake lane: it computes as the reference and can be made wrong, broken or slow.

use half::bf16;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tq4::error::{Error, Result};
use tq4::fault::{Fault, emulate};
use tq4::lane::cpu::Cpu;
use tq4::lane::{Lane, Slot, Timed};
use tq4::record::{LaneInfo, OutputType};
use tq4::run::Strip;
use tq4::tensor::TqTensor;

/// What a fake's clock says of a kernel or copy that takes so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The time it takes.
    Steady,
    /// Nothing.
    Silent,
    /// More than the wall.
    Late,
    /// Nearly twice as long in every other round, so that half of the rounds never agree with the rest.
    Noisy,
    /// Longer and longer, by 0.4 % in each round.
    Throttled,
}

/// What a lane is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Load,
    Run,
    Read,
    Copy,
}

/// Where a fake is when it computes or may break.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub step: Step,
    /// What is loaded, or is to be.
    pub strip: &'a Strip,
    /// Loads so far, this one included.
    pub load: usize,
    /// Runs since that load.
    pub run: usize,
    /// Copies so far.
    pub copy: usize,
}

impl Call<'_> {
    pub fn tensor(&self) -> &TqTensor {
        self.strip.tensor().unwrap()
    }
}

pub type Log = Arc<Mutex<Vec<String>>>;
type Change = Box<dyn FnMut(&Call<'_>, &mut [bf16]) + Send>;
type Breaks = Box<dyn FnMut(&Call<'_>) -> bool + Send>;

/// Its kernel takes `ms` milliseconds by its own clock, a copy 2 ms; the wall says twice that.
pub struct Fake {
    info: LaneInfo,
    cpu: Cpu,
    strip: Option<Strip>,
    out: Vec<bf16>,
    change: Change,
    breaks: Breaks,
    most_rows: usize,
    ms: u64,
    clock: Clock,
    loads: usize,
    runs: usize,
    copies: usize,
    log: Log,
}

impl Fake {
    /// A right one.
    pub fn new(name: &str, ms: u64) -> Self {
        Self {
            info: LaneInfo {
                name: name.into(),
                device: "fake".into(),
                driver: String::new(),
                api: "CUDA".into(),
                software: false,
                arithmetic: None,
                kernel_variant: String::new(),
                kernel_checksum: String::new(),
                output: OutputType::Bf16,
                pci: None,
                uuid: None,
            },
            cpu: Cpu::new(OutputType::Bf16),
            strip: None,
            out: Vec::new(),
            change: Box::new(|_, _| ()),
            breaks: Box::new(|_| false),
            most_rows: usize::MAX,
            ms,
            clock: Clock::Steady,
            loads: 0,
            runs: 0,
            copies: 0,
            log: Log::default(),
        }
    }

    /// Changes the reference's values after each run.
    pub fn wrong(mut self, change: impl FnMut(&Call<'_>, &mut [bf16]) + Send + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    /// Has a fault in those rows of a strip that `rows` says yes to.
    pub fn faulty(
        self,
        fault: &'static str,
        rows: impl Fn(&Call<'_>, usize) -> bool + Send + 'static,
    ) -> Self {
        self.wrong(move |call, out| {
            let cols = call.strip.cols;
            let tensor = call.tensor();
            let fault = Fault::named(fault, tensor).unwrap();
            for (row, out) in out.chunks_mut(cols).enumerate() {
                if rows(call, row) {
                    emulate(tensor, &[fault], row, out);
                }
            }
        })
    }

    /// Breaks where this says so.
    pub fn breaks(mut self, when: impl FnMut(&Call<'_>) -> bool + Send + 'static) -> Self {
        self.breaks = Box::new(when);
        self
    }

    /// Has no memory for more.
    pub fn most_rows(mut self, rows: usize) -> Self {
        self.most_rows = rows;
        self
    }

    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn software(mut self) -> Self {
        self.info.software = true;
        self
    }

    /// What it is asked for, in order; several fakes may share one.
    pub fn logging_to(mut self, log: &Log) -> Self {
        self.log = Arc::clone(log);
        self
    }

    fn enter(&mut self, step: Step) -> Result<()> {
        let line = format!("{} {}", self.info.name, format!("{step:?}").to_lowercase());
        self.log.lock().unwrap().push(line);
        let Self { breaks, strip, .. } = self;
        let call = Call {
            step,
            strip: strip.as_ref().expect("a strip is loaded"),
            load: self.loads,
            run: self.runs,
            copy: self.copies,
        };
        if breaks(&call) {
            return Err(Self::broke("the fake broke".into()));
        }
        Ok(())
    }

    fn broke(what: String) -> Error {
        Error::backend(what, "lane fake", "buy another")
    }

    /// In a benchmark each round begins with a copy.
    fn timed(&self, ms: u64) -> Timed {
        let device = match self.clock {
            Clock::Noisy => {
                Duration::from_millis(ms * if self.copies.is_multiple_of(2) { 5 } else { 9 })
            }
            Clock::Throttled => {
                Duration::from_millis(ms).mul_f64((self.copies as f64 / 250.0).exp())
            }
            _ => Duration::from_millis(ms),
        };
        let wall = 2 * device;
        Timed {
            device: match self.clock {
                Clock::Silent => None,
                Clock::Late => Some(2 * wall),
                _ => Some(device),
            },
            wall,
        }
    }
}

impl Lane for Fake {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn clock(&self) -> &'static str {
        "fake clock"
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        self.loads += 1;
        self.runs = 0;
        self.strip = Some(strip.clone());
        self.enter(Step::Load)?;
        let rows = strip.rows.len();
        if rows > self.most_rows {
            return Err(Self::broke(format!(
                "the fake has no memory for {rows} rows"
            )));
        }
        self.cpu.load(strip)
    }

    fn run(&mut self) -> Result<Timed> {
        self.runs += 1;
        self.enter(Step::Run)?;
        self.cpu.run()?;
        let strip = self.strip.as_ref().expect("a strip is loaded");
        self.out.resize(strip.elements(), bf16::ZERO);
        self.cpu.read(bytemuck::cast_slice_mut(&mut self.out))?;
        let call = Call {
            step: Step::Run,
            strip,
            load: self.loads,
            run: self.runs,
            copy: self.copies,
        };
        (self.change)(&call, &mut self.out);
        Ok(self.timed(self.ms))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        self.enter(Step::Read)?;
        out.copy_from_slice(bytemuck::cast_slice(&self.out));
        Ok(())
    }

    fn copy(&mut self, _: u64) -> Result<Option<Timed>> {
        self.copies += 1;
        self.enter(Step::Copy)?;
        Ok(Some(self.timed(2)))
    }
}

/// The fakes as the lanes of a run.
pub fn slots<const N: usize>(fakes: [Fake; N]) -> Vec<Slot> {
    fakes.map(|f| Slot::Live(Box::new(f))).into()
}

/// The reference, and the fakes beside it.
pub fn beside_reference<const N: usize>(fakes: [Fake; N]) -> Vec<Slot> {
    let mut all = vec![Slot::Live(Box::new(Cpu::new(OutputType::F32)))];
    all.extend(slots(fakes));
    all
}
