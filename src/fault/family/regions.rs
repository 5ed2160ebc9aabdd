//! Parts of an output in which nothing was computed.

use super::place::{in_step, list, range, runs, step_of};
use super::{Family, View};
use crate::fault::output::{nan, unwritten};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Regions that are listed.
const LISTED: usize = 8;

/// What stands where nothing was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// What was there before the kernel ran.
    Unwritten,
    /// NaN.
    Nan,
    /// Infinity.
    Infinity,
    /// Zeros.
    Zero,
}

impl Holds {
    /// What it is in words.
    pub(in crate::fault) fn words(self) -> &'static str {
        match self {
            Self::Unwritten => "unwritten",
            Self::Nan => "NaN",
            Self::Infinity => "infinity",
            Self::Zero => "zero",
        }
    }
}

/// Wrong groups side by side, and above each other, of which every element holds the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First and last row.
    pub rows: [usize; 2],
    /// Step of the rows where they are not side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// First and last group of these rows; null for all.
    pub groups: Option<[usize; 2]>,
    /// What is there.
    pub holds: Holds,
}

impl Region {
    /// Where it is and what it holds.
    pub fn words(&self) -> String {
        let groups = match self.groups {
            None => "all groups".into(),
            Some(groups) => range("group", groups),
        };
        let holds = self.holds.words();
        let rows = match (self.rows, self.every) {
            (rows, None) => range("row", rows),
            ([first, last], Some(step)) => in_step("row", [first, step], last, usize::MAX),
        };
        format!("{rows}, {groups}, {holds}")
    }
}

/// What an element holds instead of a value.
pub(in crate::fault) fn holds(v: f32) -> Option<Holds> {
    match v {
        v if unwritten(v) => Some(Holds::Unwritten),
        v if nan(v) => Some(Holds::Nan),
        v if v.is_infinite() => Some(Holds::Infinity),
        0.0 => Some(Holds::Zero),
        _ => None,
    }
}

/// The regions, where most of what is wrong lies in them.
pub(super) fn find(view: &View<'_>) -> Option<Family> {
    let (n, per_row) = (view.n(), view.tensor.groups_per_row());
    let mut regions: Vec<Region> = Vec::new();
    let mut others = 0;
    // The regions that the row above ends with.
    let mut above = 0;
    for row in view.wrong_rows() {
        let got = view.got.row(row);
        let mut here: Vec<Region> = Vec::new();
        for group in (0..per_row).filter(|g| view.survey.wrong_group(row, *g, n)) {
            let columns = group * n..(group + 1) * n;
            let kind = holds(got[columns.start]);
            let same = got[columns.clone()].iter().all(|v| holds(*v) == kind);
            let Some(kind) = kind.filter(|_| same) else {
                others += columns.filter(|c| view.survey.wrong_at(row, *c)).count() as u64;
                continue;
            };
            match here.last_mut() {
                Some(Region {
                    groups: Some([_, last]),
                    holds,
                    ..
                }) if *last + 1 == group && *holds == kind => *last = group,
                _ => here.push(Region {
                    rows: [row, row],
                    every: None,
                    groups: Some([group, group]),
                    holds: kind,
                }),
            }
        }
        for region in &mut here {
            region.groups = region.groups.filter(|g| *g != [0, per_row - 1]);
        }
        let same = here.len() == regions.len() - above
            && here
                .iter()
                .zip(&regions[above..])
                .all(|(a, b)| (a.groups, a.holds) == (b.groups, b.holds) && b.rows[1] + 1 == row);
        if same {
            regions[above..].iter_mut().for_each(|r| r.rows[1] = row);
        } else {
            above = regions.len();
            regions.extend(here);
        }
    }
    if let Some(all) = in_one_step(&regions) {
        regions = vec![all];
    }
    let count = regions.len() as u64;
    regions.truncate(LISTED);
    (count > 0 && others < view.survey.wrong / 2).then_some(Family::Regions {
        regions,
        count,
        others,
    })
}

/// Regions of one row each that differ in nothing but their rows, which are in a regular step, as one.
fn in_one_step(regions: &[Region]) -> Option<Region> {
    let first = regions.first()?;
    let alike =
        |r: &Region| r.rows[0] == r.rows[1] && (r.groups, r.holds) == (first.groups, first.holds);
    let rows: Vec<usize> = regions.iter().map(|r| r.rows[0]).collect();
    let [_, step] = step_of(&rows).filter(|_| regions.iter().all(alike))?;
    Some(Region {
        rows: [first.rows[0], rows[rows.len() - 1]],
        every: Some(step),
        ..first.clone()
    })
}

/// Positions within groups that hold the same in all wrong groups, where nothing else is wrong.
pub(super) fn positions(view: &View<'_>) -> Option<Family> {
    let n = view.n();
    let first = view.wrong.first()?;
    let kind = (first.got.iter().zip(&view.survey.positions))
        .filter(|(_, wrong)| **wrong)
        .find_map(|(v, _)| holds(*v))?;
    let positions: Vec<usize> = (0..n).filter(|i| view.survey.positions[*i]).collect();
    let held = |got: &[f32]| positions.iter().all(|i| holds(got[*i]) == Some(kind));
    // Some of the wrong groups tell nearly always that it is not so.
    if !view.wrong.iter().all(|w| held(&w.got))
        || view.count(|_, _, _, g| held(g)) != view.survey.wrong_groups
    {
        return None;
    }
    let runs = runs(positions.iter().copied());
    if runs.len() > LISTED {
        return None;
    }
    let rows = 0..view.tensor.rows();
    let every = rows
        .into_par_iter()
        .all(|row| view.got.row(row).chunks(n).all(held));
    Some(Family::Positions {
        positions: runs,
        holds: kind,
        groups: (!every).then_some(view.survey.wrong_groups),
    })
}

/// Positions in words.
pub(super) fn positions_words(runs: &[[usize; 2]], holds: Holds, groups: Option<u64>) -> String {
    let positions = list("position", runs);
    let holds = holds.words();
    match groups {
        None => format!("{positions} of every group, {holds}"),
        Some(1) => format!("{positions} of one group, {holds}"),
        Some(groups) => format!("{positions} of {groups} groups, {holds}"),
    }
}
