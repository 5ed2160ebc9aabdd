//! Figures in words: no more digits than one reads.

/// `v` with so many decimals; in scientific notation where it has more than six digits before them, or only zeros.
pub(crate) fn fixed(v: f64, decimals: usize) -> String {
    match v == 0.0 || !v.is_finite() || (1e-4..1e6).contains(&v.abs()) {
        true => format!("{v:.decimals$}"),
        false => format!("{v:.3e}"),
    }
}

/// A value in full: the shortest text that gives it back.
pub(crate) fn shortest(v: f32) -> String {
    match v == 0.0 || !v.is_finite() || (1e-4..1e6).contains(&v.abs()) {
        true => v.to_string(),
        false => format!("{v:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_figures_have_an_exponent() {
        for (v, wanted) in [
            (0.0, "0.00"),
            (1.0, "1.00"),
            (999_999.0, "999999.00"),
            (-1.5e38, "-1.500e38"),
            (2e-9, "2.000e-9"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(fixed(v, 2), wanted);
        }
        let values = [0.0, 9.5, -3.25e38, 1e6, 2.5e-7, f32::NAN].map(shortest);
        assert_eq!(values, ["0", "9.5", "-3.25e38", "1e6", "2.5e-7", "NaN"]);
    }
}
