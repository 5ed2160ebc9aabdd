//! What a diagnosis says.

use super::Fault;
use super::family::Family;
use super::family::place::{run, runs};
use super::family::regions::holds;
use super::matching::Match;
use super::output::Got;
use super::scope::Only;
use super::survey::{Signature, Survey, reference};
use crate::counted::{are, counted};
use crate::decimal::{fixed, shortest};
use crate::tensor::TqTensor;
use serde::{Deserialize, Serialize};

/// A fault by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFault {
    /// Name in the catalogue.
    pub name: String,
    /// What is wrong and where to look.
    pub advice: String,
}

/// A fault that reproduces nearly all of an output, but not all: a lead, not an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closest {
    /// The fault.
    pub fault: NamedFault,
    /// Elements that it reproduces bit for bit.
    pub reproduced: u64,
}

/// The element that is furthest off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Row within the compared rows.
    pub row: usize,
    /// Column.
    pub col: usize,
    /// Its code.
    pub code: u8,
    /// The centroid that the code stands for.
    pub centroid: f32,
    /// Scale of its group.
    pub scale: f32,
    /// Sign of its column.
    pub sign: i8,
    /// The rounded reference.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub expected: f32,
    /// What the lane returned; null when it is NaN or infinite.
    pub got: Option<f32>,
}

impl Worst {
    pub(super) fn new(tensor: &TqTensor, at: usize, expected: f32, got: f32) -> Self {
        let (row, col) = (at / tensor.cols(), at % tensor.cols());
        let code = tensor.code(row, col);
        Self {
            row,
            col,
            code,
            centroid: tensor.codebook().centroids()[code as usize],
            scale: tensor.scale(row, col),
            sign: tensor.signs()[col],
            expected,
            got: Some(got).filter(|v| v.is_finite()),
        }
    }
}

/// One group, expected and got side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Row within the compared rows.
    pub row: usize,
    /// Group of the row.
    pub group: usize,
    /// The rounded reference.
    pub expected: Vec<f32>,
    /// What the lane returned; null where it is NaN or infinite.
    pub got: Vec<Option<f32>>,
}

impl Group {
    /// The group of an element.
    pub(super) fn of(tensor: &TqTensor, got: &Got<'_>, at: usize) -> Self {
        let (cols, n) = (tensor.cols(), tensor.layout().group_size());
        let (row, group) = (at / cols, at % cols / n);
        let columns = group * n..(group + 1) * n;
        let expected = &reference(tensor, row, 1)[columns.clone()];
        let got_at = |col: usize| Some(got.get(row * cols + col)).filter(|v| v.is_finite());
        Self {
            row,
            group,
            expected: expected.iter().map(|v| got.round(*v)).collect(),
            got: columns.map(got_at).collect(),
        }
    }

    /// The elements, those furthest off first: index, expected, got.
    pub fn worst_first(&self) -> Vec<(usize, f32, Option<f32>)> {
        let both = self.expected.iter().zip(&self.got).enumerate();
        let mut all: Vec<_> = both.map(|(i, (e, g))| (i, *e, *g)).collect();
        let off =
            |(_, e, g): &(usize, f32, Option<f32>)| g.map_or(f32::INFINITY, |g| (g - e).abs());
        all.sort_by(|a, b| off(b).total_cmp(&off(a)));
        all
    }
}

/// Where an output is wrong: outside what a correct kernel may return, or, where nothing is, different from
/// the rounded reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorSite {
    /// Elements in all.
    pub elements: u64,
    /// Whether every element is one that a correct kernel may return: what differs from the rounded reference
    /// counts as wrong then.
    pub allowed: bool,
    /// Wrong elements.
    pub wrong: u64,
    /// Rows with one.
    pub wrong_rows: u64,
    /// Groups with one.
    pub wrong_groups: u64,
    /// First row with one.
    pub first_row: usize,
    /// First group of that row with one.
    pub first_group: usize,
    /// Positions within a group, `[first, last]` of each run, at which any group is wrong.
    pub positions: Vec<[usize; 2]>,
    /// Where alone anything is wrong.
    pub only: Vec<Only>,
    /// The element that is furthest off.
    pub worst: Worst,
}

