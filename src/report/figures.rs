//! Figures over all tensors of a run, in words.

use super::naming::ulp_unit;
use super::view::{Against, count_of, name, short, source_ratio};
use crate::error::printable;
use crate::metrics::Metrics;
use crate::record::{OutputType, Run, TensorRecord};

/// The largest figures of each lane with the tensors that have them, a line each; then what the format costs.
pub fn largest(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    for lane in run.asked_for() {
        let mut of_lane = Vec::new();
        for t in &run.tensors {
            let judged = |m: &&Metrics| m.lhs == lane.lane && t.decision_on(m).is_some();
            of_lane.extend(t.metrics.iter().filter(judged).map(|m| (t, m)));
        }
        let finite = |v: f64| if v.is_finite() { v } else { f64::INFINITY };
        let by = |f: &dyn Fn(&TensorRecord, &Metrics) -> f64| {
            let of_tensor = |(t, m): &(&TensorRecord, &Metrics)| finite(f(t, m));
            // The first of several, as they are listed.
            let largest = of_lane.iter().rev();
            largest
                .max_by(|a, b| of_tensor(a).total_cmp(&of_tensor(b)))
                .copied()
        };
        let share = |t: &TensorRecord, m: &Metrics| t.unequal(m) as f64 / m.elements as f64;
        let (Some(ratio), Some(differ), Some(ulp)) = (
            by(&|_, m| m.rmse_over_rhs_rms),
            by(&share),
            by(&|_, m| f64::from(m.max_ulp)),
        ) else {
            continue;
        };
        let of = |t: &TensorRecord| printable(&t.tensor_base);
        let what = Against::of(&ratio.1.rhs).ratio();
        let (value, at) = (ratio.1.rmse_over_rhs_rms, of(ratio.0));
        let mut line = format!("{}: largest {what} {}", name(&lane.lane), short(value));
        if value != 0.0 {
            line += &format!(" ({at})");
        }
        let unequal = differ.0.unequal(differ.1);
        if unequal > 0 {
            let count = count_of(unequal, differ.1.elements);
            line += &format!(", most that differ {count} ({})", of(differ.0));
        }
        if ulp.1.max_ulp > 0 {
            line += &format!(
                ", largest max ULP {}{} ({})",
                ulp.1.max_ulp,
                ulp_unit(ulp.0, ulp.1),
                of(ulp.0)
            );
        }
        lines.push(line);
    }
    let source = run
        .tensors
        .iter()
        .filter_map(|t| Some((source_ratio(t)?, t)));
    let source = source.rev().max_by(|a, b| a.0.total_cmp(&b.0));
    lines.extend(source.map(|(ratio, t)| {
        let at = printable(&t.tensor_base);
        format!(
            "reference vs source: largest rmse ratio {} ({at})",
            short(ratio)
        )
    }));
    lines
}

/// What the rmse ratio of a correct lane is, where one is shown.
pub fn floor(run: &Run) -> Option<String> {
    let decisions = run.tensors.iter().flat_map(|t| &t.decisions);
    let mut of_type = [false; 2];
    for e in decisions.filter_map(|d| d.exactness.as_ref()) {
        of_type[0] |= e.output == OutputType::Bf16;
        of_type[1] |= e.output == OutputType::F16;
    }
    // The rms error of rounding to nearest, over the rms of the values: see the test.
    let floors = of_type.iter().zip([
        "BF16 alone gives about 0.0017",
        "F16 alone gives about 0.0002",
    ]);
    let floors: Vec<&str> = floors
        .filter(|(there, _)| **there)
        .map(|(_, text)| text)
        .collect();
    (!floors.is_empty()).then(|| {
        format!(
            "rmse ratio: against the reference before it is rounded; rounding to {}, which is no fault",
            floors.join(", to ")
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::metrics::{Values, compare};
    use crate::record::LaneName;
    use crate::synthetic::{self, Rng};
    use half::{bf16, f16};

    /// The figures of [`super::floor`].
    #[test]
    fn rounding_alone_gives_these_ratios() {
        let values = synthetic::weight(&mut Rng::new(1), 256, 1024);
        let reference = Values::F32(&values);
        let ratio = |rounded| compare(LaneName::Cuda, rounded, LaneName::Reference, reference);
        let in_bf16: Vec<bf16> = values.iter().map(|v| bf16::from_f32(*v)).collect();
        let in_f16: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
        let bf16 = ratio(Values::Bf16(&in_bf16)).rmse_over_rhs_rms;
        let f16 = ratio(Values::F16(&in_f16)).rmse_over_rhs_rms;
        assert_eq!(format!("{bf16:.4} {f16:.4}"), "0.0017 0.0002");
    }
}
