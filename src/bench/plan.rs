//! What is timed: shapes, the least bytes that they move, and the rows that fit.

use crate::error::{Error, Result};
use crate::lane::{Slot, decode};
use crate::record::LaneInfo;
use crate::strip::Strip;
use crate::synthetic::{self, Rng, ScaleDistribution};
use crate::tensor::{Layout, TqTensor};
use std::time::Duration;

/// Shapes that are timed when none is asked for: one so small that setup may rule it, the linear layers of a
/// model with 4096 columns, and its vocabulary, which is cut.
pub const DEFAULT_SHAPES: [[usize; 2]; 5] = [
    [1024, 1024],
    [4096, 4096],
    [12288, 4096],
    [4096, 12288],
    [248_320, 4096],
];

/// Elements of the piece that [`round_seconds`] times.
const PROBE_ELEMENTS: usize = 1 << 21;

/// Host memory that a lane takes whatever the shape: its chunk of inputs, of results and what it reads.
const LANE_BYTES: u64 = 1 << 30;

/// Bytes of the copy that flushes the caches of these devices, by their drivers' names: it touches twice as
/// many. The last-level cache of AMD's Instinct MI300 and later has 256 MiB, others' at most 128.
pub fn flush_bytes<'a>(devices: impl IntoIterator<Item = &'a str>) -> u64 {
    const LARGE: [&str; 4] = ["MI300", "MI325", "MI350", "MI355"];
    let is_large = |name: &str| LARGE.iter().any(|l| name.to_uppercase().contains(l));
    if devices.into_iter().any(is_large) {
        1 << 30
    } else {
        1 << 28
    }
}

/// A shape such as `4096x12288`: rows, then columns.
///
/// # Errors
/// When the text is not two positive numbers with an `x` between, or the columns are not a multiple of
/// the group size.
pub fn parse_shape(text: &str, layout: Layout) -> Result<[usize; 2]> {
    let place = || format!("shape {text}");
    let numbers = text
        .split_once(['x', 'X'])
        .and_then(|(r, c)| Some([r.parse::<usize>().ok()?, c.parse::<usize>().ok()?]));
    let Some(shape @ [rows, cols]) = numbers.filter(|s| !s.contains(&0)) else {
        return Err(Error::input(
            format!("{text:?} found, expected ROWSxCOLUMNS"),
            place(),
            "for example 4096x12288",
        ));
    };
    let n = layout.group_size();
    if !cols.is_multiple_of(n) {
        return Err(Error::input(
            format!("{cols} columns are not a multiple of the group size {n}"),
            place(),
            "choose other columns, or another group size",
        ));
    }
    if rows.checked_mul(cols).is_none_or(|e| e as u64 > 1 << 40) {
        return Err(Error::input(
            format!("{rows} x {cols} elements are more than 2^40"),
            place(),
            "choose fewer rows",
        ));
    }
    Ok(shape)
}

/// A synthetic tensor of that shape, the same on every machine.
///
/// # Errors
/// When the columns are not a multiple of the group size.
pub fn synthetic(layout: Layout, [rows, cols]: [usize; 2]) -> Result<TqTensor> {
    let mut rng = Rng::new(0x7104_BE7C);
    synthetic::tensor(&mut rng, layout, rows, cols, ScaleDistribution::Usual)
}

/// Least bytes that decoding `tensor` to BF16 must move: codes, scales and signs once, the result once.
pub fn least_bytes(tensor: &TqTensor) -> u64 {
    (tensor.bytes() + 2 * tensor.elements()) as u64
}

/// Least bytes per element without the signs, which are shared by all rows.
pub fn bytes_per_element(layout: Layout) -> f64 {
    layout.group_bytes() as f64 / layout.group_size() as f64 + 2.0
}

/// Rows of `cols` columns that fit `available` bytes of host memory with all lanes at work, at least 1.
pub fn rows_in_memory(
    layout: Layout,
    cols: usize,
    slots: &[Slot],
    available: u64,
    copy_bytes: u64,
) -> usize {
    let in_host = |d: &LaneInfo| d.software || d.api != "CUDA";
    let busy = slots
        .iter()
        .filter(|s| matches!(s, Slot::Live(lane) if in_host(lane.info())))
        .count() as u64;
    let fixed = busy * (LANE_BYTES + 2 * copy_bytes);
    // The tensor, the result to judge, what a call returns, and each lane's own.
    let per_element = bytes_per_element(layout) * (1 + busy) as f64 + 4.0;
    let per_row = per_element * cols as f64;
    ((available.saturating_sub(fixed) as f64 / per_row) as usize).max(1)
}

