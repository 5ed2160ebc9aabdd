//! Faults with a number in them, fitted to the output.

use super::Fault;
use super::pipeline::Pipeline;
use super::survey::{Survey, correct};
use crate::tensor::TqTensor;
use half::bf16;

/// Every fitted fault that the output suggests; emulation confirms or refutes it.
pub(super) fn fit(tensor: &TqTensor, got: &[bf16], survey: &Survey, rows: &[usize]) -> Vec<Fault> {
    let mut names = Vec::new();
    names.extend(sign_mask(tensor, got, rows));
    names.extend(moved_rows(survey));
    names.extend(tail(tensor, got, "unwritten", |v| v.is_nan()));
    names.extend(tail(tensor, got, "zero", |v| *v == bf16::ZERO));
    let fault = |name: &String| Fault::named(name, tensor).expect("a row of the catalogue");
    names.iter().map(fault).collect()
}

/// The stages whose upper lane has the other sign: flipping stage s flips every element with bit s set
/// in its index and nothing else, so the elements at 1, 2, 4, ... tell each stage by itself.
fn sign_mask(tensor: &TqTensor, got: &[bf16], rows: &[usize]) -> Option<String> {
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
    let strides = (0..votes.len()).filter(|s| votes[*s] > 0).map(|s| 1 << s);
    let mask: usize = strides.clone().sum();
    let strides: Vec<String> = strides.map(|s: usize| s.to_string()).collect();
    let has_a_name = Fault::catalogue(tensor)
        .iter()
        .any(|f| Pipeline::with(tensor, &[*f]).sign_mask == mask);
    (mask != 0 && !has_a_name)
        .then(|| format!("fwht_upper_lane_sign_strides_{}", strides.join("_")))
}

/// Rows that hold other rows: all of them by one distance, or the later ones from the top again.
fn moved_rows(survey: &Survey) -> Vec<String> {
    let rows = survey.row_signs.len();
    let mut distances = std::collections::BTreeMap::new();
    let mut stale = None;
    for (row, from) in survey.row_map().enumerate() {
        let Some(from) = from else { continue };
        *distances
            .entry((from + rows - row) % rows)
            .or_insert(0usize) += 1;
        if from == 0 && stale.is_none() {
            stale = Some(format!("stale_output_from_row_{row}"));
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
    stale.into_iter().chain(shifted).collect()
}

/// How much at the end, of the tensor and of each row, holds nothing but NaN or nothing but zeros.
fn tail(tensor: &TqTensor, got: &[bf16], holds: &str, empty: fn(&bf16) -> bool) -> Vec<String> {
    let (rows, cols, n) = (tensor.rows(), tensor.cols(), tensor.layout().group_size());
    let trailing = |values: &[bf16]| values.iter().rev().take_while(|v| empty(v)).count();
    let at_end = trailing(got);
    let mut names = Vec::new();
    let groups = at_end / n;
    if groups > 0 && at_end < got.len() {
        names.push(if groups.is_multiple_of(cols / n) {
            format!("tail_rows_{holds}_{}", groups * n / cols)
        } else {
            format!("tail_groups_{holds}_{groups}")
        });
    }
    let in_each_row = (0..rows)
        .map(|r| trailing(&got[r * cols..(r + 1) * cols]))
        .min()
        .unwrap_or(0);
    if in_each_row >= n && in_each_row < cols {
        names.push(format!("row_tail_groups_{holds}_{}", in_each_row / n));
    }
    names
}
