//! Faults with a number in them, fitted to the output.

use super::Fault;
use super::output::{Got, nan, plain_zero, unwritten};
use super::pipeline::Pipeline;
use super::survey::{Survey, reference};
use crate::tensor::TqTensor;

/// Every fitted fault that the output suggests; emulation confirms or refutes it.
pub(super) fn fit(tensor: &TqTensor, got: &Got<'_>, survey: &Survey, rows: &[usize]) -> Vec<Fault> {
    let mut names = moved_rows(survey);
    for (holds, empty) in [
        ("unwritten", unwritten as fn(f32) -> bool),
        ("nan", nan),
        ("zero", plain_zero),
    ] {
        names.extend(tails(tensor, got, holds, empty));
    }
    let fault = |name: &String| Fault::named(name, tensor).expect("a row of the catalogue");
    let signs = sign_mask(tensor, got, rows);
    signs.into_iter().chain(names.iter().map(fault)).collect()
}

/// The stages whose upper lane has the other sign: flipping stage s flips every element with bit s set
/// in its index and nothing else, so the elements at 1, 2, 4, ... tell each stage by itself.
fn sign_mask(tensor: &TqTensor, got: &Got<'_>, rows: &[usize]) -> Option<Fault> {
    let n = tensor.layout().group_size();
    let mut votes = vec![0i64; n.trailing_zeros() as usize];
    for row in rows {
        let expected = reference(tensor, *row, 1);
        let got = got.row(*row);
        for (g, e) in got.chunks_exact(n).zip(expected.chunks_exact(n)) {
            for (s, votes) in votes.iter_mut().enumerate() {
                let (g, e) = (g[1 << s], e[1 << s]);
                if g != 0.0 && e != 0.0 {
                    *votes += if (g < 0.0) == (e < 0.0) { -1 } else { 1 };
                }
            }
        }
    }
    let mask: usize = (0..votes.len())
        .filter(|s| votes[*s] > 0)
        .map(|s| 1 << s)
        .sum();
    let has_a_name = Fault::catalogue(tensor)
        .iter()
        .any(|f| Pipeline::with(tensor, &[*f]).sign_mask == mask);
    if has_a_name {
        return None;
    }
    Fault::signs_of_strides(tensor, mask)
}

/// Rows that hold other rows: all of them by one distance, or the later ones from the top again.
fn moved_rows(survey: &Survey) -> Vec<String> {
    let rows = survey.row_signs.len();
    let mut distances = std::collections::BTreeMap::new();
    let mut again = None;
    for (row, from) in survey.row_map().enumerate() {
        let Some(from) = from else { continue };
        *distances
            .entry((from + rows - row) % rows)
            .or_insert(0usize) += 1;
        if from == 0 && again.is_none() {
            again = Some(row);
        }
    }
    let shifted = distances
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .filter(|(_, count)| *count > rows / 2)
        .map(|(distance, _)| {
            // The shorter way round.
            if 2 * distance > rows {
                format!("rows_shifted_by_-{}", rows - distance)
            } else {
                format!("rows_shifted_by_{distance}")
            }
        });
    let again = again.into_iter().flat_map(|row| {
        [
            format!("row_index_modulo_{row}"),
            format!("stale_output_from_row_{row}"),
        ]
    });
    again.chain(shifted).collect()
}

/// How much at the end, of the tensor, of each row and of each group, holds nothing but `holds`.
fn tails(tensor: &TqTensor, got: &Got<'_>, holds: &str, empty: fn(f32) -> bool) -> Vec<String> {
    let (cols, n) = (tensor.cols(), tensor.layout().group_size());
    let trailing = |first: usize, len: usize| {
        let ends = (first..first + len).rev();
        ends.take_while(|at| empty(got.get(*at))).count()
    };
    let least = |part: usize| {
        let mut least = part;
        for first in (0..got.len()).step_by(part) {
            least = least.min(trailing(first, part));
            if least == 0 {
                break;
            }
        }
        least
    };
    let mut names = Vec::new();
    let mut name = |of: &str, units: &[(&str, usize)], count: usize, all: usize| {
        if count == 0 || count == all {
            return;
        }
        for (unit, size) in units {
            if count >= *size {
                names.push(format!("{of}tail_{unit}_{holds}_{}", count / size));
                // A smaller unit tells more only where the larger leaves something over.
                if count.is_multiple_of(*size) {
                    break;
                }
            }
        }
    };
    let (rows, groups, elements) = (("rows", cols), ("groups", n), ("elements", 1));
    name(
        "",
        &[rows, groups, elements],
        trailing(0, got.len()),
        got.len(),
    );
    name("row_", &[groups, elements], least(cols), cols);
    name("group_", &[elements], least(n), n);
    names
}
