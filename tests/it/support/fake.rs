//! A lane whose times are known and that can be made wrong.

use half::bf16;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tq4::backend::cpu::Cpu;
use tq4::backend::{Backend, Cost, Device, OutMut, Timed, Timing};
use tq4::error::{Error, Result};
use tq4::lane::Lane;
use tq4::tensor::TqTensor;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    WrongCall,
    WrongResident,
    WrongSecondSet,
    WrongEndToEnd,
    NoMemory,
    MostRows(usize),
    BreaksInRound(usize),
    NoTimestamps,
    LateTimestamps,
    Noisy,
    Throttled,
    Software,
}

pub type Log = Arc<Mutex<Vec<String>>>;

/// Computes as the reference. Its kernel takes `ms` milliseconds by its own clock, a call ten times as
/// long, a copy 2 ms; the wall says twice that.
pub struct Fake {
    cpu: Cpu,
    device: Device,
    ms: u64,
    fault: Fault,
    copies: u64,
    log: Log,
}

impl Fake {
    pub fn new(name: &str, ms: u64) -> Self {
        Self {
            cpu: Cpu::new(),
            device: Device {
                lane: name.into(),
                device: "fake".into(),
                driver: String::new(),
                api: "CUDA".into(),
                software: false,
                kernel_variant: String::new(),
                kernel_checksum: String::new(),
            },
            ms,
            fault: Fault::None,
            copies: 0,
            log: Log::default(),
        }
    }

    pub fn with(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self.device.software = fault == Fault::Software;
        self
    }

    pub fn log(&self) -> Log {
        Arc::clone(&self.log)
    }

    pub fn logging_to(mut self, log: &Log) -> Self {
        self.log = Arc::clone(log);
        self
    }

    fn note(&self, what: &str) {
        let line = format!("{} {what}", self.device.lane);
        self.log.lock().unwrap().push(line);
    }

    fn broke(what: String) -> Error {
        Error::backend(what, "lane fake", "")
    }

    /// In the rounds, where `copies` counts them.
    fn timed(&self, ms: u64) -> Timed {
        let device = match self.fault {
            Fault::Noisy => Duration::from_millis(ms * (5 + self.copies * 7 % 5)),
            Fault::Throttled if self.copies > 6 => Duration::from_millis(2 * ms),
            _ => Duration::from_millis(ms),
        };
        let wall = 2 * device;
        Timed {
            device: match self.fault {
                Fault::NoTimestamps => None,
                Fault::LateTimestamps => Some(2 * wall),
                _ => Some(device),
            },
            wall,
        }
    }
}

pub fn lanes<const N: usize>(fakes: [Fake; N]) -> Vec<Lane> {
    fakes.map(|f| Lane::new(Box::new(f))).into()
}

impl Backend for Fake {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, mut out: OutMut<'_>) -> Result<Cost> {
        self.note("check");
        let cost = match &mut out {
            OutMut::Bf16(v) => self.cpu.dequantize(tensor, OutMut::Bf16(v))?,
            OutMut::F32(v) => self.cpu.dequantize(tensor, OutMut::F32(v))?,
        };
        if self.fault == Fault::WrongCall {
            out.bytes_mut()[..512].fill(0);
        }
        Ok(cost)
    }

    fn timing(&mut self) -> Option<&mut dyn Timing> {
        Some(self)
    }
}

impl Timing for Fake {
    fn clock(&self) -> &'static str {
        "fake clock"
    }

    fn load(&mut self, tensor: &TqTensor<'_>, sets: usize, copy_bytes: u64) -> Result<()> {
        let most = match self.fault {
            Fault::NoMemory => 0,
            Fault::MostRows(rows) => rows,
            _ => usize::MAX,
        };
        if tensor.rows() > most {
            let rows = tensor.rows();
            return Err(Self::broke(format!(
                "the fake has no memory for {rows} rows"
            )));
        }
        self.copies = 0;
        self.cpu.load(tensor, sets, copy_bytes)
    }

    fn kernel(&mut self, set: usize) -> Result<Timed> {
        self.note(&format!("kernel {set}"));
        self.cpu.kernel(set)?;
        Ok(self.timed(self.ms))
    }

    fn copy(&mut self) -> Result<Timed> {
        self.note("copy");
        self.copies += 1;
        if self.fault == Fault::BreaksInRound(self.copies as usize) {
            return Err(Self::broke("the fake broke".into()));
        }
        Ok(self.timed(2))
    }

    fn read(&mut self, set: usize, out: &mut [bf16]) -> Result<()> {
        self.cpu.read(set, out)?;
        let wrong = match self.fault {
            Fault::WrongResident => true,
            Fault::WrongSecondSet => set == 1,
            _ => false,
        };
        if wrong {
            out[out.len() - 1] = bf16::NAN;
        }
        Ok(())
    }

    fn end_to_end(&mut self, tensor: &TqTensor<'_>, out: &mut [bf16]) -> Result<Cost> {
        self.note("call");
        let cost = self.cpu.end_to_end(tensor, out)?;
        if self.fault == Fault::WrongEndToEnd {
            out[0] = bf16::NAN;
        }
        Ok(Cost {
            total: self.timed(10 * self.ms).wall / 2,
            ..cost
        })
    }

    fn unload(&mut self) {
        self.cpu.unload();
    }
}
