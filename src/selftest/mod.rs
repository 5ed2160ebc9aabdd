//! Injects every fault and checks that it is caught and named; computes by every correct arithmetic and
//! checks that none is taken for wrong.

mod correct;

pub use correct::{CORRECT, Correct};

use crate::codebook::Codebook;
use crate::error::Result;
use crate::fault::{Fault, diagnose, emulate_as};
use crate::format::every_codec;
use crate::judge;
use crate::record::{LaneName, OutputType, Verdict};
use crate::synthetic::{self, Rng, ScaleDistribution};
use crate::tensor::{GROUP_SIZES, Layout, Parts, TqTensor};
use half::f16;
use serde::Serialize;
use std::sync::Arc;

/// Faults with numbers that the catalogue does not hold: a diagnosis has to fit them.
const FITTED: [&str; 9] = [
    "fwht_upper_lane_sign_strides_2_8",
    "codes_order_xor_6",
    "codes_order_xor_16",
    "rows_shifted_by_3",
    "rows_shifted_by_-2",
    "stale_output_from_row_2",
    "tail_rows_unwritten_3",
    "tail_groups_zero_2",
    "row_tail_groups_unwritten_3",
];

/// What became of one fault on one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Injection {
    /// The fault that was injected.
    pub fault: String,
    /// The tensor: bits, group size, shape.
    pub tensor: String,
    /// First gate that failed; `None` when all passed.
    pub caught_by: Option<String>,
    /// The diagnosis: the fault and those that are the same function here.
    pub named_as: Vec<String>,
}

impl Injection {
    /// Whether the fault was caught and named.
    pub fn passed(&self) -> bool {
        self.caught_by.is_some() && self.named_as.contains(&self.fault)
    }
}

/// The outcome of a selftest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selftest {
    /// One for each fault and tensor on which it has an effect.
    pub rows: Vec<Injection>,
    /// Faults of the catalogue that had no effect on any tensor, or suited none: not tested.
    pub untested: Vec<String>,
    /// One for each correct arithmetic.
    pub correct: Vec<Correct>,
}

impl Selftest {
    /// Whether every fault was caught and named, and nothing else.
    pub fn passed(&self) -> bool {
        let rows = self.rows.iter().all(Injection::passed);
        self.untested.is_empty() && rows && self.correct.iter().all(Correct::passed)
    }
}

/// Outputs that lie halfway between two BF16 values: centroids are small integers and 1/sqrt(n) is a
/// power of two, so that a sum has a bit or two more than BF16 holds.
fn ties(rng: &mut Rng) -> Result<TqTensor> {
    let layout = Layout::new(4, 64)?;
    let (rows, cols) = (16, 256);
    let codebook = Codebook::new((0..16).map(|i| i as f32).collect(), None)?;
    let packed: Vec<u8> = (0..rows * cols / 2)
        .map(|_| (rng.next_u64() >> 56) as u8)
        .collect();
    let scales = (0..rows * cols / 64).map(|_| f16::from_f32(3.0)).collect();
    let parts = Parts {
        packed,
        scales,
        signs: rng.signs(cols),
    };
    TqTensor::new("ties", layout, [rows, cols], parts, Arc::new(codebook))
}

fn tensors() -> Result<Vec<TqTensor>> {
    let mut rng = Rng::new(0x5E1F);
    let mut all = Vec::new();
    for bits in 2..=4 {
        for n in GROUP_SIZES {
            let layout = Layout::new(bits, n)?;
            let rows = 7 + rng.below(10);
            let cols = n * (4 + 2 * rng.below(3));
            let scales = if n == 64 {
                ScaleDistribution::Any
            } else {
                ScaleDistribution::Usual
            };
            all.push(synthetic::tensor(&mut rng, layout, rows, cols, scales)?);
        }
    }
    all.push(ties(&mut rng)?);
    for (_, codec) in every_codec() {
        let layout = codec.layout;
        // Every kind of layout, and of those that differ in sizes alone a few.
        let usual = [32, 128, 64][layout.bits() as usize - 2];
        if layout.is_plain() || (!layout.is_interleaved() && layout.group_size() != usual) {
            continue;
        }
        let rows = 7 + rng.below(10);
        let cols = layout.group_size() * (4 + 2 * rng.below(3));
        all.push(synthetic::of_codec(
            &mut rng,
            &codec,
            rows,
            cols,
            ScaleDistribution::Usual,
        )?);
        if layout.is_interleaved() {
            // Scales that are zero, or negative.
            all.push(synthetic::of_codec(
                &mut rng,
                &codec,
                rows,
                cols,
                ScaleDistribution::Any,
            )?);
        }
    }
    Ok(all)
}

/// Injects one fault; `None` when it changes nothing that can be told from rounding.
fn inject(tensor: &TqTensor, fault: Fault) -> Option<Injection> {
    // A fault of what is f32 or F16 shows in such an output alone, and one of last bits in f32.
    let types = [OutputType::Bf16, OutputType::F32, OutputType::F16];
    let mut types = types.into_iter().filter(|of| fault.suits(tensor, *of));
    types.find_map(|of| inject_as(tensor, fault, of))
}

fn inject_as(tensor: &TqTensor, fault: Fault, of: OutputType) -> Option<Injection> {
    let output = emulate_as(tensor, &[fault], of);
    let diagnosis = diagnose("selftest", tensor, &output, true)?;
    let decision = judge::decision(LaneName::Cuda, tensor, &output);
    if diagnosis.place.allowed && decision.verdict != Verdict::Differs {
        return None;
    }
    let failed = decision.gates.iter().find(|g| !g.passed);
    let layout = tensor.layout();
    Some(Injection {
        fault: fault.name(),
        tensor: format!("{layout}, {} x {}", tensor.rows(), tensor.cols()),
        caught_by: failed.map(|g| g.name.name().to_owned()),
        named_as: diagnosis.names(),
    })
}

/// Runs the selftest; `step` is called before each tensor and before the correct outputs.
///
/// # Errors
/// When a synthetic tensor cannot be made, which is a fault of this program.
pub fn run(mut step: impl FnMut()) -> Result<Selftest> {
    let mut rows = Vec::new();
    let mut untested: Vec<String> = Fault::patterns().map(str::to_owned).collect();
    let mut tested: Vec<String> = Vec::new();
    for tensor in tensors()? {
        step();
        let mut faults = Fault::catalogue(&tensor);
        let fitted = FITTED.iter().filter_map(|name| Fault::named(name, &tensor));
        for fault in fitted {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        for fault in faults {
            match inject(&tensor, fault) {
                Some(row) => {
                    tested.extend([row.fault.clone(), fault.pattern().to_owned()]);
                    rows.push(row);
                }
                None => untested.push(fault.name()),
            }
        }
    }
    untested.retain(|name| !tested.contains(name));
    untested.sort();
    untested.dedup();
    step();
    Ok(Selftest {
        rows,
        untested,
        correct: correct::run()?,
    })
}
