//! The reference as a lane.

use super::{Backend, Cost, Device, OutMut, checksum};
use crate::error::Result;
use crate::reference;
use crate::tensor::TqTensor;
use std::time::Instant;

/// The CPU reference.
#[derive(Debug)]
pub struct Cpu {
    device: Device,
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

    fn dequantize(&mut self, tensor: &TqTensor<'_>, out: OutMut<'_>) -> Result<Cost> {
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
        })
    }
}
