//! Parts of an output in which nothing was computed.

use super::{Family, View};
use crate::fault::output::{nan, unwritten};
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

/// Wrong groups side by side, and above each other, that hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First and last row.
    pub rows: [usize; 2],
    /// First and last group of these rows; null for all.
    pub groups: Option<[usize; 2]>,
    /// What is there.
    pub holds: Holds,
}

impl Region {
    /// Where it is and what it holds.
    pub fn words(&self) -> String {
        let range = |what: &str, [first, last]: [usize; 2]| {
            if first == last {
                format!("{what} {first}")
            } else {
                format!("{what}s {first}..{}", last + 1)
            }
        };
        let groups = match self.groups {
            None => "all groups".into(),
            Some(groups) => range("group", groups),
        };
        let holds = match self.holds {
            Holds::Unwritten => "unwritten",
            Holds::Nan => "NaN",
            Holds::Infinity => "infinite",
            Holds::Zero => "zero",
        };
        format!("{}, {groups}, {holds}", range("row", self.rows))
    }
}

fn holds(v: f32) -> Option<Holds> {
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
            let wrong = (group * n..(group + 1) * n).filter(|c| view.survey.wrong_at(row, *c));
            let mut kind = None;
            for col in wrong {
                match holds(got[col]) {
                    None => others += 1,
                    some => kind = kind.or(some),
                }
            }
            let Some(kind) = kind else { continue };
            match here.last_mut() {
                Some(Region {
                    groups: Some([_, last]),
                    holds,
                    ..
                }) if *last + 1 == group && *holds == kind => *last = group,
                _ => here.push(Region {
                    rows: [row, row],
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
    let count = regions.len() as u64;
    regions.truncate(LISTED);
    (count > 0 && others < view.survey.wrong / 2).then_some(Family::Regions {
        regions,
        count,
        others,
    })
}
