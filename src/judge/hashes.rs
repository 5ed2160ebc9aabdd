//! Checksums of what each lane made of a tensor.

use crate::hash::short;
use crate::lane::{Decoded, LaneOutput, Output};
use crate::rounding::round_all;
use blake3::Hasher;
use rayon::prelude::*;

/// One for each lane, of its values so far.
#[derive(Debug)]
pub(super) struct OutputHashes(Vec<Hasher>);

impl OutputHashes {
    pub(super) fn new(lanes: usize) -> Self {
        Self(vec![Hasher::new(); lanes])
    }

    /// Takes the next strip in.
    pub(super) fn push(&mut self, decoded: &Decoded) {
        let outputs = self.0.par_iter_mut().zip(&decoded.outputs);
        outputs.for_each(|(hash, output)| {
            if let LaneOutput::Values(values, _) = output {
                match values {
                    Output::Bf16(_) | Output::F16(_) => {
                        hash.update(values.bytes());
                    }
                    // The reference's values are rounded, as the other lanes' are.
                    Output::F32(values) => update_rounded(hash, values),
                }
            }
        });
    }

    /// Their first 32 hex digits, lane by lane.
    pub(super) fn short(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(short)
    }
}

/// Takes values rounded to BF16, a few at a time.
fn update_rounded(hash: &mut Hasher, values: &[f32]) {
    let mut rounded = [0u16; 1 << 14];
    for values in values.chunks(rounded.len()) {
        let rounded = &mut rounded[..values.len()];
        round_all(values, rounded);
        hash.update(bytemuck::cast_slice::<_, u8>(rounded));
    }
}
