//! A run against an earlier one.

use super::stats;
use crate::counted::counted;
use crate::record::LaneName;
use crate::record::bench::{BaselineDiff, Bench, Change, Measure, ShapeRecord, Speed, SpeedChange};

/// Confidence of each run's interval, so that the quotient of both holds with 95 %.
const CONFIDENCE_EACH: f64 = 0.975;
/// Rounds from which on there is such an interval.
const LEAST_ROUNDS: usize = 7;

/// Compares every speed that both records have.
pub fn compare(old: &Bench, new: &Bench, tolerance: f64) -> BaselineDiff {
    let (mut changes, mut left_out) = (Vec::new(), Vec::new());
    for shape in &new.shapes {
        let same = |o: &&ShapeRecord| {
            (&o.name, o.shape[1], o.bits, o.group_size)
                == (&shape.name, shape.shape[1], shape.bits, shape.group_size)
        };
        let Some(then) = old.shapes.iter().find(same) else {
            left_out.push(format!(
                "{}, {} bits, group {} is not in the baseline",
                shape.name, shape.bits, shape.group_size
            ));
            continue;
        };
        for lane in &shape.lanes {
            let Some(times) = &lane.times else { continue };
            let Some(before) = then
                .lanes
                .iter()
                .find(|l| l.lane == lane.lane)
                .and_then(|l| l.times.as_ref())
            else {
                left_out.push(format!(
                    "{}: lane {} has no time in the baseline",
                    shape.name, lane.lane
                ));
                continue;
            };
            for measure in Measure::ALL {
                let (Some(o), Some(n)) = (before.of(measure), times.of(measure)) else {
                    continue;
                };
                let (speed_ratio, interval, mut outcome) = decide(
                    &per_unit(then, measure, o),
                    &per_unit(shape, measure, n),
                    tolerance,
                );
                // A device's clock has no launch in it, the wall has.
                if o.clock != n.clock {
                    outcome = Change::NotDecidable;
                }
                let reason = (outcome == Change::NotDecidable).then(|| undecided(o, n));
                let mut notes = notes(old, new, &lane.lane, o, n);
                if then.shape != shape.shape {
                    notes.push(format!("{} rows, were {}", shape.shape[0], then.shape[0]));
                }
                if then.copy_bytes != shape.copy_bytes {
                    notes.push(format!(
                        "copies of {} bytes, were {}",
                        shape.copy_bytes, then.copy_bytes
                    ));
                }
                changes.push(SpeedChange {
                    name: shape.name.clone(),
                    lane: lane.lane.clone(),
                    measure,
                    speed_ratio,
                    interval,
                    outcome,
                    reason,
                    notes,
                });
            }
        }
    }
    BaselineDiff {
        baseline: String::new(),
        tolerance,
        changes,
        left_out,
    }
}

/// Why neither holds for certain.
fn undecided(old: &Speed, new: &Speed) -> String {
    let few = |s: &Speed| stats::interval(&s.samples_s, CONFIDENCE_EACH).is_none();
    let rounds = |s: &Speed| counted(s.samples_s.len(), "round");
    match (few(old), few(new)) {
        _ if old.clock != new.clock => "the two are timed by different clocks".into(),
        (true, _) => format!(
            "the baseline has {}, {LEAST_ROUNDS} are needed",
            rounds(old)
        ),
        (_, true) => format!("this run has {}, {LEAST_ROUNDS} are needed", rounds(new)),
        (false, false) => "the interval of the ratio holds more than one outcome".into(),
    }
}

/// Seconds per element, or per byte copied: rows may have been cut in one run and not in the other.
fn per_unit(shape: &ShapeRecord, measure: Measure, speed: &Speed) -> Vec<f64> {
    let units = match measure {
        Measure::Copy => shape.copy_bytes,
        _ => shape.elements,
    };
    speed.samples_s.iter().map(|s| s / units as f64).collect()
}

