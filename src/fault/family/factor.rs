//! Right values times a constant, and right magnitudes with wrong signs.

use super::place::within;
use super::{By, Family, View, WrongGroup};
use crate::decimal::fixed;
use crate::fault::survey::step;
use crate::record::OutputType;
use std::collections::BTreeMap;

/// Wrong elements to a constant, at least, and in all: with fewer, anything fits.
const TO_A_CONSTANT: usize = 4;
const IN_ALL: u64 = 64;
/// Standard errors that a constant is off 1, at least.
const ERRORS: f64 = 5.0;
/// What a constant must be off 1 by, whatever its standard error: an f32 has no finer steps to tell.
const LEAST: f64 = 1.0 / 4_194_304.0;

/// Every way to give out constants, fewest first.
const WAYS: [By; 6] = [
    By::Overall,
    By::Row,
    By::GroupOfRow,
    By::Group,
    By::Position,
    By::Column,
];

/// What is summed for one constant.
#[derive(Default)]
struct FactorSums {
    both: f64,
    expected: f64,
    got: f64,
}

impl FactorSums {
    fn factor(&self) -> f64 {
        self.both / self.expected
    }

    fn left(&self) -> f64 {
        (self.got - self.both * self.both / self.expected).max(0.0)
    }
}

/// One constant each for what is wrong, by least squares; every group counts the same.
struct Fit {
    by: By,
    sums: Vec<FactorSums>,
    elements: usize,
}

impl Fit {
    /// `None` where there is too little to tell the constants from, or something is no multiple at all.
    fn new(view: &View<'_>, by: By, of: fn(&WrongGroup) -> &[f32]) -> Option<Self> {
        let mut sums: BTreeMap<(usize, usize), FactorSums> = BTreeMap::new();
        let (mut wrong, mut elements) = (0, 0);
        for w in &view.wrong {
            let square: f64 = of(w).iter().map(|e| f64::from(*e).powi(2)).sum();
            if square == 0.0 {
                return None;
            }
            let scale = (view.n() as f64 / square).sqrt();
            for (i, (g, e)) in w.got.iter().zip(of(w)).enumerate() {
                let key = match by {
                    By::Overall => (0, 0),
                    By::Row => (w.row, 0),
                    By::GroupOfRow => (w.group, 0),
                    By::Group => (w.row, w.group),
                    By::Position => (i, 0),
                    By::Column | By::Element => (w.group * view.n() + i, 0),
                };
                let (g, e) = (f64::from(*g) * scale, f64::from(*e) * scale);
                let s = sums.entry(key).or_default();
                s.both += g * e;
                s.expected += e * e;
                s.got += g * g;
            }
            wrong += w.wrong;
            elements += view.n();
        }
        sums.retain(|_, s| s.expected > 0.0);
        let enough = wrong >= TO_A_CONSTANT * sums.len() && view.survey.wrong >= IN_ALL;
        (enough && !sums.is_empty()).then(|| Self {
            by,
            sums: sums.into_values().collect(),
            elements,
        })
    }

    fn left(&self) -> f64 {
        self.sums.iter().map(FactorSums::left).sum()
    }

    /// rms of what is left over, as a share of the output.
    fn residual(&self) -> f64 {
        let got: f64 = self.sums.iter().map(|s| s.got).sum();
        (self.left() / got).sqrt()
    }

    fn ends(&self) -> (f64, f64) {
        let factors = self.sums.iter().map(FactorSums::factor);
        factors.fold((f64::MAX, f64::MIN), |(low, high), f| {
            (low.min(f), high.max(f))
        })
    }

    /// Mean square of an error as a constant sees it, not less than a share of what rounding makes: sums end
    /// somewhere.
    fn variance(&self, rounding: Noise) -> f64 {
        let free = self.elements.saturating_sub(self.sums.len()).max(1);
        (self.left() / free as f64).max(0.01 * rounding.mean) * rounding.uneven
    }

    /// Whether the constants leave no more over than rounding does, of the given mean square.
    fn fits(&self, rounding: f64) -> bool {
        // The square of a rounding error spreads by sqrt(0.8) of its mean.
        let spread = (0.2 / self.elements as f64).sqrt();
        let most = rounding * (1.01 + 2.0 * spread).powi(2);
        self.left() / (self.elements as f64) <= most
    }

    /// Whether the constants are off 1 by more than errors of this mean square make them.
    fn tells(&self, variance: f64) -> bool {
        let off = |s: &FactorSums| (s.factor() - 1.0).powi(2) * s.expected / variance;
        let (least, largest) = self.ends();
        (least - 1.0).abs().max((largest - 1.0).abs()) > LEAST
            && beyond(self.sums.iter().map(off).sum(), self.sums.len())
    }

    /// Whether this fit leaves so much less over than `other` that its further constants are none by chance.
    fn better(&self, other: &Self, rounding: Noise) -> bool {
        let gained = (other.left() - self.left()) / self.variance(rounding);
        self.sums.len() > other.sums.len() && beyond(gained, self.sums.len() - other.sums.len())
    }
}

/// Whether the sum of `count` squares, each in units of its variance, is no chance: for one, it is that of
/// [`ERRORS`] standard errors.
fn beyond(sum: f64, count: usize) -> bool {
    let count = count as f64;
    sum >= count + (ERRORS * ERRORS - 1.0) * count.sqrt()
}

