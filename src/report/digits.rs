//! Measured figures with as many digits as their interval carries.

use super::view::Figure;
use crate::record::bench::Speed;

/// Digits of a figure of which no interval is known.
const WITHOUT: i32 = 3;
/// Digits at least and at most.
const DIGITS: (i32, i32) = (2, 5);

/// A figure, and the two ends of its interval in the same digits; their texts are empty where there is none.
pub fn measured(key: &str, value: f64, interval: Option<[f64; 2]>) -> [Figure; 3] {
    let digits = digits(value, interval);
    let end = |key: &str, i: usize| Figure {
        key: key.into(),
        text: interval.map_or_else(String::new, |ends| text(ends[i], value, digits)),
        full: serde_json::json!(interval.map(|ends| ends[i])).to_string(),
    };
    [
        figure(key, value, interval),
        end("interval_low", 0),
        end("interval_high", 1),
    ]
}

/// A figure alone, in the digits that its interval carries.
pub fn figure(key: &str, value: f64, interval: Option<[f64; 2]>) -> Figure {
    Figure {
        key: key.into(),
        text: rounded(value, interval),
        full: serde_json::json!(value).to_string(),
    }
}

/// A value in the digits that its interval carries.
pub fn rounded(value: f64, interval: Option<[f64; 2]>) -> String {
    text(value, value, digits(value, interval))
}

/// A value with its interval where there is one: `2.5 [2.4, 2.7]`.
pub fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    let [value, low, high] = measured("", value, interval).map(|f| f.text);
    match interval {
        Some(_) => format!("{value} [{low}, {high}]"),
        None => value,
    }
}

/// A part in percent, without zeros at its end: `5 %`.
pub fn percent(part: f64) -> String {
    let text = rounded(100.0 * part, None);
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} %")
}

/// A rate at the two ends of the interval of the time that it was measured in.
pub fn rate_interval(speed: &Speed, rate: f64) -> Option<[f64; 2]> {
    let [low, high] = speed.interval_s?;
    Some([rate * speed.median_s / high, rate * speed.median_s / low])
}

/// A rate in the digits that its time's interval carries.
pub fn rate(speed: &Speed, rate: f64) -> String {
    rounded(rate, rate_interval(speed, rate))
}

/// The median in milliseconds, and its deviation to the same place.
pub fn milliseconds(speed: &Speed) -> [String; 2] {
    let ms = 1e3 * speed.median_s;
    let digits = digits(ms, speed.interval_s.map(|ends| ends.map(|s| 1e3 * s)));
    [ms, 1e3 * speed.mad_s].map(|v| text(v, ms, digits))
}

/// Exponent of the first digit.
fn exponent(v: f64) -> i32 {
    v.abs().log10().floor() as i32
}

/// Digits of a value of which the last is the first that its interval leaves open.
fn digits(value: f64, interval: Option<[f64; 2]>) -> i32 {
    let width = interval.map(|[low, high]| high - low);
    match width.filter(|w| w.is_finite() && *w > 0.0) {
        Some(width) => (exponent(value) - exponent(width) + 1).clamp(DIGITS.0, DIGITS.1),
        None => WITHOUT,
    }
}

/// `v` to the last digit that `like` has when it is written in so many.
fn text(v: f64, like: f64, digits: i32) -> String {
    if !v.is_finite() {
        return "NaN".into();
    }
    if v == 0.0 || like == 0.0 {
        return if v == 0.0 {
            "0".into()
        } else {
            format!("{v:.1e}")
        };
    }
    // The place of the last digit.
    let last = exponent(like) - digits + 1;
    let to_last = |v: f64| (v / 10f64.powi(last)).round() * 10f64.powi(last);
    if (1e-3..1e6).contains(&like.abs()) {
        let decimals = (-last).max(0) as usize;
        format!("{:.decimals$}", to_last(v))
    } else {
        let decimals = (exponent(v) - last).max(0) as usize;
        format!("{v:.decimals$e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_digit_is_the_first_that_the_interval_leaves_open() {
        for (value, interval, want) in [
            (42.064_58, Some([38.0, 46.4]), "42"),
            (42.064_58, Some([42.0, 42.3]), "42.1"),
            (42.064_58, Some([10.0, 90.0]), "42"),
            (42.064_58, None, "42.1"),
            (0.000_012_345, Some([0.000_012_1, 0.000_012_6]), "1.23e-5"),
            (1_234_567_890.0, Some([1.2e9, 1.3e9]), "1.2e9"),
            (1234.0, Some([900.0, 1600.0]), "1200"),
            (1.0, Some([1.0, 1.0]), "1.00"),
            (0.0, None, "0"),
            (f64::NAN, None, "NaN"),
        ] {
            assert_eq!(rounded(value, interval), want, "{value} {interval:?}");
        }
    }

    #[test]
    fn the_ends_have_the_digits_of_the_value() {
        let texts = measured("v", 0.0421, Some([0.009, 0.11])).map(|f| f.text);
        assert_eq!(texts, ["0.042", "0.009", "0.110"]);
        let texts = measured("v", 1.2e-5, Some([9.1e-6, 1.31e-5])).map(|f| f.text);
        assert_eq!(texts, ["1.2e-5", "9e-6", "1.3e-5"]);
        let [_, low, high] = measured("v", 2.0, None);
        assert_eq!([&*low.text, &*low.full, &*high.text], ["", "null", ""]);
        assert_eq!(with_interval(2.5, Some([2.4, 2.71])), "2.5 [2.4, 2.7]");
        assert_eq!(with_interval(2.5, None), "2.50");
    }

    #[test]
    fn percents_have_no_zeros_at_their_end() {
        let texts = [0.05, 0.125, 1.0, 0.0].map(percent);
        assert_eq!(texts, ["5 %", "12.5 %", "100 %", "0 %"]);
    }
}
