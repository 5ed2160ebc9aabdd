//! The times of one lane, round by round.

use super::{speed, stats};
use crate::lane::{Round, Timed};
use crate::record::bench::{INTERVAL, Measure, Times};

/// Clock rates differ: the device's clock may be ahead of the wall by this part.
const SKEW: f64 = 0.01;

/// Of so many rounds one may have timestamps that make no sense, and one more.
const ROUNDS_A_BAD_ONE: usize = 20;

/// Seconds in each round; `None` where a round has no figure of a kind.
#[derive(Debug, Default)]
pub(super) struct RoundTimes {
    copy: Vec<Option<f64>>,
    cold: Vec<Option<f64>>,
    warm: Vec<Option<f64>>,
    end_to_end: Vec<Option<f64>>,
    /// Rounds whose timestamps made no sense.
    bad: usize,
    /// Whether there were too many of them.
    by_wall: bool,
}

/// Seconds by the device's clock, where it makes sense beside the wall.
fn seconds(timed: &Timed) -> Option<f64> {
    let (device, wall) = (timed.device?.as_secs_f64(), timed.wall.as_secs_f64());
    (device <= wall * (1.0 + SKEW)).then_some(device)
}

impl RoundTimes {
    /// Whether the device's clock is not to be used: it has none, or one without sense.
    pub(super) fn is_by_wall(&self, clock: &str) -> bool {
        self.by_wall || clock == "wall"
    }

    /// Adds copy, cold and warm kernel of a round by the device's clock; all or none of them count.
    pub(super) fn push_device(&mut self, round: &Round) {
        let [cold, warm] = [&round.cold, &round.warm].map(seconds);
        let copy = round.copy.as_ref().map(seconds);
        let good = cold.is_some() && warm.is_some() && copy != Some(None);
        let (copy, cold, warm) = match good {
            true => (copy.flatten(), cold, warm),
            false => (None, None, None),
        };
        self.copy.push(copy);
        self.cold.push(cold);
        self.warm.push(warm);
        self.bad += usize::from(!good);
        if self.bad > 1 + self.cold.len() / ROUNDS_A_BAD_ONE {
            // Times of two clocks are no series.
            self.by_wall = true;
            for series in [&mut self.copy, &mut self.cold, &mut self.warm] {
                series.fill(None);
            }
        }
    }

    /// The same by wall-clock time.
    pub(super) fn push_wall(&mut self, round: &Round) {
        let wall = |timed: &Timed| timed.wall.as_secs_f64();
        self.copy.push(round.copy.as_ref().map(wall));
        self.cold.push(Some(wall(&round.cold)));
        self.warm.push(Some(wall(&round.warm)));
    }

    /// Adds the whole way of a round.
    pub(super) fn push_end_to_end(&mut self, timed: Timed) {
        self.end_to_end.push(Some(timed.wall.as_secs_f64()));
    }

    /// One of the four, a place a round.
    pub(super) fn of(&self, measure: Measure) -> &[Option<f64>] {
        match measure {
            Measure::Copy => &self.copy,
            Measure::KernelCold => &self.cold,
            Measure::KernelWarm => &self.warm,
            Measure::EndToEnd => &self.end_to_end,
        }
    }

    /// What there is of it.
    fn samples(&self, measure: Measure) -> Vec<f64> {
        self.of(measure).iter().copied().flatten().collect()
    }

    /// Whether there is a time of the kernel.
    pub(super) fn has_begun(&self) -> bool {
        self.cold.iter().any(Option::is_some)
    }

    /// Whether every interval is narrow enough.
    pub(super) fn settled(&self) -> bool {
        let all = Measure::ALL.map(|m| self.samples(m));
        // A lane without memory of its own copies nothing.
        all.iter().filter(|s| !s.is_empty()).all(|s| {
            stats::interval(s, stats::CONFIDENCE)
                .is_some_and(|i| stats::relative_width(stats::median(s), i) <= INTERVAL)
        })
    }

    /// The speeds, with `clock` for copy and kernel, where every kind but the copy has a sample. The job
    /// moves `bytes` at least for its `elements`, a copy `copy_bytes`.
    pub(super) fn times(
        &self,
        clock: &str,
        bytes: u64,
        elements: u64,
        copy_bytes: u64,
    ) -> Option<Times> {
        let clock = if self.is_by_wall(clock) {
            "wall"
        } else {
            clock
        };
        let copy = self.samples(Measure::Copy);
        let copy = (!copy.is_empty()).then(|| speed::of_copy(clock, copy, copy_bytes));
        let job = |clock, measure| {
            let samples = self.samples(measure);
            (!samples.is_empty())
                .then(|| speed::of_job(clock, samples, bytes, elements, copy.as_ref()))
        };
        Some(Times {
            kernel_cold: job(clock, Measure::KernelCold)?,
            kernel_warm: job(clock, Measure::KernelWarm)?,
            end_to_end: job("wall", Measure::EndToEnd)?,
            copy,
        })
    }

    /// What is to be said of timestamps without sense.
    pub(super) fn warning(&self) -> Option<String> {
        let what = match (self.bad, self.by_wall) {
            (0, _) => return None,
            (_, true) => "timed by wall-clock time, the launch included",
            (_, false) => "left out",
        };
        let (bad, rounds) = (self.bad, self.cold.len());
        Some(format!(
            "timestamps of {bad} of {rounds} rounds are missing, tie, run backwards or exceed the wall: {what}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn timed(device: Option<u64>, wall: u64) -> Timed {
        Timed {
            device: device.map(Duration::from_micros),
            wall: Duration::from_micros(wall),
        }
    }

    fn round(device: Option<u64>) -> Round {
        Round {
            copy: Some(timed(Some(40), 50)),
            cold: timed(device, 20),
            warm: timed(Some(8), 20),
        }
    }

    #[test]
    fn a_bad_timestamp_leaves_its_round_out() {
        for bad in [None, Some(21)] {
            let mut series = RoundTimes::default();
            for i in 0..20 {
                series.push_device(&round(if i == 3 { bad } else { Some(10) }));
            }
            assert!(!series.is_by_wall("CUDA events"));
            assert_eq!(series.of(Measure::Copy)[3], None);
            assert_eq!(series.samples(Measure::KernelCold), vec![10e-6; 19]);
            let said = series.warning().unwrap();
            assert!(
                said.contains("1 of 20 rounds") && said.ends_with("left out"),
                "{said}"
            );
        }
    }

    #[test]
    fn many_bad_timestamps_make_the_whole_series_the_walls() {
        let mut series = RoundTimes::default();
        for device in [Some(10), None, Some(10), None] {
            assert!(!series.is_by_wall("CUDA events"));
            series.push_device(&round(device));
        }
        assert!(series.is_by_wall("CUDA events"));
        series.push_wall(&round(None));
        series.push_end_to_end(timed(None, 100));
        let times = series.times("CUDA events", 1, 1, 1).unwrap();
        assert_eq!(times.kernel_cold.clock, "wall");
        assert_eq!(times.kernel_cold.samples_s, [20e-6]);
        assert_eq!(times.copy.unwrap().samples_s, [50e-6]);
        assert!(series.warning().unwrap().contains("2 of 5 rounds"));
    }

    #[test]
    fn a_lane_without_a_clock_is_the_walls_and_nothing_is_said_of_it() {
        let mut series = RoundTimes::default();
        assert!(series.is_by_wall("wall"));
        series.push_wall(&round(None));
        assert_eq!(series.samples(Measure::KernelWarm), [20e-6]);
        assert_eq!(series.warning(), None);
    }
}
