//! How well an emulated fault matches an output.

use super::Fault;
use super::output::Got;
use super::pipeline::{FaultyElement, Pipeline};
use super::sets::Sets;
use super::survey::{Survey, strips};
use crate::allowed::Allowed;
use crate::record::OutputType;
use crate::tensor::TqTensor;
use rayon::prelude::*;

/// Share that the closest fault reproduces at least.
const NEARLY: f64 = 0.9;

/// How well an emulation matches.
#[derive(Default, Clone, Copy)]
pub(super) struct Match {
    pub(super) elements: u64,
    /// Elements that are the emulation's, and those that some evaluation of the fault gives.
    pub(super) exact: u64,
    within: u64,
    wrong: u64,
    /// Wrong elements that some evaluation of the fault gives.
    pub(super) accounted: u64,
}

impl Match {
    fn add(self, b: Self) -> Self {
        Self {
            elements: self.elements + b.elements,
            exact: self.exact + b.exact,
            within: self.within + b.within,
            wrong: self.wrong + b.wrong,
            accounted: self.accounted + b.accounted,
        }
    }

    fn nearly(&self) -> bool {
        let most = |part: u64, of: u64| part as f64 >= NEARLY * of as f64;
        most(self.within, self.elements) && most(self.accounted, self.wrong)
    }
}

/// A row on which faults are tried, with what a correct kernel may return for it.
struct Tried {
    row: usize,
    got: Vec<f32>,
    allowed: Vec<Allowed>,
}

/// An output, and what is tried on it.
pub(super) struct Matcher<'a> {
    pub(super) tensor: &'a TqTensor,
    got: Got<'a>,
    survey: &'a Survey,
    tried: Vec<Tried>,
}

/// Whether an element is the emulation's, and whether some evaluation of the fault gives it.
fn fits(p: &Pipeline<'_>, to: OutputType, e: FaultyElement, got: f32, col: usize) -> (bool, bool) {
    if e.fills() {
        let same = e.value.to_bits() == got.to_bits();
        return (same, same);
    }
    if !e.value.is_finite() || got.is_nan() {
        let same = if e.value.is_nan() {
            super::output::nan(got)
        } else {
            e.value == got
        };
        return (same, same);
    }
    let (v, bound) = (f64::from(e.value), f64::from(e.bound));
    let round = |v| p.rounding.round(to, v, col);
    let exact = round(v) == got;
    (
        exact,
        exact || (round(v - bound)..=round(v + bound)).contains(&got),
    )
}

impl<'a> Matcher<'a> {
    pub(super) fn new(
        tensor: &'a TqTensor,
        got: Got<'a>,
        survey: &'a Survey,
        rows: &[usize],
    ) -> Self {
        let sets = Sets::new(tensor, got.of());
        let tried = |row: &usize| Tried {
            row: *row,
            got: got.row(*row),
            allowed: (0..tensor.groups_per_row())
                .flat_map(|g| sets.of_group(*row, g))
                .collect(),
        };
        Self {
            tensor,
            got,
            survey,
            tried: rows.iter().map(tried).collect(),
        }
    }

    /// Whether faults may explain the output, as far as the tried rows tell. What no correct kernel could
    /// be told from explains nothing.
    pub(super) fn survives(&self, faults: &[Fault]) -> bool {
        let p = Pipeline::with(self.tensor, faults);
        let to = self.got.of();
        let mut part = vec![FaultyElement::default(); p.span()];
        let mut differs = self.survey.inside;
        for t in &self.tried {
            for start in (0..t.got.len()).step_by(p.span()) {
                p.part(t.row, start, &mut part);
                for (e, col) in part.iter().zip(start..self.got.width()) {
                    let (exact, within) = fits(&p, to, *e, t.got[col], col);
                    // Inside the allowed sets only the fault's own last bits tell it from rounding.
                    if !(if self.survey.inside { exact } else { within }) {
                        return false;
                    }
                    let value = p.rounding.round(to, e.value.into(), col);
                    differs = differs || !t.allowed[col].contains(value.into());
                }
            }
        }
        differs
    }

    /// How faults match the tried rows.
    fn tried(&self, faults: &[Fault]) -> Match {
        let p = Pipeline::with(self.tensor, faults);
        let rows = self.tried.iter().map(|t| self.rows(&p, t.row, 1));
        rows.fold(Match::default(), Match::add)
    }

    fn rows(&self, p: &Pipeline<'_>, first: usize, count: usize) -> Match {
        let (cols, to) = (self.tensor.cols(), self.got.of());
        let mut emulated = vec![FaultyElement::default(); count * cols];
        p.rows(first, &mut emulated);
        let row = |(i, emulated): (usize, &[FaultyElement])| {
            let row = first + i;
            let mut m = Match::default();
            for (col, e) in emulated[..self.got.width()].iter().enumerate() {
                let got = self.got.get(row * cols + col);
                let (exact, within) = fits(p, to, *e, got, col);
                let wrong = self.survey.wrong_at(row, col);
                m.elements += 1;
                m.exact += u64::from(exact);
                m.within += u64::from(within);
                m.wrong += u64::from(wrong);
                m.accounted += u64::from(wrong && within);
            }
            m
        };
        emulated
            .par_chunks(cols)
            .enumerate()
            .map(row)
            .reduce(Match::default, Match::add)
    }

    /// How faults match every element; `None` when they do not explain the output.
    pub(super) fn explains(&self, faults: &[Fault]) -> Option<Match> {
        let p = Pipeline::with(self.tensor, faults);
        let mut all = Match::default();
        for (first, count) in strips(self.tensor) {
            all = all.add(self.rows(&p, first, count));
            let explained = if self.survey.inside {
                all.exact
            } else {
                all.within
            };
            if explained != all.elements {
                return None;
            }
        }
        Some(all)
    }

    /// How faults match every element.
    fn all(&self, faults: &[Fault]) -> Match {
        let p = Pipeline::with(self.tensor, faults);
        strips(self.tensor)
            .map(|(first, count)| self.rows(&p, first, count))
            .fold(Match::default(), Match::add)
    }

    /// The single fault that reproduces most, where that is [`NEARLY`] all of the elements and of the wrong
    /// ones, and more than a correct kernel does.
    pub(super) fn closest(&self, faults: &[Fault]) -> Option<(Fault, Match)> {
        let correct = self.tried(&[]);
        let matches: Vec<Match> = faults.par_iter().map(|f| self.tried(&[*f])).collect();
        let (fault, _) = faults
            .iter()
            .zip(matches)
            .filter(|(_, m)| m.nearly() && m.exact > correct.exact)
            // The first of equals: the plainest.
            .rev()
            .max_by_key(|(_, m)| m.exact)?;
        let all = self.all(&[*fault]);
        (all.nearly() && all.exact > self.all(&[]).exact).then_some((*fault, all))
    }
}
