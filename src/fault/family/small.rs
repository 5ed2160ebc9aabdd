//! Errors of the size of a rounding.

use super::{Family, View};
use crate::counted::counted;

/// With fewer wrong elements than this, the size of an error tells no type.
const ENOUGH: u64 = 64;

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
        _ if view.survey.inside => "f32 in another order",
        _ => "f32 with more roundings than a transform has",
    };
    let (wrong, all) = (view.survey.wrong, view.tensor.elements() as u64);
    Some(Family::SmallError {
        relative,
        like: (wrong >= ENOUGH).then(|| like.into()),
        wrong: (wrong <= all / 2).then_some(wrong),
    })
}

/// One-sided errors are no rounding to the nearest.
pub(super) fn rounding_words(toward_zero: u64, away: u64) -> String {
    let one_sided = |count: u64, side: &str| {
        format!(
            "{} one step too {side} in magnitude, none too {}: directed rounding, a factor or an offset",
            counted(count, "element"),
            if side == "small" { "large" } else { "small" }
        )
    };
    match (toward_zero, away) {
        (small, 0) if small >= ENOUGH => one_sided(small, "small"),
        (0, large) if large >= ENOUGH => one_sided(large, "large"),
        _ => format!(
            "rounding only: {} one step too small in magnitude, {away} too large",
            counted(toward_zero, "element")
        ),
    }
}

/// Where the errors are, how large, and of what arithmetic that is.
pub(super) fn error_words(relative: f64, like: Option<&str>, wrong: Option<u64>) -> String {
    let place = wrong.map_or_else(
        || "everywhere".into(),
        |w| format!("in {}", counted(w, "element")),
    );
    let like = like.map_or_else(String::new, |like| {
        if like.starts_with("f32") {
            format!(": as of {like}")
        } else {
            format!(": as of {like} inside")
        }
    });
    format!(
        "small errors {place}, {relative:.1e} of the values on average in the groups with one{like}"
    )
}
