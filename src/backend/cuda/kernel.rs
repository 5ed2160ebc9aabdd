//! The kernel's interface: how its inputs lie in memory, and its launch.

use super::api::{Caller, DevicePtr, Handle, call};
use super::memory::Stream;
use crate::error::Result;
use crate::tensor::TqTensor;
use std::ffi::c_void;
use std::ops::Range;

/// Threads in a block of the kernel, and elements a thread decodes.
const BLOCK: u32 = 256;
const PER_THREAD: usize = 32;

/// Most elements of one launch: the kernel counts its threads in 32 bits.
pub(super) const MAX_ELEMENTS: usize = (1 << 31) * PER_THREAD;

/// Where things lie in the input of some rows, at multiples of 256 bytes, the centroids first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    signs: usize,
    scales: usize,
    packed: usize,
    /// Bytes to allocate.
    pub(super) len: usize,
}

impl Input {
    /// Of `rows` rows of a tensor.
    pub(super) fn new(tensor: &TqTensor, rows: usize) -> Self {
        let up = |n: usize| n.next_multiple_of(256);
        let signs = up(16 * 4);
        let scales = signs + up(tensor.cols());
        let packed = scales + up(rows * tensor.groups_per_row() * 2);
        Self {
            signs,
            scales,
            packed,
            len: packed + up(rows * tensor.layout().packed_len(tensor.cols())),
        }
    }

    /// Puts the rows `tile` into `host`; returns the bytes up to the last one put.
    pub(super) fn fill(&self, tensor: &TqTensor, tile: Range<usize>, host: &mut [u8]) -> usize {
        let per_row = tensor.groups_per_row();
        let row_len = tensor.layout().packed_len(tensor.cols());
        let codes = &tensor.packed()[tile.start * row_len..tile.end * row_len];
        let scales = &tensor.scales()[tile.start * per_row..tile.end * per_row];
        let mut centroids = [0f32; 16];
        centroids[..tensor.layout().levels()].copy_from_slice(tensor.codebook().centroids());
        let mut put = |at: usize, bytes: &[u8]| host[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, bytemuck::bytes_of(&centroids));
        put(self.signs, bytemuck::cast_slice(tensor.signs()));
        put(self.scales, bytemuck::cast_slice(scales));
        put(self.packed, codes);
        self.packed + codes.len()
    }
}

/// Queues the kernel over `elements` elements, rows of `cols`.
///
/// # Safety
/// `from` holds what [`Input::fill`] makes for at least these elements, and `to` has room for their
/// output; both are multiples of 16 and stay until the stream has run the kernel. `kernel` is an entry
/// point of the kernel's module, of the tensor's layout.
#[allow(clippy::too_many_arguments)] // the launch has these parameters
pub(super) unsafe fn launch(
    caller: &Caller,
    kernel: Handle,
    stream: &Stream,
    input: &Input,
    from: DevicePtr,
    to: DevicePtr,
    elements: usize,
    cols: usize,
) -> Result<()> {
    let mut packed = from + input.packed as u64;
    let mut scales = from + input.scales as u64;
    let mut signs = from + input.signs as u64;
    let mut centroids = from;
    let mut output = to;
    let mut blocks = (elements / PER_THREAD) as u32;
    let mut row_blocks = (cols / PER_THREAD) as u32;
    let mut parameters: [*mut c_void; 7] = [
        (&raw mut packed).cast(),
        (&raw mut scales).cast(),
        (&raw mut signs).cast(),
        (&raw mut centroids).cast(),
        (&raw mut output).cast(),
        (&raw mut blocks).cast(),
        (&raw mut row_blocks).cast(),
    ];
    // SAFETY: the parameters are those of the kernel's entry points, in order and in type, and outlive
    // the call, which copies them. The kernel reads and writes `blocks` blocks, which lie in the memory
    // that the caller vouches for.
    unsafe {
        call!(
            caller,
            launch = "cuLaunchKernel"(
                kernel,
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
