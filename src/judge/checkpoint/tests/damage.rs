//! What is found of damage, and where.

use super::*;
use crate::codec::Scales;

/// A weight of 512 rows, in rows of 4,096 elements.
const ROWS: usize = 512;
const COLS: usize = 4096;

/// Normal weights, of which row 100 is 16 times as large, and the tensor that is made from them.
fn good(rng: &mut Rng, codec: &Codec) -> (Vec<f32>, TqTensor) {
    let mut w: Vec<f32> = weight(rng, "normal", ROWS, COLS);
    // E3M5 holds no scale over a half.
    w.iter_mut().for_each(|w| *w *= 0.01);
    w[100 * COLS..101 * COLS]
        .iter_mut()
        .for_each(|w| *w *= 16.0);
    let Codec { layout, codebook } = codec;
    let tensor = quantize("w", &w, COLS, *layout, &rng.signs(COLS), codebook).unwrap();
    (w, tensor)
}

/// Every codec, a good tensor of it and its weights.
fn each(mut test: impl FnMut(&str, &mut Rng, &[f32], &TqTensor)) {
    let mut rng = Rng::new(11);
    for (name, codec) in every_codec() {
        let (w, tensor) = good(&mut rng, &codec);
        test(&name, &mut rng, &w, &tensor);
    }
}

#[test]
fn one_group_of_random_codes_is_found() {
    each(|name, rng, w, good| {
        let r = judge(good, w);
        assert!(!r.damaged(), "{name}: {r:?}");
        let n = good.layout().group_size();
        let per_row = COLS / n;
        let (row, group) = (rng.below(ROWS), rng.below(per_row));
        let bytes = good.layout().packed_group();
        let bad = random(rng, good);
        let at = (row * per_row + group) * bytes;
        let bad = changed(good, |parts| {
            parts.packed[at..at + bytes].copy_from_slice(&bad.packed()[at..at + bytes]);
        });
        let r = judge(&bad, w);
        let worst = r.worst_group.unwrap();
        assert!(r.damaged(), "{name}: {r:?}");
        assert_eq!((r.damaged_groups, worst.row, worst.group), (1, row, group));
        assert_eq!(r.damaged_rows, [[row, row + 1]]);
        assert!(worst.times > 2.0, "{name}: {r:?}");
        let said = format!(
            "row {row}, group {group} (from column {} on) is ",
            group * n
        );
        assert!(r.reason.starts_with(&said), "{name}: {}", r.reason);
    });
}

#[test]
fn a_column_whose_sign_is_wrong_is_named() {
    each(|name, rng, w, good| {
        let column = rng.below(COLS);
        let bad = changed(good, |parts| parts.signs[column] *= -1);
        let r = judge(&bad, w);
        assert!(r.damaged() && r.wrong_signs.len() == 1, "{name}: {r:?}");
        let WrongSign {
            column: found,
            rows,
        } = r.wrong_signs[0];
        // It shows where the column's weight is large: in fewer rows the larger the error of the group.
        assert!(found == column && rows > 8, "{name}: {r:?}");
        let said = format!("column {column} is negated in {rows} rows: its sign is wrong");
        assert!(r.reason.starts_with(&said), "{name}: {r:?}");
        // Nor do several in one group hide each other.
        let three = [column, (column + 1) % COLS, (column + 2) % COLS];
        let bad = changed(good, |parts| {
            three.iter().for_each(|c| parts.signs[*c] *= -1)
        });
        let r = judge(&bad, w);
        let mut found: Vec<usize> = r.wrong_signs.iter().map(|s| s.column).collect();
        found.sort_unstable();
        let mut wanted = three;
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{name}: {r:?}");
        let said = "are negated, column ";
        assert!(r.reason.contains(said), "{name}: {r:?}");
    });
}

