//! Who is faster than another, and than before, in words.

use super::digits::{measured, percent, rounded};
use super::view::name;
use crate::error::printable;
use crate::record::bench::{
    BaselineDiff, Bench, Change, LaneTimes, Measure, Ratio, ShapeRecord, SpeedChange,
};
use crate::record::{LaneRecord, Status};
use std::fmt;

/// Two lanes whose interval is no wider than this part are as fast as each other.
const SAME: f64 = 0.05;

/// A sentence for each pair of lanes: of their cold kernels, and end to end where one kernel is timed by a device's
/// clock and the other by the wall.
pub fn sentences(s: &ShapeRecord) -> Vec<String> {
    let of_pair = |r: &Ratio, m| {
        s.ratios
            .iter()
            .find(|o| o.measure == m && o.lhs == r.lhs && o.rhs == r.rhs)
    };
    let main = |r: &&Ratio| match r.measure {
        Measure::KernelCold => true,
        Measure::EndToEnd => of_pair(r, Measure::KernelCold).is_none(),
        Measure::Copy | Measure::KernelWarm => false,
    };
    s.ratios.iter().filter(main).map(sentence).collect()
}

/// Why a lane decodes faster than its device copies, where one does.
pub fn over_the_copy(s: &ShapeRecord) -> Option<String> {
    let percent = |l: &LaneTimes| l.times.as_ref()?.kernel_cold.percent_of_copy;
    let over = s.lanes.iter().filter(|l| percent(l) > Some(100.0));
    let over: Vec<String> = over.map(|l| name(&l.lane)).collect();
    (!over.is_empty()).then(|| {
        format!(
            "{} over 100 % of the copy: the copy goes to memory and back, the decode's input and output partly stay in \
             the caches",
            over.join(", ")
        )
    })
}

/// The lanes that were asked for.
pub fn lanes_timed(record: &Bench) -> Vec<LaneRecord> {
    let mut lanes = record.lanes.clone();
    lanes.retain(|l| l.status != Status::Skipped);
    lanes
}

/// The words for a measure.
pub fn measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Copy => "copy",
        Measure::KernelCold => "kernel, cold",
        Measure::KernelWarm => "kernel, warm",
        Measure::EndToEnd => "end to end",
    }
}

/// A ratio of two speeds in words: `3.2 times slower`.
struct Factor {
    value: f64,
    interval: Option<[f64; 2]>,
    than: &'static str,
}

impl Factor {
    fn faster(value: f64, interval: Option<[f64; 2]>) -> Self {
        let than = "faster";
        Self {
            value,
            interval,
            than,
        }
    }

    /// The factor of the time, so that it is over 1 as well.
    fn slower(speed_ratio: f64, interval: Option<[f64; 2]>) -> Self {
        Self {
            value: 1.0 / speed_ratio,
            interval: interval.map(|[low, high]| [1.0 / high, 1.0 / low]),
            than: "slower",
        }
    }

