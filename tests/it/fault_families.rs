//! What no fault explains is put in a family, with its rule and its place.

use half::bf16;
use tq4::fault::{By, Diagnosis, Family, Holds, Moved, Only, diagnose};
use tq4::lane::Output;
use tq4::reference;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{Layout, TqTensor};

const N: usize = 128;
const ROWS: usize = 32;
const COLS: usize = 8 * N;

fn tensor() -> TqTensor {
    let layout = Layout::new(4, N).unwrap();
    synthetic::tensor(
        &mut Rng::new(5),
        layout,
        ROWS,
        COLS,
        ScaleDistribution::Usual,
    )
    .unwrap()
}

/// The diagnosis of an output whose element at (row, col) is `value(expected, row, col)`.
fn wrong(value: impl Fn(&dyn Fn(usize, usize) -> f32, usize, usize) -> f32) -> Diagnosis {
    let t = tensor();
    let expected = reference::dequantize(&t);
    let at = |row: usize, col: usize| expected[row * COLS + col];
    let all = (0..t.elements()).map(|i| bf16::from_f32(value(&at, i / COLS, i % COLS)));
    let d = diagnose("mine", &t, &Output::Bf16(all.collect()), false).expect("it is wrong");
    assert!(!d.explained, "{}", d.evidence);
    d
}

fn moved(d: &Diagnosis, what: Moved, text: &str) {
    match &d.family {
        Some(Family::Permutation {
            of, rule, groups, ..
        }) => {
            assert_eq!((*of, rule.as_str()), (what, text));
            assert!(*groups * 20 >= d.place.wrong_groups * 19);
            assert!(d.evidence.contains(text), "{}", d.evidence);
        }
        other => panic!("{other:?}: {}", d.evidence),
    }
}

#[test]
fn moved_values_are_told_as_a_rule() {
    let d = wrong(|e, r, c| e(r, c ^ 5));
    moved(&d, Moved::InGroup, "got[i] = expected[i ^ 5]");
    let d = wrong(|e, r, c| e(r, c / N * N + c % 16 * 8 + c % N / 16));
    moved(
        &d,
        Moved::InGroup,
        "got[i] = expected[(i mod 16) * 8 + i / 16]",
    );
    let d = wrong(|e, r, c| e(r, c / N * N + (c + 3) % N));
    moved(&d, Moved::InGroup, "got[i] = expected[(i + 3) mod 128]");
    assert_eq!(d.place.only, []);
    let d = wrong(|e, r, c| e(r, if c / N % 2 == 1 { c ^ 9 } else { c }));
    moved(&d, Moved::InGroup, "got[i] = expected[i ^ 9]");
    assert_eq!(d.place.only, [Only::OddGroups]);
    let table = |i: usize| match i {
        0 => 7,
        7 => 100,
        100 => 0,
        i => i,
    };
    let d = wrong(|e, r, c| e(r, c / N * N + table(c % N)));
    moved(
        &d,
        Moved::InGroup,
        "got[i] = expected[t[i]], t = 7, 1, 2, 3, 4, 5, 6, 100, 8, 9, 10, 11, 12, 13, 14, 15, ...",
    );
    let d = wrong(|e, r, c| e(r ^ 1, c));
    moved(&d, Moved::Rows, "got[i] = expected[i ^ 1]");
    let d = wrong(|e, r, c| e(ROWS - 1 - r, c));
    moved(&d, Moved::Rows, "got[i] = expected[i ^ 31]");
    let d = wrong(|e, r, c| e(r, c ^ N));
    moved(&d, Moved::Groups, "got[i] = expected[i ^ 1]");
    let d = wrong(|e, r, c| e(r, (c + 5) % COLS));
    moved(&d, Moved::InRow, "got[i] = expected[(i + 5) mod 1024]");
    let d = wrong(|e, r, c| e(r - r % 16 + c % 16, c - c % 16 + r % 16));
    moved(
        &d,
        Moved::InTile,
        "got[r, c] = expected[r - r mod 16 + c mod 16, c - c mod 16 + r mod 16]",
    );
}

