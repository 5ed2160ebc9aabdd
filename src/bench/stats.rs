//! Medians and what is known of them. Nothing here assumes a distribution: times have long tails.

/// Confidence of the intervals that are shown.
pub const CONFIDENCE: f64 = 0.95;

/// The middle value; the mean of the middle two for an even number. NaN for none.
pub fn median(samples: &[f64]) -> f64 {
    let x = sorted(samples);
    match x.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => x[n / 2],
        n => f64::midpoint(x[n / 2 - 1], x[n / 2]),
    }
}

/// Median absolute deviation from the median, unscaled.
pub fn mad(samples: &[f64]) -> f64 {
    let m = median(samples);
    let deviations: Vec<f64> = samples.iter().map(|x| (x - m).abs()).collect();
    median(&deviations)
}

/// Interval that holds the true median with at least the given confidence: two order statistics, chosen
/// by the binomial distribution (David and Nagaraja, Order Statistics, 7.1). `None` when there are too
/// few samples for it: fewer than 6 at 95 %.
pub fn interval(samples: &[f64], confidence: f64) -> Option<[f64; 2]> {
    let n = samples.len();
    let tail = (1.0 - confidence) / 2.0;
    // P(fewer than k of n samples lie below the median), k from 0 on.
    let mut below = 0.0;
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut rank = None;
    for k in 0..n / 2 {
        below += ln_term.exp();
        if below > tail {
            break;
        }
        rank = Some(k);
        ln_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    let x = sorted(samples);
    rank.map(|k| [x[k], x[n - 1 - k]])
}

/// How far the interval reaches from the median, as a part of it.
pub fn relative_width(median: f64, interval: [f64; 2]) -> f64 {
    (median - interval[0]).max(interval[1] - median) / median
}

/// Change of the median from the first third of a series to the last, as a part of the whole median;
/// `None` for fewer than 9 samples, or when it is within three times what samples deviate anyway.
pub fn drift(samples: &[f64]) -> Option<f64> {
    let third = samples.len() / 3;
    if third < 3 {
        return None;
    }
    let change = median(&samples[samples.len() - third..]) - median(&samples[..third]);
    (change.abs() > 3.0 * mad(samples)).then(|| change / median(samples))
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut x = samples.to_vec();
    x.sort_by(f64::total_cmp);
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Rng;
    use proptest::prelude::*;

    #[test]
    fn small_series_by_hand() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(mad(&[1.0, 2.0, 3.0, 4.0, 100.0]), 1.0);
    }

    /// Ranks from the published tables of the sign test at 95 %.
    #[test]
    fn ranks_are_those_of_the_tables() {
        let upto = |n: usize| (1..=n).map(|i| i as f64).collect::<Vec<_>>();
        for n in 0..6 {
            assert_eq!(interval(&upto(n), 0.95), None, "{n}");
        }
        for (n, low, high) in [
            (6, 1, 6),
            (9, 2, 8),
            (10, 2, 9),
            (20, 6, 15),
            (25, 8, 18),
            (50, 18, 33),
            (100, 40, 61),
        ] {
            assert_eq!(
                interval(&upto(n), 0.95),
                Some([f64::from(low), f64::from(high)]),
                "{n}"
            );
        }
        // No underflow where 2^-n is far below the smallest f64.
        let [low, high] = interval(&upto(5000), 0.95).unwrap();
        assert!((2425.0..2436.0).contains(&low) && (2565.0..2577.0).contains(&high));
    }

    /// The promise of a confidence interval, on skewed samples whose true median is known.
    #[test]
    fn intervals_hold_the_true_median_as_often_as_they_say() {
        let mut rng = Rng::new(5);
        for n in [7, 20, 60] {
            let held = (0..2000)
                .filter(|_| {
                    let x: Vec<f64> = (0..n)
                        .map(|_| -(1.0 - f64::from(rng.uniform())).ln())
                        .collect();
                    let [low, high] = interval(&x, 0.95).unwrap();
                    (low..=high).contains(&std::f64::consts::LN_2)
                })
                .count();
            // 2000 draws at 95 %: 1900 on average, standard deviation below 10.
            assert!(held >= 1860, "{held} of 2000 at {n}");
        }
    }

    #[test]
    fn drift_is_seen_and_noise_is_not() {
        let steady: Vec<f64> = (0..30).map(|i| 1.0 + 0.01 * f64::from(i % 3)).collect();
        assert_eq!(drift(&steady), None);
        let throttled: Vec<f64> = (0..30).map(|i| if i < 18 { 1.0 } else { 1.2 }).collect();
        assert!((drift(&throttled).unwrap() - 0.2).abs() < 1e-12);
        let faster: Vec<f64> = throttled.iter().rev().copied().collect();
        assert!(drift(&faster).unwrap() < -0.15);
        assert_eq!(drift(&[1.0, 2.0, 3.0]), None);
    }

    proptest! {
        #[test]
        fn an_interval_lies_around_its_median(
            mut x in prop::collection::vec(1e-6f64..10.0, 6..200),
            scale in 0.1f64..10.0,
        ) {
            let m = median(&x);
            let [low, high] = interval(&x, 0.95).unwrap();
            prop_assert!(low <= m && m <= high);
            prop_assert!(relative_width(m, [low, high]) >= 0.0);
            // A wider confidence never gives a narrower interval.
            if let Some([l, h]) = interval(&x, 0.99) {
                prop_assert!(l <= low && high <= h);
            }
            let scaled: Vec<f64> = x.iter().map(|v| v * scale).collect();
            prop_assert!((median(&scaled) / (m * scale) - 1.0).abs() < 1e-12);
            // The order of rounds does not matter to a median.
            x.reverse();
            prop_assert_eq!(median(&x), m);
            prop_assert_eq!(interval(&x, 0.95), Some([low, high]));
        }
    }
}
