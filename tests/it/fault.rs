//! A failure is named when its fault is known, and called unexplained when it is not.

use crate::support::cli;
use half::bf16;
use proptest::prelude::*;
use serde_json::Value;
use tq4::fault::{Diagnosis, Fault, emulate};
use tq4::lane::Output;
use tq4::reference;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{GROUP_SIZES, Layout, TqTensor};

fn tensor(seed: u64, bits: u32, n: usize) -> TqTensor {
    let layout = Layout::new(bits, n).unwrap();
    synthetic::tensor(
        &mut Rng::new(seed),
        layout,
        19,
        8 * n,
        ScaleDistribution::Usual,
    )
    .unwrap()
}

fn correct(t: &TqTensor) -> Vec<bf16> {
    reference::dequantize(t)
        .into_iter()
        .map(bf16::from_f32)
        .collect()
}

fn diagnose(lane: &str, t: &TqTensor, got: &[bf16]) -> Option<Diagnosis> {
    tq4::fault::diagnose(lane, t, &Output::Bf16(got.to_vec()), true)
}

fn faulty(t: &TqTensor, faults: &[&str]) -> Vec<bf16> {
    let named = |name: &&str| Fault::named(name, t).expect(name);
    let faults: Vec<Fault> = faults.iter().map(named).collect();
    let mut out = vec![bf16::ZERO; t.elements()];
    emulate(t, &faults, 0, &mut out);
    out
}

