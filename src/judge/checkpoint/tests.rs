//! What is as expected, and what is damage.

mod damage;

use super::*;
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::encode::quantize;
use crate::format::every_codec;
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

const KINDS: [&str; 9] = [
    "normal",
    "laplace",
    "uniform",
    "outlier channels",
    "two equal outliers",
    "outliers alone",
    "constant rows",
    "rank 1",
    "low rank",
];

/// The same in every row, but for each row's size.
fn of_rank_1(rng: &mut Rng, rows: usize, cols: usize) -> Vec<f32> {
    let left: Vec<f32> = (0..rows).map(|_| rng.normal()).collect();
    let right: Vec<f32> = (0..cols).map(|_| rng.normal()).collect();
    (0..rows * cols)
        .map(|i| left[i / cols] * right[i % cols])
        .collect()
}

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
        "two equal outliers" => {
            let (a, b) = (rng.below(cols), rng.below(cols));
            let gain = [5.0, 100.0, 1e4][rng.below(3)];
            let mut one = |col| match col {
                c if c == a || c == b => gain,
                _ => rng.normal(),
            };
            (0..rows * cols).map(|i| one(i % cols)).collect()
        }
        "outliers alone" => {
            let rate = 8 << rng.below(5);
            let mut one = || [0.0, rng.normal()][usize::from(rng.below(rate) == 0)];
            (0..rows * cols).map(|_| one()).collect()
        }
        "constant rows" => {
            let each: Vec<f32> = (0..rows).map(|_| rng.normal()).collect();
            (0..rows * cols).map(|i| each[i / cols]).collect()
        }
        "rank 1" => of_rank_1(rng, rows, cols),
        _ => {
            let mut out = vec![0.0; rows * cols];
            for _ in 0..2 + rng.below(3) {
                let one = of_rank_1(rng, rows, cols);
                out.iter_mut().zip(one).for_each(|(v, one)| *v += one);
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

/// What is wrongly called damaged of `count` weights of each kind, at every magnitude down to scales that f16
/// holds as subnormals, with rows that are zero or constant among them; `other` makes of the encoder's tensor and
/// the source what is to be judged.
fn wrongly_damaged(
    codecs: &[(Layout, Arc<Codebook>)],
    count: usize,
    other: impl Fn(usize, TqTensor, &mut [f32]) -> TqTensor + Sync,
) -> Vec<String> {
    let cases = codecs.iter().flat_map(|f| KINDS.map(|kind| (f, kind)));
    let cases: Vec<_> = cases.collect();
    cases
        .into_par_iter()
        .enumerate()
        .flat_map_iter(|(case, ((layout, book), kind))| {
            let mut rng = Rng::new(0xC4EC + case as u64);
            let mut wrong = Vec::new();
            for i in 0..count {
                let (rows, groups) = shape(&mut rng, i);
                let cols = groups * layout.group_size();
                let size = [0.02, 1.0, 1e-5, 1e-6, 1e-7, 1e-8][(i / 6) % 6];
                let mut w = weight(&mut rng, kind, rows, cols);
                w.iter_mut().for_each(|v| *v *= size);
                if i % 7 == 0 {
                    w[..cols].fill([0.0, size][i / 7 % 2]);
                }
                let signs = rng.signs(cols);
                // A narrow row whose every code is the largest is no TQ4 tensor; some scales are beyond their type.
                let Ok(tensor) = quantize("w", &w, cols, *layout, &signs, book) else {
                    continue;
                };
                let tensor = other(i, tensor, &mut w);
                let r = judge(&tensor, &w);
                if r.damaged() {
                    let at = format!("{rows} x {groups} groups, {size}");
                    wrong.push(format!("{kind} {i}, {layout:?}, {at}: {r:?}"));
                }
            }
            wrong
        })
        .collect()
}

fn none(wrong: &[String]) {
    let first = &wrong[..wrong.len().min(8)];
    assert!(wrong.is_empty(), "{}: {first:#?}", wrong.len());
}

#[test]
fn what_the_encoder_makes_is_as_expected() {
    none(&wrongly_damaged(&formats(), 1000, |_, tensor, _| tensor));
}

#[test]
fn what_the_encoders_of_all_formats_make_is_as_expected() {
    let codecs = every_codec().into_iter().map(|(_, codec)| {
        let Codec { layout, codebook } = codec;
        (layout, codebook)
    });
    let codecs: Vec<_> = codecs.filter(|(layout, _)| !layout.is_plain()).collect();
    none(&wrongly_damaged(&codecs, 150, |_, tensor, _| tensor));
}

/// Scales that are cut off or fitted to the codes, and sources that are kept in BF16 alone.
#[test]
fn what_other_encoders_make_is_as_expected() {
    none(&wrongly_damaged(&formats(), 150, |i, tensor, w| {
        let n = tensor.layout().group_size();
        let decoded = dequantize(&tensor);
        let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let scale = |group: usize, s: &mut f16| {
            let of = group * n..(group + 1) * n;
            let (w, d) = (&w[of.clone()], &decoded[of]);
            let fitted = s.to_f32() * product(w, d) / product(d, d);
            match i % 2 {
                0 if s.to_bits() > 0 => *s = f16::from_bits(s.to_bits() - 1),
                1 if fitted.is_finite() => *s = f16::from_f32(fitted),
                _ => {}
            }
        };
        let tensor = changed(&tensor, |parts| {
            let mut scales = parts.scales.f16().to_vec();
            let each = scales.iter_mut().enumerate();
            each.for_each(|(group, s)| scale(group, s));
            parts.scales = scales.into();
        });
        if i % 3 == 0 {
            let bf16 = |v: &mut f32| *v = half::bf16::from_f32(*v).to_f32();
            w.iter_mut().for_each(bf16);
        }
        tensor
    }));
}

/// An encoder that hands the error of each group on to the next, as GPTQ does by the covariance of activations: groups
/// are off by twice the squared error of the nearest centroids on average, by much more now and then.
#[test]
fn what_error_feedback_makes_is_as_expected_and_its_damage_is_found() {
    let mut rng = Rng::new(13);
    for (layout, book) in formats() {
        let n = layout.group_size();
        let (rows, groups) = (64, 24);
        let cols = groups * n;
        let w = weight(&mut rng, "normal", rows, cols);
        let signs = rng.signs(cols);
        let mut parts: Vec<TqTensor> = Vec::new();
        let mut carried = vec![0.0; rows * n];
        for group in 0..groups {
            let at = group * n..(group + 1) * n;
            let wanted = w.chunks_exact(cols).flat_map(|row| &row[at.clone()]);
            let wanted: Vec<f32> = wanted.zip(&carried).map(|(w, e)| w + e).collect();
            let part = quantize("w", &wanted, n, layout, &signs[at], &book).unwrap();
            let made = dequantize(&part);
            let off = wanted.iter().zip(made).map(|(w, m)| w - m);
            carried = off.collect();
            parts.push(part);
        }
        let (mut packed, mut scales) = (Vec::new(), Vec::new());
        let bytes = layout.packed_group();
        for row in 0..rows {
            for part in &parts {
                packed.extend(&part.packed()[row * bytes..(row + 1) * bytes]);
                scales.push(part.scales().f16()[row]);
            }
        }
        let scales = scales.into();
        let parts = Parts {
            packed,
            scales,
            signs,
        };
        let good = TqTensor::new("w", layout, [rows, cols], parts, book).unwrap();
        let r = judge(&good, &w);
        assert!(!r.damaged(), "{layout:?}: {r:?}");
        assert!((1.3..1.5).contains(&r.ratio), "{layout:?}: {r:?}");
        let at = 9 * bytes * groups..10 * bytes * groups;
        let bad = random(&mut rng, &good);
        let bad = changed(&good, |parts| {
            parts.packed[at.clone()].copy_from_slice(&bad.packed()[at]);
        });
        let r = judge(&bad, &w);
        assert!(
            r.damaged() && r.damaged_rows == [[9, 10]],
            "{layout:?}: {r:?}"
        );
    }
}

/// A tensor with some parts changed.
fn changed(of: &TqTensor, change: impl FnOnce(&mut Parts)) -> TqTensor {
    let mut parts = Parts {
        packed: of.packed().to_vec(),
        scales: of.scales().clone(),
        signs: of.signs().to_vec(),
    };
    change(&mut parts);
    let shape = [of.rows(), of.cols()];
    TqTensor::new("w", of.layout(), shape, parts, Arc::clone(of.codebook())).unwrap()
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
    let codes = tensor(
        rng,
        of.layout(),
        of.rows(),
        of.cols(),
        ScaleDistribution::Usual,
    )
    .unwrap();
    changed(of, |parts| parts.packed = codes.packed().to_vec())
}

#[test]
fn a_source_that_is_not_a_number_is_damage() {
    let mut rng = Rng::new(8);
    let (layout, book) = formats().pop().unwrap();
    let w = weight(&mut rng, "normal", 8, 512);
    let tensor = quantize("w", &w, 512, layout, &rng.signs(512), &book).unwrap();
    let mut source = w;
    for value in [f32::NAN, f32::INFINITY, f32::MAX] {
        source[512 + 3] = value;
        let r = judge(&tensor, &source);
        assert!(r.damaged() && r.damaged_rows == [[1, 2]], "{r:?}");
        let said = "in row 1, group 0 (from column 0 on) the source has what";
        assert!(r.reason.starts_with(said) || value == f32::MAX, "{r:?}");
    }
}
