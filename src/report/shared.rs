//! Troubles that many tensors share, each told once: they would hide what is wrong with one alone.

use super::view::source_ratio;
use super::words::problem;
use crate::counted::counted;
use crate::error::printable;
use crate::record::{Run, TensorRecord};
use std::collections::HashSet;
use std::path::Path;

/// From so many tensors on a trouble is told once for all of them.
const MANY: usize = 4;

/// A file of the model with many tensors that are bad input.
pub struct DamagedFile<'r> {
    /// Its name.
    pub name: String,
    /// They, in the order of the run.
    pub tensors: Vec<&'r TensorRecord>,
}

impl DamagedFile<'_> {
    /// How many and where.
    pub fn title(&self) -> String {
        format!("{} of {}", counted(self.tensors.len(), "tensor"), self.name)
    }

    /// What is wrong with the first.
    pub fn first(&self) -> String {
        let t = self.tensors[0];
        let why = t.error.as_ref().map(problem).unwrap_or_default();
        format!("first {}: {why}", printable(&t.tensor_base))
    }
}

/// The shared troubles of a run.
pub struct Shared<'r> {
    /// Files, those with most bad tensors first.
    pub files: Vec<DamagedFile<'r>>,
    /// The names of the tensors in them.
    bases: HashSet<&'r str>,
    /// Whether every tensor is far from the source.
    foreign: bool,
}

impl<'r> Shared<'r> {
    /// Looks for them.
    pub fn of(run: &'r Run) -> Self {
        let mut files: Vec<(&str, Vec<&TensorRecord>)> = Vec::new();
        for t in &run.tensors {
            let Some(file) = t.error.as_ref().and_then(|e| e.file.as_deref()) else {
                continue;
            };
            match files.iter_mut().find(|(name, _)| *name == file) {
                Some((_, tensors)) => tensors.push(t),
                None => files.push((file, vec![t])),
            }
        }
        files.retain(|(_, tensors)| tensors.len() >= MANY);
        files.sort_by_key(|(_, tensors)| std::cmp::Reverse(tensors.len()));
        let bases = files.iter().flat_map(|(_, tensors)| tensors.iter());
        Self {
            bases: bases.map(|t| t.tensor_base.as_str()).collect(),
            files: files
                .into_iter()
                .map(|(path, tensors)| {
                    let name = Path::new(path).file_name().unwrap_or(path.as_ref());
                    DamagedFile {
                        name: printable(&name.to_string_lossy()),
                        tensors,
                    }
                })
                .collect(),
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

    /// Whether all that is wrong with a tensor is shared.
    pub fn covers(&self, t: &TensorRecord) -> bool {
        self.has_error(t) || (self.has_damage(t) && t.error.is_none() && !t.broke() && !t.failed())
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
            "all {} tensors are as far from the source as another model's weights would be: the rms error is {least:.2} \
             times the rms of the source, or more; check --source-model",
            ratios.len()
        )
    })
}
