//! The published control: a lane against the reference, and against the reference as the first known bug
//! would have given it.

use crate::metrics::{BlockSums, Values};
use crate::record::FwhtBugControl;
use half::bf16;

/// The control of one lane, from values that come in pieces of whole groups.
#[derive(Debug, Default)]
pub(crate) struct Control {
    good: BlockSums,
    bug: BlockSums,
    bug_bf16: BlockSums,
}

impl Control {
    /// Adds the next rows of so many columns. The emulated bug computes upper minus lower: every element with an odd
    /// number of one bits in its index within the group has the other sign, exactly.
    pub(crate) fn push(
        &mut self,
        lane: Values<'_>,
        reference: &[f32],
        cols: usize,
        group_size: usize,
    ) {
        let bug: Vec<f32> = reference
            .iter()
            .enumerate()
            .map(|(i, v)| {
                if (i % cols % group_size).count_ones() % 2 == 1 {
                    -v
                } else {
                    *v
                }
            })
            .collect();
        let bug_bf16: Vec<bf16> = bug.iter().map(|v| bf16::from_f32(*v)).collect();
        self.good.push(lane, Values::F32(reference));
        self.bug.push(lane, Values::F32(&bug));
        self.bug_bf16.push(lane, Values::Bf16(&bug_bf16));
    }

    /// The published figures.
    pub(crate) fn finish(&self) -> FwhtBugControl {
        FwhtBugControl {
            cuda_vs_good_python_max_abs: self.good.max_abs(),
            cuda_vs_good_python_rmse: self.good.rmse(),
            cuda_vs_bug_emulation_max_abs: self.bug.max_abs(),
            cuda_vs_bug_emulation_rmse: self.bug.rmse(),
            cuda_vs_bug_emulation_bf16_max_abs: self.bug_bf16.max_abs(),
            cuda_vs_bug_emulation_bf16_rmse: self.bug_bf16.rmse(),
            interpretation: "The CUDA lane against the reference, and against the reference with the \
                             upper lane of every FWHT butterfly negated. A correct kernel is near the \
                             first and far from the second."
                .into(),
        }
    }
}
