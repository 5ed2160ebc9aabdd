//! Whether a lane's output is right. A wrong one gets no speed.

use crate::backend::{Backend, POISON_BF16, Timing};
use crate::error::Result;
use crate::gate;
use crate::metrics::{Values, compare};
use crate::reference;
use crate::tensor::TqTensor;
use half::bf16;

/// Elements compared at a time: bounds the memory for the reference.
const BLOCK: usize = 1 << 23;

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checked {
    /// Elements that equal the rounded reference.
    pub equal: u64,
    /// What is wrong; `None` when nothing is.
    pub wrong: Option<String>,
}

/// Checks a call against the gates, and every loaded set against the call. `out` has room for the tensor.
pub(super) fn check(
    lane: &str,
    backend: &mut dyn Backend,
    tensor: &TqTensor,
    sets: usize,
    out: &mut [bf16],
) -> Result<Checked> {
    backend.dequantize(tensor, crate::backend::OutMut::Bf16(out))?;
    let mut checked = gates(lane, tensor, out)?;
    if checked.wrong.is_some() {
        return Ok(checked);
    }
    let timing = backend
        .timing()
        .expect("lanes that are checked can be timed");
    let mut loaded = vec![bf16::from_bits(POISON_BF16); tensor.elements()];
    for set in 0..sets {
        timing.kernel(set)?;
        timing.read(set, &mut loaded)?;
        checked.wrong = difference(out, &loaded);
        if checked.wrong.is_some() {
            return Ok(checked);
        }
    }
    checked.wrong = again(timing, tensor, out, &mut loaded)?;
    Ok(checked)
}

/// The call that is timed is not the one that poisons first: it must give the same.
fn again(
    timing: &mut dyn Timing,
    tensor: &TqTensor,
    expected: &[bf16],
    out: &mut [bf16],
) -> Result<Option<String>> {
    out.fill(bf16::from_bits(POISON_BF16));
    timing.end_to_end(tensor, out)?;
    Ok(difference(expected, out))
}

/// The first element that is not the same bit for bit: a NaN equals itself here.
fn difference(call: &[bf16], other: &[bf16]) -> Option<String> {
    let (a, b): (&[u16], &[u16]) = (bytemuck::cast_slice(call), bytemuck::cast_slice(other));
    if a == b {
        return None;
    }
    let at = a.iter().zip(b).position(|(a, b)| a != b)?;
    Some(format!(
        "run again, the kernel returns {} for element {at}, was {}",
        other[at], call[at]
    ))
}

/// The gates, block by block of whole rows: each block must pass.
fn gates(lane: &str, tensor: &TqTensor, out: &[bf16]) -> Result<Checked> {
    let cols = tensor.cols();
    let rows = (BLOCK / cols).max(1);
    let mut equal = 0;
    for first in (0..tensor.rows()).step_by(rows) {
        let last = tensor.rows().min(first + rows);
        let block = tensor.slice_rows(first..last)?;
        let expected = reference::dequantize(&block);
        let metrics = compare(
            lane,
            Values::Bf16(&out[first * cols..last * cols]),
            "reference",
            Values::F32(&expected),
        );
        equal += metrics.bit_equal;
        let decision = gate::decide(lane, &metrics);
        if decision.passed != Some(true) {
            return Ok(Checked {
                equal,
                wrong: Some(format!("rows {first}..{last}: {}", decision.reason)),
            });
        }
    }
    Ok(Checked { equal, wrong: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_and_a_nan_equals_itself() {
        let a = vec![bf16::NAN, bf16::ONE, bf16::ZERO];
        assert_eq!(difference(&a, &a), None);
        let mut b = a.clone();
        b[2] = bf16::NEG_ZERO;
        assert_eq!(
            difference(&a, &b).unwrap(),
            "run again, the kernel returns -0 for element 2, was 0"
        );
    }
}