impl ErrorSite {
    pub(super) fn new(
        survey: &Survey,
        (first_row, first_group): (usize, usize),
        worst: Worst,
        tensor: &TqTensor,
    ) -> Self {
        let positions = (0..survey.positions.len()).filter(|i| survey.positions[*i]);
        Self {
            elements: survey.elements,
            allowed: survey.inside,
            wrong: survey.wrong,
            wrong_rows: survey.wrong_per_row.iter().filter(|w| **w > 0).count() as u64,
            wrong_groups: survey.wrong_groups,
            first_row,
            first_group,
            positions: runs(positions),
            only: Only::of(tensor, survey),
            worst,
        }
    }

    /// Wrong elements of how many.
    fn share(&self) -> String {
        format!("{} of {} elements", self.wrong, self.elements)
    }

    /// Where alone anything is wrong, in words.
    fn only_text(&self) -> String {
        let only = self.only.iter();
        only.map(|o| format!(", only {}", o.words())).collect()
    }

    /// The wrong positions in a few words: `all`, or the first runs.
    fn positions_text(&self, group_size: usize) -> String {
        if self.positions == [[0, group_size - 1]] {
            return "at every position of the group".into();
        }
        let runs: Vec<String> = self.positions.iter().take(6).map(|r| run(*r)).collect();
        let more = if self.positions.len() > 6 {
            ", ..."
        } else {
            ""
        };
        let one = matches!(self.positions[..], [[first, last]] if first == last);
        let s = if one { "" } else { "s" };
        format!("at position{s} {}{more} of the group", runs.join(", "))
    }
}

/// Why an output differs from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The lane or recording.
    pub lane: String,
    /// Whether `faults` explain the output.
    pub explained: bool,
    /// One fault, or two together; empty when none explains it.
    pub faults: Vec<NamedFault>,
    /// Faults that are the same function on this tensor; two together have both names.
    pub equivalent: Vec<NamedFault>,
    /// Elements that the faults reproduce bit for bit; the others are off by what f32 arithmetic in another
    /// order may be.
    pub reproduced: u64,
    /// Wrong elements that the faults account for.
    pub distinguishing: u64,
    /// When nothing explains the output: the fault that reproduces most of it, if that is nearly all.
    pub closest: Option<Closest>,
    /// When nothing explains the output: the kind of error, if it is one that is known.
    pub family: Option<Family>,
    /// One line with the evidence.
    pub evidence: String,
    /// What the output as a whole has in common with the reference.
    pub signature: Signature,
    /// The group of the element that is furthest off.
    pub group: Group,
    /// Where the error is.
    #[serde(flatten)]
    pub place: ErrorSite,
}

/// With fewer wrong elements than this, other causes are as likely.
const ENOUGH: u64 = 64;

const UNEXPLAINED: &str = "not in the catalogue";

/// The faults that account for so many wrong elements.
fn explained_title(faults: &str, accounted: u64) -> String {
    match accounted < ENOUGH {
        true => format!("consistent with {faults}"),
        false => faults.into(),
    }
}

impl NamedFault {
    pub(super) fn of(faults: &[Fault]) -> Self {
        let join = |part: fn(Fault) -> String, with: &str| {
            let parts: Vec<String> = faults.iter().map(|f| part(*f)).collect();
            parts.join(with)
        };
        Self {
            name: join(Fault::name, " + "),
            advice: join(Fault::advice, "; "),
        }
    }
}

impl Diagnosis {
    /// The diagnosis in words: the fault with its evidence, or what is known.
    pub fn summary(&self) -> String {
        format!("diagnosis of {}: {}", self.lane, self.evidence)
    }

    /// What is wrong in a sentence: the fault with its advice, or the kind of error.
    pub fn sentence(&self) -> String {
        let what = match &self.family {
            _ if self.explained => {
                let advice = self.faults.iter().map(|f| f.advice.as_str());
                advice.collect::<Vec<_>>().join("; ")
            }
            Some(family) => family.words(),
            None => {
                let groups = counted(self.place.wrong_groups, "group");
                format!("{}, in {groups}", self.place.share())
            }
        };
        format!("{}: {what}", self.title())
    }

    /// What explains the output, and how surely; or that nothing does. The evidence starts with it.
    pub fn title(&self) -> String {
        let faults: Vec<&str> = self.faults.iter().map(|f| f.name.as_str()).collect();
        match self.explained {
            true => explained_title(&faults.join(" + "), self.distinguishing),
            false => UNEXPLAINED.into(),
        }
    }

