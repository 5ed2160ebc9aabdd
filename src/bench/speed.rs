//! Series of times as speeds and quotients.

use super::measure::Runner;
use super::stats;
use crate::record::bench::{Measure, Ratio, Speed};

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

/// Of two lanes, by the rounds that both have.
pub(super) fn ratio(lhs: &Runner, rhs: &Runner, measure: Measure) -> Option<Ratio> {
    let both = lhs.series.of(measure).iter().zip(rhs.series.of(measure));
    let quotients = both.filter_map(|(l, r)| Some((*r)? / (*l)?));
    let quotients: Vec<f64> = quotients.collect();
    (!quotients.is_empty()).then(|| Ratio {
        lhs: lhs.times.lane.clone(),
        rhs: rhs.times.lane.clone(),
        measure,
        speed_ratio: stats::median(&quotients),
        interval: stats::interval(&quotients, stats::CONFIDENCE),
    })
}