#[test]
fn factors_and_signs_are_told_with_what_they_belong_to() {
    let factor = |d: &Diagnosis, of: By, low: f64, high: f64| match &d.family {
        Some(Family::Factor {
            by, least, largest, ..
        }) => {
            assert_eq!(*by, of);
            assert!((least / low - 1.0).abs() < 0.01 && (largest / high - 1.0).abs() < 0.01);
        }
        other => panic!("{other:?}: {}", d.evidence),
    };
    factor(&wrong(|e, r, c| 0.5 * e(r, c)), By::Overall, 0.5, 0.5);
    let d = wrong(|e, r, c| if r % 2 == 0 { 3.0 } else { 2.0 } * e(r, c));
    factor(&d, By::Row, 2.0, 3.0);
    let d = wrong(|e, r, c| (1.0 + (r * 8 + c / N) as f32) * e(r, c) * 1.5);
    factor(&d, By::Group, 1.5, 384.0);
    let d = wrong(|e, r, c| (2.0 + (c % N) as f32) * e(r, c));
    factor(&d, By::Position, 2.0, 129.0);

    let signs = |d: &Diagnosis, of: By| match &d.family {
        Some(Family::Signs { by, .. }) => assert_eq!(*by, of),
        other => panic!("{other:?}: {}", d.evidence),
    };
    signs(
        &wrong(|e, r, c| if c % 3 == 0 { -e(r, c) } else { e(r, c) }),
        By::Column,
    );
    signs(
        &wrong(|e, r, c| if (r + c) % 5 == 0 { -e(r, c) } else { e(r, c) }),
        By::Element,
    );
    let d = wrong(|e, r, c| if c % 4 == 1 { -e(r, c) } else { e(r, c) });
    signs(&d, By::Position);
}

#[test]
fn regions_are_told_as_ranges() {
    let regions = |d: &Diagnosis| match &d.family {
        Some(Family::Regions {
            regions, others, ..
        }) => {
            assert_eq!(*others, 0);
            regions.clone()
        }
        other => panic!("{other:?}: {}", d.evidence),
    };
    let d = wrong(|e, r, c| if (8..16).contains(&r) { 0.0 } else { e(r, c) });
    assert!(
        d.evidence.contains("rows 8 to 15, all groups, zero"),
        "{}",
        d.evidence
    );
    let all = regions(&d);
    assert_eq!(
        (all[0].rows, all[0].groups, all[0].holds),
        ([8, 15], None, Holds::Zero)
    );
    let d = wrong(|e, r, c| {
        if r == 3 && c / N == 2 || r > 20 && c / N < 2 {
            f32::NAN
        } else {
            e(r, c)
        }
    });
    let all = regions(&d);
    assert_eq!(
        (all[0].rows, all[0].groups, all[0].holds),
        ([3, 3], Some([2, 2]), Holds::Nan)
    );
    assert_eq!((all[1].rows, all[1].groups), ([21, 31], Some([0, 1])));
    assert!(d.evidence.contains("row 3, group 2, NaN"), "{}", d.evidence);
}

#[test]
fn small_errors_are_told_by_size_and_the_worst_group_is_kept() {
    let noise = |r: usize, c: usize| Rng::new((r * COLS + c) as u64).normal();
    let like = |d: &Diagnosis| match &d.family {
        Some(Family::SmallError { like, .. }) => like.clone().expect("many are wrong"),
        other => panic!("{other:?}: {}", d.evidence),
    };
    assert_eq!(
        like(&wrong(|e, r, c| e(r, c) + 4e-3 * noise(r, c) * 0.5)),
        "BF16"
    );
    assert_eq!(
        like(&wrong(|e, r, c| e(r, c) + 1e-4 * noise(r, c) * 0.5)),
        "F16 or TF32"
    );
    let d = wrong(|e, r, c| {
        let v = e(r, c);
        let bits = v.to_bits() & 0xFFFF_0000;
        if (r + c) % 3 == 0 {
            f32::from_bits(bits)
        } else {
            v
        }
    });
    assert!(
        matches!(d.family, Some(Family::Rounding { away: 0, .. })),
        "{}",
        d.evidence
    );

    let d = wrong(|e, r, c| if (r, c) == (5, 300) { 9.0 } else { e(r, c) });
    assert_eq!((d.group.row, d.group.group), (5, 2));
    assert_eq!((d.group.got[44], d.group.expected.len()), (Some(9.0), N));
    assert_eq!(d.group.worst_first()[0].0, 44);
}

fn says(d: &Diagnosis, text: &str) {
    assert!(d.evidence.contains(text), "{text}: {}", d.evidence);
}

#[test]
fn a_fault_without_effect_is_no_lead() {
    // 1 / sqrt(128) with five digits: nearly all is right, by faults without effect as well.
    let d = wrong(|e, r, c| e(r, c) * 0.088_388 * 128f32.sqrt());
    assert_eq!(d.closest, None, "{}", d.evidence);
    let d = wrong(|e, r, c| if (r, c) == (5, 300) { 9.0 } else { e(r, c) });
    assert_eq!(d.closest, None, "{}", d.evidence);
    says(
        &d,
        "1 of 32768 elements is outside what a correct kernel may return",
    );
    says(&d, "at position 44 of the group");
    assert_eq!(d.family, None, "{}", d.evidence);
}

