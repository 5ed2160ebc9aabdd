//! Gates: the rules that a kernel lane must meet against the reference, and the decision they make.

use crate::metrics::Metrics;
use serde::{Deserialize, Serialize};

/// Largest `rmse / rhs_rms`: the published gate. It passes a kernel that truncates to BF16 (0.0033).
pub const MAX_RMSE_RATIO: f64 = 0.005;
/// Largest distance from the rounded reference, in BF16 steps.
pub const MAX_STEPS: u32 = 1;
/// Smallest share of elements that equal the rounded reference; one element may always differ, since
/// the last-bit rule of a GPU lane can strike in a tensor of any size.
pub const MIN_EQUAL: f64 = 0.999;

/// One rule with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// `no_nan`, `rmse_ratio`, `max_one_step` or `bit_equal`.
    pub name: String,
    /// What was measured.
    #[serde(deserialize_with = "crate::metrics::null_is_nan")]
    pub value: f64,
    /// `<=` or `>=`: how the value must stand to the limit.
    pub must_be: String,
    /// The limit.
    pub limit: f64,
    /// Whether the rule is met. A NaN never meets it.
    pub passed: bool,
}

/// What became of one kernel lane or recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The lane or recording.
    pub lane: String,
    /// `LANE_dequant_matches_reference_with_bf16_rounding`, `LANE_dequant_differs_from_reference` or
    /// `LANE_dequant_not_run`.
    pub decision: String,
    /// Whether every gate passed; `None` when the lane did not run.
    pub passed: Option<bool>,
    /// One line that says why.
    pub reason: String,
    /// The gates behind it.
    pub gates: Vec<Gate>,
}

/// The gates for a comparison of a kernel lane with the reference.
pub fn gates(m: &Metrics) -> Vec<Gate> {
    let at_most = |name: &str, value: f64, limit: f64| Gate {
        name: name.into(),
        value,
        must_be: "<=".into(),
        limit,
        // Written so that a NaN fails.
        passed: value <= limit,
    };
    let share = |n: u64| n as f64 / m.elements as f64;
    let equal = share(m.bit_equal);
    let min_equal = MIN_EQUAL.min(share(m.elements - 1));
    vec![
        at_most("no_nan", m.nan as f64, 0.0),
        at_most("rmse_ratio", m.rmse_over_rhs_rms, MAX_RMSE_RATIO),
        at_most("max_one_step", m.max_ulp.into(), MAX_STEPS.into()),
        Gate {
            name: "bit_equal".into(),
            value: equal,
            must_be: ">=".into(),
            limit: min_equal,
            passed: equal >= min_equal,
        },
    ]
}

/// Decides for `lane` from its comparison with the reference.
pub fn decide(lane: &str, m: &Metrics) -> Decision {
    let gates = gates(m);
    let failed: Vec<String> = gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| {
            let relation = if g.must_be == "<=" {
                "at most"
            } else {
                "at least"
            };
            format!(
                "{} is {}, must be {relation} {}",
                g.name,
                figure(g.value),
                figure(g.limit)
            )
        })
        .collect();
    let passed = failed.is_empty();
    Decision {
        lane: lane.into(),
        decision: if passed {
            format!("{lane}_dequant_matches_reference_with_bf16_rounding")
        } else {
            format!("{lane}_dequant_differs_from_reference")
        },
        passed: Some(passed),
        reason: if passed {
            format!(
                "{} of {} elements equal the rounded reference, the rest within {} BF16 step",
                m.bit_equal,
                m.elements,
                m.max_ulp.max(1)
            )
        } else {
            failed.join("; ")
        },
        gates,
    }
}

/// The decision for a lane that did not run, with the reason.
pub fn not_run(lane: &str, reason: &str) -> Decision {
    Decision {
        lane: lane.into(),
        decision: format!("{lane}_dequant_not_run"),
        passed: None,
        reason: reason.into(),
        gates: Vec::new(),
    }
}

fn figure(v: f64) -> String {
    if v == v.trunc() && v.abs() < 1e9 {
        format!("{v:.0}")
    } else {
        format!("{v:.6}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Values, compare};
    use half::bf16;

    fn verdict(got: &[bf16], reference: &[f32]) -> Decision {
        decide(
            "cuda",
            &compare(
                "cuda_dequant",
                Values::Bf16(got),
                "reference_dequant",
                Values::F32(reference),
            ),
        )
    }

    fn reference() -> Vec<f32> {
        (0..4096)
            .map(|i| ((i * 37 % 1001) as f32 - 500.5) / 997.0)
            .collect()
    }

    #[test]
    fn the_rounded_reference_passes() {
        let r = reference();
        let got: Vec<bf16> = r.iter().map(|v| bf16::from_f32(*v)).collect();
        let d = verdict(&got, &r);
        assert_eq!(
            d.decision,
            "cuda_dequant_matches_reference_with_bf16_rounding"
        );
    }

    #[test]
    fn truncation_passes_the_published_gate_and_fails_here() {
        let r = reference();
        let got: Vec<bf16> = r
            .iter()
            .map(|v| bf16::from_bits((v.to_bits() >> 16) as u16))
            .collect();
        let d = verdict(&got, &r);
        assert_eq!(d.passed, Some(false));
        let by_name = |n: &str| d.gates.iter().find(|g| g.name == n).unwrap().passed;
        assert!(by_name("rmse_ratio"));
        assert!(!by_name("bit_equal"));
    }

    #[test]
    fn one_last_bit_in_a_small_tensor_passes_and_two_fail() {
        let r = &reference()[..32];
        let mut got: Vec<bf16> = r.iter().map(|v| bf16::from_f32(*v)).collect();
        for (i, passes) in [(3, true), (9, false)] {
            got[i] = bf16::from_bits(got[i].to_bits() + 1);
            assert_eq!(verdict(&got, r).passed, Some(passes), "{i}");
        }
    }

    #[test]
    fn nan_zeros_and_poison_fail() {
        let r = reference();
        let poison = bf16::from_bits(crate::backend::POISON_BF16);
        for fill in [bf16::NAN, bf16::ZERO, poison] {
            assert_eq!(
                verdict(&vec![fill; r.len()], &r).passed,
                Some(false),
                "{fill}"
            );
        }
        let mut got: Vec<bf16> = r.iter().map(|v| bf16::from_f32(*v)).collect();
        got[4095] = poison;
        assert_eq!(verdict(&got, &r).passed, Some(false));
    }
}
