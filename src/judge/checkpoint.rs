//! The checkpoint: whether a tensor's error against its source is what the format costs.
//!
//! A group is a scale `s` times `n` centroids. A unit vector that is coded by the codebook is off by
//! `D = n * E[(x - c(x))^2]` ([`Codebook::distortion`](crate::codebook::Codebook::distortion)), so a group
//! is off by `s^2 * D`; the scale, rounded to f16, adds `ulp(s)^2 / 12`. Random codes are off by about
//! `2 * s^2` at least: 17 to 230 times as much.

use crate::record::{CheckpointRecord, CheckpointVerdict};
use crate::tensor::TqTensor;
use half::f16;
use rayon::prelude::*;

/// The rms error of a tensor is off when it is so many times the expected, or the expected so many times it.
const FACTOR: f64 = 2.0;
/// Groups in a row of which each must be off for their rows to be damaged: one group by itself may hold an
/// unusual vector.
const RUN: u64 = 4;
/// Ranges of rows that are kept.
const RANGES: usize = 16;
/// Elements of a row from which on its error is near its mean. In fewer a single value that stands out
/// after the transform may double it, and all rows of a weight of low rank share such values.
const WIDE: usize = 512;
/// Rows from which on a small error is no accident of two outliers that meet a centroid each.
const MANY_ROWS: usize = 8;
/// Groups from which on a tensor is judged for an error that is too small at all.
const MANY_GROUPS: u64 = 8;

/// What is the same in all strips of a tensor.
#[derive(Debug, Clone, Copy)]
struct Format {
    bits: u32,
    group_size: usize,
    cols: usize,
    /// Expected squared error of a coded unit vector.
    distortion: f64,
}

impl Format {
    fn of(tensor: &TqTensor) -> Self {
        let layout = tensor.layout();
        Self {
            bits: layout.bits(),
            group_size: layout.group_size(),
            cols: tensor.cols(),
            distortion: tensor.codebook().distortion(layout.group_size()),
        }
    }

    fn groups_per_row(self) -> u64 {
        (self.cols / self.group_size) as u64
    }

    /// How many times the expected squared error a group is off when it is damaged: midway, as a
    /// factor, between an encoder's and random codes.
    fn far(self) -> f64 {
        (2.0 / self.distortion).sqrt()
    }

    /// `4 bits in groups of 128`.
    fn words(self) -> String {
        format!("{} bits in groups of {}", self.bits, self.group_size)
    }
}

/// Sums over the groups seen so far, in row-major order: the same for any strips.
#[derive(Debug)]
pub(super) struct Checkpoint {
    first_row: usize,
    rows: usize,
    format: Option<Format>,
    groups: u64,
    measured: f64,
    expected: f64,
    /// The expected squared error with the rounding of every scale at its worst, and without it.
    most: f64,
    least: f64,
    /// Groups up to here that are off, without one between that is not; and those of the row so far.
    run: u64,
    run_of_row: u64,
    /// Measured and most expected squared error of each group of a row, over all rows.
    columns: Vec<[f64; 2]>,
    damaged: Vec<[usize; 2]>,
}

