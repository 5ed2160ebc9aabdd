//! What is as expected, and what is damage.

use super::*;
use crate::codebook::Codebook;
use crate::encode::quantize;
use crate::reference::dequantize;
use crate::synthetic::{Rng, ScaleDistribution, tensor};
use crate::tensor::{GROUP_SIZES, Layout, Parts};
use half::f16;
use std::sync::Arc;

fn formats() -> Vec<(Layout, Arc<Codebook>)> {
    let all = (2..=4).flat_map(|bits| GROUP_SIZES.map(|n| (bits, n)));
    all.map(|(bits, n)| {
        let book = Codebook::encoder(bits, n);
        (Layout::new(bits, n).unwrap(), Arc::new(book))
    })
    .collect()
}

fn judge(tensor: &TqTensor, source: &[f32]) -> CheckpointRecord {
    let mut checkpoint = GroupErrorSums::new(0, tensor.rows());
    checkpoint.push(tensor, source, &dequantize(tensor));
    checkpoint.finish().unwrap()
}

const KINDS: [&str; 5] = [
    "normal",
    "laplace",
    "uniform",
    "outlier channels",
    "low rank",
];

fn weight(rng: &mut Rng, kind: &str, rows: usize, cols: usize) -> Vec<f32> {
    match kind {
        "normal" => (0..rows * cols).map(|_| rng.normal()).collect(),
        "laplace" => {
            let mut one =
                || (1.0 - rng.uniform()).ln() * if rng.below(2) == 0 { 1.0 } else { -1.0 };
            (0..rows * cols).map(|_| one()).collect()
        }
        "uniform" => (0..rows * cols).map(|_| rng.uniform() - 0.5).collect(),
        "outlier channels" => {
            let rate = 1 << (3 + rng.below(6));
            let gain = [5.0, 20.0, 100.0, 1000.0][rng.below(4)];
            let gains: Vec<f32> = (0..cols)
                .map(|_| if rng.below(rate) == 0 { gain } else { 1.0 })
                .collect();
            (0..rows * cols)
                .map(|i| gains[i % cols] * rng.normal())
                .collect()
        }
        _ => {
            let rank = 1 + rng.below(4);
            let mut out = vec![0.0; rows * cols];
            for _ in 0..rank {
                let left: Vec<f32> = (0..rows).map(|_| rng.normal()).collect();
                let right: Vec<f32> = (0..cols).map(|_| rng.normal()).collect();
                for (i, v) in out.iter_mut().enumerate() {
                    *v += left[i / cols] * right[i % cols];
                }
            }
            out
        }
    }
}

/// Rows and groups a row: single groups, single rows, single columns of groups, wide and tall.
fn shape(rng: &mut Rng, i: usize) -> (usize, usize) {
    match i % 6 {
        0 => (1, 1),
        1 => (1, 1 + rng.below(24)),
        2 => (1 + rng.below(24), 1),
        3 => (8 + rng.below(8), 2 + rng.below(8)),
        _ => (1 + rng.below(6), 1 + rng.below(6)),
    }
}

/// 1,000 weights of each kind, bits and group size, at every magnitude down to scales that f16
/// holds as subnormals, with rows that are zero or constant among them.
#[test]
fn what_the_encoder_makes_is_as_expected() {
    let cases: Vec<_> = formats()
        .into_iter()
        .flat_map(|f| KINDS.map(|kind| (f.clone(), kind)))
        .collect();
    let wrong: Vec<String> = cases
        .into_par_iter()
        .enumerate()
        .flat_map_iter(|(case, ((layout, book), kind))| {
            let mut rng = Rng::new(0xC4EC + case as u64);
            let mut wrong = Vec::new();
            for i in 0..1000 {
                let (rows, groups) = shape(&mut rng, i);
                let cols = groups * layout.group_size();
                let size = [0.02, 1.0, 1e-5, 1e-6, 1e-7, 1e-8][(i / 6) % 6];
                let mut w = weight(&mut rng, kind, rows, cols);
                w.iter_mut().for_each(|v| *v *= size);
                if i % 7 == 0 {
                    w[..cols].fill([0.0, size][i / 7 % 2]);
                }
                let signs = rng.signs(cols);
                // A narrow row whose every code is the largest is no TQ4 tensor.
                let Ok(tensor) = quantize("w", &w, cols, layout, &signs, &book) else {
                    continue;
                };
                let r = judge(&tensor, &w);
                if r.damaged() {
                    wrong.push(format!(
                        "{kind} {i}, {layout:?}, {rows} x {groups} groups, {size}: {r:?}"
                    ));
                }
            }
            wrong
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(8)]
    );
}

#[test]
fn the_error_of_many_groups_is_the_expected_one() {
    let mut rng = Rng::new(5);
    for (layout, book) in formats() {
        let cols = 16 * layout.group_size();
        let w = weight(&mut rng, "normal", 64, cols);
        let signs = rng.signs(cols);
        let tensor = quantize("w", &w, cols, layout, &signs, &book).unwrap();
        let ratio = judge(&tensor, &w).ratio;
        assert!((ratio - 1.0).abs() < 0.02, "{layout:?}: {ratio}");
    }
}

