//! The figures of one tensor: which charts there are, what they are called and how they are read.

use super::group::{Equal, values};
use super::heat::{self, Across, CellLimit};
use super::plots;
use crate::counted::{are, counted};
use crate::error::printable;
use crate::fault::Group;
use crate::picture::{Comparison, Picture};
use crate::record::{LaneName, TensorRecord, Tolerance};
use crate::report::view::source_ratio;

/// A chart with what is said under it.
pub struct Chart {
    /// The drawing.
    pub svg: String,
    /// Its title.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// Cells in all and beyond the limit, of a heat map.
    pub cells: Option<[usize; 2]>,
}

impl Chart {
    /// A chart that is no heat map.
    pub fn new(svg: String, title: impl Into<String>, caption: impl Into<String>) -> Self {
        Self {
            svg,
            title: title.into(),
            caption: caption.into(),
            cells: None,
        }
    }
}

/// What the figures of a tensor are drawn from.
#[derive(Clone, Copy)]
pub struct Figures<'a> {
    picture: &'a Picture,
    tolerance: Option<Tolerance>,
    /// The rms error over the rms of the weights up to which the checkpoint is as expected.
    format: Option<f64>,
}

impl<'a> Figures<'a> {
    /// Of a tensor, as its picture has it.
    pub fn new(t: &TensorRecord, picture: &'a Picture, tolerance: Option<Tolerance>) -> Self {
        let checkpoint = t.checkpoint.as_ref();
        let limit = checkpoint.zip(source_ratio(t)).map(|(c, ratio)| {
            // The measured ratio is so many times the expected one, which is far off at twice.
            2.0 * ratio / c.ratio
        });
        Self {
            picture,
            tolerance,
            format: limit.filter(|l| l.is_finite() && *l > 0.0),
        }
    }

    /// What a comparison is held to, and that in words; `None` where nothing is known of it.
    fn limit(&self, c: &Comparison) -> Option<(CellLimit, &'static str)> {
        if is_of_source(c) {
            let words = "1 is twice the rms error that the format costs";
            return self.format.map(|format| (CellLimit::Rms(format), words));
        }
        Some(match self.tolerance {
            Some(t) if t.by_element() => (
                CellLimit::Element,
                "1 is the tolerance; a cell shows its element that is furthest off",
            ),
            Some(Tolerance {
                rmse: Some(rmse), ..
            }) => (
                CellLimit::Rms(rmse),
                "1 is the tolerated rms error over rms value",
            ),
            _ => (
                CellLimit::Element,
                "1 is as far off as a correct kernel may be; a cell shows its element that is furthest off",
            ),
        })
    }

    /// The heat map of a comparison.
    fn heat(&self, c: &Comparison, across: Across, title: String) -> Option<Chart> {
        let (limit, words) = self.limit(c)?;
        let rows = (self.picture.row_start, self.picture.rows);
        let heat = heat::map(c, across, limit, rows);
        let mut caption = words.to_owned();
        if heat.not_finite {
            caption += "; hatched: NaN or infinity";
        }
        Some(Chart {
            cells: Some(heat.cells),
            ..Chart::new(heat.svg, title, caption)
        })
    }

    /// The error by row and group.
    pub fn by_group(&self, c: &Comparison) -> Option<Chart> {
        let groups = self.picture.cols / self.picture.group_size;
        let title = format!("{}: error by row and group", title(c));
        self.heat(c, Across::Groups(groups), title)
    }

    /// The error against the magnitude.
    pub fn scatter(&self, c: &Comparison) -> Chart {
        let s = &c.scatter;
        let mut caption = String::from("line: half a BF16 step");
        let without = s.equal.iter().sum::<u64>() + s.zero_equal;
        if without > 0 {
            caption += &format!("; {without} of {} elements have no error", c.elements);
        }
        if s.zero_wrong > 0 {
            caption += &format!("; {} are off where the value is zero", s.zero_wrong);
        }
        if s.not_finite > 0 {
            caption += &format!("; {} are NaN or infinite", s.not_finite);
        }
        Chart::new(plots::scatter(c), "Error against magnitude", caption)
    }

