//! Faults: named ways in which a kernel is wrong, each emulated on the CPU.

mod catalogue;
mod diagnose;
mod diagnosis;
mod family;
mod fit;
mod matching;
mod output;
mod pipeline;
mod rounding;
mod scope;
mod search;
mod sets;
mod survey;

pub use catalogue::Fault;
pub use diagnose::diagnose;
pub(crate) use diagnose::diagnose_width;
pub use diagnosis::{Closest, Diagnosis, ErrorSite, Group, NamedFault, Worst};
pub use family::{By, Family, Holds, Moved, Region};
pub use scope::Only;
pub use survey::Signature;

use crate::lane::Output;
use crate::record::OutputType;
use crate::tensor::{POISON_BF16, TqTensor};
use half::{bf16, f16};
use output::unwritten;
use pipeline::{FaultyElement, Pipeline};
use rayon::prelude::*;

/// What a kernel with these faults returns for the rows from `first_row` on, as many as `out` holds; what it
/// does not write holds [`POISON_BF16`].
///
/// # Panics
/// When `out` is not whole rows of the tensor.
pub fn emulate(tensor: &TqTensor, faults: &[Fault], first_row: usize, out: &mut [bf16]) {
    let values = emulated(tensor, faults, OutputType::Bf16, first_row, out.len());
    let poison = bf16::from_bits(POISON_BF16);
    let narrow = |v: f32| {
        if unwritten(v) {
            poison
        } else {
            bf16::from_f32(v)
        }
    };
    out.par_iter_mut()
        .zip(&values)
        .for_each(|(o, v)| *o = narrow(*v));
}

/// [`emulate`] for a whole tensor and any type of output.
pub(crate) fn emulate_as(tensor: &TqTensor, faults: &[Fault], of: OutputType) -> Output {
    let values = || emulated(tensor, faults, of, 0, tensor.elements());
    match of {
        OutputType::Bf16 => {
            let mut out = vec![bf16::ZERO; tensor.elements()];
            emulate(tensor, faults, 0, &mut out);
            Output::Bf16(out)
        }
        OutputType::F16 => {
            let poison = f16::from_bits(POISON_BF16);
            let narrow = |v: f32| {
                if unwritten(v) {
                    poison
                } else {
                    f16::from_f32(v)
                }
            };
            Output::F16(values().into_iter().map(narrow).collect())
        }
        OutputType::F32 => Output::F32(values()),
    }
}

/// The rounded values, with [`output::UNWRITTEN`] where nothing is written.
fn emulated(
    tensor: &TqTensor,
    faults: &[Fault],
    of: OutputType,
    first_row: usize,
    len: usize,
) -> Vec<f32> {
    let cols = tensor.cols();
    assert!(len.is_multiple_of(cols), "whole rows");
    let p = Pipeline::with(tensor, faults);
    let mut elements = vec![FaultyElement::default(); len];
    p.rows(first_row, &mut elements);
    let round = |(at, e): (usize, &FaultyElement)| match e.value {
        v if v.is_nan() => v,
        v => p.rounding.round(of, v.into(), at % cols),
    };
    elements.par_iter().enumerate().map(round).collect()
}