/// Random codes, another model's weights and the model's own output are told from a source in tensors
/// of every size in which there is more than a group or two.
#[test]
fn other_codes_other_weights_and_the_models_own_output_are_found() {
    let mut rng = Rng::new(6);
    for (layout, book) in formats() {
        for i in 0..60 {
            let (rows, groups) = shape(&mut rng, i);
            let cols = groups * layout.group_size();
            let w = weight(&mut rng, "normal", rows, cols);
            let signs = rng.signs(cols);
            let tensor = quantize("w", &w, cols, layout, &signs, &book).unwrap();
            let at = format!("{layout:?}, {rows} x {groups} groups");
            let other = weight(&mut rng, "laplace", rows, cols);
            let found = judge(&tensor, &other);
            assert!(found.damaged(), "{at}: {found:?}");
            let random = random(&mut rng, &tensor);
            let found = judge(&random, &w);
            assert!(found.damaged(), "{at}: {found:?}");
            let own = judge(&tensor, &dequantize(&tensor));
            assert_eq!(own.damaged(), rows * groups >= 8, "{at}: {own:?}");
        }
    }
}

/// Random codes under a tensor's own scales and signs.
fn random(rng: &mut Rng, of: &TqTensor) -> TqTensor {
    let (layout, shape) = (of.layout(), [of.rows(), of.cols()]);
    let codes = tensor(rng, layout, shape[0], shape[1], ScaleDistribution::Usual).unwrap();
    let parts = Parts {
        packed: codes.packed().to_vec(),
        scales: of.scales().clone(),
        signs: of.signs().to_vec(),
    };
    TqTensor::new("random", layout, shape, parts, Arc::clone(of.codebook())).unwrap()
}

/// Two groups a row: what is off in both of them is no value that stands out.
#[test]
fn damage_of_narrow_tensors_is_found() {
    let mut rng = Rng::new(9);
    let (layout, book) = formats().into_iter().nth(10).unwrap();
    let (rows, cols) = (512, 256);
    let w = weight(&mut rng, "normal", rows, cols);
    let signs = rng.signs(cols);
    let good = quantize("w", &w, cols, layout, &signs, &book).unwrap();
    assert!(!judge(&good, &w).damaged());
    let bad = random(&mut rng, &good);
    let row = layout.packed_len(cols);
    let changed = |change: &dyn Fn(&mut Vec<u8>, &mut Vec<f16>)| {
        let (mut packed, mut scales) = (good.packed().to_vec(), good.scales().f16().to_vec());
        change(&mut packed, &mut scales);
        let parts = Parts {
            packed,
            scales: scales.into(),
            signs: signs.clone(),
        };
        let t = TqTensor::new("w", layout, [rows, cols], parts, Arc::clone(&book)).unwrap();
        judge(&t, &w)
    };
    let scaled = changed(&|_, scales| {
        let larger = |s: &mut f16| *s = f16::from_f32(s.to_f32() * 1.5);
        scales.iter_mut().for_each(larger);
    });
    assert!(scaled.damaged(), "{scaled:?}");
    let one_row = changed(&|packed, _| {
        packed[7 * row..8 * row].copy_from_slice(&bad.packed()[7 * row..8 * row]);
    });
    assert!(
        one_row.damaged() && one_row.damaged_rows == [[7, 8]],
        "{one_row:?}"
    );
}

/// Damage in some rows names them, in any strips, when the tensor as a whole is hardly off.
#[test]
fn damaged_rows_are_named_whatever_the_strips() {
    let mut rng = Rng::new(7);
    for (layout, book) in formats() {
        let (rows, cols) = (400, 8 * layout.group_size());
        let w = weight(&mut rng, "normal", rows, cols);
        let signs = rng.signs(cols);
        let good = quantize("w", &w, cols, layout, &signs, &book).unwrap();
        let bad = random(&mut rng, &good);
        let row = layout.packed_len(cols);
        let mut packed = good.packed().to_vec();
        // From the middle of a row to the middle of another; and a row's scales.
        packed[10 * row + row / 4..12 * row + row / 2]
            .copy_from_slice(&bad.packed()[10 * row + row / 4..12 * row + row / 2]);
        let mut scales = good.scales().f16().to_vec();
        scales[300 * 8..301 * 8].fill(f16::ZERO);
        let parts = Parts {
            packed,
            scales: scales.into(),
            signs,
        };
        let tensor = TqTensor::new("w", layout, [rows, cols], parts, Arc::clone(&book)).unwrap();
        let values = dequantize(&tensor);
        let mut records = Vec::new();
        for strip in [400, 1, 7] {
            let mut checkpoint = GroupErrorSums::new(1000, rows);
            for first in (0..rows).step_by(strip) {
                let last = rows.min(first + strip);
                let part = tensor.slice_rows(first..last).unwrap();
                let of = first * cols..last * cols;
                checkpoint.push(&part, &w[of.clone()], &values[of]);
            }
            records.push(checkpoint.finish().unwrap());
        }
        assert!(records.iter().all(|r| *r == records[0]));
        let r = &records[0];
        assert!(
            r.damaged() && r.damaged_rows == [[1010, 1013], [1300, 1301]],
            "{r:?}"
        );
        let said = "rows 1010..1013, 1300..1301 are further from the source than";
        assert!(r.reason.starts_with(said), "{}", r.reason);
    }
}

#[test]
fn a_source_that_is_not_a_number_is_damage() {
    let mut rng = Rng::new(8);
    let (layout, book) = formats().pop().unwrap();
    let w = weight(&mut rng, "normal", 8, 512);
    let tensor = quantize("w", &w, 512, layout, &rng.signs(512), &book).unwrap();
    let mut source = w;
    source[3] = f32::NAN;
    assert!(judge(&tensor, &source).damaged());
}
