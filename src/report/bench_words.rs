//! Who is faster, in words and with as many digits as are known.

use super::view::name;
use crate::error::printable;
use crate::record::bench::{BaselineDiff, Change, Measure, Ratio, ShapeRecord, SpeedChange};

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

fn sentence(r: &Ratio) -> String {
    let (a, b) = (name(&r.lhs), name(&r.rhs));
    let what = match r.measure {
        Measure::Copy => "copy",
        Measure::KernelCold => "kernel, cold",
        Measure::KernelWarm => "kernel, warm",
        Measure::EndToEnd => "end to end",
    };
    let said = match r.interval {
        Some([low, high]) if low > 1.0 => {
            let times = times(r.speed_ratio, [low, high]);
            format!("{b} is {times} times slower than {a}")
        }
        Some([low, high]) if high < 1.0 => {
            let times = times(1.0 / r.speed_ratio, [1.0 / high, 1.0 / low]);
            format!("{a} is {times} times slower than {b}")
        }
        Some([low, high]) if (1.0 - low).max(high - 1.0) <= SAME => {
            let percent = 100.0 * (1.0 - low).max(high - 1.0);
            format!(
                "{a} and {b} are as fast as each other within {} %",
                round_up(percent)
            )
        }
        Some([low, high]) => {
            let [low, high] = [low, high].map(digits);
            format!("which of {a} and {b} is slower is not decidable: the ratio is {low} to {high}")
        }
        None => format!("which of {a} and {b} is slower is not decidable: fewer than 6 rounds"),
    };
    format!("{said} ({what})")
}

/// What became of the cold kernel of a lane since the baseline.
pub fn baseline_sentence(c: &SpeedChange, diff: &BaselineDiff) -> String {
    let baseline = match diff.baseline.as_str() {
        "" => "the baseline".to_owned(),
        file => printable(file),
    };
    let lane = format!("{}: {}", printable(&c.name), name(&c.lane));
    match (c.outcome, c.interval) {
        (Change::Faster, Some(interval)) => {
            let times = times(c.speed_ratio, interval);
            format!("{lane} is {times} times faster than in {baseline}")
        }
        (Change::Slower, Some([low, high])) => {
            let times = times(1.0 / c.speed_ratio, [1.0 / high, 1.0 / low]);
            format!("{lane} is {times} times slower than in {baseline}")
        }
        (Change::Same, _) => {
            let percent = digits(100.0 * diff.tolerance);
            format!("{lane} is as fast as in {baseline} within {percent} %")
        }
        _ => format!("{lane} against {baseline} is not decidable"),
    }
}

/// A value with as many decimals as its interval is sure of.
fn times(value: f64, [low, high]: [f64; 2]) -> String {
    let half = (high - low) / 2.0;
    let decimals = match half {
        h if h > 0.0 => (-(2.0 * h).log10()).ceil().clamp(0.0, 4.0) as usize,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// Percent with one significant digit, no less than they are.
fn round_up(percent: f64) -> String {
    let unit = 10f64.powf(percent.log10().floor()).clamp(0.01, 1.0);
    let decimals = (-unit.log10()).round() as usize;
    format!("{:.decimals$}", (percent / unit).ceil() * unit)
}

/// A value, and its interval where there is one.
pub fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{} [{}, {}]", digits(value), digits(low), digits(high)),
        None => digits(value),
    }
}

/// Three or four significant digits.
pub fn digits(v: f64) -> String {
    match v.abs() {
        a if !a.is_finite() => "-".into(),
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        a if a >= 0.001 => format!("{v:.4}"),
        0.0 => "0".into(),
        _ => format!("{v:.1e}"),
    }
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
            (0.25, [0.2, 0.3125], "cuda is 4 times slower than wgpu"),
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
                "which of cuda and wgpu is slower is not decidable: the ratio is 0.8000 to 1.50",
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
                "is as fast as in before.json within 5.00 %",
            ),
            (
                Change::NotDecidable,
                1.0,
                [0.5, 2.0],
                "against before.json is not decidable",
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