    /// The other charts of a comparison.
    pub fn others(&self, c: &Comparison) -> Vec<Chart> {
        // Against the source a cell holds too few elements to tell its rms from chance.
        let by_position = (!is_of_source(c)).then(|| {
            let title = String::from("Error by row and position in the group");
            self.heat(c, Across::Positions, title)
        });
        let counted = format!(
            "{} equal, {} one step away, {} further; line: cumulative share",
            c.steps[0],
            c.steps[1],
            c.elements - c.steps[0] - c.steps[1]
        );
        let steps = Chart::new(plots::steps(c), "Error in BF16 steps", counted);
        let charts = by_position.flatten().into_iter();
        charts.chain([steps, self.scatter(c)]).collect()
    }

    /// Whether a lane's fault was emulated.
    pub fn has_emulation(&self, lane: &str) -> bool {
        self.picture.emulated.iter().any(|e| e.lane == lane)
    }

    /// A lane's heat map and histogram beside those of the emulated fault.
    pub fn beside_emulation(&self, lane: &str) -> Vec<Chart> {
        let p = self.picture;
        let measured = p.comparisons.iter().find(|c| c.lhs == lane);
        let emulated = p.emulated.iter().find(|e| e.lane == lane);
        let (Some(measured), Some(emulated)) = (measured, emulated) else {
            return Vec::new();
        };
        [
            (measured, format!("Measured: {}", printable(lane))),
            (
                &emulated.comparison,
                format!("Emulated: {}", emulated.faults),
            ),
        ]
        .into_iter()
        .flat_map(|(c, title)| {
            let differ = format!("{} of {} elements differ", c.wrong(), c.elements);
            let steps = Chart::new(plots::steps(c), title.clone(), differ);
            let heat = self.heat(c, Across::Positions, title);
            heat.into_iter().chain([steps])
        })
        .collect()
    }

    /// How the codebook is used.
    pub fn codes(&self) -> Vec<Chart> {
        let p = self.picture;
        let mut charts = Vec::new();
        if let Some(n) = &p.normalised {
            let mut caption = String::from(
                "bars: the source; line: density (1 \u{2212} x\u{b2})^((d\u{2212}3)/2); ticks: centroids",
            );
            if n.outside > 0 {
                caption += &format!("; {} values lie outside", n.outside);
            }
            if n.skipped_groups > 0 {
                let (groups, are) = (counted(n.skipped_groups, "group"), are(n.skipped_groups));
                caption += &format!("; {groups} {are} zero or not finite");
            }
            charts.push(Chart::new(
                plots::normalised(n, &p.codes),
                "Normalised values against the codebook",
                caption,
            ));
        }
        charts.push(Chart::new(
            plots::codes(&p.codes),
            "CodeUse used",
            "bars: this tensor; lines: what the density predicts between the boundaries",
        ));
        charts
    }
}

/// The two lanes of a comparison.
pub fn title(c: &Comparison) -> String {
    printable(&format!("{} vs {}", c.lhs, c.rhs))
}

/// Whether a comparison shows what the format costs.
pub fn is_of_source(c: &Comparison) -> bool {
    LaneName::from(c.rhs.as_str()) == LaneName::Source
}

/// A wrong group of a lane: its values side by side, and which output equals which expected value.
pub fn of_group(lane: &str, row: usize, group: &Group) -> [Chart; 2] {
    let title = |what: &str| format!("{lane}: row {row}, group {}, {what}", group.group);
    let equal = Equal::new(group);
    let signs = match equal.has_signs() {
        true => "; red: equal but for the sign",
        false => "",
    };
    [
        Chart::new(
            values(group),
            title("expected and got"),
            "the group of the element that is furthest off, on one scale; hatched: NaN or infinity",
        ),
        Chart::new(
            equal.matrix(),
            title("got[i] = expected[j]"),
            format!(
                "{}; right outputs lie on the diagonal, moved ones on another line{signs}",
                equal.words()
            ),
        ),
    ]
}
