//! What makes a figure doubtful.

use super::stats;
use crate::record::bench::{INTERVAL, Measure, ShapeRecord, Speed, Stopped};

/// A machine is noisy when the median absolute deviation is a larger part of the median.
const NOISE: f64 = 0.05;

/// A drift between the first and the last third of the rounds is told from this part of the median on.
const DRIFT: f64 = 0.05;

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
