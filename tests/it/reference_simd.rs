//! Every SIMD path of the reference gives the scalar text's values, bit for bit.

#[cfg(feature = "cli")]
use crate::support::cli;
use crate::support::{lane, not_run};
use half::{bf16, f16};
use proptest::prelude::*;
use std::sync::Arc;
use tq4::codebook::Codebook;
use tq4::reference::{self, Simd};
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{GROUP_SIZES, Layout, Parts, TqTensor};

/// Compares both outputs of every path of this machine with the scalar one.
fn check(tensor: &TqTensor) -> Result<(), String> {
    check_at(tensor, 1)
}

/// [`check`] of outputs that begin some elements after a cache line: only at 0 may they go past the caches.
fn check_at(tensor: &TqTensor, place: usize) -> Result<(), String> {
    let poison = bf16::from_bits(0xFFA5);
    let mut want = vec![f32::NAN; tensor.elements()];
    reference::dequantize_into_with(Simd::OFF, tensor, &mut want);
    for simd in Simd::available() {
        let path = simd.key();
        let mut memory = Vec::new();
        let got = after_a_line(&mut memory, place, tensor.elements(), f32::NAN);
        reference::dequantize_into_with(simd, tensor, got);
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            if g.to_bits() != w.to_bits() {
                return Err(format!("{path}: f32 element {i}: {g:e}, scalar {w:e}"));
            }
        }
        let mut memory = Vec::new();
        let got = after_a_line(&mut memory, place, tensor.elements(), poison);
        reference::dequantize_bf16_into_with(simd, tensor, got);
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            if g.to_bits() != bf16::from_f32(*w).to_bits() {
                return Err(format!("{path}: BF16 element {i}: {g:e}, scalar {w:e}"));
            }
        }
    }
    Ok(())
}

fn after_a_line<T: Copy>(memory: &mut Vec<T>, place: usize, elements: usize, fill: T) -> &mut [T] {
    const LINE: usize = 64;
    memory.resize(LINE / size_of::<T>() + place + elements, fill);
    let first = memory.as_ptr().align_offset(LINE) + place;
    &mut memory[first..][..elements]
}

/// Says that this machine has no SIMD path, in which case there is nothing to compare, or not the fastest,
/// which many machines have not.
fn no_simd() -> bool {
    let available = Simd::available();
    #[cfg(target_arch = "x86_64")]
    for (i, name) in ["AVX-512", "AVX-512 BF16"].into_iter().enumerate() {
        if available.len() < 3 + i {
            eprintln!("NOT RUN: the reference's {name} path: this CPU has no {name}");
        }
    }
    if available == [Simd::OFF] {
        not_run(
            "SIMD paths of the reference",
            "this CPU has none that is used",
        );
        return true;
    }
    false
}

/// Centroids as a configuration may have them: subnormal, zero of either sign, the largest, few bits.
fn centroid() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(0.0f32),
        Just(-0.0f32),
        Just(65504.0f32),
        Just(-65504.0f32),
        (-8i8..8).prop_map(f32::from),
        (-0x7F_FFFFi32..0x7F_FFFF).prop_map(|i| f32::from_bits(1) * i as f32),
        // About the least that AVX-512 and NEON divide themselves.
        (prop::bool::ANY, -55i32..-45, 1f32..2.0).prop_map(|(negative, e, m)| if negative {
            -m
        } else {
            m
        } * 2f32.powi(e)),
        -1f32..1.0,
        -65504f32..65504.0,
    ]
}

