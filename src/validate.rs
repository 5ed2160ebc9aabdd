//! The main job: every lane on one tensor, compared, gated and decided.
//!
//! ```
//! use std::sync::Arc;
//! use tq4::codebook::Codebook;
//! use tq4::lane::Lane;
//! use tq4::synthetic::{self, Rng, Scales};
//! use tq4::tensor::Layout;
//! use tq4::validate::{Input, validate};
//!
//! let layout = Layout::new(4, 128)?;
//! let tensor = synthetic::tensor(&mut Rng::new(1), layout, 8, 512, Scales::Usual)?;
//! let input = Input { tq_model: "memory", tensor: &tensor, row_start: 0, source: None };
//! let mut lanes = [Lane::reference()];
//! let outcome = validate(&input, &mut lanes, |_| ())?;
//! assert_eq!(outcome.report.decision, "cuda_dequant_not_run");
//! println!("{}", outcome.report.lanes[0].name);
//! # Ok::<(), tq4::Error>(())
//! ```

use crate::backend::{self, OutMut};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::fault;
use crate::gate::{self, Decision};
use crate::lane::{Lane, State};
use crate::metrics::{Metrics, Values, compare};
use crate::report::{CodebookComparison, LaneReport, Outputs, Status, TensorReport, Tool};
use crate::tensor::TqTensor;
use half::bf16;
use std::collections::HashMap;

/// The original weight of a tensor.
#[derive(Debug, Clone)]
pub struct Source {
    /// Directory name of the source model.
    pub model: String,
    /// The same rows as the tensor's, row-major.
    pub values: Vec<f32>,
}

/// What is validated.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Directory name of the TQ4 model, for the report.
    pub tq_model: &'a str,
    /// The rows to validate.
    pub tensor: &'a TqTensor,
    /// Number of the first row in the whole tensor.
    pub row_start: usize,
    /// The original weight, when it is at hand.
    pub source: Option<&'a Source>,
}

/// A report and the outputs that it was made from.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: TensorReport,
    /// The reference, f32.
    pub reference: Vec<f32>,
    /// What the kernel lanes returned, by name; recordings are not copied here.
    pub outputs: HashMap<String, Vec<bf16>>,
}

impl Outcome {
    /// The outputs in column order for [`crate::report::top_errors`]: kernel lanes and recordings rank
    /// against the reference, and the reference against the source when nothing else ran.
    pub fn columns<'a>(&'a self, input: &Input<'a>, lanes: &'a [Lane]) -> Outputs<'a> {
        let mut columns: Vec<(String, Values<'a>)> = Vec::new();
        if let Some(source) = input.source {
            columns.push(("source".into(), Values::F32(&source.values)));
        }
        columns.push(("reference".into(), Values::F32(&self.reference)));
        let reference = columns.len() - 1;
        for lane in lanes {
            if let Some(values) = self.values(lane, input) {
                columns.push((lane.name().to_owned(), values));
            }
        }
        let mut ranked: Vec<(usize, usize)> = (reference + 1..columns.len())
            .map(|i| (i, reference))
            .collect();
        if ranked.is_empty() && reference == 1 {
            ranked.push((reference, 0));
        }
        Outputs {
            base: input.tensor.base(),
            row_start: input.row_start,
            cols: input.tensor.cols(),
            lanes: columns,
            ranked,
        }
    }

    fn values<'a>(&'a self, lane: &'a Lane, input: &Input<'_>) -> Option<Values<'a>> {
        match lane.state() {
            State::Recorded(r) if r.mismatch(input.tensor, input.row_start).is_none() => {
                Some(r.values())
            }
            _ => self.outputs.get(lane.name()).map(|v| Values::Bf16(v)),
        }
    }
}

/// Runs every lane on `input`, compares and decides. `step` is called with a few words before each
/// piece of work, for a progress bar.
///
/// A lane that breaks is reported as failed; the others still run.
///
/// # Errors
/// When the source has another number of elements than the tensor.
pub fn validate(
    input: &Input<'_>,
    lanes: &mut [Lane],
    mut step: impl FnMut(&str),
) -> Result<Outcome> {
    let tensor = input.tensor;
    if let Some(source) = input.source
        && source.values.len() != tensor.elements()
    {
        return Err(Error::input(
            format!(
                "{} source values found, expected {}",
                source.values.len(),
                tensor.elements()
            ),
            tensor.base(),
            "",
        ));
    }
    let mut reference = vec![0.0; tensor.elements()];
    let mut outputs = HashMap::new();
    let mut lane_reports = Vec::new();
    for lane in lanes.iter_mut() {
        step(lane.name());
        lane_reports.push(run(lane, input, &mut reference, &mut outputs));
    }
    let mut outcome = Outcome {
        report: TensorReport {
            source_model: input.source.map(|s| s.model.clone()),
            tq_model: input.tq_model.to_owned(),
            tensor_base: tensor.base().to_owned(),
            row_start: input.row_start,
            row_count: tensor.rows(),
            shape: [tensor.rows(), tensor.cols()],
            bits: tensor.layout().bits(),
            group_size: tensor.layout().group_size(),
            centroids_config_vs_cuda: CodebookComparison::new(
                tensor.codebook(),
                tensor.layout().bits(),
                tensor.layout().group_size(),
            ),
            metrics: Vec::new(),
            fwht_bug_control: None,
            decision: String::new(),
            decisions: Vec::new(),
            diagnosis: Vec::new(),
            lanes: lane_reports,
            tool: Tool::this(),
        },
        reference,
        outputs,
    };
    step("metrics");
    let metrics = all_metrics(&outcome, input, lanes);
    let decisions = decisions(&metrics, &outcome.report.lanes);
    outcome.report.decision = cuda_decision(&decisions);
    outcome.report.fwht_bug_control = lanes
        .iter()
        .find(|l| l.name() == "cuda")
        .and_then(|l| outcome.values(l, input))
        .map(|cuda| {
            let mut control = Control::default();
            control.push(cuda, &outcome.reference, tensor.layout().group_size());
            control.finish()
        });
    step("diagnosis");
    outcome.report.diagnosis = lanes
        .iter()
        .filter(|l| {
            decisions
                .iter()
                .any(|d| d.lane == l.name() && d.passed == Some(false))
        })
        .filter_map(|l| {
            let values = outcome.values(l, input)?;
            match values {
                Values::Bf16(got) => fault::diagnose(l.name(), tensor, got),
                Values::F32(_) => {
                    let got: Vec<bf16> = (0..values.len()).map(|i| values.bf16(i)).collect();
                    fault::diagnose(l.name(), tensor, &got)
                }
            }
        })
        .collect();
    outcome.report.metrics = metrics;
    outcome.report.decisions = decisions;
    Ok(outcome)
}