    /// What is alike where tensors have the same fault: the title, of one without a name also its kind, or where it is.
    pub fn kind(&self) -> String {
        let title = self.title();
        match &self.family {
            _ if self.explained => title,
            Some(family) => format!("{title}: {}", family.kind()),
            None => {
                let positions = self.place.positions_text(self.group.expected.len());
                format!("{title}: wrong {positions}{}", self.place.only_text())
            }
        }
    }

    /// Every name by which the output is explained, the plainest first; none when it is not.
    pub fn names(&self) -> Vec<String> {
        let faults: Vec<&str> = self.faults.iter().map(|f| f.name.as_str()).collect();
        let first = self.explained.then(|| faults.join(" + "));
        let others = self.equivalent.iter().map(|f| f.name.clone());
        first.into_iter().chain(others).collect()
    }

    pub(super) fn explained_by(
        fault: &NamedFault,
        equivalent: &[NamedFault],
        found: &Match,
        place: &ErrorSite,
    ) -> String {
        let NamedFault { name, advice } = fault;
        let bits = if found.exact == found.elements {
            format!("{0} of {0} elements bit for bit", found.elements)
        } else {
            format!(
                "{0} of {0} elements, {1} of them bit for bit",
                found.elements, found.exact
            )
        };
        let are = are(place.wrong);
        let title = explained_title(name, found.accounted);
        let mut text = if found.accounted < ENOUGH {
            format!(
                "{title}, which explains {bits}, but only {} {are} wrong; {advice}",
                place.wrong
            )
        } else {
            format!("{title}: explains {bits}; {advice}")
        };
        // An advice that was given once is not given again.
        let mut given = vec![advice];
        for (i, NamedFault { name, advice }) in equivalent.iter().enumerate() {
            text += if i == 0 {
                "; on this tensor the same as "
            } else {
                ", "
            };
            text += name;
            if !given.contains(&advice) {
                text += &format!(" ({advice})");
                given.push(advice);
            }
        }
        text
    }

    pub(super) fn unexplained(
        place: &ErrorSite,
        signature: &Signature,
        family: Option<&Family>,
        closest: Option<&Closest>,
        tensor: &TqTensor,
        got: f32,
    ) -> String {
        let w = &place.worst;
        let family = family.map_or_else(String::new, |f| f.words() + "; ");
        let wrong = match (place.allowed, place.wrong) {
            (true, 1) => "is what a correct kernel may return and differs from the reference",
            (true, _) => "are what a correct kernel may return and differ from the reference",
            (false, 1) => "is outside what a correct kernel may return",
            (false, _) => "are outside what a correct kernel may return",
        };
        let got = match holds(got) {
            Some(holds) if !got.is_finite() => holds.words().to_owned(),
            _ => shortest(got),
        };
        let other_rows = if signature.rows_of_other_rows > 0 {
            let rows = counted(signature.rows_of_other_rows, "row");
            format!(", the signs of {rows} are another row's")
        } else {
            String::new()
        };
        let closest = closest.map_or_else(String::new, |c| {
            format!(
                "; closest: {} reproduces {} of {} elements bit for bit and not the others ({})",
                c.fault.name, c.reproduced, place.elements, c.fault.advice
            )
        });
        let only = place.only_text();
        format!(
            "{UNEXPLAINED}: {family}{} {wrong}, in {} of {} rows and {} of {} groups, {}{only}; the first in row {}, \
             group {}; the largest error at row {}, column {} (code {}, centroid {}, scale {}, sign {:+}): expected {}, \
             got {got}; cosine {:.6}, norm ratio {}, {:.2} % of the signs flipped{other_rows}{closest}",
            place.share(),
            place.wrong_rows,
            tensor.rows(),
            place.wrong_groups,
            tensor.groups(),
            place.positions_text(tensor.layout().group_size()),
            place.first_row,
            place.first_group,
            w.row,
            w.col,
            w.code,
            shortest(w.centroid),
            shortest(w.scale),
            w.sign,
            shortest(w.expected),
            signature.cosine,
            fixed(signature.norm_ratio, 6),
            100.0 * signature.signs_flipped,
        )
    }
}
