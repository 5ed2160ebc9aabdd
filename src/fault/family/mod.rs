//! What kind of error an output has that no fault of the catalogue explains.

mod factor;
mod moved;
pub(super) mod place;
pub(super) mod regions;
mod rule;
mod small;

pub use regions::{Holds, Region};

use super::output::Got;
use super::survey::{Survey, reference, step, strips};
use crate::counted::counted;
use crate::tensor::TqTensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Wrong groups that a family is looked for in.
const GROUPS: u64 = 1024;
/// Share of the wrong groups that a rule must hold in.
const MOST: f64 = 0.95;

/// What is put in another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// The elements of each group.
    InGroup,
    /// The elements of each row.
    InRow,
    /// Whole groups; index: row times groups of a row, plus group.
    Groups,
    /// Whole rows.
    Rows,
    /// The elements of square tiles.
    InTile,
}

/// What has a factor, or a sign, of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The output as a whole.
    Overall,
    /// Each row.
    Row,
    /// The groups at one place of their rows.
    GroupOfRow,
    /// Each group.
    Group,
    /// The elements at one place of their groups.
    Position,
    /// Each column.
    Column,
    /// No rule was found.
    Element,
}

/// A kind of error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Family {
    /// Right values in wrong places.
    Permutation {
        /// What is moved.
        of: Moved,
        /// Where each comes from, as `got[i] = expected[...]`.
        rule: String,
        /// Whether only the magnitudes are moved so.
        up_to_sign: bool,
        /// Wrong groups in which the rule holds.
        groups: u64,
    },
    /// The values times a constant.
    Factor {
        /// What has one constant.
        by: By,
        /// Least constant.
        least: f64,
        /// Largest constant.
        largest: f64,
        /// rms of what the constants leave over, as a share of the output.
        residual: f64,
        /// Where alone, in words; null where every group is wrong.
        within: Option<String>,
    },
    /// Right magnitudes, wrong signs.
    Signs {
        /// What has one sign.
        by: By,
        /// Share of the wrong groups' elements that are flipped.
        flipped: f64,
        /// Where alone, in words; null where every group is wrong.
        within: Option<String>,
    },
    /// No element is more than one step of its type off.
    Rounding {
        /// Elements that are too small in magnitude.
        toward_zero: u64,
        /// Elements that are too large.
        away: u64,
    },
    /// Nothing was computed in parts of the output.
    Regions {
        /// The first regions, in order.
        regions: Vec<Region>,
        /// How many regions there are.
        count: u64,
        /// Wrong elements in none of them.
        others: u64,
    },
    /// Nothing was computed at some positions of groups.
    Positions {
        /// The positions, `[first, last]` of each run.
        positions: Vec<[usize; 2]>,
        /// What is there.
        holds: Holds,
        /// How many groups; null for every one.
        groups: Option<u64>,
    },
    /// An error of the size that arithmetic in a smaller type makes.
    SmallError {
        /// Mean error as a share of the rms of the values.
        relative: f64,
        /// The arithmetic whose error is of this size; null where too few elements are wrong to tell.
        like: Option<String>,
        /// Wrong elements; null where they are more than half of all.
        wrong: Option<u64>,
    },
}

/// A group with something wrong in it.
struct WrongGroup {
    row: usize,
    group: usize,
    /// The reference before and after it is rounded.
    reference: Vec<f32>,
    expected: Vec<f32>,
    got: Vec<f32>,
    /// Wrong elements.
    wrong: usize,
}

/// What a family is looked for in.
struct View<'a> {
    tensor: &'a TqTensor,
    got: Got<'a>,
    survey: &'a Survey,
    /// Some of the wrong groups, spread over all.
    wrong: Vec<WrongGroup>,
}

impl View<'_> {
    fn n(&self) -> usize {
        self.tensor.layout().group_size()
    }

    /// Whether a value is the expected one, give or take one step.
    fn close(&self, got: f32, expected: f32) -> bool {
        got == expected || (got - expected).abs() <= step(self.got.of()) * expected.abs()
    }

    fn expected(&self, first: usize, count: usize) -> Vec<f32> {
        let values = reference(self.tensor, first, count);
        values.into_iter().map(|v| self.got.round(v)).collect()
    }

    /// The rows with something wrong.
    fn wrong_rows(&self) -> impl Iterator<Item = usize> {
        let rows = self.survey.wrong_per_row.iter().enumerate();
        rows.filter(|(_, wrong)| **wrong > 0).map(|(row, _)| row)
    }

    /// The wrong groups for which `holds(row, group, expected, got)`.
    fn count(&self, holds: impl Fn(usize, usize, &[f32], &[f32]) -> bool + Sync) -> u64 {
        let (cols, n) = (self.tensor.cols(), self.n());
        let strip = |(first, count): (usize, usize)| {
            let expected = self.expected(first, count);
            let rows = expected.par_chunks(cols).enumerate().map(|(i, expected)| {
                let (row, got) = (first + i, self.got.row(first + i));
                (0..cols / n)
                    .filter(|g| self.survey.wrong_group(row, *g, n))
                    .filter(|g| {
                        let at = g * n..(g + 1) * n;
                        holds(row, *g, &expected[at.clone()], &got[at])
                    })
                    .count() as u64
            });
            rows.sum::<u64>()
        };
        strips(self.tensor).map(strip).sum()
    }

    fn most(&self, groups: u64) -> bool {
        groups as f64 >= MOST * self.survey.wrong_groups as f64
    }
}

