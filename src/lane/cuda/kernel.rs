//! The kernel's interface: how its inputs lie in memory, and its launch.

use super::api::{Api, DevicePtr, Handle, call};
use super::memory::Stream;
use crate::error::Result;
use crate::tensor::TqTensor;
use std::ffi::c_void;
use std::ops::Range;

/// Threads in a block of the kernel, and elements a thread decodes.
const BLOCK: u32 = 256;
const PER_THREAD: usize = 32;

/// Most elements of one launch: the kernel counts its threads in 32 bits. A 32-bit machine holds no more.
pub(super) const MAX_ELEMENTS: usize = (1_usize << 31).saturating_mul(PER_THREAD);

/// What the kernel reads, one after the other at multiples of 256 bytes: centroids, signs, scales, codes.
pub(super) struct Input<'a> {
    centroids: [f32; 16],
    /// The others, and where each starts.
    parts: [(usize, &'a [u8]); 3],
    /// Bytes of all.
    pub(super) len: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(tensor: &'a TqTensor) -> Self {
        let mut centroids = [0f32; 16];
        centroids[..tensor.layout().levels()].copy_from_slice(tensor.codebook().centroids());
        let mut len = size_of_val(&centroids).next_multiple_of(256);
        let parts: [&[u8]; 3] = [
            bytemuck::cast_slice(tensor.signs()),
            bytemuck::cast_slice(tensor.scales()),
            tensor.packed(),
        ];
        let parts = parts.map(|bytes| {
            let start = len;
            len += bytes.len().next_multiple_of(256);
            (start, bytes)
        });
        Self {
            centroids,
            parts,
            len,
        }
    }

    /// Where each part starts.
    pub(super) fn starts(&self) -> [usize; 3] {
        self.parts.map(|(start, _)| start)
    }

    /// Puts the bytes of `window` into `host`, which is as long.
    pub(super) fn fill(&self, window: Range<usize>, host: &mut [u8]) {
        let centroids = (0, bytemuck::bytes_of(&self.centroids));
        for (start, bytes) in self.parts.into_iter().chain([centroids]) {
            let from = window.start.max(start);
            let to = window.end.min(start + bytes.len());
            if from < to {
                host[from - window.start..to - window.start]
                    .copy_from_slice(&bytes[from - start..to - start]);
            }
        }
    }
}

/// The kernel with the sizes that it runs over.
#[derive(Debug)]
pub(super) struct Work {
    /// Entry point of the layout and the type of output.
    pub(super) kernel: Handle,
    /// Where signs, scales and codes start in the input.
    pub(super) starts: [usize; 3],
    /// Elements of the strip.
    pub(super) elements: usize,
    /// Elements of a row.
    pub(super) cols: usize,
    /// Bytes of the output.
    pub(super) out_bytes: usize,
}

impl Work {
    /// Queues the kernel.
    ///
    /// # Safety
    /// `from` holds the [`Input`] of these elements, and `to` has room for their output; both are
    /// multiples of 16 and stay until the stream has run the kernel.
    pub(super) unsafe fn launch(
        &self,
        api: &Api,
        stream: &Stream,
        from: DevicePtr,
        to: DevicePtr,
    ) -> Result<()> {
        let [mut signs, mut scales, mut packed] = self.starts.map(|at| from + at as u64);
        let mut centroids = from;
        let mut output = to;
        let mut blocks = (self.elements / PER_THREAD) as u32;
        let mut row_blocks = (self.cols / PER_THREAD) as u32;
        let mut parameters: [*mut c_void; 7] = [
            (&raw mut packed).cast(),
            (&raw mut scales).cast(),
            (&raw mut signs).cast(),
            (&raw mut centroids).cast(),
            (&raw mut output).cast(),
            (&raw mut blocks).cast(),
            (&raw mut row_blocks).cast(),
        ];
        // SAFETY: the parameters are those of the kernel's entry points, in order and in type, and
        // outlive the call, which copies them. The kernel reads and writes `blocks` blocks, which lie in
        // the memory that the caller vouches for.
        unsafe {
            call!(
                api,
                launch = "cuLaunchKernel"(
                    self.kernel,
                    blocks.div_ceil(BLOCK),
                    1,
                    1,
                    BLOCK,
                    1,
                    1,
                    0,
                    stream.handle,
                    parameters.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            )
        }
    }
}
