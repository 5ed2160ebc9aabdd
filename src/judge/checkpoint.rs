//! The checkpoint: whether a tensor's error against its source is what the format costs.
//!
//! A group is a scale `s` times `n` centroids. A unit vector that is coded by the codebook is off by
//! `D = n * E[(x - c(x))^2]` ([`Codebook::distortion`](crate::codebook::Codebook::distortion)), so a group
//! is off by `s^2 * D`; the scale, rounded to its type, adds `ulp(s)^2 / 12`. (Where a scale is a deviation, a
//! vector of as many elements as share it is off by as many times `s^2 * D`, `D` of one element.) Random codes are off by about
//! `2 * s^2` at least: 17 to 230 times as much.
//!
//! That is a mean, and a vector may be unusual. A group that is further off is damaged when correct codes of this
//! very vector would be much nearer ([`group`]); how much, the tensor's other groups tell by their encoder.

mod damage;
mod group;
mod reason;
mod vectors;

use crate::decimal::fixed;
use crate::record::{CheckpointRecord, CheckpointVerdict, DamagedGroup, WrongSign};
use crate::tensor::TqTensor;
use damage::{ColumnSigns, Damage};
use group::{CodecConstants, FACTOR, GroupError, NEAR, NEAREST};
use rayon::prelude::*;

/// Columns that are kept.
const COLUMNS: usize = 16;
/// One group in so many that is further off than the nearest centroids put it tells of an encoder that does not
/// take these: of one that does, none is.
const OTHER_ENCODER: u64 = 100;
/// Elements of a row from which on its error is near its mean.
const WIDE: usize = 512;
/// Rows from which on a small error is no accident of two outliers that meet a centroid each.
const MANY_ROWS: usize = 8;
/// Groups from which on a tensor is judged for an error that is too small at all.
const MANY_GROUPS: u64 = 8;

/// Sums over the groups seen so far, in row-major order: the same for any strips.
#[derive(Debug)]
pub(super) struct GroupErrorSums {
    first_row: usize,
    rows: usize,
    format: Option<CodecConstants>,
    groups: u64,
    measured: f64,
    expected: f64,
    /// Of groups that are not near by the make of their weights: how many, their measured squared error, and the
    /// expected without the rounding of scales.
    usual: (u64, f64, f64),
    /// The expected squared error, or what correct codes could have where that was looked at.
    possible: f64,
    /// Groups that are further off than the nearest centroids put them, but not damaged.
    not_nearest: u64,
    /// What is damaged if the encoder takes the nearest centroids, and what is if it does not.
    damage: [Damage; 2],
    signs: ColumnSigns,
    /// Of the groups of a strip: memory that is used again.
    errors: Vec<GroupError>,
}

impl GroupErrorSums {
    /// Nothing seen of `rows` rows from `first_row` on.
    pub(super) fn new(first_row: usize, rows: usize) -> Self {
        Self {
            first_row,
            rows,
            format: None,
            groups: 0,
            measured: 0.0,
            expected: 0.0,
            usual: (0, 0.0, 0.0),
            possible: 0.0,
            not_nearest: 0,
            damage: [Damage::default(), Damage::default()],
            signs: ColumnSigns::default(),
            errors: Vec::new(),
        }
    }

    /// Takes the next rows in, with the source's weights and the reference's values.
    pub(super) fn push(&mut self, tensor: &TqTensor, source: &[f32], reference: &[f32]) {
        let format = *self
            .format
            .get_or_insert_with(|| CodecConstants::of(tensor));
        let (n, per_row) = (format.group_size, format.groups_per_row());
        // The weight's columns: what pads its rows was zero, and is not compared.
        let cols = source.len() / tensor.rows();
        let mut errors = std::mem::take(&mut self.errors);
        (0..tensor.rows() * per_row)
            .into_par_iter()
            .with_min_len(128)
            .map(|group| {
                let (row, first) = (group / per_row, group % per_row * n);
                let columns = row * cols + first..row * cols + cols.min(first + n);
                let (a, b) = (&source[columns.clone()], &reference[columns]);
                format.measure(tensor, group, a, b)
            })
            .collect_into_vec(&mut errors);
        for error in &errors {
            self.add(format, error);
        }
        self.errors = errors;
    }

