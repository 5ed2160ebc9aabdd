//! From a wrong output to the fault that explains it.

use super::diagnosis::{Closest, Diagnosis, Named, Place, Worst};
use super::survey::{Survey, correct, strips};
use super::{Fault, emulate, fit::fit};
use crate::metrics::bf16_steps;
use crate::tensor::TqTensor;
use half::bf16;
use rayon::prelude::*;

/// Rows that every fault is tried on.
const SAMPLE_ROWS: usize = 8;
/// One element in so many may be one BF16 step from the emulation: the last-bit rule of a GPU lane.
const LAST_BIT_ONE_IN: u64 = 1000;
/// From so many wrong elements on, one of them may be.
const ENOUGH_WRONG: u64 = 32;
/// Share that the closest fault reproduces at least.
const NEARLY: f64 = 0.9;

/// How well an emulation matches.
#[derive(Default, Clone, Copy)]
struct Match {
    elements: u64,
    exact: u64,
    near: u64,
    wrong: u64,
    wrong_exact: u64,
}

impl Match {
    fn of(got: &[bf16], emulated: &[bf16], correct: &[bf16]) -> Self {
        let mut m = Self::default();
        for ((g, e), c) in got.iter().zip(emulated).zip(correct) {
            let steps = bf16_steps(*g, *e);
            let wrong = bf16_steps(*g, *c) != 0;
            m.elements += 1;
            m.exact += u64::from(steps == 0);
            m.near += u64::from(steps <= 1);
            m.wrong += u64::from(wrong);
            m.wrong_exact += u64::from(wrong && steps == 0);
        }
        m
    }

    fn add(self, b: Self) -> Self {
        Self {
            elements: self.elements + b.elements,
            exact: self.exact + b.exact,
            near: self.near + b.near,
            wrong: self.wrong + b.wrong,
            wrong_exact: self.wrong_exact + b.wrong_exact,
        }
    }

    /// Every element within one step, and all but a few equal: over all and over the wrong ones.
    fn explains(&self) -> bool {
        let slack = |n: u64| (n / LAST_BIT_ONE_IN).max(u64::from(n >= ENOUGH_WRONG));
        self.near == self.elements
            && self.elements - self.exact <= slack(self.elements)
            && self.wrong - self.wrong_exact <= slack(self.wrong)
    }

    fn nearly(&self) -> bool {
        let most = |part: u64, of: u64| part as f64 >= NEARLY * of as f64;
        most(self.exact, self.elements) && most(self.wrong_exact, self.wrong)
    }
}

/// Diagnoses `got`, the output of `lane` for `tensor`, row-major; `None` when it equals the reference.
///
/// Signatures of the whole output (signs, row order, unwritten ends) give faults with fitted numbers;
/// these and the catalogue are emulated on a few rows, then pairs of them; what survives is confirmed
/// on every element.
///
/// # Panics
/// When `got` does not hold `rows * cols` elements.
pub fn diagnose(lane: &str, tensor: &TqTensor, got: &[bf16]) -> Option<Diagnosis> {
    assert_eq!(got.len(), tensor.elements(), "one output per element");
    let survey = Survey::new(tensor, got);
    let first = survey.first?;
    let rows = sample(&survey.wrong_per_row);
    let candidates = candidates(tensor, got, &survey, &rows);
    let found = search(tensor, got, &candidates, &rows);
    let names = |faults: &[Fault]| -> String {
        let names: Vec<String> = faults.iter().map(|f| f.name()).collect();
        names.join(" + ")
    };
    let expected = |at: usize| correct(tensor, at / tensor.cols(), 1)[at % tensor.cols()];
    let worst = Worst::new(
        tensor,
        survey.worst,
        expected(survey.worst),
        got[survey.worst],
    );
    let place = Place::new(&survey, first, worst, got.len());
    let named = |f: &Fault| Named {
        name: f.name(),
        advice: f.advice(),
    };
    let (faults, reproduced): (Vec<Named>, u64) = match found.first() {
        None => (Vec::new(), 0),
        Some((faults, m)) => (faults.iter().map(named).collect(), m.exact),
    };
    let closest = if faults.is_empty() {
        closest(tensor, got, &candidates, &rows).map(|(fault, m)| Closest {
            fault: named(&fault),
            reproduced: m.exact,
        })
    } else {
        None
    };
    let equivalent: Vec<String> = found.iter().skip(1).map(|(f, _)| names(f)).collect();
    let evidence = if faults.is_empty() {
        Diagnosis::unexplained(&place, &survey.signature, closest.as_ref(), tensor)
    } else {
        Diagnosis::explained_by(&faults, &equivalent, reproduced, place.elements)
    };
    Some(Diagnosis {
        lane: lane.to_owned(),
        explained: !faults.is_empty(),
        faults,
        equivalent,
        reproduced,
        closest,
        evidence,
        signature: survey.signature,
        place,
    })
}

