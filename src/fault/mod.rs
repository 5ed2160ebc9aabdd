//! Faults: named ways in which a kernel is wrong, each emulated on the CPU.

mod catalogue;
mod diagnose;
mod diagnosis;
mod fit;
mod pipeline;
mod survey;

pub use catalogue::Fault;
pub use diagnose::diagnose;
pub use diagnosis::{Closest, Diagnosis, Named, Place, Worst};
pub use survey::Signature;

use crate::tensor::TqTensor;
use half::bf16;
use pipeline::Pipeline;
use rayon::prelude::*;

/// What a kernel with these faults returns for the rows from `first_row` on, as many as `out` holds.
///
/// # Panics
/// When `out` is not whole rows of the tensor.
pub fn emulate(tensor: &TqTensor, faults: &[Fault], first_row: usize, out: &mut [bf16]) {
    assert!(out.len().is_multiple_of(tensor.cols()), "whole rows");
    let pipeline = Pipeline::with(tensor, faults);
    out.par_chunks_mut(tensor.cols())
        .enumerate()
        .for_each_init(Vec::new, |scratch, (i, out)| {
            pipeline.row(first_row + i, scratch, out);
        });
}