#[test]
fn no_fault_is_the_reference_bit_for_bit() {
    for bits in 2..=4 {
        for n in GROUP_SIZES {
            let t = tensor(1, bits, n);
            assert_eq!(faulty(&t, &[]), correct(&t));
            assert_eq!(diagnose("cuda", &t, &correct(&t)), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_values_somewhere_are_never_named(seed: u64, start in 0usize..15_000, len in 1usize..4000) {
        let t = tensor(seed, 4, 128);
        let mut got = correct(&t);
        let mut rng = Rng::new(!seed);
        let end = (start + len).min(got.len());
        for v in &mut got[start..end] {
            *v = bf16::from_f32(0.3 * rng.normal());
        }
        let d = diagnose("cuda", &t, &got).unwrap();
        prop_assert!(!d.explained && d.closest.is_none(), "{}", d.evidence);
    }

    #[test]
    fn rows_and_ends_are_fitted(seed: u64, k in 1usize..18) {
        let t = tensor(seed, 4, 128);
        for fault in [
            format!("rows_shifted_by_{k}"),
            format!("stale_output_from_row_{k}"),
            format!("tail_rows_unwritten_{k}"),
            format!("tail_rows_zero_{k}"),
            format!("tail_groups_unwritten_{k}"),
            format!("row_tail_groups_zero_{}", k.min(7)),
        ] {
            let d = diagnose("cuda", &t, &faulty(&t, &[&fault])).unwrap();
            prop_assert!(d.explained, "{fault}: {}", d.evidence);
            let bits = |f: &str| -> Vec<u16> {
                faulty(&t, &[f]).iter().map(|v| v.to_bits()).collect()
            };
            let same = |f: String| bits(&f) == bits(&fault);
            // A shift by k of 19 rows is one by k - 19, eight groups are a row.
            prop_assert!(
                d.names().contains(&fault)
                    || same(format!("rows_shifted_by_-{}", 19 - k))
                    || same(format!("tail_rows_unwritten_{}", k / 8)),
                "{fault}: {}",
                d.evidence
            );
        }
    }

    #[test]
    fn any_set_of_stages_with_the_wrong_sign_is_fitted(seed: u64, mask in 1u32..128) {
        let t = tensor(seed, 4, 128);
        let strides: Vec<String> = (0..7)
            .map(|s| mask & 1 << s)
            .filter(|s| *s > 0)
            .map(|s| s.to_string())
            .collect();
        let strides = format!("fwht_upper_lane_sign_strides_{}", strides.join("_"));
        let d = diagnose("cuda", &t, &faulty(&t, &[&strides])).unwrap();
        prop_assert!(d.explained);
        let name = match mask {
            127 => "fwht_upper_lane_sign".into(),
            31 => "fwht_upper_lane_sign_shuffle_part".into(),
            96 => "fwht_upper_lane_sign_shared_memory_part".into(),
            _ => strides,
        };
        let order = format!("codes_order_xor_{mask}");
        prop_assert!(d.names().contains(&name) && d.names().contains(&order), "{}", d.evidence);
    }
}

#[test]
fn two_faults_together_are_named() {
    let t = tensor(3, 4, 128);
    for pair in [
        ["fwht_upper_lane_sign", "bf16_truncation"],
        ["signs_omitted", "norm_missing"],
        ["scale_of_next_row", "split_halves_order"],
        ["codebook_reversed", "tail_rows_unwritten_2"],
        ["fwht_omitted", "rows_shifted_by_-1"],
    ] {
        let d = diagnose("cuda", &t, &faulty(&t, &pair)).unwrap();
        assert!(d.explained, "{pair:?}: {}", d.evidence);
        let wanted = pair.join(" + ");
        let reversed = format!("{} + {}", pair[1], pair[0]);
        let all = d.names();
        assert!(
            all.contains(&wanted) || all.contains(&reversed),
            "{wanted}: {}",
            d.evidence
        );
    }
}

#[test]
fn what_is_not_in_the_catalogue_is_unexplained() {
    let t = tensor(4, 4, 128);
    let good = correct(&t);
    let mut rng = Rng::new(5);
    let mut permuted = good.clone();
    for i in (1..permuted.len()).rev() {
        permuted.swap(i, rng.below(i + 1));
    }
    let noisy = good
        .iter()
        .map(|v| bf16::from_f32(v.to_f32() * (1.0 + 0.01 * rng.normal())))
        .collect();
    let halved = good
        .iter()
        .map(|v| bf16::from_f32(v.to_f32() * 0.5))
        .collect();
    let one_wrong = {
        let mut v = good.clone();
        v[777] = bf16::from_f32(9.0);
        v
    };
    let odd_rows_negated = good
        .iter()
        .enumerate()
        .map(|(i, v)| if i / t.cols() % 2 == 1 { -*v } else { *v })
        .collect();
    for (what, got) in [
        ("permutation", permuted),
        ("noise of 1 %", noisy),
        ("half of every value", halved),
        ("one wrong element", one_wrong),
        ("odd rows negated", odd_rows_negated),
    ] {
        let d = diagnose("cuda", &t, &got).unwrap();
        assert!(
            !d.explained && d.faults.is_empty() && d.closest.is_none(),
            "{what}: {}",
            d.evidence
        );
        assert!(
            d.evidence.starts_with("not in the catalogue: "),
            "{what}: {}",
            d.evidence
        );
    }
}

#[test]
fn last_bits_do_not_hide_where_the_error_is() {
    let t = tensor(9, 4, 128);
    let mut got = correct(&t);
    // Values that f32 arithmetic in another order may round the other way.
    for (at, v) in reference::dequantize(&t).iter().enumerate() {
        got[at] = bf16::from_f32(v * (1.0 + 1.5e-6));
    }
    assert_ne!(got, correct(&t));
    let at = 7 * t.cols() + 2 * 128;
    got[at..at + 128].fill(bf16::from_f32(0.5));
    let place = diagnose("cuda", &t, &got).unwrap().place;
    assert_eq!(
        (place.allowed, place.first_row, place.first_group),
        (false, 7, 2)
    );
    assert_eq!((place.wrong_rows, place.wrong_groups), (1, 1));
}

#[test]
fn a_known_fault_with_something_else_is_a_lead_and_not_named() {
    let t = tensor(8, 4, 128);
    let mut got = faulty(&t, &["fwht_upper_lane_sign"]);
    got[1234] = bf16::NAN;
    let d = diagnose("cuda", &t, &got).unwrap();
    assert!(!d.explained && d.faults.is_empty(), "{}", d.evidence);
    let closest = d.closest.unwrap();
    assert_eq!(closest.fault.name, "fwht_upper_lane_sign");
    assert_eq!(closest.reproduced, t.elements() as u64 - 1);
    assert!(
        d.evidence
            .contains("closest: fwht_upper_lane_sign reproduces")
    );
}

#[test]
fn where_the_error_starts_is_said() {
    let t = tensor(6, 4, 128);
    let mut got = correct(&t);
    let at = 5 * t.cols() + 3 * 128 + 17;
    got[at] = bf16::from_f32(100.0);
    let d = diagnose("cuda", &t, &got).unwrap();
    assert_eq!(
        (
            d.place.first_row,
            d.place.first_group,
            d.place.wrong,
            d.place.wrong_rows,
            d.place.wrong_groups,
            d.place.positions
        ),
        (5, 3, 1, 1, 1, vec![[17, 17]])
    );
    assert_eq!(
        (d.place.worst.row, d.place.worst.col, d.place.worst.got),
        (5, 3 * 128 + 17, Some(100.0))
    );
    assert_eq!(d.place.worst.code, t.code(5, 3 * 128 + 17));
}

#[test]
fn selftest_catches_and_names_every_fault() {
    let out = cli::tq4(&["selftest", "--json"]);
    assert!(out.status.success(), "{}", cli::stdout(&out));
    let result: Value = serde_json::from_str(&cli::stdout(&out)).unwrap();
    let correct = result["correct"].as_array().unwrap();
    let sum = |key: &str| -> u64 { correct.iter().map(|c| c[key].as_u64().unwrap()).sum() };
    assert_eq!(
        ["outputs", "false_alarms", "named"].map(sum),
        [10_000, 0, 10_000]
    );
    assert_eq!(correct.len(), 11, "every arithmetic");
    assert!(correct.iter().all(|c| c["outputs"].as_u64().unwrap() > 100));
    let rows = result["rows"].as_array().unwrap();
    assert!(rows.len() > 400);
    for row in rows {
        assert!(row["caught_by"].is_string(), "{row}");
        assert!(
            row["named_as"].as_array().unwrap().contains(&row["fault"]),
            "{row}"
        );
    }
    assert_eq!(result["untested"], serde_json::json!([]));
    let patterns: Vec<&str> = Fault::patterns().collect();
    for (i, pattern) in patterns.iter().enumerate() {
        assert!(!patterns[..i].contains(pattern), "{pattern} twice");
        let fits = |name: &str| match pattern.split_once('{') {
            None => name == *pattern,
            Some((before, _)) => name
                .strip_prefix(before)
                .is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit())),
        };
        assert!(
            rows.iter().any(|r| fits(r["fault"].as_str().unwrap())),
            "{pattern}"
        );
    }
}