#[test]
fn what_is_not_all_of_a_group_is_no_region() {
    let d = wrong(|e, r, c| {
        if c % N == 5 || c % N == 6 {
            0.0
        } else {
            e(r, c)
        }
    });
    says(&d, "positions 5 to 6 of every group, zero");
    let d = wrong(|e, r, c| if c % N == 0 { f32::NAN } else { e(r, c) });
    says(&d, "position 0 of every group, NaN");
    let d = wrong(|e, r, c| if r == 3 && c % N == 7 { 0.0 } else { e(r, c) });
    says(&d, "position 7 of 8 groups, zero");
    let d = wrong(|e, r, c| e(r, c).max(0.0));
    assert_eq!(d.family, None, "{}", d.evidence);
}

#[test]
fn infinity_is_told_from_nan() {
    let d = wrong(|e, r, c| {
        if (3..6).contains(&r) {
            f32::INFINITY
        } else {
            e(r, c)
        }
    });
    says(&d, "rows 3 to 5, all groups, infinity");
    says(&d, "got infinity;");
    assert!(!d.evidence.contains("NaN"), "{}", d.evidence);
}

#[test]
fn small_factors_are_no_rounding() {
    let factor = |d: &Diagnosis| match &d.family {
        Some(Family::Factor {
            by, least, within, ..
        }) => (*by, *least, within.clone()),
        other => panic!("{other:?}: {}", d.evidence),
    };
    for k in [1.001, 0.999, 1.0001] {
        let (by, least, _) = factor(&wrong(|e, r, c| k * e(r, c)));
        assert_eq!(by, By::Overall);
        assert!((least - f64::from(k)).abs() < 8e-5, "{least}");
    }
    let of_group = |r: usize, c: usize| 1.0 + ((r * 7 + c / N * 5) % 11) as f32 * 2e-4;
    let d = wrong(|e, r, c| of_group(r, c) * e(r, c));
    assert_eq!(factor(&d).0, By::Group);
    let d = wrong(|e, r, c| {
        if [3, 5, 6].contains(&r) {
            1.002 * e(r, c)
        } else {
            e(r, c)
        }
    });
    let (by, _, within) = factor(&d);
    assert_eq!(
        (by, within.as_deref()),
        (By::Overall, Some("in rows 3 and 5 to 6"))
    );
    says(&d, "right values times 1.002 in rows 3 and 5 to 6:");
}

#[test]
fn too_little_is_no_rule() {
    let d = wrong(|e, r, c| if r == 5 { e(6, c) } else { e(r, c) });
    moved(&d, Moved::Rows, "row 5 holds row 6");
    let d = wrong(|e, r, c| {
        if r == 5 && c / N == 2 {
            e(r, c ^ 1)
        } else {
            e(r, c)
        }
    });
    assert_eq!(d.family, None, "{}", d.evidence);
    let d = wrong(|e, r, c| {
        if r == 5 && c < 4 {
            0.5 * e(r, c)
        } else {
            e(r, c)
        }
    });
    assert!(
        !matches!(d.family, Some(Family::Factor { .. })),
        "{}",
        d.evidence
    );
}

#[test]
fn one_small_error_is_not_everywhere() {
    let d = wrong(|e, r, c| e(r, c) + if (r, c) == (5, 300) { 0.02 } else { 0.0 });
    assert!(!d.evidence.contains("everywhere"), "{}", d.evidence);
    says(&d, "small errors in 1 element,");
}

#[test]
fn rows_in_a_regular_step_are_told_by_their_step() {
    let half = |r: usize| r.is_multiple_of(7);
    let d = wrong(|e, r, c| if half(r) { 0.5 * e(r, c) } else { e(r, c) });
    assert!(
        d.evidence.contains("in every 7th row from 0:"),
        "{}",
        d.evidence
    );
    let d = wrong(|e, r, c| match half(r) && c < 2 * N {
        true => 0.5 * e(r, c),
        false => e(r, c),
    });
    assert!(
        d.evidence
            .contains("in the wrong groups of every 7th row from 0:"),
        "{}",
        d.evidence
    );
    let d = wrong(|e, r, c| if r % 3 == 1 { f32::NAN } else { e(r, c) });
    assert!(
        d.evidence
            .contains("every 3rd row from 1 to 31, all groups, NaN;"),
        "{}",
        d.evidence
    );
    let irregular = [0, 7, 15, 21];
    let d = wrong(|e, r, c| {
        if irregular.contains(&r) {
            0.5 * e(r, c)
        } else {
            e(r, c)
        }
    });
    assert!(
        d.evidence.contains("in rows 0, 7, 15 and 21"),
        "{}",
        d.evidence
    );
}
