//! What the benchmarks share: the tensor, and the copy that a speed is held to.

#![allow(dead_code)] // each benchmark uses its own part

use rayon::prelude::*;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{Layout, TqTensor};

/// A tensor of random codes with a trained layer's scales.
pub fn tensor(bits: u32, group_size: usize, rows: usize, cols: usize) -> TqTensor {
    let layout = Layout::new(bits, group_size).expect("a layout that exists");
    synthetic::tensor(
        &mut Rng::new(1),
        layout,
        rows,
        cols,
        ScaleDistribution::Usual,
    )
    .expect("whole groups in a row")
}

/// Bytes that decoding must move at least: codes, scales and signs in, `element_size` bytes an element out.
pub fn bytes_moved(tensor: &TqTensor, element_size: usize) -> usize {
    size_of_val(tensor.packed())
        + tensor.scales().bytes().len()
        + size_of_val(tensor.signs())
        + tensor.elements() * element_size
}

/// Memory for some elements, from a multiple of 64 bytes on: `memory` has it.
pub fn at_a_line<T: Clone + Default>(memory: &mut Vec<T>, elements: usize) -> &mut [T] {
    const LINE: usize = 64;
    memory.resize(elements + LINE / size_of::<T>(), T::default());
    let first = memory.as_ptr().align_offset(LINE);
    &mut memory[first..][..elements]
}

/// `memcpy` on every thread, a part each; moves `2 * to.len()` bytes.
pub fn parallel_copy(from: &[u8], to: &mut [u8]) {
    let part = to.len().div_ceil(rayon::current_num_threads());
    to.par_chunks_mut(part)
        .zip(from.par_chunks(part))
        .for_each(|(to, from)| to.copy_from_slice(from));
}
