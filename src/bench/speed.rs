//! Series of times as speeds and quotients.

use super::stats;
use crate::record::bench::{LaneTimes, Measure, Ratio, Speed};

/// Of a copy that moves `bytes`.
pub(super) fn of_copy(clock: &str, samples: Vec<f64>, bytes: u64) -> Speed {
    let median = stats::median(&samples);
    Speed {
        clock: clock.to_owned(),
        median_s: median,
        mad_s: stats::mad(&samples),
        interval_s: stats::interval(&samples, stats::CONFIDENCE),
        elements_per_s: None,
        gb_per_s: bytes as f64 / median / 1e9,
        percent_of_copy: None,
        samples_s: samples,
    }
}

/// Of decoding `elements`, which moves `bytes` at least, beside the device's `copy` where it has one.
pub(super) fn of_job(
    clock: &str,
    samples: Vec<f64>,
    bytes: u64,
    elements: u64,
    copy: Option<&Speed>,
) -> Speed {
    let speed = of_copy(clock, samples, bytes);
    Speed {
        elements_per_s: Some(elements as f64 / speed.median_s),
        percent_of_copy: copy.map(|copy| 100.0 * speed.gb_per_s / copy.gb_per_s),
        ..speed
    }
}

/// Of two lanes timed in the same rounds.
pub(super) fn ratio(lhs: &LaneTimes, rhs: &LaneTimes, measure: Measure) -> Option<Ratio> {
    let samples = |l: &LaneTimes| Some(l.times.as_ref()?.of(measure)?.samples_s.clone());
    let quotients = stats::quotients(&samples(rhs)?, &samples(lhs)?);
    Some(Ratio {
        lhs: lhs.lane.clone(),
        rhs: rhs.lane.clone(),
        measure,
        speed_ratio: stats::median(&quotients),
        interval: stats::interval(&quotients, stats::CONFIDENCE),
    })
}
