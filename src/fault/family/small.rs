//! Errors of the size of a rounding.

use super::{Family, View};

/// Largest mean error, as a share of the rms of the values, that is small.
const SMALL: f64 = 1.0 / 32.0;

/// No element is off by more than one step.
pub(super) fn rounding(view: &View<'_>) -> Option<Family> {
    let pairs = || {
        view.wrong
            .iter()
            .flat_map(|w| w.got.iter().zip(&w.expected))
            .filter(|(g, e)| g != e)
    };
    if !pairs().all(|(g, e)| view.close(*g, *e)) {
        return None;
    }
    let groups = view.count(|_, _, expected, got| {
        let mut both = got.iter().zip(expected);
        both.all(|(g, e)| view.close(*g, *e))
    });
    if !view.most(groups) {
        return None;
    }
    let toward_zero = pairs().filter(|(g, e)| g.abs() < e.abs()).count() as u64;
    Some(Family::Rounding {
        toward_zero,
        away: pairs().count() as u64 - toward_zero,
    })
}

/// The output is near the expected one everywhere.
pub(super) fn error(view: &View<'_>) -> Option<Family> {
    let (mut error, mut square, mut elements) = (0.0, 0.0, 0.0);
    for w in &view.wrong {
        let squares = w.expected.iter().map(|e| f64::from(*e).powi(2));
        let rms = (squares.sum::<f64>() / w.expected.len() as f64).sqrt();
        for (g, e) in w.got.iter().zip(&w.expected) {
            let off = f64::from((g - e).abs());
            // One element far off is another kind of error.
            if off.is_nan() || off > rms {
                return None;
            }
            error += off;
            elements += 1.0;
        }
        square += rms;
    }
    // Rounding moves no mean: what is off before it is as much off after it.
    let relative = error / elements / (square / view.wrong.len() as f64);
    let like = match relative {
        r if r > SMALL => return None,
        r if r > 1.0 / 1024.0 => "BF16",
        r if r > 1.0 / 32_768.0 => "F16 or TF32",
        _ => "f32 in another order",
    };
    Some(Family::SmallError {
        relative,
        like: like.into(),
    })
}
