//! Injects every fault and checks that it is caught and named, and that nothing correct is.

use crate::codebook::Codebook;
use crate::error::Result;
use crate::fault::{Fault, diagnose, emulate};
use crate::fwht;
use crate::judge::gate;
use crate::metrics::{Values, compare};
use crate::record::LaneName;
use crate::reference;
use crate::synthetic::{self, Rng, Scales};
use crate::tensor::{GROUP_SIZES, Layout, Parts, TqTensor};
use half::{bf16, f16};
use serde::Serialize;
use std::sync::Arc;

/// Correct outputs, of a GPU lane's arithmetic, on which a false alarm is looked for.
pub const CORRECT: usize = 1000;

/// Faults with numbers that the catalogue does not hold: a diagnosis has to fit them.
const FITTED: [&str; 7] = [
    "fwht_upper_lane_sign_strides_2_8",
    "rows_shifted_by_3",
    "rows_shifted_by_-2",
    "stale_output_from_row_2",
    "tail_rows_unwritten_3",
    "tail_groups_zero_2",
    "row_tail_groups_unwritten_3",
];

/// What became of one fault on one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The fault that was injected.
    pub fault: String,
    /// The tensor: bits, group size, shape.
    pub tensor: String,
    /// First gate that failed; `None` when all passed.
    pub caught_by: Option<String>,
    /// The diagnosis: the fault and those that are the same function here.
    pub named_as: Vec<String>,
}

impl Row {
    /// Whether the fault was caught and named.
    pub fn passed(&self) -> bool {
        self.caught_by.is_some() && self.named_as.contains(&self.fault)
    }
}

/// The outcome of a selftest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selftest {
    /// One for each fault and tensor on which it has an effect.
    pub rows: Vec<Row>,
    /// Faults of the catalogue that had no effect on any tensor, or suited none: not tested.
    pub untested: Vec<String>,
    /// Correct outputs that were looked at.
    pub correct: usize,
    /// Correct outputs that failed a gate.
    pub false_alarms: usize,
}

impl Selftest {
    /// Whether every fault was caught and named, and nothing else.
    pub fn passed(&self) -> bool {
        self.untested.is_empty() && self.false_alarms == 0 && self.rows.iter().all(Row::passed)
    }
}

fn first_failed_gate(tensor: &TqTensor, got: &[bf16]) -> Option<String> {
    let reference = reference::dequantize(tensor);
    let (got, reference) = (Values::Bf16(got), Values::F32(&reference));
    let m = compare(LaneName::Cuda, got, LaneName::Reference, reference);
    let failed = gate::gates(&m).into_iter().find(|g| !g.passed);
    failed.map(|g| g.name.name().to_owned())
}

/// What a correct GPU lane returns: it multiplies by f32 `1/sqrt(n)` where the reference divides.
fn gpu_output(tensor: &TqTensor) -> Vec<bf16> {
    let (n, cols) = (tensor.layout().group_size(), tensor.cols());
    let inv_sqrt_n = (1.0 / (n as f64).sqrt()) as f32;
    let mut out = Vec::with_capacity(tensor.elements());
    for group in 0..tensor.groups() {
        let (row, start) = (group * n / cols, group * n % cols);
        let scale = tensor.scales()[group].to_f32();
        let mut x: Vec<f32> = (start..start + n)
            .map(|col| tensor.codebook().centroids()[tensor.code(row, col) as usize] * scale)
            .collect();
        fwht::butterflies(&mut x);
        let signs = &tensor.signs()[start..start + n];
        out.extend(
            x.iter()
                .zip(signs)
                .map(|(x, s)| bf16::from_f32(x * inv_sqrt_n * f32::from(*s))),
        );
    }
    out
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
    let scales: Vec<f16> = (0..rows * cols / 64).map(|_| f16::from_f32(3.0)).collect();
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
            let scales = if n == 64 { Scales::Any } else { Scales::Usual };
            all.push(synthetic::tensor(&mut rng, layout, rows, cols, scales)?);
        }
    }
    all.push(ties(&mut rng)?);
    Ok(all)
}

/// Runs the selftest; `step` is called before each tensor.
///
/// # Errors
/// When a synthetic tensor cannot be made, which is a fault of this program.
pub fn run(mut step: impl FnMut()) -> Result<Selftest> {
    let mut rows = Vec::new();
    let mut untested: Vec<String> = Fault::patterns().map(str::to_owned).collect();
    let mut tested: Vec<String> = Vec::new();
    for tensor in tensors()? {
        step();
        let mut correct = vec![bf16::ZERO; tensor.elements()];
        reference::dequantize_bf16_into(&tensor, &mut correct);
        let mut faults = Fault::catalogue(&tensor);
        faults.extend(FITTED.iter().filter_map(|name| Fault::named(name, &tensor)));
        for fault in faults {
            let name = fault.name();
            let mut got = vec![bf16::ZERO; tensor.elements()];
            emulate(&tensor, &[fault], 0, &mut got);
            let caught_by = first_failed_gate(&tensor, &got);
            let off = got
                .iter()
                .zip(&correct)
                .filter(|(a, b)| a.to_bits() != b.to_bits())
                .count();
            // Within what the last-bit rule allows every lane, nothing can be told from it.
            if off as f64 <= 0.001 * got.len() as f64 && caught_by.is_none() {
                untested.push(name);
                continue;
            }
            let named_as = match (&caught_by, diagnose("selftest", &tensor, &got)) {
                (Some(_), Some(d)) if d.explained => {
                    let names: Vec<String> = d.faults.into_iter().map(|f| f.name).collect();
                    [names.join(" + ")]
                        .into_iter()
                        .chain(d.equivalent)
                        .collect()
                }
                _ => Vec::new(),
            };
            tested.extend([name.clone(), fault.pattern().to_owned()]);
            rows.push(Row {
                fault: name,
                tensor: format!(
                    "{} bits, group {n}, {} x {}",
                    tensor.layout().bits(),
                    tensor.rows(),
                    tensor.cols(),
                    n = tensor.layout().group_size()
                ),
                caught_by,
                named_as,
            });
        }
    }
    untested.retain(|name| !tested.contains(name));
    untested.sort();
    untested.dedup();
    let mut rng = Rng::new(0xC0);
    let mut false_alarms = 0;
    for i in 0..CORRECT {
        let layout = Layout::new(2 + i as u32 % 3, GROUP_SIZES[i % 4])?;
        let (r, g) = (1 + rng.below(9), 1 + rng.below(5));
        let tensor = synthetic::tensor(&mut rng, layout, r, g * layout.group_size(), Scales::Any)?;
        false_alarms += usize::from(first_failed_gate(&tensor, &gpu_output(&tensor)).is_some());
    }
    Ok(Selftest {
        rows,
        untested,
        correct: CORRECT,
        false_alarms,
    })
}
