//! What becomes of a strip between reading and judging: checksums of what was read, the source's weights as f32, and what
//! the lanes make of it.

use super::job::{Job, Target};
use super::read::{Item, ReadStrip};
use crate::checkpoint::Dtype;
use crate::hash::short;
use crate::lane::{Decoded, LaneOutput, LaneState, Slot, SpareOutputs};
use crate::spare::sized;
use crate::strip::TensorSum;
use crate::tensor::TqTensor;
use blake3::Hasher;
use rayon::prelude::*;
use std::sync::mpsc::Receiver;

/// Weights that a thread widens at a time.
const PIECE: usize = 1 << 15;

/// A strip that is ready to be judged.
pub(super) struct DecodedStrip {
    pub(super) decoded: Decoded,
    /// Of all rows and of their source, with the last strip.
    pub(super) checksums: [Option<String>; 2],
    /// The memory of the source's stored weights.
    pub(super) stored: Vec<u8>,
}

/// The memory of a strip's values, once they are judged: the source's and the lanes'.
pub(super) type SpareValues = (Vec<f32>, SpareOutputs);

/// Checksums of what is read of a tensor.
#[derive(Default)]
pub(super) struct InputSums {
    tensor: TensorSum,
    source: Option<Hasher>,
}

impl InputSums {
    /// Takes the next rows, and the weights of their source as they are stored.
    pub(super) fn add(&mut self, tensor: Option<&TqTensor>, source: Option<&[u8]>) {
        let sums = || tensor.into_iter().for_each(|rows| self.tensor.add(rows));
        let of_source = || {
            if let Some(stored) = source {
                self.source.get_or_insert_default().update(stored);
            }
        };
        rayon::join(sums, of_source);
    }

    /// Of all rows so far and of their source; `last` is any strip of them.
    pub(super) fn finish(&self, last: Option<&TqTensor>) -> [Option<String>; 2] {
        [
            last.map(|tensor| self.tensor.finish(tensor)),
            self.source.as_ref().map(short),
        ]
    }
}

/// The lanes of a run, with what they know of the tensor that is decoded.
pub(super) struct Decoding<'r, 'j> {
    job: &'r Job<'j>,
    slots: &'r mut [Slot],
    states: Vec<LaneState>,
    sums: InputSums,
    spare: Receiver<SpareValues>,
}

impl<'r, 'j> Decoding<'r, 'j> {
    pub(super) fn new(
        job: &'r Job<'j>,
        slots: &'r mut [Slot],
        spare: Receiver<SpareValues>,
    ) -> Self {
        Self {
            job,
            states: vec![LaneState::Ready; slots.len()],
            slots,
            sums: InputSums::default(),
            spare,
        }
    }

    /// What becomes of the next strip.
    pub(super) fn next(&mut self, item: Item<ReadStrip>) -> Item<DecodedStrip> {
        match item {
            Item::Bad { target, error } => Item::Bad { target, error },
            Item::Strip {
                target,
                first,
                strip,
            } => {
                if first {
                    self.states.iter_mut().for_each(LaneState::renew);
                    self.sums = InputSums::default();
                }
                Item::Strip {
                    target,
                    first,
                    strip: self.strip(&self.job.targets[target], first, strip),
                }
            }
        }
    }

    fn strip(&mut self, of: &Target, first: bool, read: ReadStrip) -> DecodedStrip {
        let ReadStrip {
            strip,
            dtype,
            stored,
        } = read;
        let (source, outputs) = self.spare.try_recv().unwrap_or_default();
        let (tensor, elements) = (strip.tensor.clone(), strip.elements());
        let mut weights = dtype.map(|_| source);
        let Self {
            slots,
            states,
            sums,
            ..
        } = self;
        let source = dtype.map(|dtype| (dtype, &stored[..]));
        let mut decoded = rayon::in_place_scope(|scope| {
            scope.spawn(|_| sums.add(tensor.as_ref(), source.map(|(_, stored)| stored)));
            scope.spawn(|_| {
                if let (Some((dtype, stored)), Some(weights)) = (source, &mut weights) {
                    sized(weights, elements);
                    widen(dtype, stored, weights);
                }
            });
            Decoded::new(strip, first, slots, states, outputs)
        });
        decoded.strip.source = weights;
        let mut checksums = [None, None];
        if decoded.strip.rows.end == of.rows.end {
            checksums = self.sums.finish(tensor.as_ref());
        }
        if let Some(checksum) = &checksums[0] {
            refuse_other_input(of, &mut decoded, self.slots, checksum);
        }
        DecodedStrip {
            decoded,
            checksums,
            stored,
        }
    }
}

/// Stored weights as f32, exactly.
fn widen(dtype: Dtype, stored: &[u8], weights: &mut [f32]) {
    let pieces = weights.par_chunks_mut(PIECE);
    pieces
        .zip(stored.par_chunks(PIECE * dtype.bits() / 8))
        .for_each(|(weights, stored)| dtype.widen(stored, weights));
}

/// A recording of other weights than those just read has no figures.
fn refuse_other_input(of: &Target, decoded: &mut Decoded, slots: &[Slot], checksum: &str) {
    for (slot, output) in slots.iter().zip(&mut decoded.outputs) {
        if let (Slot::Recorded(lane), LaneOutput::Values(..)) = (slot, &output)
            && let Err(e) = lane.same_input(&of.base, &of.rows, checksum)
        {
            *output = LaneOutput::Failed(e);
        }
    }
}
