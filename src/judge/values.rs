//! Judging values that are at hand.

use super::exact::Exact;
use super::{Judge, JudgeOptions, gate};
use crate::error::{Error, Result};
use crate::lane::cpu::Cpu;
use crate::lane::{Decoded, Lane, LaneOutput, Output, Timed};
use crate::metrics::{Values, compare};
use crate::record::{
    CodebookComparison, Decision, LaneName, LaneRecord, OutputType, Status, TensorRecord,
    Tolerance, leading,
};
use crate::reference;
use crate::strip::{Strip, TensorSum};
use crate::tensor::TqTensor;
use std::sync::Arc;
use std::time::Instant;

/// Holds the output of a lane for a whole tensor to the codec: the decision alone, without a record.
///
/// # Panics
/// When there is another number of values than of elements.
pub(crate) fn decision(lane: LaneName, tensor: &TqTensor, got: &Output) -> Decision {
    let reference = reference::dequantize(tensor);
    let metrics = compare(
        lane.clone(),
        got.values(),
        LaneName::Reference,
        Values::F32(&reference),
    );
    let mut exact = Exact::new(None);
    exact.push(tensor, 0, &reference, got);
    gate::decide(lane, &metrics, exact.finish(), None, true)
}

/// Judges values that were computed elsewhere: `values` are the output for all of `tensor`, row-major.
///
/// # Errors
/// When there is another number of values than of elements.
pub fn judge_values(name: &str, tensor: TqTensor, values: Output) -> Result<TensorRecord> {
    judge_strip(name, Strip::of(tensor), values, None)
}

/// Judges values that were computed elsewhere for a strip, row-major; `tolerance` is how far a kernel that is
/// lossy by intent may be off. Rows in the record count from the strip's first.
///
/// # Errors
/// When the strip has no codes, or there is another number of values than of elements.
pub fn judge_strip(
    name: &str,
    strip: Strip,
    values: Output,
    tolerance: Option<Tolerance>,
) -> Result<TensorRecord> {
    let tensor = strip.tensor()?;
    if values.values().len() != strip.elements() {
        return Err(Error::input(
            format!(
                "{} values found, expected {}",
                values.values().len(),
                strip.elements()
            ),
            tensor.base(),
            "give a value for each element, row by row",
        ));
    }
    let mut sum = TensorSum::default();
    sum.add(tensor);
    let checksum = sum.finish(tensor);
    let layout = tensor.layout();
    let record = TensorRecord {
        bits: Some(layout.bits()),
        group_size: Some(layout.group_size()),
        bytes: tensor.bytes() as u64,
        ..blank(&strip.base, &strip.rows, strip.cols)
    };
    let start = Instant::now();
    let expected = Output::F32(reference::dequantize(tensor));
    let expected = expected.narrowed(strip.stored_cols(), strip.cols);
    let timed = Timed::by_wall(start);
    let lanes = vec![
        LaneRecord::of(Cpu::new(OutputType::F32).info(), Status::Ran),
        LaneRecord::new(LaneName::from(name), Status::Recorded),
    ];
    let options = JudgeOptions {
        tolerance,
        ..JudgeOptions::default()
    };
    let mut judge = Judge::new(record, lanes, options);
    judge.push(&Arc::new(Decoded {
        strip,
        outputs: vec![
            LaneOutput::Values(expected, timed),
            LaneOutput::Values(values, timed),
        ],
    }));
    Ok(judge.finish(Some(checksum)))
}

/// The record of a tensor of which nothing is known but what is to be judged.
pub fn blank(base: &str, rows: &std::ops::Range<usize>, cols: usize) -> TensorRecord {
    TensorRecord {
        source_model: None,
        tq_model: String::new(),
        tensor_base: base.to_owned(),
        row_start: rows.start,
        row_count: rows.len(),
        shape: [rows.len(), cols],
        bits: None,
        group_size: None,
        centroids_config_vs_cuda: None::<CodebookComparison>,
        metrics: Vec::new(),
        fwht_bug_control: None,
        checkpoint: None,
        decision: leading(&[]),
        decisions: Vec::new(),
        diagnosis: Vec::new(),
        lanes: Vec::new(),
        elements: (rows.len() * cols) as u64,
        bytes: 0,
        checksum: None,
        source_checksum: None,
        error: None,
        picture: None,
    }
}