impl Checkpoint {
    /// Nothing seen of `rows` rows from `first_row` on.
    pub(super) fn new(first_row: usize, rows: usize) -> Self {
        Self {
            first_row,
            rows,
            format: None,
            groups: 0,
            measured: 0.0,
            expected: 0.0,
            most: 0.0,
            least: 0.0,
            run: 0,
            run_of_row: 0,
            columns: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// Takes the next rows in, with the source's weights and the reference's values.
    pub(super) fn push(&mut self, tensor: &TqTensor, source: &[f32], reference: &[f32]) {
        let format = *self.format.get_or_insert_with(|| Format::of(tensor));
        let n = format.group_size;
        let squares: Vec<f64> = source
            .par_chunks_exact(n)
            .zip(reference.par_chunks_exact(n))
            .with_min_len(256)
            .map(|(a, b)| {
                let squared = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
                a.iter().zip(b).map(squared).sum()
            })
            .collect();
        for (scale, squared) in tensor.scales().iter().zip(squares) {
            self.group(format, *scale, squared);
        }
    }

    fn group(&mut self, format: Format, scale: f16, squared: f64) {
        let coded = f64::from(scale).powi(2) * format.distortion;
        let step = step(scale).powi(2);
        let most = coded + step / 4.0;
        self.measured += squared;
        self.expected += coded + step / 12.0;
        self.most += most;
        self.least += coded;
        let per_row = format.groups_per_row();
        let column = (self.groups % per_row) as usize;
        self.columns.resize(per_row as usize, [0.0; 2]);
        self.columns[column][0] += squared;
        self.columns[column][1] += most;
        self.groups += 1;
        // A NaN in the source is off.
        let near = squared <= format.far() * most;
        self.run = if near { 0 } else { self.run + 1 };
        if column == 0 {
            self.run_of_row = 0;
        }
        self.run_of_row += u64::from(!near);
        // A whole row of two or three is as telling.
        let needed = match self.run_of_row {
            2.. if self.run_of_row == per_row => self.run_of_row.min(RUN),
            _ => RUN.min(self.rows as u64 * per_row),
        };
        if self.run >= needed {
            let first = self.groups - needed.max(1);
            self.damage(first / format.groups_per_row(), self.groups - 1, format);
        }
    }

    /// Rows from `first` on to that of group `last` are damaged.
    fn damage(&mut self, first: u64, last: u64, format: Format) {
        let first = self.first_row + first as usize;
        let end = self.first_row + (last / format.groups_per_row()) as usize + 1;
        let kept = self.damaged.len();
        match self.damaged.last_mut() {
            Some(range) if range[1] >= first => range[1] = range[1].max(end),
            _ if kept < RANGES => self.damaged.push([first, end]),
            _ => {}
        }
    }

    /// How many times the expected a squared error may be, and must be.
    fn limits(&self, format: Format) -> (f64, f64) {
        let square = FACTOR * FACTOR;
        let wide = format.cols >= WIDE;
        // Values that stand out do so in the same group of all rows; damage knows no groups.
        let everywhere = self.columns.len() > 1
            && self
                .columns
                .iter()
                .all(|[measured, most]| *measured > square * most);
        let most = if wide || everywhere {
            square
        } else {
            square.max(format.far())
        };
        let least = match self.groups {
            0..MANY_GROUPS => 0.0,
            _ if wide && self.rows >= MANY_ROWS => 1.0 / square,
            _ => 0.01,
        };
        (most, least)
    }

    /// The record of all rows; `None` when none was seen.
    pub(super) fn finish(self) -> Option<CheckpointRecord> {
        let format = self.format?;
        let (most, least) = self.limits(format);
        let elements = (self.groups * format.group_size as u64) as f64;
        let ratio = (self.measured / self.expected).sqrt();
        // A NaN in the source is off.
        let within = self.measured <= most * self.most;
        let near = self.measured < least * self.least;
        let all = [[self.first_row, self.first_row + self.rows]];
        let (cost, other) = (format.words(), "or the source is another model's");
        let (damaged, reason) = if !self.damaged.is_empty() && self.damaged != all {
            let rows = ranges(&self.damaged);
            let what = format!("{rows} are further from the source than {cost} put them");
            (true, format!("{what}: they are damaged, {other}"))
        } else if !within || !self.damaged.is_empty() {
            let what =
                format!("the rms error against the source is {ratio:.2} times what {cost} cost");
            (true, format!("{what}: the tensor is damaged, {other}"))
        } else if near {
            let what = format!("the source is nearer than {cost} can be");
            let times = format!("rms error {ratio:.3} times the expected");
            (
                true,
                format!("{what} ({times}): it was itself made from this model"),
            )
        } else {
            let what =
                format!("the rms error against the source is {ratio:.2} times what {cost} cost");
            (false, what)
        };
        Some(CheckpointRecord {
            verdict: if damaged {
                CheckpointVerdict::DamagedOrAnotherSource
            } else {
                CheckpointVerdict::AsExpected
            },
            expected_rms: (self.expected / elements).sqrt(),
            measured_rms: (self.measured / elements).sqrt(),
            ratio,
            damaged_rows: self.damaged,
            reason,
        })
    }
}

/// Distance of a scale from the next larger one.
fn step(scale: f16) -> f64 {
    let exponent = i32::from(scale.to_bits() >> 10 & 0x1F);
    2f64.powi(exponent.max(1) - 25)
}

/// The first three ranges in words.
fn ranges(all: &[[usize; 2]]) -> String {
    let first: Vec<String> = all
        .iter()
        .take(3)
        .map(|r| format!("{}..{}", r[0], r[1]))
        .collect();
    let others = if all.len() > first.len() {
        " and others"
    } else {
        ""
    };
    format!("rows {}{others}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codebook::Codebook;
    use crate::encode::quantize;
    use crate::reference::dequantize;
    use crate::synthetic::{Rng, Scales, tensor};
    use crate::tensor::{GROUP_SIZES, Layout, Parts};
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
        let mut checkpoint = Checkpoint::new(0, tensor.rows());
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
        let codes = tensor(rng, layout, shape[0], shape[1], Scales::Usual).unwrap();
        let parts = Parts {
            packed: codes.packed().to_vec(),
            scales: of.scales().to_vec(),
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
            let (mut packed, mut scales) = (good.packed().to_vec(), good.scales().to_vec());
            change(&mut packed, &mut scales);
            let parts = Parts {
                packed,
                scales,
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
            let mut scales = good.scales().to_vec();
            scales[300 * 8..301 * 8].fill(f16::ZERO);
            let parts = Parts {
                packed,
                scales,
                signs,
            };
            let tensor =
                TqTensor::new("w", layout, [rows, cols], parts, Arc::clone(&book)).unwrap();
            let values = dequantize(&tensor);
            let mut records = Vec::new();
            for strip in [400, 1, 7] {
                let mut checkpoint = Checkpoint::new(1000, rows);
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

    #[test]
    fn steps_of_f16() {
        for bits in [0u16, 1, 0x3FF, 0x400, 0x401, 0x3C00, 0x7BFE] {
            let (a, b) = (f16::from_bits(bits), f16::from_bits(bits + 1));
            assert_eq!(step(a), f64::from(b) - f64::from(a), "{bits:#x}");
        }
    }
}
