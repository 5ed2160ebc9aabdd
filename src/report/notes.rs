//! What is wrong with tensors beside their figures; of a fault that many have, in full once.

use super::shared::Shared;
use super::words::{damage, problem};
use crate::counted::counted;
use crate::error::printable;
use crate::fault::Diagnosis;
use crate::record::{StripDiagnosis, TensorRecord};
use std::collections::BTreeMap;

/// Tensors with the same fault that are told of, and drawn, one by one.
const FEW: usize = 3;

/// What is wrong with a tensor, a paragraph each.
pub fn notes(t: &TensorRecord) -> Vec<String> {
    let wrong = t.error.iter().map(problem).chain(damage(t));
    let lanes = t.diagnosis.iter();
    let lanes = lanes.map(|d| printable(&d.summary(t.row_count)));
    wrong.chain(lanes).collect()
}

/// A lane and the kind of its fault.
type LaneFault = (String, String);

/// How many tensors had a fault so far.
struct Seen {
    tensors: usize,
    explained: bool,
}

/// The notes of tensors one after the other.
pub struct Notes<'r> {
    shared: &'r Shared<'r>,
    seen: BTreeMap<LaneFault, Seen>,
}

/// What is said of a tensor.
pub struct Note {
    /// Paragraphs.
    pub text: Vec<String>,
    /// Whether it is one of the first with its fault, or has none.
    pub drawn: bool,
}

impl<'r> Notes<'r> {
    /// Nothing said so far.
    pub fn new(shared: &'r Shared<'r>) -> Self {
        Self {
            shared,
            seen: BTreeMap::new(),
        }
    }

    /// What is said of the next tensor: without what is shared, and of a fault that others had little or nothing.
    pub fn of(&mut self, t: &TensorRecord) -> Note {
        let error = t.error.iter().filter(|_| !self.shared.has_error(t));
        let damage = damage(t).filter(|_| !self.shared.has_damage(t));
        let mut note = Note {
            text: error.map(problem).chain(damage).collect(),
            drawn: t.diagnosis.is_empty(),
        };
        for d in &t.diagnosis {
            let before = self.count(d);
            note.drawn |= before < FEW;
            let text = match before {
                0 => d.summary(t.row_count),
                1..FEW => again(&d.diagnosis),
                _ => continue,
            };
            note.text.push(printable(&text));
        }
        note
    }

    /// Counts a diagnosis; how many had its kind before.
    fn count(&mut self, d: &StripDiagnosis) -> usize {
        let kind = (d.diagnosis.lane.clone(), d.diagnosis.kind());
        let seen = self.seen.entry(kind).or_insert(Seen {
            tensors: 0,
            explained: d.diagnosis.explained,
        });
        seen.tensors += 1;
        seen.tensors - 1
    }

    /// How many tensors more have each fault.
    pub fn rest(&self) -> Vec<String> {
        let beyond = self.seen.iter().filter(|(_, seen)| seen.tensors > FEW);
        beyond
            .map(|((lane, kind), seen)| {
                let more = counted(seen.tensors - FEW, "tensor");
                printable(&match seen.explained {
                    true => format!("and {more} more with the same fault of {lane}: {kind}"),
                    false => {
                        format!("and {more} more with a fault of {lane} that is alike: {kind}")
                    }
                })
            })
            .collect()
    }
}

/// What is said of a fault that was explained before: its name; of one without, what differs.
fn again(d: &Diagnosis) -> String {
    let lane = &d.lane;
    match d.explained {
        true => format!("diagnosis of {lane}: {}, as above", d.title()),
        false => format!("diagnosis of {lane}: {}", d.sentence()),
    }
}
