//! A verdict in words, in the manner of `torch.testing.assert_close`.

use crate::verdict::{Element, Verdict};
use tq4::record::GateName;

/// A figure with as many digits as f32 tells apart.
fn figure(v: f64) -> String {
    (v as f32).to_string()
}

/// An element with what it must be.
pub fn element(e: &Element) -> String {
    let allowed = match e.allowed {
        None => String::new(),
        Some((low, high)) if low == high => ", which alone is allowed".into(),
        Some((low, high)) => format!(", allowed {} to {}", figure(low), figure(high)),
    };
    let got = if e.got.is_nan() {
        "NaN or infinity".into()
    } else {
        figure(e.got)
    };
    let ((row, column), expected) = (e.index, figure(e.expected));
    format!("index ({row}, {column}): got {got}, expected {expected}{allowed}")
}

/// What became of an array, with the figures where it failed.
pub fn verdict(v: &Verdict) -> String {
    let (start, stop) = v.rows();
    let what = format!(
        "{} of {}, rows {start}..{stop}",
        v.dtype(),
        tq4::error::printable(v.name())
    );
    if v.passed() {
        return format!("{what}: {} ({})", v.verdict(), v.reason());
    }
    let mut lines = vec![
        format!("{what}: these are not the values that TQ4 stands for."),
        String::new(),
    ];
    lines.push(mismatched(v));
    if let Some(e) = &v.greatest {
        let difference = (e.got - e.expected).abs();
        lines.push(format!(
            "Greatest absolute difference: {} at {}",
            figure(difference),
            element(e)
        ));
    }
    if let Some(e) = v.worst.as_ref().filter(|e| e.allowed.is_some()) {
        lines.push(format!("Furthest outside what is allowed: {}", element(e)));
    }
    lines.push(format!(
        "RMSE over RMS of the reference: {}{}; cosine: {}",
        figure(v.rmse_ratio()),
        limit(v),
        figure(v.cosine())
    ));
    if v.tolerance.is_some() {
        lines.push(format!("Tolerance: {}", v.reason()));
    }
    lines.push(match (v.fault(), v.advice()) {
        // Other names of the same function are in the evidence.
        (Some(fault), Some(advice)) => match v.diagnosis().and_then(same_as) {
            Some(same) => format!("Fault: {fault}: {advice}; {same}"),
            None => format!("Fault: {fault}: {advice}"),
        },
        _ => format!("Fault: {}", v.diagnosis().unwrap_or("none that is known")),
    });
    lines.join("\n")
}

/// The part of a diagnosis that names what cannot be told from the fault on this tensor.
fn same_as(diagnosis: &str) -> Option<&str> {
    let from = &diagnosis[diagnosis.find("on this tensor the same as ")?..];
    from.split(';').next()
}

/// How many elements are wrong, or what is where every one is allowed by itself.
fn mismatched(v: &Verdict) -> String {
    let n = v.elements();
    let share = |count: u64| match 100.0 * count as f64 / n as f64 {
        percent if percent < 0.1 => format!("{count} / {n} (under 0.1%)"),
        percent => format!("{count} / {n} ({percent:.1}%)"),
    };
    if v.mismatched() > 0 {
        return format!("Mismatched elements: {}", share(v.mismatched()));
    }
    format!(
        "Mismatched elements: {}, each of which a correct kernel may return, but not all of them",
        share(v.unequal())
    )
}

/// The limit of the error, where there is one.
fn limit(v: &Verdict) -> String {
    let of_rmse = |name| matches!(name, GateName::RmseRatio | GateName::ToleranceRmse);
    let gate = v.decision.gates.iter().find(|g| of_rmse(g.name));
    gate.map_or_else(String::new, |g| {
        format!(" (up to {} is allowed)", figure(g.limit))
    })
}