    fn add(&mut self, format: CodecConstants, error: &GroupError) {
        let (row, group) = (
            self.groups as usize / format.groups_per_row(),
            self.groups as usize % format.groups_per_row(),
        );
        self.groups += 1;
        self.measured += error.squared;
        self.expected += error.coded + error.step / 12.0;
        if error.usual {
            let (groups, measured, coded) = self.usual;
            self.usual = (groups + 1, measured + error.squared, coded + error.coded);
        }
        let Some(suspect) = &error.suspect else {
            self.possible += error.coded + error.step / 4.0;
            return;
        };
        self.possible += suspect.least;
        let first = group * format.group_size;
        self.signs.add(first, suspect.negated, suspect.kept);
        let explained = !suspect.negated.is_empty();
        if !explained && (NEAREST..=FACTOR).contains(&suspect.times) {
            self.not_nearest += 1;
        }
        let found = DamagedGroup {
            row: self.first_row + row,
            group,
            times: suspect.times.sqrt(),
        };
        for (damage, factor) in self.damage.iter_mut().zip([FACTOR, format.loose_factor()]) {
            if suspect.times > factor {
                damage.add(found, explained);
            }
        }
    }

    /// Whether the source is nearer than the format can be to what it did not make.
    fn too_near(&self, format: CodecConstants) -> bool {
        let (groups, measured, coded) = self.usual;
        let least = match groups {
            0..MANY_GROUPS => 0.0,
            _ if format.cols >= WIDE && self.rows >= MANY_ROWS => NEAR,
            _ => 0.01,
        };
        measured < least * coded
    }

    /// The record of all rows; `None` when none was seen.
    pub(super) fn finish(self) -> Option<CheckpointRecord> {
        let format = self.format?;
        let elements = (self.groups * format.group_size as u64) as f64;
        let ratio = (self.measured / self.expected).sqrt();
        let mut signs = self.signs.wrong();
        let near = self.too_near(format);
        let off = self.measured > FACTOR * self.possible;
        let [strict, loose] = &self.damage;
        let other_encoder = self.not_nearest * OTHER_ENCODER > self.groups;
        let damage = match other_encoder && (loose.groups > 0 || !off) {
            true => loose,
            false => strict,
        };
        let damaged = damage.groups > 0 || !signs.is_empty() || near || off;
        let reason = self.reason(format, ratio, &signs, damage, near);
        signs.truncate(COLUMNS);
        Some(CheckpointRecord {
            verdict: if damaged {
                CheckpointVerdict::DamagedOrAnotherSource
            } else {
                CheckpointVerdict::AsExpected
            },
            expected_rms: (self.expected / elements).sqrt(),
            measured_rms: (self.measured / elements).sqrt(),
            ratio,
            damaged_rows: damage.rows.clone(),
            damaged_groups: damage.groups,
            worst_group: damage.worst,
            wrong_signs: signs,
            reason,
        })
    }

    fn reason(
        &self,
        format: CodecConstants,
        ratio: f64,
        signs: &[WrongSign],
        damage: &Damage,
        near: bool,
    ) -> String {
        let cost = format.words();
        let times = fixed(ratio, 2);
        let whole = format!("the rms error against the source is {times} times what {cost} cost");
        let groups = damage.worst.map(|worst| {
            if damage.groups * 2 > self.groups && worst.times.is_finite() {
                reason::everywhere(&whole)
            } else {
                reason::groups(damage, worst, format.group_size, &cost)
            }
        });
        match (groups, signs) {
            (Some(groups), [_, ..]) if damage.unexplained > 0 => {
                format!("{}; {groups}", reason::wrong_signs(signs))
            }
            (_, [_, ..]) => reason::wrong_signs(signs),
            (Some(groups), []) => groups,
            (None, []) if near => format!(
                "the source is nearer than {cost} can be (rms error {ratio:.3} times the expected): it was itself made from this model"
            ),
            (None, []) => whole,
        }
    }
}

#[cfg(test)]
mod tests;
