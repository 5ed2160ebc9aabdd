//! How a kernel's inputs lie in memory, and its launch.

use super::api::{Api, DevicePtr, Handle, call};
use super::memory::Stream;
use crate::error::Result;
use crate::lane::kernel::{Argument, Launch, Part, part_bytes};
use crate::tensor::TqTensor;
use std::borrow::Cow;
use std::ffi::c_void;
use std::ops::Range;

/// Bytes of parameters that a kernel has at most before CUDA 12.1, and so parameters of 4 bytes.
const MOST_PARAMETERS: usize = 4096 / 4;
static ZEROS: [u64; 4096 / 8] = [0; 4096 / 8];

/// Most blocks in x of any launch.
pub(super) const MAX_GRID: u32 = (1 << 31) - 1;

/// What a launch reads, one after the other at multiples of 256 bytes.
pub(super) struct LaunchInput<'a> {
    /// Each part, and where it starts.
    parts: Vec<(Part, usize, Cow<'a, [u8]>)>,
    /// Bytes of all.
    pub(super) len: usize,
}

impl<'a> LaunchInput<'a> {
    pub(super) fn new(launch: &Launch, tensor: &'a TqTensor) -> Self {
        let mut len = 0;
        let read = Part::ALL
            .into_iter()
            .filter(|part| *part != Part::Out && launch.arguments.contains(&Argument::Part(*part)));
        let parts = read.map(|part| {
            let bytes = part_bytes(part, tensor, 0..tensor.groups());
            let start = len;
            len += bytes.len().next_multiple_of(256);
            (part, start, bytes)
        });
        Self {
            parts: parts.collect(),
            len,
        }
    }

    /// Where each part starts.
    pub(super) fn starts(&self) -> Vec<(Part, usize)> {
        let parts = self.parts.iter();
        parts.map(|(part, start, _)| (*part, *start)).collect()
    }

    /// Puts the bytes of `window` into `host`, which is as long.
    pub(super) fn fill(&self, window: Range<usize>, host: &mut [u8]) {
        for (_, start, bytes) in &self.parts {
            let start = *start;
            let from = window.start.max(start);
            let to = window.end.min(start + bytes.len());
            if from < to {
                host[from - window.start..to - window.start]
                    .copy_from_slice(&bytes[from - start..to - start]);
            }
        }
    }
}

/// A kernel with what it is launched with.
#[derive(Debug)]
pub(super) struct Work {
    /// The entry point.
    pub(super) function: Handle,
    pub(super) launch: Launch,
    /// Where the parts start in the input.
    pub(super) starts: Vec<(Part, usize)>,
    /// Bytes of the output.
    pub(super) out_bytes: usize,
}

impl Work {
    /// Queues the kernel.
    ///
    /// # Safety
    /// `from` holds the [`LaunchInput`] that `starts` are of, and `to` has room for the output; both are
    /// multiples of 256 and stay until the stream has run the kernel. The launch is right for the entry
    /// point: of a user's kernel its manifest says so, and what a wrong one does on the device is the
    /// device's to stop.
    pub(super) unsafe fn launch(
        &self,
        api: &Api,
        stream: &Stream,
        from: DevicePtr,
        to: DevicePtr,
    ) -> Result<()> {
        let address = |part: Part| {
            let start = self.starts.iter().find(|(p, _)| *p == part);
            start.map_or(to, |(_, start)| from + *start as u64)
        };
        let arguments = self.launch.arguments.iter();
        let mut values: Vec<[u8; 8]> = arguments
            .map(|argument| match argument {
                Argument::Part(part) => address(*part).to_le_bytes(),
                Argument::Value(value) => value.bytes,
                Argument::Uniform(_) => unreachable!("a manifest has none for CUDA"),
            })
            .collect();
        let given = values.iter_mut().map(|v| v.as_mut_ptr().cast::<c_void>());
        // The driver reads one for each parameter of the kernel, and machine code of a user's does not say
        // how many these are.
        let rest = std::iter::repeat_n((&raw const ZEROS).cast_mut().cast(), MOST_PARAMETERS);
        let mut parameters: Vec<*mut c_void> = given.chain(rest).collect();
        let ([x, y, z], [block_x, block_y, block_z]) = (self.launch.grid, self.launch.block);
        // SAFETY: each parameter is 8 bytes, no less than a kernel takes of an address or a scalar, what it
        // takes beyond them is zeros, and all outlive the call, which copies them. The memory is the
        // caller's to vouch for.
        unsafe {
            call!(
                api,
                launch = "cuLaunchKernel"(
                    self.function,
                    x,
                    y,
                    z,
                    block_x,
                    block_y,
                    block_z,
                    self.launch.shared_memory,
                    stream.handle,
                    parameters.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            )
        }
    }
}
