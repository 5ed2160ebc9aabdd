//! The reference as a lane.

use super::{Lane, Output, POISON_BF16, POISON_F32, Timed, checksum};
use crate::error::{Error, Result};
use crate::record::{LaneInfo, LaneName, OutputType};
use crate::reference;
use crate::strip::Strip;
use crate::tensor::TqTensor;
use half::{bf16, f16};
use rayon::prelude::*;
use std::time::Instant;

/// The CPU reference.
#[derive(Debug)]
pub struct Cpu {
    info: LaneInfo,
    tensor: Option<TqTensor>,
    out: Output,
    copy: [Vec<u8>; 2],
}

impl Cpu {
    /// The reference on this machine's CPU.
    pub fn new(output: OutputType) -> Self {
        Self {
            info: LaneInfo {
                name: LaneName::Reference,
                device: device(),
                driver: format!("tq4 {}", env!("CARGO_PKG_VERSION")),
                api: "CPU".into(),
                software: false,
                arithmetic: None,
                kernel_variant: String::new(),
                kernel_checksum: checksum(reference::TEXT.as_bytes()),
                output,
                pci: None,
                uuid: None,
            },
            tensor: None,
            out: Output::zeroed(output, 0),
            copy: [Vec::new(), Vec::new()],
        }
    }
}

/// Threads, and the instruction set used beyond the architecture's own: `CPU, 2 threads, AVX-512 BF16`.
fn device() -> String {
    let threads = rayon::current_num_threads();
    match reference::Simd::active().name() {
        Some(simd) => format!("CPU, {threads} threads, {simd}"),
        None => format!("CPU, {threads} threads"),
    }
}

impl Lane for Cpu {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        self.tensor = None;
        let tensor = strip.tensor()?.clone();
        match &mut self.out {
            Output::Bf16(out) => {
                out.clear();
                out.resize(tensor.elements(), bf16::from_bits(POISON_BF16));
            }
            Output::F16(out) => {
                out.clear();
                out.resize(tensor.elements(), f16::from_bits(POISON_BF16));
            }
            Output::F32(out) => {
                out.clear();
                out.resize(tensor.elements(), f32::from_bits(POISON_F32));
            }
        }
        self.tensor = Some(tensor);
        Ok(())
    }

    fn run(&mut self) -> Result<Timed> {
        let tensor = self.tensor.as_ref().expect("a strip is loaded");
        let start = Instant::now();
        match &mut self.out {
            Output::Bf16(out) => reference::dequantize_bf16_into(tensor, out),
            Output::F16(out) => {
                let values = reference::dequantize(tensor);
                out.iter_mut()
                    .zip(values)
                    .for_each(|(o, v)| *o = f16::from_f32(v));
            }
            Output::F32(out) => reference::dequantize_into(tensor, out),
        }
        Ok(Timed::by_wall(start))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        assert!(self.tensor.is_some(), "a strip is loaded");
        out.copy_from_slice(self.out.bytes());
        Ok(())
    }

    fn output(&mut self, elements: usize, spare: Option<Output>) -> Result<Output> {
        let tensor = self.tensor.take().expect("a strip is loaded");
        assert_eq!(tensor.elements(), elements, "the strip that is loaded");
        let of = self.info.output;
        let next = spare.filter(|spare| spare.of() == of);
        let next = next.unwrap_or_else(|| Output::zeroed(of, 0));
        Ok(std::mem::replace(&mut self.out, next))
    }

    fn copy(&mut self, bytes: u64) -> Result<Option<Timed>> {
        let bytes = usize::try_from(bytes).map_err(|_| {
            let what = format!("{bytes} bytes are more than this machine addresses");
            Error::input(what, "lane reference", "copy fewer")
        })?;
        if self.copy[0].len() != bytes {
            // Not zero: such memory may not be there until it is written.
            self.copy = [1, 2].map(|fill| vec![fill; bytes]);
        }
        let [from, to] = &mut self.copy;
        // One piece a thread: large copies go past the caches, small ones read what they overwrite.
        let piece = bytes.div_ceil(rayon::current_num_threads()).max(1);
        let start = Instant::now();
        to.par_chunks_mut(piece)
            .zip(from.par_chunks(piece))
            .for_each(|(to, from)| to.copy_from_slice(from));
        Ok(Some(Timed::by_wall(start)))
    }

    fn unload(&mut self) {
        self.tensor = None;
        self.out = Output::zeroed(self.info.output, 0);
        self.copy = [Vec::new(), Vec::new()];
    }
}
