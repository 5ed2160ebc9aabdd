//! Right values times a constant.

use super::{By, Family, View};
use crate::fault::survey::step;
use std::collections::BTreeMap;

/// Elements to a constant, at least: with fewer, anything fits.
const ELEMENTS: usize = 4;

/// What is summed for one constant.
#[derive(Default)]
struct Sums {
    both: f64,
    expected: f64,
    got: f64,
}

/// The least number of constants that leaves no more over than rounding does.
pub(super) fn find(view: &View<'_>) -> Option<Family> {
    let step = f64::from(step(view.got.of()));
    for by in [
        By::Overall,
        By::Row,
        By::GroupOfRow,
        By::Group,
        By::Position,
        By::Column,
    ] {
        let mut sums: BTreeMap<(usize, usize), Sums> = BTreeMap::new();
        let mut elements = 0;
        for w in &view.wrong {
            for (i, (g, e)) in w.got.iter().zip(&w.expected).enumerate() {
                let key = match by {
                    By::Overall => (0, 0),
                    By::Row => (w.row, 0),
                    By::GroupOfRow => (w.group, 0),
                    By::Group => (w.row, w.group),
                    By::Position => (i, 0),
                    By::Column | By::Element => (w.group * view.n() + i, 0),
                };
                let (g, e) = (f64::from(*g), f64::from(*e));
                let s = sums.entry(key).or_default();
                s.both += g * e;
                s.expected += e * e;
                s.got += g * g;
                elements += 1;
            }
        }
        sums.retain(|_, s| s.expected > 0.0);
        if sums.is_empty() || elements < ELEMENTS * sums.len() {
            continue;
        }
        let got: f64 = sums.values().map(|s| s.got).sum();
        let left: f64 = sums
            .values()
            .map(|s| s.got - s.both * s.both / s.expected)
            .sum();
        let residual = (left.max(0.0) / got).sqrt();
        // A NaN among the values leaves a NaN.
        if residual.is_nan() || residual > step {
            continue;
        }
        let factors = sums.values().map(|s| s.both / s.expected);
        let (least, largest) = factors.fold((f64::MAX, f64::MIN), |(low, high), f| {
            (low.min(f), high.max(f))
        });
        let unit = |f: f64| (f.abs() - 1.0).abs() <= step;
        if unit(least) && unit(largest) && least > 0.0 {
            return None;
        }
        if unit(least) && unit(largest) {
            return Some(signs(view, by));
        }
        return Some(Family::Factor {
            by,
            least,
            largest,
            residual,
        });
    }
    let same = |w: &super::WrongGroup| {
        let mut both = w.got.iter().zip(&w.expected);
        both.all(|(g, e)| view.close(g.abs(), e.abs()))
    };
    view.wrong
        .iter()
        .all(same)
        .then(|| signs(view, By::Element))
}

fn signs(view: &View<'_>, by: By) -> Family {
    let both = view
        .wrong
        .iter()
        .flat_map(|w| w.got.iter().zip(&w.expected));
    let flipped = both.clone().filter(|(g, e)| *g * *e < 0.0).count();
    Family::Signs {
        by,
        flipped: flipped as f64 / both.count() as f64,
    }
}