    fn of(c: &SpeedChange) -> Self {
        match c.outcome {
            Change::Slower => Self::slower(c.speed_ratio, c.interval),
            Change::Faster => Self::faster(c.speed_ratio, c.interval),
            Change::Same | Change::NotDecidable => Self {
                than: "the speed",
                ..Self::faster(c.speed_ratio, c.interval)
            },
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = rounded(self.value, self.interval);
        write!(f, "{value} times {}", self.than)
    }
}

fn sentence(r: &Ratio) -> String {
    let (a, b) = (name(&r.lhs), name(&r.rhs));
    let said = match r.interval {
        // How much faster the first is, the second is slower.
        Some([low, _]) if low > 1.0 => {
            let slower = Factor {
                than: "slower",
                ..Factor::faster(r.speed_ratio, r.interval)
            };
            format!("{b} is {slower} than {a}")
        }
        Some([_, high]) if high < 1.0 => {
            format!(
                "{a} is {} than {b}",
                Factor::slower(r.speed_ratio, r.interval)
            )
        }
        Some([low, high]) if (1.0 - low).max(high - 1.0) <= SAME => {
            let percent = 100.0 * (1.0 - low).max(high - 1.0);
            format!(
                "{a} and {b} are as fast as each other within {} %",
                round_up(percent)
            )
        }
        Some(_) => {
            let [_, low, high] = measured("", r.speed_ratio, r.interval).map(|f| f.text);
            format!("which of {a} and {b} is slower is not decidable: the ratio is {low} to {high}")
        }
        None => format!("which of {a} and {b} is slower is not decidable: fewer than 6 rounds"),
    };
    format!("{said} ({})", measure(r.measure))
}

/// What became of the cold kernel of a lane since the baseline.
pub fn baseline_sentence(c: &SpeedChange, diff: &BaselineDiff) -> String {
    let baseline = match diff.baseline.as_str() {
        "" => "the baseline".to_owned(),
        file => printable(file),
    };
    let lane = format!("{}: {}", printable(&c.name), name(&c.lane));
    match c.outcome {
        Change::Faster | Change::Slower => {
            format!("{lane} is {} than in {baseline}", Factor::of(c))
        }
        Change::Same => {
            let within = percent(diff.tolerance);
            format!("{lane} is as fast as in {baseline} within {within}")
        }
        Change::NotDecidable => {
            let why = c.reason.as_ref().map(|why| format!(": {}", printable(why)));
            format!(
                "{lane} against {baseline} is not decidable{}",
                why.unwrap_or_default()
            )
        }
    }
}

/// What became of a speed since the baseline, with its interval: `1.3 times slower (1.2 to 1.4)`.
pub fn change(c: &SpeedChange) -> String {
    let factor = Factor::of(c);
    let [_, low, high] = measured("", factor.value, factor.interval).map(|f| f.text);
    match factor.interval {
        Some(_) => format!("{factor} ({low} to {high})"),
        None => factor.to_string(),
    }
}

/// Percent with one significant digit, no less than they are.
fn round_up(percent: f64) -> String {
    let unit = 10f64.powf(percent.log10().floor()).clamp(0.01, 1.0);
    let decimals = (-unit.log10()).round() as usize;
    format!("{:.decimals$}", (percent / unit).ceil() * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LaneName;

    fn of(speed_ratio: f64, interval: Option<[f64; 2]>) -> String {
        sentence(&Ratio {
            lhs: LaneName::Cuda,
            rhs: LaneName::Wgpu,
            measure: Measure::KernelCold,
            speed_ratio,
            interval,
        })
    }

    #[test]
    fn a_sentence_says_no_more_than_is_known() {
        for (ratio, interval, said) in [
            (3.2123, [3.1, 3.3], "wgpu is 3.2 times slower than cuda"),
            (20.61, [14.0, 30.0], "wgpu is 21 times slower than cuda"),
            (
                1.01234,
                [1.0119, 1.0127],
                "wgpu is 1.0123 times slower than cuda",
            ),
            (0.25, [0.2, 0.3125], "cuda is 4.0 times slower than wgpu"),
            (
                1.0,
                [0.99, 1.0132],
                "cuda and wgpu are as fast as each other within 2 %",
            ),
            (
                1.0,
                [0.9995, 1.0003],
                "cuda and wgpu are as fast as each other within 0.05 %",
            ),
            (
                1.2,
                [0.8, 1.5],
                "which of cuda and wgpu is slower is not decidable: the ratio is 0.8 to 1.5",
            ),
        ] {
            assert_eq!(of(ratio, Some(interval)), format!("{said} (kernel, cold)"));
        }
        assert!(of(2.0, None).contains("not decidable: fewer than 6 rounds"));
    }

    #[test]
    fn a_baseline_is_named() {
        let change = |outcome, speed_ratio, interval| SpeedChange {
            name: "8x256".into(),
            lane: LaneName::Wgpu,
            measure: Measure::KernelCold,
            speed_ratio,
            interval: Some(interval),
            outcome,
            reason: (outcome == Change::NotDecidable).then(|| "3 rounds".to_owned()),
            notes: Vec::new(),
        };
        let mut diff = BaselineDiff {
            baseline: "before.json".into(),
            tolerance: 0.05,
            changes: Vec::new(),
            left_out: Vec::new(),
        };
        for (outcome, ratio, interval, said) in [
            (
                Change::Slower,
                0.8,
                [0.79, 0.81],
                "is 1.25 times slower than in before.json",
            ),
            (
                Change::Faster,
                2.0,
                [1.7, 2.3],
                "is 2.0 times faster than in before.json",
            ),
            (
                Change::Same,
                1.0,
                [0.99, 1.01],
                "is as fast as in before.json within 5 %",
            ),
            (
                Change::NotDecidable,
                1.0,
                [0.5, 2.0],
                "against before.json is not decidable: 3 rounds",
            ),
        ] {
            let change = change(outcome, ratio, interval);
            assert_eq!(
                baseline_sentence(&change, &diff),
                format!("8x256: wgpu {said}")
            );
        }
        diff.baseline.clear();
        let change = change(Change::NotDecidable, 1.0, [0.5, 2.0]);
        assert!(baseline_sentence(&change, &diff).contains("against the baseline"));
    }
}