/// Seconds that one round over all lanes takes for each row of `cols` columns, from a small piece. A lane
/// that breaks counts for nothing: it is reported when its turn comes.
///
/// # Errors
/// When the columns are not a multiple of the group size.
pub fn round_seconds(layout: Layout, cols: usize, slots: &mut [Slot]) -> Result<f64> {
    let rows = (PROBE_ELEMENTS / cols).max(1);
    let strip = Strip::of(synthetic(layout, [rows, cols])?);
    let mut seconds = 0.0;
    for lane in slots.iter_mut().filter_map(Slot::lane) {
        // The first call makes pipelines and buffers.
        if decode(lane, &strip).is_ok()
            && let Ok((_, call)) = decode(lane, &strip)
        {
            // Cold, warm and end to end.
            seconds += 3.0 * call.wall.as_secs_f64();
        }
    }
    Ok(seconds / rows as f64)
}

/// The power of two at or below: rows are cut to one, so that runs under differing load cut alike and
/// their records can be compared.
pub fn round_rows(rows: usize) -> usize {
    1 << rows.max(1).ilog2()
}

/// Rows with which `rounds` rounds end within `limit`, at least 1.
pub fn rows_in_time(seconds_per_row: f64, limit: Duration, rounds: u32) -> usize {
    ((limit.as_secs_f64() / f64::from(rounds) / seconds_per_row) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_copy_flushes_the_largest_cache_there_is() {
        assert_eq!(flush_bytes([]), 256 << 20);
        let usual = ["llvmpipe (LLVM 15.0.6, 256 bits)", "NVIDIA H200"];
        assert_eq!(flush_bytes(usual), 256 << 20);
        let large = ["NVIDIA H200", "AMD Instinct MI300X (RADV GFX942)"];
        assert_eq!(flush_bytes(large), 1 << 30);
    }

    #[test]
    fn shapes_are_read_and_wrong_ones_refused() {
        let layout = Layout::new(4, 128).unwrap();
        assert_eq!(parse_shape("12x256", layout).unwrap(), [12, 256]);
        for bad in [
            "",
            "12",
            "x",
            "12x",
            "0x128",
            "128x0",
            "-1x128",
            "12x100",
            "9x9x128",
            "99999999999x128",
            "18446744073709551616x128",
        ] {
            let e = parse_shape(bad, layout).unwrap_err();
            assert!(matches!(e, Error::Input(_)), "{bad}: {e}");
        }
    }

    #[test]
    fn rows_are_cut_to_powers_of_two() {
        for (rows, cut) in [(0, 1), (1, 1), (5, 4), (4096, 4096), (122_247, 65_536)] {
            assert_eq!(round_rows(rows), cut);
        }
    }

    #[test]
    fn bytes_are_those_of_the_parts() {
        for (bits, group, per_element) in [(4, 128, 2.515625), (3, 32, 2.5625), (2, 256, 2.2578125)]
        {
            let layout = Layout::new(bits, group).unwrap();
            let t = synthetic(layout, [8, 512]).unwrap();
            assert_eq!(bytes_per_element(layout), per_element);
            let elements = 8 * 512;
            assert_eq!(
                least_bytes(&t) as f64,
                f64::from(elements) * per_element + 512.0
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,30}") {
            let _ = parse_shape(&text, Layout::new(4, 32).unwrap());
        }

        #[test]
        fn cut_rows_fit(available in 0u64..1 << 40, cols in 1usize..64) {
            let layout = Layout::new(4, 128).unwrap();
            let cpu = crate::lane::cpu::Cpu::new(crate::record::OutputType::Bf16);
            let lanes = [Slot::Live(Box::new(cpu))];
            let cols = cols * 128;
            let rows = rows_in_memory(layout, cols, &lanes, available, 1 << 20);
            let need = |rows: usize| {
                (LANE_BYTES + (2 << 20)) as f64
                    + rows as f64 * cols as f64 * (bytes_per_element(layout) * 2.0 + 4.0)
            };
            prop_assert!(rows == 1 || need(rows) <= available as f64 * (1.0 + 1e-9));
            prop_assert!(need(rows + 1) > available as f64 * (1.0 - 1e-9));
        }

        #[test]
        fn rows_in_time_end_in_time(per_row in 1e-9f64..1.0, limit in 1u64..100) {
            let rows = rows_in_time(per_row, Duration::from_secs(limit), 8);
            prop_assert!(rows == 1 || rows as f64 * per_row * 8.0 <= limit as f64 * (1.0 + 1e-9));
        }
    }
}
