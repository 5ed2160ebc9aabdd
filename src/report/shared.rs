//! Troubles that many tensors share, each told once: they would hide what is wrong with one alone.

use super::look::Look;
use super::view::{name, source_ratio};
use super::words::{first_line, problem};
use crate::counted::counted;
use crate::decimal::fixed;
use crate::error::printable;
use crate::record::{LaneName, Run, Status, TensorRecord};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;

/// From so many tensors on a trouble is told once for all of them.
const MANY: usize = 4;

/// What many tensors have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause<'r> {
    /// They are bad input, and lie in this file of the model.
    File(&'r str),
    /// This lane broke at them, with these words first.
    Lane(&'r LaneName, &'r str),
}

/// A trouble of many tensors.
pub struct Trouble<'r> {
    /// What they have in common.
    pub cause: Cause<'r>,
    /// They, in the order of the run.
    pub tensors: Vec<&'r TensorRecord>,
}

impl Trouble<'_> {
    /// How many and where.
    pub fn title(&self) -> String {
        let tensors = counted(self.tensors.len(), "tensor");
        match self.cause {
            Cause::File(path) => {
                let file = Path::new(path).file_name().unwrap_or(path.as_ref());
                format!("{tensors} of {}", printable(&file.to_string_lossy()))
            }
            Cause::Lane(lane, _) => format!("{} at {tensors}", name(lane)),
        }
    }

    /// What became of them.
    pub fn verdict(&self) -> Look {
        let word = match self.cause {
            Cause::File(_) => "BAD INPUT",
            Cause::Lane(..) => "BROKE",
        };
        Look { word, ..Look::FAIL }
    }

    /// What is wrong with the first.
    pub fn first(&self) -> String {
        let t = self.tensors[0];
        let why = match self.cause {
            Cause::File(_) => t.error.as_ref().map(problem).unwrap_or_default(),
            Cause::Lane(_, reason) => printable(reason),
        };
        format!("first {}: {why}", printable(&t.tensor_base))
    }

    /// All of it in a sentence.
    pub fn said(&self) -> String {
        let word = self.verdict().word.to_lowercase();
        format!("{}: {word}; {}", self.title(), self.first())
    }
}

/// The causes of a tensor that others may share.
fn causes(t: &TensorRecord) -> impl Iterator<Item = Cause<'_>> {
    let file = t.error.as_ref().and_then(|e| e.file.as_deref());
    let broke = t.lanes.iter().filter(|l| l.status == Status::Failed);
    let broke = broke.map(|l| {
        let reason = first_line(l.reason.as_deref().unwrap_or_default());
        Cause::Lane(&l.name, reason)
    });
    file.map(Cause::File).into_iter().chain(broke)
}

/// The shared troubles of a run.
pub struct Shared<'r> {
    /// Files, then lanes, of each those with most tensors first.
    pub troubles: Vec<Trouble<'r>>,
    /// The names of the tensors that are bad input of the files.
    bases: HashSet<&'r str>,
    /// Whether every tensor is far from the source.
    foreign: bool,
}

impl<'r> Shared<'r> {
    /// Looks for them.
    pub fn of(run: &'r Run) -> Self {
        let mut troubles: Vec<Trouble<'r>> = Vec::new();
        for (t, cause) in run
            .tensors
            .iter()
            .flat_map(|t| causes(t).map(move |c| (t, c)))
        {
            match troubles.iter_mut().find(|known| known.cause == cause) {
                Some(known) => known.tensors.push(t),
                None => troubles.push(Trouble {
                    cause,
                    tensors: vec![t],
                }),
            }
        }
        troubles.retain(|known| known.tensors.len() >= MANY);
        let is_lane = |known: &Trouble<'_>| matches!(known.cause, Cause::Lane(..));
        troubles.sort_by_key(|known| (is_lane(known), Reverse(known.tensors.len())));
        let files = troubles.iter().filter(|known| !is_lane(known));
        Self {
            bases: files
                .flat_map(|known| known.tensors.iter().map(|t| t.tensor_base.as_str()))
                .collect(),
            troubles,
            foreign: foreign_source(run).is_some(),
        }
    }

    /// Whether a tensor is bad input of one of the files.
    pub fn has_error(&self, t: &TensorRecord) -> bool {
        self.bases.contains(t.tensor_base.as_str())
    }

    /// Whether that a tensor is damaged is told with all others.
    pub fn has_damage(&self, t: &TensorRecord) -> bool {
        self.foreign && t.damaged()
    }

    /// Whether every lane that broke at a tensor broke at many in the same way.
    fn has_breaks(&self, t: &TensorRecord) -> bool {
        let known = |cause| self.troubles.iter().any(|known| known.cause == cause);
        let mut lanes = causes(t).filter(|c| matches!(c, Cause::Lane(..)));
        t.broke() && lanes.all(known)
    }

    /// Whether all that is wrong with a tensor is shared.
    pub fn covers(&self, t: &TensorRecord) -> bool {
        let (broke, damaged) = (self.has_breaks(t), self.has_damage(t));
        self.has_error(t)
            || ((broke || damaged)
                && t.error.is_none()
                && t.broke() == broke
                && t.damaged() == damaged
                && !t.failed())
    }
}

/// What is said where every tensor is as far from the source as unrelated weights are.
pub fn foreign_source(run: &Run) -> Option<String> {
    /// Of unrelated weights of one size the difference has 1.4 times the source's rms, of much larger ones that of the
    /// source: what a codec leaves over is far below either.
    const UNRELATED: f64 = 0.9;
    let judged = run.tensors.iter().filter(|t| t.checkpoint.is_some());
    let least = judged.map(|t| {
        let ratio = source_ratio(t)?;
        (t.damaged() && ratio >= UNRELATED).then_some(ratio)
    });
    let ratios: Vec<f64> = least.collect::<Option<_>>()?;
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    (ratios.len() >= MANY).then(|| {
        format!(
            "all {} tensors are as far from the source as another model's weights would be: the rms error is {} \
             times the rms of the source, or more; check --source-model",
            ratios.len(),
            fixed(least, 2)
        )
    })
}
