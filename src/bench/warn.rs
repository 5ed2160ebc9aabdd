//! What makes a figure doubtful.

use super::stats;
use crate::lane::Timed;
use crate::record::bench::{INTERVAL, Measure, ShapeRecord, Speed, Stopped};

/// A machine is noisy when the median absolute deviation is a larger part of the median.
const NOISE: f64 = 0.05;

/// A drift between the first and the last third of the rounds is told from this part of the median on.
const DRIFT: f64 = 0.05;

/// Clock rates differ: the device's clock may be ahead of the wall by this part.
const SKEW: f64 = 0.01;

/// Seconds of each run by the device's clock if every run has one that makes sense, else by the wall;
/// the clock's name; and how many runs had none.
pub(super) fn series<'a>(clock: &'a str, timed: &[Timed]) -> (Vec<f64>, &'a str, usize) {
    let wall = |t: &Timed| t.wall.as_secs_f64();
    let device: Vec<f64> = timed
        .iter()
        .filter_map(|t| t.device.map(|d| (d.as_secs_f64(), wall(t))))
        .filter(|(d, wall)| *d <= wall * (1.0 + SKEW))
        .map(|(d, _)| d)
        .collect();
    if device.len() == timed.len() && clock != "wall" {
        return (device, clock, 0);
    }
    let bad = if clock == "wall" {
        0
    } else {
        timed.len() - device.len()
    };
    (timed.iter().map(wall).collect(), "wall", bad)
}

/// Noise, drift and intervals that did not come down: a line a lane for each.
pub(super) fn about_rounds(record: &mut ShapeRecord) {
    let mut warnings = Vec::new();
    for lane in &record.lanes {
        let Some(times) = &lane.times else { continue };
        let each = |part: &dyn Fn(&Speed) -> Option<f64>| -> Option<String> {
            let found: Vec<String> = Measure::ALL
                .into_iter()
                .filter_map(|m| Some(format!("{} {}", m.name(), percent(part(times.of(m)?)?))))
                .collect();
            (!found.is_empty()).then(|| found.join(", "))
        };
        let mut warn = |found: Option<String>, text: &str| {
            warnings.extend(found.map(|f| format!("{}: {text}: {f}", lane.lane)));
        };
        warn(
            each(&|s| Some(s.mad_s / s.median_s).filter(|noise| *noise > NOISE)),
            "noisy, half of the rounds are further from the median than",
        );
        warn(
            each(&|s| stats::drift(&s.samples_s).filter(|d| *d > DRIFT)),
            "throttled, or another program began: the last rounds took longer than the first by",
        );
        warn(
            each(&|s| Some(-stats::drift(&s.samples_s)?).filter(|d| *d > DRIFT)),
            "clocks rose, or another program ended: the last rounds took less than the first by",
        );
        if record.stopped != Stopped::Interval {
            warn(
                each(&|s| {
                    let width = stats::relative_width(s.median_s, s.interval_s?);
                    Some(width).filter(|w| *w > INTERVAL)
                }),
                "wanted to within 1 %, known to within",
            );
        }
    }
    if (1..6).contains(&record.rounds) {
        warnings.push(format!(
            "{} rounds fit the time limit: fewer than 6 give no interval, allow more time",
            record.rounds
        ));
    }
    record.warnings.extend(warnings);
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
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

    #[test]
    fn one_bad_timestamp_makes_the_whole_series_the_walls() {
        let good = [timed(Some(10), 20), timed(Some(12), 20)];
        let (samples, clock, bad) = series("CUDA events", &good);
        assert_eq!(
            (samples, clock, bad),
            (vec![10e-6, 12e-6], "CUDA events", 0)
        );
        for spoilt in [timed(None, 30), timed(Some(31), 30)] {
            let (samples, clock, bad) = series("CUDA events", &[good[0], spoilt]);
            assert_eq!((samples, clock, bad), (vec![20e-6, 30e-6], "wall", 1));
        }
        // A lane without a clock of its own is not warned about.
        let (samples, clock, bad) = series("wall", &[timed(None, 7), timed(Some(7), 7)]);
        assert_eq!((samples, clock, bad), (vec![7e-6, 7e-6], "wall", 0));
    }
}
