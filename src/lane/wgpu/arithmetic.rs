//! What the device makes of f32 arithmetic: `shaders/probe_arithmetic.wgsl` computes, this tells it from
//! the words that come back.

use super::compute::ComputeShader;
use super::dispatch::guard;
use super::gpu::{Gpu, READ};
use super::program::{Binding, ShaderProgram};
use super::shader::SHADER;
use crate::error::Result;
use crate::record::DeviceArithmetic;
use ::wgpu::{self, BufferUsages};

/// The probe's text, which stands behind the shader's.
const PROBE: &str = include_str!("../../../shaders/probe_arithmetic.wgsl");
/// Its entry point.
pub const ENTRY: &str = "probe_arithmetic";

/// Invocations of the kernel's workgroup.
const INVOCATIONS: usize = 64;
const PAIRS: usize = DeviceArithmetic::TRIED as usize;

/// That it ran at all: memory that nothing wrote holds other words.
const RAN: u32 = 0x7471_3421;
/// A subnormal.
const SMALL: u32 = 0x0060_0000;
/// 1.5 * 2^-126; half of it is [`SMALL`].
const NORMAL: u32 = 0x00c0_0000;
/// `1 + 2^-23`: its square is `1 + 2^-22 + 2^-46`, which f32 holds without the last.
const X: u32 = 0x3f80_0001;
/// The smallest f16, and its value.
const HALF: [u32; 2] = [1, 0x3380_0000];

/// The words that the probe is given: single numbers, `x` for each invocation, pairs, and an `s` for four
/// pairs each.
pub fn given() -> Vec<u32> {
    let y = -(1.0 + f32::powi(2.0, -22));
    let [y, big, one, half, two] = [y, 1e8, 1.0, 0.5, 2.0].map(f32::to_bits);
    let mut words = vec![RAN, y, SMALL, big, one, NORMAL, half, SMALL, two, HALF[0]];
    words.resize(16, 0);
    words.resize(16 + INVOCATIONS, X);
    // All bits of a mantissa, and either sign.
    let mut state = 0x9e37_79b9_u32;
    words.extend((0..2 * PAIRS + PAIRS / 4).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state & 0x80ff_ffff) + 0x3f00_0000
    }));
    words
}

/// Words that come back.
pub const FOUND: usize = 16 + 3 * INVOCATIONS + 4 * PAIRS;
/// The buffer that is copied within: a number, and room for it.
pub const STORED: [u32; 2] = [SMALL, 0];

/// The probe behind the shader whose guards it tries.
pub fn behind(shader: &str) -> String {
    format!("{shader}{PROBE}")
}

/// What the probe's words say. `None` where they are not the probe's: the device did not run it.
pub fn tell(found: &[u32], stored: [u32; 2]) -> Option<DeviceArithmetic> {
    let given = given();
    let (single, found) = found.split_at_checked(16)?;
    let (by_fma, found) = found.split_at_checked(INVOCATIONS)?;
    let (by_memory, found) = found.split_at_checked(INVOCATIONS)?;
    let (moved, found) = found.split_at_checked(INVOCATIONS)?;
    let mut found = found.chunks_exact(PAIRS);
    let (sums, sums_by_fma, sums_by_memory, quotients) =
        (found.next()?, found.next()?, found.next()?, found.next()?);
    if single[0] != RAN {
        return None;
    }
    let pairs = ProductPair::all(&given);
    let strict = |sums: &[u32]| {
        let mut both = pairs.iter().zip(sums);
        both.all(|(pair, sum)| pair.strict() == *sum)
    };
    let none_fused = |zeros: &[u32]| zeros.iter().all(|z| *z == 0);
    let sums = || pairs.iter().zip(sums);
    let quotients = pairs.iter().zip(quotients);
    Some(DeviceArithmetic {
        contracts: single[1] != 0 || sums().any(|(pair, sum)| pair.is_fused(*sum)),
        reassociates: single[2] == 1f32.to_bits(),
        factors: sums().any(|(pair, sum)| pair.is_factored(*sum)),
        sums_off: sums().filter(|(pair, sum)| pair.strict() != **sum).count() as u32,
        guard_by_fma: none_fused(by_fma) && strict(sums_by_fma),
        guard_by_memory: none_fused(by_memory) && strict(sums_by_memory),
        flushes_results: single[3] != SMALL,
        flushes_operands: single[4] != NORMAL,
        moves_subnormals: moved.iter().all(|m| *m == SMALL) && stored == [SMALL; 2],
        reads_f16_subnormals: single[5] == HALF[1],
        division_off: quotients.filter(|(pair, q)| pair.quotient() != **q).count() as u32,
    })
}

