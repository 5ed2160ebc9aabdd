//! What the lanes of a run make of one strip.

use super::{Output, Slot, Timed, decode};
use crate::error::Error;
use crate::strip::Strip;

/// What became of a lane in one strip.
#[derive(Debug)]
pub enum LaneOutput {
    /// Its values and its times.
    Values(Output, Timed),
    /// It broke, or its recording does not fit.
    Failed(Error),
    /// It is not there, or failed on an earlier strip of the tensor.
    Idle,
}

/// A strip with what every lane made of it.
#[derive(Debug)]
pub struct Decoded {
    /// The rows.
    pub strip: Strip,
    /// One for each lane of the run, in its order.
    pub outputs: Vec<LaneOutput>,
}

impl Decoded {
    /// Runs every lane that is there and has not failed on this tensor; a lane that fails is marked.
    pub fn new(strip: Strip, slots: &mut [Slot], failed: &mut [bool]) -> Self {
        let mut outputs = Vec::with_capacity(slots.len());
        for (slot, failed) in slots.iter_mut().zip(failed) {
            let output = match slot.lane() {
                Some(lane) if !*failed => match decode(lane, &strip) {
                    Ok((values, timed)) => LaneOutput::Values(values, timed),
                    Err(e) => {
                        *failed = true;
                        LaneOutput::Failed(e)
                    }
                },
                _ => LaneOutput::Idle,
            };
            outputs.push(output);
        }
        Self { strip, outputs }
    }

    /// A lane's values.
    pub fn output(&self, lane: usize) -> Option<&Output> {
        match self.outputs.get(lane)? {
            LaneOutput::Values(values, _) => Some(values),
            LaneOutput::Failed(_) | LaneOutput::Idle => None,
        }
    }
}
