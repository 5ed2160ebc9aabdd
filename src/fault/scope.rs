//! Where alone an output is wrong.

use super::survey::Survey;
use crate::tensor::TqTensor;
use serde::{Deserialize, Serialize};

/// A part of a tensor outside which nothing is wrong, and in which something is nearly everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Row 0.
    FirstRow,
    /// The last row.
    LastRow,
    /// Rows 0, 2, 4, ...
    EvenRows,
    /// Rows 1, 3, 5, ...
    OddRows,
    /// The first group of each row.
    FirstGroup,
    /// The last group of each row.
    LastGroup,
    /// Groups 0, 2, 4, ... of each row.
    EvenGroups,
    /// Groups 1, 3, 5, ... of each row.
    OddGroups,
    /// Columns 0, 2, 4, ...
    EvenColumns,
    /// Columns 1, 3, 5, ...
    OddColumns,
}

/// `[first, last, even, odd]`: whether just these places are wrong, all of them.
fn places(wrong: &[bool]) -> [bool; 4] {
    let len = wrong.len();
    let just = |of: &dyn Fn(usize) -> bool| (0..len).all(|i| wrong[i] == of(i));
    let [first, last] = [just(&|i| i == 0), just(&|i| i + 1 == len)];
    // Of fewer than four, first and last say the same in plainer words.
    let parity = |odd: usize| len >= 4 && just(&|i| i % 2 == odd);
    [len > 1 && first, len > 1 && last, parity(0), parity(1)]
}

impl Only {
    pub(super) fn of(tensor: &TqTensor, survey: &Survey) -> Vec<Self> {
        let (n, per_row) = (tensor.layout().group_size(), tensor.groups_per_row());
        let rows: Vec<bool> = survey.wrong_per_row.iter().map(|w| *w > 0).collect();
        let mut groups = vec![false; per_row];
        for row in (0..rows.len()).filter(|r| rows[*r]) {
            for (group, wrong) in groups.iter_mut().enumerate() {
                *wrong = *wrong || survey.wrong_group(row, group, n);
            }
        }
        let named = |wrong: &[bool], names: [Option<Self>; 4]| {
            let held = places(wrong).into_iter().zip(names);
            held.filter_map(|(held, name)| name.filter(|_| held))
                .collect::<Vec<_>>()
        };
        let mut all = named(
            &rows,
            [Self::FirstRow, Self::LastRow, Self::EvenRows, Self::OddRows].map(Some),
        );
        // One wrong group is at the end of its row by chance.
        if survey.wrong_groups > 1 {
            all.extend(named(
                &groups,
                [
                    Self::FirstGroup,
                    Self::LastGroup,
                    Self::EvenGroups,
                    Self::OddGroups,
                ]
                .map(Some),
            ));
        }
        all.extend(named(
            &survey.positions,
            [None, None, Some(Self::EvenColumns), Some(Self::OddColumns)],
        ));
        all
    }

    /// The part in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::FirstRow => "in the first row",
            Self::LastRow => "in the last row",
            Self::EvenRows => "in even rows",
            Self::OddRows => "in odd rows",
            Self::FirstGroup => "in the first group of a row",
            Self::LastGroup => "in the last group of a row",
            Self::EvenGroups => "in even groups",
            Self::OddGroups => "in odd groups",
            Self::EvenColumns => "in even columns",
            Self::OddColumns => "in odd columns",
        }
    }
}
