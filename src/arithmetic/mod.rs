//! Which correct arithmetic an output was computed with.
//!
//! Every named order of operations ([`crate::record::Arithmetic`]) is written here once more, plainly, group by group; an
//! output has the arithmetic that gives all of its elements, bit for bit. Several renderings may have one
//! name: a compiler is free in which product it fuses, a kernel in when it divides.

mod render;

use crate::lane::Output;
use crate::record::OutputType;
use crate::tensor::TqTensor;

pub(crate) use render::{Rendering, UnpackedGroup, renderings};

/// What a kernel with this arithmetic returns for a whole tensor.
pub(crate) fn emulate(tensor: &TqTensor, rendering: &Rendering, of: OutputType) -> Output {
    let n = tensor.layout().group_size();
    let mut x = vec![0.0; tensor.elements()];
    for (group, x) in x.chunks_mut(n).enumerate() {
        rendering.group(&UnpackedGroup::new(tensor, group), of, x);
    }
    Output::rounding(x, of)
}

#[cfg(test)]
mod tests;
