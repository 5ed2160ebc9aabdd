//! The groups that are damaged, and the columns whose sign is wrong.

use crate::codec::MAX_GROUP;
use crate::record::{DamagedGroup, WrongSign};
use std::cmp::Reverse;

/// Ranges of rows that are kept.
const RANGES: usize = 16;
/// Rows that a wrong sign must show in: one may be chance.
const SIGN_ROWS: u64 = 3;
/// Rows that show a wrong sign for each that shows a right one.
const SIGN_SHARE: u64 = 4;

/// Damaged groups in row-major order.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub(super) groups: u64,
    /// Groups that no negated columns explain.
    pub(super) unexplained: u64,
    pub(super) worst: Option<DamagedGroup>,
    pub(super) rows: Vec<[usize; 2]>,
}

impl Damage {
    /// Takes the next damaged group in.
    pub(super) fn add(&mut self, group: DamagedGroup, explained: bool) {
        self.groups += 1;
        self.unexplained += u64::from(!explained);
        if self.worst.is_none_or(|worst| group.times > worst.times) {
            self.worst = Some(group);
        }
        let (row, kept) = (group.row, self.rows.len());
        match self.rows.last_mut() {
            Some(range) if range[1] >= row => range[1] = row + 1,
            _ if kept < RANGES => self.rows.push([row, row + 1]),
            _ => {}
        }
    }
}

/// Some of a group's elements, a bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Elements([u64; MAX_GROUP / 64]);

impl Elements {
    /// Those with this property.
    pub(super) fn with(elements: usize, property: impl Fn(usize) -> bool) -> Self {
        let mut bits = [0; MAX_GROUP / 64];
        for i in 0..elements {
            bits[i / 64] |= u64::from(property(i)) << (i % 64);
        }
        Self(bits)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(word, &bits)| {
            let mut left = bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(64 * word + bit)
            })
        })
    }
}

/// Of each column, the rows in which it has the other sign than the source, and in which it has the source's.
#[derive(Debug, Default)]
pub(super) struct ColumnSigns(Vec<[u64; 2]>);

impl ColumnSigns {
    /// Takes a group in: its first column, the elements with the other sign, and those with the same.
    pub(super) fn add(&mut self, first: usize, negated: Elements, kept: Elements) {
        for (which, elements) in [negated, kept].into_iter().enumerate() {
            for i in elements.iter() {
                let column = first + i;
                if self.0.len() <= column {
                    self.0.resize(column + 1, [0; 2]);
                }
                self.0[column][which] += 1;
            }
        }
    }

    /// Columns whose sign is wrong, those that show it in most rows first.
    pub(super) fn wrong(&self) -> Vec<WrongSign> {
        let all = self.0.iter().enumerate();
        let wrong = all
            .filter(|(_, [negated, kept])| *negated >= SIGN_ROWS && *negated >= SIGN_SHARE * kept);
        let mut wrong: Vec<_> = wrong
            .map(|(column, &[rows, _])| WrongSign { column, rows })
            .collect();
        wrong.sort_by_key(|sign| Reverse(sign.rows));
        wrong
    }
}