/// A scale that is `f` times the right one puts its group `f - 1` of its norm off.
#[test]
fn one_wrong_scale_is_found() {
    for (layout, codebook) in formats() {
        let mut rng = Rng::new(12);
        let (w, good) = good(&mut rng, &Codec { layout, codebook });
        let scaled = |factor: f32| {
            let bad = changed(&good, |parts| {
                let mut scales = parts.scales.f16().to_vec();
                scales[77] = f16::from_f32(scales[77].to_f32() * factor);
                parts.scales = scales.into();
            });
            judge(&bad, &w)
        };
        for factor in [2.0, 5.0, 1000.0, 0.0] {
            let r = scaled(factor);
            assert_eq!(r.damaged_groups, 1, "{layout:?}, {factor}: {r:?}");
        }
        // 2 bits are themselves so far off that this is about at the limit.
        let found = scaled(1.5).damaged_groups;
        assert!(found == 1 || layout.bits() == 2, "{layout:?}");
    }
}

#[test]
fn two_swapped_scales_are_found() {
    each(|name, _, w, good| {
        let per_row = good.scales_per_row();
        let (a, b) = (100 * per_row + 2, 101 * per_row + 2);
        let size = good.scales().stored().size();
        let bad = changed(good, |parts| {
            let mut bytes = parts.scales.le_bytes();
            (0..size).for_each(|i| bytes.swap(a * size + i, b * size + i));
            parts.scales = Scales::from_bytes(parts.scales.stored(), &bytes);
        });
        let r = judge(&bad, w);
        // Where a group has several scales, one that is too small may be within the group's limit.
        let both = good.layout().scales_per_group() == 1;
        let rows = if both { [100, 102] } else { [101, 102] };
        assert!(r.damaged_groups == 2 || !both, "{name}: {r:?}");
        assert!(
            r.damaged_rows == [rows] || r.damaged_rows == [[100, 102]],
            "{name}: {r:?}"
        );
    });
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
    let scaled = changed(&good, |parts| {
        let scales = parts.scales.iter();
        parts.scales = scales.map(|s| f16::from_f32(s * 1.5)).collect();
    });
    let scaled = judge(&scaled, &w);
    assert!(scaled.damaged(), "{scaled:?}");
    let one_row = changed(&good, |parts| {
        parts.packed[7 * row..8 * row].copy_from_slice(&bad.packed()[7 * row..8 * row]);
    });
    let one_row = judge(&one_row, &w);
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
        // From the middle of a row to the middle of another; and a row's scales.
        let tensor = changed(&good, |parts| {
            let noise = 10 * row + row / 4..12 * row + row / 2;
            parts.packed[noise.clone()].copy_from_slice(&bad.packed()[noise]);
            let mut scales = parts.scales.f16().to_vec();
            scales[300 * 8..301 * 8].fill(f16::ZERO);
            parts.scales = scales.into();
        });
        let r = in_strips(&tensor, &w);
        assert!(
            r.damaged() && r.damaged_rows == [[1010, 1013], [1300, 1301]],
            "{r:?}"
        );
        let said = "groups in rows 1010 to 1012, 1300 are further from the source than";
        assert!(r.reason.contains(said), "{}", r.reason);
        let r = in_strips(&changed(&tensor, |parts| parts.signs[5] *= -1), &w);
        let columns: Vec<usize> = r.wrong_signs.iter().map(|s| s.column).collect();
        assert_eq!(columns, [5], "{r:?}");
        let said = "column 5 is negated in ";
        assert!(
            r.reason.starts_with(said) && r.reason.contains("; "),
            "{}",
            r.reason
        );
    }
}

/// The same record from strips of any height.
fn in_strips(tensor: &TqTensor, w: &[f32]) -> CheckpointRecord {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let values = dequantize(tensor);
    let records = [rows, 1, 7].map(|strip| {
        let mut checkpoint = GroupErrorSums::new(1000, rows);
        for first in (0..rows).step_by(strip) {
            let last = rows.min(first + strip);
            let part = tensor.slice_rows(first..last).unwrap();
            let of = first * cols..last * cols;
            checkpoint.push(&part, &w[of.clone()], &values[of]);
        }
        checkpoint.finish().unwrap()
    });
    let [whole, ones, sevens] = records;
    assert!(whole == ones && whole == sevens, "{whole:?} {ones:?}");
    whole
}