fn run(
    lane: &mut Lane,
    input: &Input<'_>,
    reference: &mut [f32],
    outputs: &mut HashMap<String, Vec<bf16>>,
) -> LaneReport {
    let tensor = input.tensor;
    let mut report = lane.report();
    let name = lane.name().to_owned();
    let is_reference = lane.is_reference();
    match lane.state_mut() {
        State::Ready(backend) => {
            let mut out = Vec::new();
            let result = if is_reference {
                backend.dequantize(tensor, OutMut::F32(reference))
            } else {
                // Poisoned, so that what a lane leaves unwritten fails the gates.
                out = vec![bf16::from_bits(backend::POISON_BF16); tensor.elements()];
                backend.dequantize(tensor, OutMut::Bf16(&mut out))
            };
            match result {
                Ok(cost) => {
                    report.status = Status::Ran;
                    report.seconds = Some(cost.total.as_secs_f64());
                    report.kernel_seconds = cost.kernel.map(|k| k.as_secs_f64());
                    if !is_reference {
                        outputs.insert(name, out);
                    }
                }
                Err(e) => {
                    report.status = Status::Failed;
                    report.reason = Some(e.problem().what.clone());
                    report.help = Some(e.problem().help.clone()).filter(|h| !h.is_empty());
                }
            }
        }
        State::Recorded(recording) => {
            if let Some(why) = recording.mismatch(tensor, input.row_start) {
                report.status = Status::Unavailable;
                report.reason = Some(why);
            }
        }
        State::Absent(..) => {}
    }
    report
}

/// Each lane against the source, each kernel lane against the reference, each pair of kernel lanes.
fn all_metrics(outcome: &Outcome, input: &Input<'_>, lanes: &[Lane]) -> Vec<Metrics> {
    let reference = Values::F32(&outcome.reference);
    let kernels: Vec<(String, Values<'_>)> = lanes
        .iter()
        .filter_map(|l| Some((l.metric_name(), outcome.values(l, input)?)))
        .collect();
    let mut metrics = Vec::new();
    if let Some(source) = input.source {
        let source = Values::F32(&source.values);
        metrics.push(compare(
            "reference_dequant",
            reference,
            "bf16_source",
            source,
        ));
        for (name, values) in &kernels {
            metrics.push(compare(name, *values, "bf16_source", source));
        }
    }
    for (i, (name, values)) in kernels.iter().enumerate() {
        metrics.push(compare(name, *values, "reference_dequant", reference));
        for (other, other_values) in &kernels[..i] {
            metrics.push(compare(name, *values, other, *other_values));
        }
    }
    metrics
}

/// The outcome for CUDA.
pub(crate) fn cuda_decision(decisions: &[Decision]) -> String {
    decisions
        .iter()
        .find(|d| d.lane == "cuda")
        .map_or_else(|| "cuda_dequant_not_run".to_owned(), |d| d.decision.clone())
}

/// The decision for every kernel lane, CUDA first.
pub(crate) fn decisions(metrics: &[Metrics], lanes: &[LaneReport]) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = lanes
        .iter()
        .filter(|l| l.name != "reference")
        .map(|lane| {
            let name = crate::lane::metric_name(&lane.name, lane.status == Status::Recorded);
            metrics
                .iter()
                .find(|m| m.lhs == name && m.rhs == "reference_dequant")
                .map_or_else(
                    || {
                        gate::not_run(
                            &lane.name,
                            lane.reason.as_deref().unwrap_or("not asked for"),
                        )
                    },
                    |m| gate::decide(&lane.name, m),
                )
        })
        .collect();
    if !decisions.iter().any(|d| d.lane == "cuda") {
        decisions.insert(0, gate::not_run("cuda", "not asked for"));
    }
    // The decision for CUDA comes first, whatever the order of the lanes.
    decisions.sort_by_key(|d| d.lane != "cuda");
    decisions
}