/// `a`, `b` and `s` of `a*s + b*s`.
struct ProductPair {
    a: f32,
    b: f32,
    s: f32,
}

impl ProductPair {
    fn all(given: &[u32]) -> Vec<Self> {
        let (pairs, scales) = given[16 + INVOCATIONS..].split_at(2 * PAIRS);
        let pairs = pairs.chunks_exact(2).enumerate();
        let number = f32::from_bits;
        pairs
            .map(|(i, pair)| Self {
                a: number(pair[0]),
                b: number(pair[1]),
                s: number(scales[i / 4]),
            })
            .collect()
    }

    /// Every operation rounded.
    fn strict(&self) -> u32 {
        (self.a * self.s + self.b * self.s).to_bits()
    }

    fn quotient(&self) -> u32 {
        (self.a / self.b).to_bits()
    }

    fn factored(&self) -> u32 {
        ((self.a + self.b) * self.s).to_bits()
    }

    /// With the one product fused, and with the other.
    fn fused(&self) -> [u32; 2] {
        let Self { a, b, s } = *self;
        [a.mul_add(s, b * s), b.mul_add(s, a * s)].map(f32::to_bits)
    }

    /// Whether a sum can only be a fused one.
    fn is_fused(&self, sum: u32) -> bool {
        self.fused().contains(&sum) && ![self.strict(), self.factored()].contains(&sum)
    }

    /// Whether a sum can only be a factored one.
    fn is_factored(&self, sum: u32) -> bool {
        sum == self.factored() && sum != self.strict() && !self.fused().contains(&sum)
    }
}

/// Asks the device. `None` where it cannot run the probe.
///
/// # Errors
/// When it does not answer: it is lost.
pub(super) fn probe(gpu: &mut Gpu) -> Result<Option<DeviceArithmetic>> {
    let text = behind(match &gpu.program {
        ShaderProgram::Own { text, .. } => text,
        // Its author's text has no guard to try.
        ShaderProgram::User(_) => SHADER,
    });
    let Ok(read) = gpu.scoped(|gpu| submit(gpu, &text)) else {
        return answers(gpu).map(|()| None);
    };
    let words: Vec<u32> = gpu.map(&read, bytes(FOUND + STORED.len()), |bytes| {
        bytemuck::pod_collect_to_vec(bytes)
    })?;
    let (found, stored) = words.split_at(FOUND);
    Ok(tell(found, [stored[0], stored[1]]))
}

/// # Errors
/// When the device is lost: it hands out no memory.
fn answers(gpu: &mut Gpu) -> Result<()> {
    let read = gpu.scoped(|gpu| buffer(&gpu.device, "answer", 1, READ))?;
    gpu.map(&read, bytes(1), |_| ())
}

/// Bytes of so many words.
fn bytes(words: usize) -> u64 {
    4 * words as u64
}

fn buffer(device: &wgpu::Device, label: &str, words: usize, usage: BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes(words),
        usage,
        mapped_at_creation: false,
    })
}

/// Runs the probe; the buffer has its words, then those that it stored.
fn submit(gpu: &Gpu, text: &str) -> wgpu::Buffer {
    let device = &gpu.device;
    let buffer = |label, words, usage| buffer(device, label, words, usage);
    let given = given();
    let input = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let result = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
    let params = guard();
    let uniform = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
    let uniform = buffer("guard", params.len() / 4, uniform);
    let numbers = buffer("given", given.len(), input);
    let found = buffer("found", FOUND, result);
    let stored = buffer("stored", STORED.len(), input | result);
    let read = buffer("arithmetic read", FOUND + STORED.len(), READ);
    gpu.write(&uniform, &params);
    gpu.write(&numbers, bytemuck::cast_slice(&given));
    gpu.write(&stored, bytemuck::cast_slice(&STORED));
    let kinds = [Binding::Uniform, Binding::Read, Binding::Out, Binding::Out];
    let pass = ComputeShader::new(device, ENTRY, text, &kinds);
    let buffers = [&uniform, &numbers, &found, &stored];
    let bound = pass.bind(device, buffers.map(|b| (b, b.size())));
    let mut encoder = device.create_command_encoder(&Default::default());
    pass.encode(&mut encoder, &bound, [1, 1], None);
    encoder.copy_buffer_to_buffer(&found, 0, &read, 0, bytes(FOUND));
    encoder.copy_buffer_to_buffer(&stored, 0, &read, bytes(FOUND), bytes(STORED.len()));
    gpu.queue.submit([encoder.finish()]);
    read
}

#[cfg(test)]
mod tests;
