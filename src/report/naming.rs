//! What lanes and decisions are called where the type of an output, or that a lane broke, is to be said.

use super::view::name;
use crate::error::printable;
use crate::metrics::Metrics;
use crate::record::{Decision, LaneName, OutputType, TensorRecord, Verdict};

/// The type of a lane's output.
pub fn output_of(d: &Decision) -> OutputType {
    d.exactness
        .as_ref()
        .map_or_else(OutputType::default, |e| e.output)
}

/// The published string, which says BF16 whatever the type is, and not run of a lane that broke, for people.
pub fn in_words(
    published: String,
    (lane, verdict): (&LaneName, Verdict),
    of: OutputType,
) -> String {
    let rounded = "_with_bf16_rounding";
    printable(&match (verdict, of) {
        (Verdict::Broke, _) => format!("{lane} failed"),
        (_, OutputType::Bf16) => published,
        (_, OutputType::F16) => published.replace(rounded, "_with_f16_rounding"),
        (_, OutputType::F32) => published.replace(rounded, "_in_f32"),
    })
}

/// A lane's name, with the type of its output where that is not BF16.
pub fn typed_name(t: &TensorRecord, lane: &LaneName) -> String {
    match t.decision_of(lane).map(output_of) {
        None | Some(OutputType::Bf16) => name(lane),
        Some(of) => format!("{} ({})", name(lane), of.name()),
    }
}

/// What is said behind a distance in steps that are not those of the lane's own type: f32 is counted in BF16's, or
/// beside an F16 output in F16's.
pub fn ulp_unit(t: &TensorRecord, m: &Metrics) -> &'static str {
    let of = |lane| t.decision_of(lane).map(output_of);
    match (of(&m.lhs), of(&m.rhs)) {
        (Some(OutputType::F32), Some(OutputType::F16)) => " F16",
        (Some(OutputType::F32), _) => " BF16",
        _ => "",
    }
}
