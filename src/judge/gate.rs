//! Gates: the rules that a kernel lane must meet against the reference, and the decision they make.

use crate::metrics::Metrics;
use crate::record::{Decision, Gate, GateName, LaneName, Relation, Verdict};

/// Largest `rmse / rhs_rms`: the published gate. It passes a kernel that truncates to BF16 (0.0033).
pub const MAX_RMSE_RATIO: f64 = 0.005;
/// Largest distance from the rounded reference, in BF16 steps.
pub const MAX_STEPS: u32 = 1;
/// Smallest share of elements that equal the rounded reference; one element may always differ, since
/// the last-bit rule of a GPU lane can strike in a tensor of any size.
pub const MIN_EQUAL: f64 = 0.999;

/// The gates for a comparison of a kernel lane with the reference.
pub fn gates(m: &Metrics) -> Vec<Gate> {
    use GateName::{BitEqual, MaxOneStep, NoNan, RmseRatio};
    use Relation::{AtLeast, AtMost};
    let share = |n: u64| n as f64 / m.elements as f64;
    let min_equal = MIN_EQUAL.min(share(m.elements - 1));
    vec![
        Gate::new(NoNan, m.nan as f64, AtMost, 0.0),
        Gate::new(RmseRatio, m.rmse_over_rhs_rms, AtMost, MAX_RMSE_RATIO),
        Gate::new(MaxOneStep, m.max_ulp.into(), AtMost, MAX_STEPS.into()),
        Gate::new(BitEqual, share(m.bit_equal), AtLeast, min_equal),
    ]
}

/// Decides for a lane from its comparison with the reference, or with another recording where no
/// reference takes part.
pub fn decide(lane: LaneName, m: &Metrics) -> Decision {
    let gates = gates(m);
    let failed: Vec<String> = gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| {
            format!(
                "{} is {}, must be {} {}",
                g.name.name(),
                figure(g.value),
                g.must_be.words(),
                figure(g.limit)
            )
        })
        .collect();
    let against = match &m.rhs {
        LaneName::Reference => "the rounded reference".to_owned(),
        other => other.to_string(),
    };
    Decision {
        lane,
        rhs: m.rhs.clone(),
        verdict: if failed.is_empty() {
            Verdict::Passed
        } else {
            Verdict::Failed
        },
        reason: if failed.is_empty() {
            format!(
                "{} of {} elements equal {against}, the rest within {} BF16 step",
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
        let (got, reference) = (Values::Bf16(got), Values::F32(reference));
        let metrics = compare(LaneName::Cuda, got, LaneName::Reference, reference);
        decide(LaneName::Cuda, &metrics)
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
            d.published(),
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
        assert_eq!(d.verdict, Verdict::Failed);
        let by_name = |n| d.gates.iter().find(|g| g.name == n).unwrap().passed;
        assert!(by_name(GateName::RmseRatio));
        assert!(!by_name(GateName::BitEqual));
    }

    #[test]
    fn one_last_bit_in_a_small_tensor_passes_and_two_fail() {
        let r = &reference()[..32];
        let mut got: Vec<bf16> = r.iter().map(|v| bf16::from_f32(*v)).collect();
        for (i, passes) in [(3, true), (9, false)] {
            got[i] = bf16::from_bits(got[i].to_bits() + 1);
            assert_eq!(verdict(&got, r).verdict == Verdict::Passed, passes, "{i}");
        }
    }

    #[test]
    fn nan_zeros_and_poison_fail() {
        let r = reference();
        let poison = bf16::from_bits(crate::lane::POISON_BF16);
        for fill in [bf16::NAN, bf16::ZERO, poison] {
            assert_eq!(
                verdict(&vec![fill; r.len()], &r).verdict,
                Verdict::Failed,
                "{fill}"
            );
        }
        let mut got: Vec<bf16> = r.iter().map(|v| bf16::from_f32(*v)).collect();
        got[4095] = poison;
        assert_eq!(verdict(&got, &r).verdict, Verdict::Failed);
    }
}
