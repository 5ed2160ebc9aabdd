//! The reference as a lane.

use super::{Backend, Cost, Device, OutMut, POISON_BF16, Timed, Timing, checksum};
use crate::error::Result;
use crate::reference;
use crate::tensor::TqTensor;
use half::bf16;
use rayon::prelude::*;
use std::time::Instant;

/// The CPU reference.
#[derive(Debug)]
pub struct Cpu {
    device: Device,
    sets: Vec<(TqTensor, Vec<bf16>)>,
    copy: [Vec<u8>; 2],
}

impl Cpu {
    /// The reference on this machine's CPU.
    pub fn new() -> Self {
        Self {
            device: Device {
                lane: "reference".into(),
                device: device(),
                driver: format!("tq4 {}", env!("CARGO_PKG_VERSION")),
                api: "CPU".into(),
                software: false,
                kernel_variant: String::new(),
                kernel_checksum: checksum(
                    concat!(
                        include_str!("../reference/scalar.rs"),
                        include_str!("../reference/avx2/mod.rs"),
                        include_str!("../reference/avx2/lookup.rs"),
                        include_str!("../reference/avx2/finish.rs"),
                    )
                    .as_bytes(),
                ),
            },
            sets: Vec::new(),
            copy: [Vec::new(), Vec::new()],
        }
    }
}

/// Threads, and the instruction set used beyond the architecture's own: `CPU, 2 threads, AVX2`.
fn device() -> String {
    let threads = rayon::current_num_threads();
    match reference::Simd::active().name() {
        Some(simd) => format!("CPU, {threads} threads, {simd}"),
        None => format!("CPU, {threads} threads"),
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Cpu {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor, out: OutMut<'_>) -> Result<Cost> {
        let start = Instant::now();
        match out {
            OutMut::Bf16(out) => reference::dequantize_bf16_into(tensor, out),
            OutMut::F32(out) => reference::dequantize_into(tensor, out),
        }
        let total = start.elapsed();
        Ok(Cost {
            kernel: Some(total),
            total,
            launches: 1,
            bytes_copied: 0,
            allocations: 0,
        })
    }

    fn timing(&mut self) -> Option<&mut dyn Timing> {
        Some(self)
    }
}

impl Timing for Cpu {
    fn clock(&self) -> &'static str {
        "wall"
    }

    fn load(&mut self, tensor: &TqTensor, sets: usize, copy_bytes: u64) -> Result<()> {
        self.unload();
        for _ in 0..sets {
            let out = vec![bf16::from_bits(POISON_BF16); tensor.elements()];
            self.sets.push((tensor.clone(), out));
        }
        // Not zero: such memory may not be there until it is written.
        self.copy = [1, 2].map(|fill| vec![fill; copy_bytes as usize]);
        Ok(())
    }

    fn kernel(&mut self, set: usize) -> Result<Timed> {
        let (tensor, out) = &mut self.sets[set];
        let start = Instant::now();
        reference::dequantize_bf16_into(tensor, out);
        Ok(by_wall(start))
    }

    fn copy(&mut self) -> Result<Timed> {
        let [from, to] = &mut self.copy;
        // One piece a thread: large copies go past the caches, small ones read what they overwrite.
        let piece = from.len().div_ceil(rayon::current_num_threads()).max(1);
        let start = Instant::now();
        to.par_chunks_mut(piece)
            .zip(from.par_chunks(piece))
            .for_each(|(to, from)| to.copy_from_slice(from));
        Ok(by_wall(start))
    }

    fn read(&mut self, set: usize, out: &mut [bf16]) -> Result<()> {
        out.copy_from_slice(&self.sets[set].1);
        Ok(())
    }

    fn end_to_end(&mut self, tensor: &TqTensor, out: &mut [bf16]) -> Result<Cost> {
        self.dequantize(tensor, OutMut::Bf16(out))
    }

    fn unload(&mut self) {
        self.sets.clear();
        self.copy = [Vec::new(), Vec::new()];
    }
}

/// The wall is the CPU's own clock.
fn by_wall(start: Instant) -> Timed {
    let wall = start.elapsed();
    Timed {
        device: Some(wall),
        wall,
    }
}