/// The rounding to the output's type, each group in units of its rms.
#[derive(Clone, Copy)]
struct Noise {
    mean: f64,
    /// Mean square where each element counts as much as it does for a constant, over `mean`: large values,
    /// which tell most, are rounded most.
    uneven: f64,
}

impl Noise {
    fn new(view: &View<'_>, of: fn(&WrongGroup) -> &[f32]) -> Self {
        let (mut plain, mut weighted, mut elements) = (0.0, 0.0, 0);
        for w in &view.wrong {
            let square: f64 = of(w).iter().map(|e| f64::from(*e).powi(2)).sum();
            let mean = square / view.n() as f64;
            for (g, e) in w.got.iter().zip(of(w)) {
                let step = match view.got.of() {
                    OutputType::Bf16 => spacing(*g, 7, -126),
                    OutputType::F16 => spacing(*g, 10, -14),
                    OutputType::F32 => f64::from(step(OutputType::F32)) * mean.sqrt(),
                };
                let square = step * step / 12.0 / mean;
                plain += square;
                weighted += square * f64::from(*e).powi(2) / mean;
            }
            elements += view.n();
        }
        Self {
            mean: plain / elements as f64,
            uneven: weighted / plain,
        }
    }
}

/// From a value to the next of its type.
fn spacing(v: f32, mantissa: i32, least: i32) -> f64 {
    let exponent = (v.to_bits() >> 23 & 0xFF) as i32 - 127;
    2f64.powi(exponent.max(least) - mantissa)
}

/// A constant in no more digits than it takes: what is cut off is less than what it leaves over, and than what it
/// is off 1 by.
pub(super) fn text(factor: f64, residual: f64) -> String {
    let enough = (0.1 * residual * factor.abs()).min(0.05 * (factor - 1.0).abs());
    let enough = enough.max(1e-6 * factor.abs());
    let mut texts = (0..6).map(|decimals| fixed(factor, decimals));
    let near = |text: &String| (text.parse().unwrap_or(f64::NAN) - factor).abs() <= enough;
    texts.find(near).unwrap_or_else(|| fixed(factor, 6))
}

/// The least number of constants that leaves no more over than rounding does, of the reference before it
/// was rounded or after.
pub(super) fn find(view: &View<'_>) -> Option<Family> {
    let bases: [fn(&WrongGroup) -> &[f32]; 2] = [|w| &w.reference, |w| &w.expected];
    bases.into_iter().find_map(|of| {
        let rounding = Noise::new(view, of);
        let mut best: Option<Fit> = None;
        for by in WAYS {
            let Some(fit) = Fit::new(view, by, of).filter(|f| f.fits(rounding.mean)) else {
                continue;
            };
            if best.as_ref().is_none_or(|b| fit.better(b, rounding)) {
                best = Some(fit);
            }
        }
        let fit = best.filter(|f| f.tells(f.variance(rounding)))?;
        let (least, largest) = fit.ends();
        // Constants of -1 are signs.
        let unit = |f: f64| (f.abs() - 1.0).abs() <= f64::from(step(view.got.of()));
        (least > 0.0 || !unit(least) || !unit(largest)).then(|| Family::Factor {
            by: fit.by,
            least,
            largest,
            residual: fit.residual(),
            within: within(view),
        })
    })
}

/// Right magnitudes with wrong signs.
pub(super) fn signs(view: &View<'_>) -> Option<Family> {
    let step = f64::from(step(view.got.of()));
    let unit = |f: f64| (f.abs() - 1.0).abs() <= step;
    let fit = WAYS.into_iter().find_map(|by| {
        Fit::new(view, by, |w| &w.expected)
            .filter(|f| f.residual() <= step && f.sums.iter().all(|s| unit(s.factor())))
    });
    // Right signs but for values near zero.
    if fit.as_ref().is_some_and(|f| f.ends().0 > 0.0) {
        return None;
    }
    let same = |w: &WrongGroup| {
        let mut both = w.got.iter().zip(&w.expected);
        both.all(|(g, e)| view.close(g.abs(), e.abs()))
    };
    let by = fit
        .map(|f| f.by)
        .or_else(|| view.wrong.iter().all(same).then_some(By::Element))?;
    let both = view
        .wrong
        .iter()
        .flat_map(|w| w.got.iter().zip(&w.expected));
    let flipped = both.clone().filter(|(g, e)| *g * *e < 0.0).count();
    (flipped > 0).then(|| Family::Signs {
        by,
        flipped: flipped as f64 / both.count() as f64,
        within: within(view),
    })
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_constant_has_no_more_digits_than_it_takes() {
        for (factor, residual, wanted) in [
            (2.0, 0.0, "2"),
            (2.000_000_3, 1e-8, "2"),
            (0.999_998_7 * 1.002, 1.7e-3, "1.002"),
            (1.000_03, 1.7e-3, "1.00003"),
            (-0.125, 0.0, "-0.125"),
            (1.0 / 3.0, 0.0, "0.333333"),
            (1.3e38, 0.0, "1.300e38"),
        ] {
            assert_eq!(text(factor, residual), wanted);
        }
    }
}
