//! From a wrong output to the fault that explains it.

use super::{Fault, emulate};
use crate::metrics::bf16_steps;
use crate::reference;
use crate::tensor::TqTensor;
use half::bf16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows that every fault is tried on.
const SAMPLE_ROWS: usize = 8;
/// Elements decoded at a time in a pass over the whole tensor: it bounds memory.
const STRIP: usize = 1 << 20;
/// Share of the elements that an explanation must match bit for bit, over all and over the wrong ones;
/// the rest lie within one BF16 step (the last-bit rule).
const EXPLAINED: f64 = 0.999;

/// A fault by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Name in the catalogue.
    pub name: String,
    /// What is wrong and where to look.
    pub advice: String,
}

/// The element that is furthest off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Row within the compared rows.
    pub row: usize,
    /// Column.
    pub col: usize,
    /// Its code.
    pub code: u8,
    /// The centroid that the code stands for.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub centroid: f32,
    /// Scale of its group.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub scale: f32,
    /// Sign of its column.
    pub sign: i8,
    /// The rounded reference.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub expected: f32,
    /// What the lane returned; null when it is NaN.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub got: f32,
}

/// Why an output differs from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The lane or recording.
    pub lane: String,
    /// Whether `faults` explain the output.
    pub explained: bool,
    /// One fault, or two together; empty when none explains it.
    pub faults: Vec<Named>,
    /// Faults that are the same function on this tensor.
    pub equivalent: Vec<String>,
    /// One line with the evidence.
    pub evidence: String,
    /// Elements in all.
    pub elements: u64,
    /// Elements that differ from the rounded reference.
    pub wrong: u64,
    /// Rows with a wrong element.
    pub wrong_rows: u64,
    /// First row with a wrong element.
    pub first_row: usize,
    /// First group of that row with one.
    pub first_group: usize,
    /// Positions within the group at which any group is wrong.
    pub wrong_positions: usize,
    /// The element that is furthest off.
    pub worst: Worst,
}

impl Diagnosis {
    /// One line: the fault with its evidence, or where the error is.
    pub fn summary(&self) -> String {
        format!("diagnosis of {}: {}", self.lane, self.evidence)
    }
}

/// Where the output differs from the reference.
struct Survey {
    wrong_per_row: Vec<u32>,
    positions: Vec<bool>,
    worst: (usize, f32),
}

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

    fn explains(&self) -> bool {
        self.near == self.elements
            && self.exact as f64 >= EXPLAINED * self.elements as f64
            && self.wrong_exact as f64 >= EXPLAINED * self.wrong as f64
    }
}

/// Diagnoses `got`, the output of `lane` for `tensor`, row-major; `None` when it equals the reference.
///
/// # Panics
/// When `got` does not hold `rows * cols` elements.
pub fn diagnose(lane: &str, tensor: &TqTensor<'_>, got: &[bf16]) -> Option<Diagnosis> {
    assert_eq!(got.len(), tensor.elements(), "one output per element");
    let survey = survey(tensor, got);
    let wrong: u64 = survey.wrong_per_row.iter().map(|w| u64::from(*w)).sum();
    if wrong == 0 {
        return None;
    }
    let rows = sample(&survey.wrong_per_row);
    let stages = tensor.layout().group_size().trailing_zeros();
    let mut catalogue = Fault::catalogue(tensor);
    if let Some(fitted) = fit_sign_mask(tensor, got, &rows)
        && !catalogue.contains(&fitted)
    {
        catalogue.push(fitted);
    }
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
    let confirmed =
        |faults: &[Fault]| explains(faults, &rows) && match_all(tensor, got, faults).explains();
    let singles: Vec<Vec<Fault>> = catalogue.par_iter().map(|f| vec![*f]).collect();
    let mut found: Vec<Vec<Fault>> = singles
        .into_par_iter()
        .filter(|f| explains(f, &rows))
        .collect();
    found.retain(|f| confirmed(f));
    if found.is_empty() {
        let pairs: Vec<Vec<Fault>> = (0..catalogue.len())
            .flat_map(|a| (a + 1..catalogue.len()).map(move |b| (a, b)))
            .map(|(a, b)| vec![catalogue[a], catalogue[b]])
            .collect();
        // One row first: it refutes nearly every pair.
        found = pairs
            .into_par_iter()
            .filter(|f| explains(f, &rows[..1]))
            .collect();
        found.retain(|f| confirmed(f));
    }
    let name = |faults: &[Fault]| -> String {
        faults
            .iter()
            .map(|f| f.name(stages))
            .collect::<Vec<_>>()
            .join(" + ")
    };
    let first_row = survey
        .wrong_per_row
        .iter()
        .position(|w| *w > 0)
        .expect("an element is wrong");
    let first_group = first_wrong_group(tensor, got, first_row);
    let worst = worst(tensor, got, survey.worst.0);
    let wrong_positions = survey.positions.iter().filter(|p| **p).count();
    let wrong_rows = survey.wrong_per_row.iter().filter(|w| **w > 0).count() as u64;
    let evidence = match found.first() {
        Some(faults) => {
            let m = match_all(tensor, got, faults);
            format!(
                "{}: explains {} of {} elements bit for bit; {}",
                name(faults),
                m.exact,
                m.elements,
                faults
                    .iter()
                    .map(|f| f.advice())
                    .collect::<Vec<_>>()
                    .join("; ")
            )
        }
        None => format!(
            "unexplained: {wrong} of {} elements differ, in {wrong_rows} of {} rows, at {wrong_positions} of {} \
             positions in the group; the first in row {first_row}, group {first_group}; the worst at row {}, \
             column {} (code {}, centroid {}, scale {}, sign {}): expected {}, got {}",
            tensor.elements(),
            tensor.rows(),
            tensor.layout().group_size(),
            worst.row,
            worst.col,
            worst.code,
            worst.centroid,
            worst.scale,
            worst.sign,
            worst.expected,
            worst.got
        ),
    };
    Some(Diagnosis {
        lane: lane.to_owned(),
        explained: !found.is_empty(),
        faults: found
            .first()
            .into_iter()
            .flatten()
            .map(|f| Named {
                name: f.name(stages),
                advice: f.advice().to_owned(),
            })
            .collect(),
        equivalent: found.iter().skip(1).map(|f| name(f)).collect(),
        evidence,
        elements: tensor.elements() as u64,
        wrong,
        wrong_rows,
        first_row,
        first_group,
        wrong_positions,
        worst,
    })
}

