//! Two reports side by side, from machines that never meet: same input, same verdicts, the same bits?

use super::{LaneName, Run, Status, TensorRecord, Verdict};
use crate::natural::natural;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// One lane of one tensor in both reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LanePair {
    /// The lane.
    pub lane: LaneName,
    /// Its outcome in each report; null where it did not run.
    pub passed: [Option<bool>; 2],
    /// The hash of its output in each report; null where it has none.
    pub output_hash: [Option<String>; 2],
}

impl LanePair {
    /// Whether both outputs are the same bits; `None` when one is not there.
    pub fn bit_identical(&self) -> Option<bool> {
        match &self.output_hash {
            [Some(a), Some(b)] => Some(a == b),
            _ => None,
        }
    }

    /// Whether the lane came to another outcome in one report than in the other. A lane that did not run
    /// in one came to none.
    pub fn verdicts_differ(&self) -> bool {
        matches!(self.passed, [Some(a), Some(b)] if a != b)
    }
}

/// One tensor in both reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorPair {
    /// The tensor, without `.weight`.
    pub tensor_base: String,
    /// Every lane that either report has.
    pub lanes: Vec<LanePair>,
}

/// Two reports of the same input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportPair {
    /// The tensors of both.
    pub tensors: Vec<TensorPair>,
    /// Tensors that are not quantised and that the reports do not say the same of.
    pub plain_differ: Vec<String>,
}

impl ReportPair {
    /// Sets two reports side by side.
    ///
    /// # Errors
    /// The first thing in which their inputs differ: the tensors, their rows or their weights.
    pub fn new(a: &Run, b: &Run) -> Result<Self, String> {
        let names =
            |r: &Run| -> Vec<String> { r.tensors.iter().map(|t| t.tensor_base.clone()).collect() };
        let (ours, theirs) = (names(a), names(b));
        let only = |a: &[String], b: &[String]| a.iter().find(|n| !b.contains(n)).cloned();
        if let Some(name) = only(&ours, &theirs).or_else(|| only(&theirs, &ours)) {
            return Err(format!("tensor {name} is in one of them only"));
        }
        // Older reports list their tensors in another order.
        let of_b: HashMap<&str, &TensorRecord> =
            b.tensors.iter().map(|t| (&*t.tensor_base, t)).collect();
        let mut pairs: Vec<_> = a
            .tensors
            .iter()
            .map(|t| (t, of_b[&*t.tensor_base]))
            .collect();
        pairs.sort_by(|(a, _), (b, _)| natural(&a.tensor_base, &b.tensor_base));
        pairs
            .into_iter()
            .map(|(a, b)| tensor(a, b))
            .collect::<Result<_, _>>()
            .map(|tensors| Self {
                tensors,
                plain_differ: plain_differ(a, b),
            })
    }

    /// Lanes that came to another outcome in one report than in the other.
    pub fn verdicts_differ(&self) -> bool {
        !self.plain_differ.is_empty() || self.lanes().any(|l| l.verdicts_differ())
    }

    /// Lanes whose outputs both reports have, and how many of them are the same bits.
    pub fn bit_identical(&self) -> [usize; 2] {
        let all: Vec<bool> = self.lanes().filter_map(LanePair::bit_identical).collect();
        [all.iter().filter(|same| **same).count(), all.len()]
    }

    /// Lanes that came to an outcome in that report and never in the other: tensors that passed, and that failed.
    pub fn only_in(&self, report: usize) -> Vec<(LaneName, usize, usize)> {
        // How often each lane failed and passed, for each report.
        let mut lanes: BTreeMap<String, (&LaneName, [[usize; 2]; 2])> = BTreeMap::new();
        for l in self.lanes() {
            let counts = lanes.entry(l.lane.to_string());
            let (_, counts) = counts.or_insert((&l.lane, [[0; 2]; 2]));
            for (count, passed) in counts.iter_mut().zip(l.passed) {
                if let Some(passed) = passed {
                    count[usize::from(passed)] += 1;
                }
            }
        }
        let only = |(lane, counts): (&LaneName, [[usize; 2]; 2])| {
            let [failed, passed] = counts[report];
            let there = failed + passed > 0 && counts[1 - report] == [0, 0];
            there.then(|| (lane.clone(), passed, failed))
        };
        lanes.into_values().filter_map(only).collect()
    }

    fn lanes(&self) -> impl Iterator<Item = &LanePair> {
        self.tensors.iter().flat_map(|t| &t.lanes)
    }
}

fn plain_differ(a: &Run, b: &Run) -> Vec<String> {
    let both = a.plain.iter().chain(&b.plain);
    let one_only = both.filter(|p| !(a.plain.contains(p) && b.plain.contains(p)));
    let mut names: Vec<String> = one_only.map(|p| p.name.clone()).collect();
    names.sort_by(|a, b| natural(a, b));
    names.dedup();
    names
}

fn tensor(a: &TensorRecord, b: &TensorRecord) -> Result<TensorPair, String> {
    let base = &a.tensor_base;
    let rows = |t: &TensorRecord| {
        let end = t.row_start + t.row_count;
        format!("rows {}..{end} of {} columns", t.row_start, t.shape[1])
    };
    let layout = |t: &TensorRecord| format!("{:?} bits, group {:?}", t.bits, t.group_size);
    let codebook = |t: &TensorRecord| {
        let codebook = t.centroids_config_vs_cuda.as_ref();
        format!("{:?}", codebook.map_or(&[][..], |c| &c.config))
    };
    let checksum = |c: &Option<String>| c.clone().unwrap_or_else(|| "none".into());
    for (what, a, b) in [
        ("rows", rows(a), rows(b)),
        ("layout", layout(a), layout(b)),
        ("codebook", codebook(a), codebook(b)),
        (
            "checksum of codes, scales and signs",
            checksum(&a.checksum),
            checksum(&b.checksum),
        ),
        (
            "checksum of the source's weights",
            checksum(&a.source_checksum),
            checksum(&b.source_checksum),
        ),
    ] {
        if a != b {
            return Err(format!("{base}: {what}: {a} and {b}"));
        }
    }
    let ran = |t: &TensorRecord, lane: &LaneName| {
        let lane = t.lanes.iter().find(|l| l.name == *lane);
        lane.filter(|l| matches!(l.status, Status::Ran | Status::Recorded))
            .cloned()
    };
    let mut lanes: Vec<LaneName> = Vec::new();
    for l in a.lanes.iter().chain(&b.lanes) {
        if !lanes.contains(&l.name) {
            lanes.push(l.name.clone());
        }
    }
    let pair = |lane: LaneName| {
        let passed = [a, b].map(|t| match ran(t, &lane) {
            Some(l) if lane == LaneName::Reference && l.output_hash.is_some() => Some(true),
            _ => t
                .decision_of(&lane)
                .map_or(Verdict::NotRun, |d| d.verdict)
                .passed(),
        });
        let output_hash = [a, b].map(|t| ran(t, &lane)?.output_hash);
        LanePair {
            lane,
            passed,
            output_hash,
        }
    };
    let lanes = lanes.into_iter().map(pair);
    Ok(TensorPair {
        tensor_base: base.clone(),
        // What ran in neither says nothing.
        lanes: lanes.filter(|l| l.passed != [None, None]).collect(),
    })
}