fn notes(old: &Bench, new: &Bench, lane: &LaneName, o: &Speed, n: &Speed) -> Vec<String> {
    let find = |r: &Bench| r.lanes.iter().find(|l| l.name == *lane).cloned();
    let mut notes = Vec::new();
    if let (Some(a), Some(b)) = (find(old), find(new)) {
        for (what, a, b) in [
            ("device", a.device, b.device),
            ("driver", a.driver, b.driver),
            ("variant", a.kernel_variant, b.kernel_variant),
            ("kernel", a.kernel_checksum, b.kernel_checksum),
        ] {
            if a != b {
                let show = |v: Option<String>| v.unwrap_or_else(|| "none".into());
                notes.push(format!("{what} {}, was {}", show(b), show(a)));
            }
        }
    }
    if o.clock != n.clock {
        notes.push(format!("clock {}, was {}", n.clock, o.clock));
    }
    notes
}

/// Speed ratio of two independent series of times, its interval, and the decision: the whole interval
/// must lie beyond the tolerance, or the whole within it.
pub fn decide(old: &[f64], new: &[f64], tolerance: f64) -> (f64, Option<[f64; 2]>, Change) {
    let ratio = stats::median(old) / stats::median(new);
    let interval = stats::interval(old, CONFIDENCE_EACH)
        .zip(stats::interval(new, CONFIDENCE_EACH))
        .map(|([old_low, old_high], [new_low, new_high])| [old_low / new_high, old_high / new_low]);
    let outcome = match interval {
        Some([low, _]) if low > 1.0 + tolerance => Change::Faster,
        Some([_, high]) if high < 1.0 - tolerance => Change::Slower,
        Some([low, high]) if low >= 1.0 - tolerance && high <= 1.0 + tolerance => Change::Same,
        _ => Change::NotDecidable,
    };
    (ratio, interval, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Rng;
    use proptest::prelude::*;

    fn series(rng: &mut Rng, center: f64, spread: f64, n: usize) -> Vec<f64> {
        (0..n)
            .map(|_| center * (1.0 + spread * f64::from(rng.normal())))
            .collect()
    }

    #[test]
    fn the_four_outcomes() {
        let mut rng = Rng::new(9);
        let base = series(&mut rng, 1.0, 0.01, 40);
        for (center, spread, n, want) in [
            (0.8, 0.01, 40, Change::Faster),
            (1.25, 0.01, 40, Change::Slower),
            (1.0, 0.01, 40, Change::Same),
            // On the edge of the tolerance, too noisy, too few.
            (1.05, 0.02, 40, Change::NotDecidable),
            (1.0, 0.5, 40, Change::NotDecidable),
            (0.5, 0.01, 5, Change::NotDecidable),
            (0.5, 0.01, 0, Change::NotDecidable),
        ] {
            let new = series(&mut rng, center, spread, n);
            assert_eq!(decide(&base, &new, 0.05).2, want, "{center} {spread} {n}");
        }
    }

    #[test]
    fn an_interval_takes_as_many_rounds_as_is_said() {
        let has = |n: usize| stats::interval(&vec![1.0; n], CONFIDENCE_EACH).is_some();
        assert!(has(LEAST_ROUNDS) && !has(LEAST_ROUNDS - 1));
    }

    /// A quotient that is 1 is called faster or slower as rarely as the confidence says, even with no
    /// tolerance at all.
    #[test]
    fn equal_machines_are_rarely_told_apart() {
        let mut rng = Rng::new(10);
        let wrong = (0..1000)
            .filter(|_| {
                let (a, b) = (
                    series(&mut rng, 1.0, 0.1, 25),
                    series(&mut rng, 1.0, 0.1, 25),
                );
                matches!(decide(&a, &b, 0.0).2, Change::Faster | Change::Slower)
            })
            .count();
        assert!(wrong <= 50, "{wrong} of 1000");
    }

    proptest! {
        #[test]
        fn the_other_way_round_is_the_other_outcome(
            old in prop::collection::vec(0.5f64..2.0, 0..40),
            new in prop::collection::vec(0.5f64..2.0, 0..40),
        ) {
            let (ratio, interval, there) = decide(&old, &new, 0.0);
            let (inverse, _, back) = decide(&new, &old, 0.0);
            if !old.is_empty() && !new.is_empty() {
                prop_assert!((ratio * inverse - 1.0).abs() < 1e-12);
            }
            if let Some([low, high]) = interval {
                prop_assert!(low <= ratio && ratio <= high);
            }
            let mirrored = match there {
                Change::Faster => Change::Slower,
                Change::Slower => Change::Faster,
                same => same,
            };
            prop_assert_eq!(back, mirrored);
        }
    }
}