fn layout() -> impl Strategy<Value = Layout> {
    (2u32..=4, prop::sample::select(&GROUP_SIZES[..]))
        .prop_map(|(bits, n)| Layout::new(bits, n).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_path_gives_the_scalar_values(
        seed: u64,
        layout in layout(),
        rows in 1usize..8,
        groups_per_row in 1usize..8,
    ) {
        if no_simd() {
            return Ok(());
        }
        let cols = layout.group_size() * groups_per_row;
        let mut rng = Rng::new(seed);
        let t = synthetic::tensor(&mut rng, layout, rows, cols, ScaleDistribution::Any).unwrap();
        prop_assert_eq!(check(&t), Ok(()));
    }

    #[test]
    fn every_path_gives_the_scalar_values_with_any_codebook(
        seed: u64,
        layout in layout(),
        mut centroids in prop::collection::vec(centroid(), 64),
        // Whether only those that AVX-512 and NEON divide themselves.
        least: bool,
        rows in 1usize..6,
        groups_per_row in 1usize..4,
    ) {
        if least {
            centroids.retain(|c| *c == 0.0 || c.abs() >= 2f32.powi(-50));
        }
        centroids.sort_by(f32::total_cmp);
        centroids.dedup();
        centroids.truncate(layout.levels());
        prop_assume!(centroids.len() == layout.levels());
        if no_simd() {
            return Ok(());
        }
        let cols = layout.group_size() * groups_per_row;
        let mut rng = Rng::new(seed);
        let t = synthetic::tensor(&mut rng, layout, rows, cols, ScaleDistribution::Any).unwrap();
        let book = Codebook::new(centroids, None).unwrap();
        let t = t.with_codebook(Arc::new(book)).unwrap();
        prop_assert_eq!(check(&t), Ok(()));
    }
}

/// Several tasks for the threads, the last with an odd number of groups; elements enough to meet every case of
/// the rounding, and to be written past the caches.
#[test]
fn every_path_gives_the_scalar_values_in_a_large_tensor() {
    if no_simd() {
        return;
    }
    for layout in lane::layouts() {
        let mut rng = Rng::new(5);
        let cols = layout.group_size() * 17;
        let rows = ((1 << 24) / cols + 1) | 1;
        let t = synthetic::tensor(&mut rng, layout, rows, cols, ScaleDistribution::Any).unwrap();
        assert_eq!(t.groups() % 2, 1);
        check_at(&t, 0).unwrap();
    }
}

/// Sums so small that the division without a division is wrong for some of them.
#[test]
fn every_path_gives_the_scalar_values_of_tiny_centroids() {
    if no_simd() {
        return;
    }
    for layout in lane::layouts() {
        let mut rng = Rng::new(7);
        let t = synthetic::tensor(&mut rng, layout, 64, 1024, ScaleDistribution::Any).unwrap();
        let tiny = |c: &f32| c * 2f32.powi(-115);
        let centroids = t.codebook().centroids().iter().map(tiny).collect();
        let book = Codebook::new(centroids, None).unwrap();
        check(&t.with_codebook(Arc::new(book)).unwrap()).unwrap();
    }
}

/// Groups of zeros of either sign: the sign of zero is part of the value.
#[test]
fn zeros_keep_their_sign() {
    if no_simd() {
        return;
    }
    for layout in lane::layouts() {
        let (rows, cols) = (3, layout.group_size());
        let parts = Parts {
            // Code 0 throughout, whose centroid is negative, and scales of +0 and -0.
            packed: vec![0; rows * layout.packed_len(cols)],
            scales: vec![f16::ZERO, f16::NEG_ZERO, f16::ZERO].into(),
            signs: Rng::new(3).signs(cols),
        };
        let book = Arc::new(Codebook::lloyd_max(layout.bits(), cols));
        let t = TqTensor::new("zeros", layout, [rows, cols], parts, book).unwrap();
        let values = reference::dequantize(&t);
        assert!(values.iter().any(|v| v.to_bits() == 0x8000_0000));
        assert!(values.iter().all(|v| *v == 0.0));
        check(&t).unwrap();
    }
}

/// `TQ4_SIMD` names the path; the report is the same but for the name of the device.
#[cfg(feature = "cli")]
#[test]
fn the_report_does_not_depend_on_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    let source = dir.path().join("source");
    cli::Model::valid().write(&model);
    cli::Model::source().write(&source);
    let report = |simd: &str| {
        let out = assert_cmd::Command::cargo_bin("tq4")
            .unwrap()
            .args([
                "validate",
                "--all",
                "--lanes",
                "reference",
                "--format",
                "json",
            ])
            .arg("--tq-model")
            .arg(&model)
            .arg("--source-model")
            .arg(&source)
            .env("TQ4_SIMD", simd)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", cli::stderr(&out));
        cli::stdout(&out)
            .lines()
            .filter(|l| !l.contains("seconds\":"))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let off = report("off");
    let mut paths: Vec<(&str, Simd)> = Simd::available()
        .into_iter()
        .map(|path| (path.key(), path))
        .collect();
    paths.push(("", Simd::detect()));
    for (key, path) in paths {
        let on = report(key);
        assert_eq!(off.len(), on.len());
        for (off, on) in off.iter().zip(&on) {
            if off.contains("\"device\": \"CPU, ") {
                let name = path.name().map_or(String::new(), |n| format!(", {n}"));
                assert_eq!(on, &off.replace(" threads\"", &format!(" threads{name}\"")));
            } else {
                assert_eq!(on, off);
            }
        }
    }
}

/// A path that is not known, or not there, is said before anything else happens.
#[cfg(feature = "cli")]
#[test]
fn an_unknown_path_is_an_error() {
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .arg("demo")
        .env("TQ4_SIMD", "mmx")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(cli::stdout(&out), "");
    let keys: Vec<&str> = Simd::available().iter().map(|path| path.key()).collect();
    assert_eq!(
        cli::stderr(&out),
        format!(
            "error: \"mmx\" found, expected a path that this CPU has\n  where: TQ4_SIMD\n  \
             help: give one of {}, or nothing\n",
            keys.join(", ")
        )
    );
}