/// The rounded reference of some rows.
fn correct(tensor: &TqTensor<'_>, first: usize, count: usize) -> Vec<bf16> {
    let rows = tensor
        .slice_rows(first..first + count)
        .expect("rows of this tensor");
    let mut out = vec![bf16::ZERO; rows.elements()];
    reference::dequantize_bf16_into(&rows, &mut out);
    out
}

/// Rows in strips of bounded size.
fn strips(tensor: &TqTensor<'_>) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rows, step) = (tensor.rows(), (STRIP / tensor.cols()).max(1));
    (0..rows)
        .step_by(step)
        .map(move |first| (first, step.min(rows - first)))
}

fn survey(tensor: &TqTensor<'_>, got: &[bf16]) -> Survey {
    let (cols, n) = (tensor.cols(), tensor.layout().group_size());
    let mut s = Survey {
        wrong_per_row: Vec::with_capacity(tensor.rows()),
        positions: vec![false; n],
        worst: (0, -1.0),
    };
    for (first, count) in strips(tensor) {
        let expected = correct(tensor, first, count);
        for (i, e) in expected.iter().enumerate() {
            if i % cols == 0 {
                s.wrong_per_row.push(0);
            }
            let at = first * cols + i;
            let g = got[at];
            if bf16_steps(g, *e) == 0 {
                continue;
            }
            *s.wrong_per_row.last_mut().expect("pushed above") += 1;
            s.positions[at % n] = true;
            let diff = (g.to_f32() - e.to_f32()).abs();
            let diff = if diff.is_nan() { f32::INFINITY } else { diff };
            if diff > s.worst.1 {
                s.worst = (at, diff);
            }
        }
    }
    s
}

/// The worst rows, the first wrong one, and the ends and middle of the tensor.
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
    tensor: &TqTensor<'_>,
    got: &[bf16],
    faults: &[Fault],
    first: usize,
    count: usize,
) -> Match {
    let cols = tensor.cols();
    let mut emulated = vec![bf16::ZERO; count * cols];
    emulate(tensor, faults, first, &mut emulated);
    let got = &got[first * cols..(first + count) * cols];
    Match::of(got, &emulated, &correct(tensor, first, count))
}

fn match_all(tensor: &TqTensor<'_>, got: &[bf16], faults: &[Fault]) -> Match {
    let mut all = Match::default();
    for (first, count) in strips(tensor) {
        all = all.add(match_rows(tensor, got, faults, first, count));
        if all.near != all.elements {
            break;
        }
    }
    all
}

/// Fits the stages whose upper lane has the other sign: flipping stage s flips every element with bit s
/// set in its index and nothing else, so the elements at 1, 2, 4, ... tell each stage by itself.
fn fit_sign_mask(tensor: &TqTensor<'_>, got: &[bf16], rows: &[usize]) -> Option<Fault> {
    let (cols, n) = (tensor.cols(), tensor.layout().group_size());
    let mut votes = vec![0i64; n.trailing_zeros() as usize];
    for row in rows {
        let expected = correct(tensor, *row, 1);
        let got = &got[row * cols..(row + 1) * cols];
        for (g, e) in got.chunks_exact(n).zip(expected.chunks_exact(n)) {
            for (s, votes) in votes.iter_mut().enumerate() {
                let (g, e) = (g[1 << s].to_f32(), e[1 << s].to_f32());
                if g != 0.0 && e != 0.0 {
                    *votes += if (g < 0.0) == (e < 0.0) { -1 } else { 1 };
                }
            }
        }
    }
    let mask = votes
        .iter()
        .enumerate()
        .filter(|(_, v)| **v > 0)
        .fold(0, |m, (s, _)| m | 1u32 << s);
    (mask != 0).then_some(Fault::UpperLaneSign(mask))
}

fn first_wrong_group(tensor: &TqTensor<'_>, got: &[bf16], row: usize) -> usize {
    let cols = tensor.cols();
    correct(tensor, row, 1)
        .iter()
        .zip(&got[row * cols..])
        .position(|(e, g)| bf16_steps(*g, *e) != 0)
        .unwrap_or(0)
        / tensor.layout().group_size()
}

fn worst(tensor: &TqTensor<'_>, got: &[bf16], at: usize) -> Worst {
    let (row, col) = (at / tensor.cols(), at % tensor.cols());
    let code = tensor.code(row, col);
    let group = row * tensor.groups_per_row() + col / tensor.layout().group_size();
    Worst {
        row,
        col,
        code,
        centroid: tensor.codebook().centroids()[code as usize],
        scale: tensor.scales()[group].to_f32(),
        sign: tensor.signs()[col],
        expected: correct(tensor, row, 1)[col].to_f32(),
        got: got[at].to_f32(),
    }
}