/// The kind of error that an output has.
pub(super) fn find(tensor: &TqTensor, got: Got<'_>, survey: &Survey) -> Option<Family> {
    let n = tensor.layout().group_size();
    let every = survey.wrong_groups.div_ceil(GROUPS).max(1);
    let mut view = View {
        tensor,
        got,
        survey,
        wrong: Vec::new(),
    };
    let mut seen = 0;
    for row in view.wrong_rows().collect::<Vec<_>>() {
        let mut values = None;
        for group in 0..tensor.groups_per_row() {
            if !survey.wrong_group(row, group, n) {
                continue;
            }
            if seen % every == 0 {
                let (reference, got) =
                    values.get_or_insert_with(|| (reference(tensor, row, 1), got.row(row)));
                let at = group * n..(group + 1) * n;
                view.wrong.push(WrongGroup {
                    row,
                    group,
                    reference: reference[at.clone()].to_vec(),
                    expected: (reference[at.clone()].iter().map(|v| view.got.round(*v))).collect(),
                    wrong: at.clone().filter(|c| survey.wrong_at(row, *c)).count(),
                    got: got[at].to_vec(),
                });
            }
            seen += 1;
        }
    }
    regions::find(&view)
        .or_else(|| regions::positions(&view))
        .or_else(|| factor::find(&view))
        .or_else(|| small::rounding(&view))
        .or_else(|| moved::rows(&view))
        .or_else(|| moved::groups(&view))
        .or_else(|| moved::in_group(&view, false))
        .or_else(|| factor::signs(&view))
        .or_else(|| moved::in_row(&view))
        .or_else(|| moved::in_tile(&view))
        .or_else(|| moved::in_group(&view, true))
        .or_else(|| small::error(&view))
}

impl By {
    fn words(self, within: Option<&str>) -> String {
        let by = match self {
            Self::Overall => return within.unwrap_or("overall").into(),
            Self::Row => "for each row",
            Self::GroupOfRow => "for each place of a group in its row",
            Self::Group => "for each group",
            Self::Position => "for each position in the group",
            Self::Column => "for each column",
            Self::Element => "without a rule",
        };
        within.map_or_else(|| by.into(), |within| format!("{by} {within}"))
    }
}

impl Family {
    /// The kind alone, without the figures of one output.
    pub fn kind(&self) -> String {
        match self {
            Self::Permutation {
                of,
                rule,
                up_to_sign,
                ..
            } => {
                let what = match of {
                    Moved::InGroup => "within each group",
                    Moved::InRow => "within each row",
                    Moved::Groups => "of whole groups (row-major index)",
                    Moved::Rows => "of whole rows",
                    Moved::InTile => "within square tiles",
                };
                let sign = if *up_to_sign { ", but for signs" } else { "" };
                format!("right values in wrong places {what}{sign}: {rule}")
            }
            Self::Factor { by, within, .. } => {
                let by = by.words(within.as_deref());
                format!("right values times a constant {by}")
            }
            Self::Signs { by, within, .. } => {
                let by = by.words(within.as_deref());
                format!("right magnitudes with wrong signs {by}")
            }
            Self::Rounding { .. } => "rounding only".into(),
            Self::Regions { .. } => "nothing was computed in parts of the output".into(),
            Self::Positions {
                positions, holds, ..
            } => {
                let positions = place::list("position", positions);
                format!("{positions} of groups, {}", holds.words())
            }
            Self::SmallError { like, .. } => match like {
                Some(like) => format!("small errors as of {like}"),
                None => "small errors".into(),
            },
        }
    }

    /// The kind of error in words, with its figures.
    pub fn words(&self) -> String {
        match self {
            Self::Permutation { groups, .. } => {
                format!("{}, in {}", self.kind(), counted(*groups, "group"))
            }
            Self::Factor {
                by,
                least,
                largest,
                residual,
                within,
            } => {
                let [low, high] = [least, largest].map(|f| factor::text(*f, *residual));
                let factors = if low == high {
                    let by = by.words(within.as_deref());
                    format!("right values times {low} {by}:")
                } else {
                    format!("{}: from {low} to {high},", self.kind())
                };
                format!("{factors} {residual:.1e} left over")
            }
            Self::Signs { flipped, .. } => format!(
                "{}: {:.2} % flipped in the wrong groups",
                self.kind(),
                100.0 * flipped
            ),
            Self::Rounding { toward_zero, away } => small::rounding_words(*toward_zero, *away),
            Self::Regions {
                regions,
                count,
                others,
            } => {
                let mut text: Vec<String> = regions.iter().map(Region::words).collect();
                let more = count - regions.len() as u64;
                if more > 0 {
                    text.push(counted(more, "more region"));
                }
                if *others > 0 {
                    text.push(counted(*others, "wrong element") + " elsewhere");
                }
                text.join("; ")
            }
            Self::Positions {
                positions,
                holds,
                groups,
            } => regions::positions_words(positions, *holds, *groups),
            Self::SmallError {
                relative,
                like,
                wrong,
            } => small::error_words(*relative, like.as_deref(), *wrong),
        }
    }
}
