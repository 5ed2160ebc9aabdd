//! From a wrong output to the fault that explains it, or to what kind of error it is.

use super::diagnosis::{Closest, Diagnosis, ErrorSite, Group, NamedFault, Worst};
use super::matching::Matcher;
use super::output::Got;
use super::survey::{Survey, reference};
use super::{Fault, family, fit::fit, search::search};
use crate::lane::Output;
use crate::tensor::TqTensor;

/// Rows that every fault is tried on.
const SAMPLE_ROWS: usize = 8;

/// Diagnoses `output`, what `lane` returned for `tensor`, row-major; `None` when it equals the rounded
/// reference. `launched` says that the output was poisoned here before the kernel ran, so that poison in it
/// is what was not written.
///
/// Signatures of the whole output (signs, row order, ends) give faults with fitted numbers; these and the
/// catalogue are emulated on a few rows, then pairs of them; what survives is confirmed on every element. A
/// fault explains an output when each element is one that the fault gives in some order of f32 arithmetic.
///
/// # Panics
/// When `output` does not hold `rows * cols` elements.
pub fn diagnose(
    lane: &str,
    tensor: &TqTensor,
    output: &Output,
    launched: bool,
) -> Option<Diagnosis> {
    diagnose_width(lane, tensor, output, launched, tensor.cols())
}

/// The same where the first `width` columns of each row are the weight's: what pads them counts for nothing.
///
/// # Panics
/// As [`diagnose`].
pub(crate) fn diagnose_width(
    lane: &str,
    tensor: &TqTensor,
    output: &Output,
    launched: bool,
    width: usize,
) -> Option<Diagnosis> {
    let got = Got::new(output, launched, tensor.cols(), width);
    assert_eq!(got.len(), tensor.elements(), "one output per element");
    let survey = Survey::new(tensor, &got);
    let first = survey.first?;
    let rows = sample(&survey.wrong_per_row);
    let candidates = candidates(tensor, &got, &survey, &rows);
    let matcher = Matcher::new(tensor, got, &survey, &rows);
    // Rounding alone is evidence of little: it is explained by one fault, bit for bit, or by none.
    let found = search(&matcher, &candidates, survey.inside);
    let (row, col) = (survey.worst / tensor.cols(), survey.worst % tensor.cols());
    let expected = got.round(reference(tensor, row, 1)[col]);
    let worst = Worst::new(tensor, survey.worst, expected, got.get(survey.worst));
    let place = ErrorSite::new(&survey, first, worst, tensor);
    let equivalent: Vec<NamedFault> = found
        .iter()
        .skip(1)
        .map(|(f, _)| NamedFault::of(f))
        .collect();
    let mut diagnosis = Diagnosis {
        lane: lane.to_owned(),
        explained: !found.is_empty(),
        faults: Vec::new(),
        equivalent,
        reproduced: 0,
        distinguishing: 0,
        closest: None,
        family: None,
        evidence: String::new(),
        group: Group::of(tensor, &got, survey.worst),
        signature: survey.signature.clone(),
        place,
    };
    if let Some((faults, m)) = found.first() {
        diagnosis.faults = faults.iter().map(|f| NamedFault::of(&[*f])).collect();
        (diagnosis.reproduced, diagnosis.distinguishing) = (m.exact, m.accounted);
        diagnosis.evidence = Diagnosis::explained_by(
            &NamedFault::of(faults),
            &diagnosis.equivalent,
            m,
            &diagnosis.place,
        );
    } else {
        let closest = matcher.closest(&candidates).filter(|_| !survey.inside);
        diagnosis.closest = closest.map(|(fault, m)| Closest {
            fault: NamedFault::of(&[fault]),
            reproduced: m.exact,
        });
        // Its rules are over whole groups.
        if width == tensor.cols() {
            diagnosis.family = family::find(tensor, got, &survey);
        }
        diagnosis.evidence = Diagnosis::unexplained(
            &diagnosis.place,
            &diagnosis.signature,
            diagnosis.family.as_ref(),
            diagnosis.closest.as_ref(),
            tensor,
            got.get(survey.worst),
        );
    }
    Some(diagnosis)
}

/// The catalogue, and what the output suggests.
fn candidates(tensor: &TqTensor, got: &Got<'_>, survey: &Survey, rows: &[usize]) -> Vec<Fault> {
    let mut faults = Fault::catalogue(tensor);
    for fitted in fit(tensor, got, survey, rows) {
        if !faults.contains(&fitted) {
            faults.push(fitted);
        }
    }
    // Zeros that a kernel computes have both signs.
    let computed = survey.negative_zeros > 0;
    faults.retain(|f| f.suits(tensor, got.of()) && (computed || f.pattern() != "scales_zero"));
    faults
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