/// The catalogue, and what the output suggests.
fn candidates(tensor: &TqTensor, got: &[bf16], survey: &Survey, rows: &[usize]) -> Vec<Fault> {
    let mut faults = Fault::catalogue(tensor);
    for fitted in fit(tensor, got, survey, rows) {
        if !faults.contains(&fitted) {
            faults.push(fitted);
        }
    }
    faults
}

/// Every single fault that explains the output, or else every pair that does, plainest first.
fn search(
    tensor: &TqTensor,
    got: &[bf16],
    faults: &[Fault],
    rows: &[usize],
) -> Vec<(Vec<Fault>, Match)> {
    let explains = |faults: &[Fault], rows: &[usize]| {
        let mut all = Match::default();
        for row in rows {
            all = all.add(match_rows(tensor, got, faults, *row, 1));
            if all.near != all.elements {
                return false;
            }
        }
        all.explains()
    };
    let confirmed = |candidates: Vec<Vec<Fault>>| -> Vec<(Vec<Fault>, Match)> {
        candidates
            .into_iter()
            .map(|f| (match_all(tensor, got, &f), f))
            .filter(|(m, _)| m.explains())
            .map(|(m, f)| (f, m))
            .collect()
    };
    let singles: Vec<Vec<Fault>> = faults.par_iter().map(|f| vec![*f]).collect();
    let found = confirmed(
        singles
            .into_par_iter()
            .filter(|f| explains(f, rows))
            .collect(),
    );
    if !found.is_empty() {
        return found;
    }
    let pairs: Vec<Vec<Fault>> = (0..faults.len())
        .flat_map(|a| (a + 1..faults.len()).map(move |b| (a, b)))
        .map(|(a, b)| vec![faults[a], faults[b]])
        .collect();
    confirmed(
        pairs
            .into_par_iter()
            // One row first: it refutes nearly every pair.
            .filter(|f| explains(f, &rows[..1]) && explains(f, rows))
            .collect(),
    )
}

/// The single fault that reproduces most, where that is [`NEARLY`] all of the elements and of the wrong
/// ones.
fn closest(
    tensor: &TqTensor,
    got: &[bf16],
    faults: &[Fault],
    rows: &[usize],
) -> Option<(Fault, Match)> {
    let of_rows = |fault: &Fault| -> Match {
        rows.iter()
            .map(|row| match_rows(tensor, got, &[*fault], *row, 1))
            .fold(Match::default(), Match::add)
    };
    let matches: Vec<Match> = faults.par_iter().map(of_rows).collect();
    let (fault, _) = faults
        .iter()
        .zip(matches)
        .filter(|(_, m)| m.nearly())
        // The first of equals: the plainest.
        .rev()
        .max_by_key(|(_, m)| m.exact)?;
    let all = strips(tensor)
        .map(|(first, count)| match_rows(tensor, got, &[*fault], first, count))
        .fold(Match::default(), Match::add);
    all.nearly().then_some((*fault, all))
}

/// The worst rows, and the ends and the middle of the tensor.
fn sample(wrong_per_row: &[u32]) -> Vec<usize> {
    let rows = wrong_per_row.len();
    let mut by_wrong: Vec<usize> = (0..rows).collect();
    by_wrong.sort_by_key(|r| std::cmp::Reverse(wrong_per_row[*r]));
    let mut chosen = Vec::new();
    for row in [by_wrong[0], rows - 1, 0, rows / 2]
        .into_iter()
        .chain(by_wrong.into_iter().skip(1))
    {
        if !chosen.contains(&row) {
            chosen.push(row);
        }
        if chosen.len() == SAMPLE_ROWS {
            break;
        }
    }
    chosen
}

fn match_rows(
    tensor: &TqTensor,
    got: &[bf16],
    faults: &[Fault],
    first: usize,
    count: usize,
) -> Match {
    let cols = tensor.cols();
    let mut emulated = vec![bf16::ZERO; count * cols];
    emulate(tensor, faults, first, &mut emulated);
    let got = &got[first * cols..(first + count) * cols];
    let correct = correct(tensor, first, count);
    got.par_chunks(cols)
        .zip(emulated.par_chunks(cols))
        .zip(correct.par_chunks(cols))
        .map(|((g, e), c)| Match::of(g, e, c))
        .reduce(Match::default, Match::add)
}

fn match_all(tensor: &TqTensor, got: &[bf16], faults: &[Fault]) -> Match {
    let mut all = Match::default();
    for (first, count) in strips(tensor) {
        all = all.add(match_rows(tensor, got, faults, first, count));
        if all.near != all.elements {
            break;
        }
    }
    all
}
