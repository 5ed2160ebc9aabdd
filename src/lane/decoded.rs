//! What the lanes of a run make of one strip.

use super::{Output, Slot, Timed, decode_once};
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

/// Whether a lane is tried.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum LaneState {
    /// It is.
    #[default]
    Ready,
    /// Not again on this tensor: it failed.
    Failed,
    /// Never again: its device is gone.
    Lost(Error),
}

impl LaneState {
    /// For the next tensor.
    pub fn renew(&mut self) {
        if *self == Self::Failed {
            *self = Self::Ready;
        }
    }
}

/// Memory of a strip's values that is done with, lane by lane.
pub type SpareOutputs = Vec<Option<Output>>;

/// A strip with what every lane made of it.
#[derive(Debug)]
pub struct Decoded {
    /// The rows.
    pub strip: Strip,
    /// One for each lane of the run, in its order.
    pub outputs: Vec<LaneOutput>,
}

impl Decoded {
    /// Runs every lane that is there and ready; one that fails is marked. A lane that is lost fails again on
    /// the first strip of each tensor. Values go to spare memory where it fits.
    pub fn new(
        strip: Strip,
        first: bool,
        slots: &mut [Slot],
        states: &mut [LaneState],
        spare: SpareOutputs,
    ) -> Self {
        let mut outputs = Vec::with_capacity(slots.len());
        let spare = spare.into_iter().chain(std::iter::repeat_with(|| None));
        for ((slot, state), spare) in slots.iter_mut().zip(states).zip(spare) {
            let lane = match (slot.lane(), &*state) {
                (Some(lane), LaneState::Ready) => lane,
                (Some(_), LaneState::Lost(e)) if first => {
                    outputs.push(LaneOutput::Failed(e.clone()));
                    continue;
                }
                _ => {
                    outputs.push(LaneOutput::Idle);
                    continue;
                }
            };
            outputs.push(match decode_once(lane, &strip, spare) {
                Ok((values, timed)) => LaneOutput::Values(values, timed),
                Err(e) => {
                    *state = match e {
                        Error::Lost(_) => LaneState::Lost(e.clone()),
                        _ => LaneState::Failed,
                    };
                    LaneOutput::Failed(e)
                }
            });
        }
        Self { strip, outputs }
    }

    /// The memory of the source's weights and of the values, for another strip.
    pub fn into_spare(self) -> (Vec<f32>, SpareOutputs) {
        let outputs = self.outputs.into_iter().map(|output| match output {
            LaneOutput::Values(values, _) => Some(values),
            LaneOutput::Failed(_) | LaneOutput::Idle => None,
        });
        (self.strip.source.unwrap_or_default(), outputs.collect())
    }

    /// Whether a lane lost its device for good.
    pub fn lost(&self) -> bool {
        let lost = |o: &LaneOutput| matches!(o, LaneOutput::Failed(Error::Lost(_)));
        self.outputs.iter().any(lost)
    }

    /// A lane's values.
    pub fn output(&self, lane: usize) -> Option<&Output> {
        match self.outputs.get(lane)? {
            LaneOutput::Values(values, _) => Some(values),
            LaneOutput::Failed(_) | LaneOutput::Idle => None,
        }
    }
}
