//! What the arithmetic of a lane's device has to do with its output.

use crate::fault::Diagnosis;
use crate::record::{Arithmetic, Decision, LaneKind, LaneRecord, Status};

/// What a decision's reason says of the device, after what it says of the elements.
pub(super) fn of_decision(lane: &LaneRecord, decision: &Decision) -> String {
    let (Some(device), Some(exact)) = (&lane.arithmetic, &decision.exactness) else {
        return String::new();
    };
    // A recording's device is not the one that is here.
    if lane.status != Status::Ran {
        return String::new();
    }
    let changed = match (lane.name.kind(), exact.arithmetic) {
        (Some(LaneKind::Wgpu), _) => exact.unlike_multiply > 0,
        (_, Some(Arithmetic::Contracted)) => device.contracts,
        (_, Some(Arithmetic::Factored | Arithmetic::ScaleAfter)) => device.factors,
        (_, Some(_)) => false,
        // A kernel that fails may have any cause; its diagnosis says more.
        (_, None) => decision.verdict.passed() == Some(true),
    };
    let sentence = device.sentence().filter(|_| changed);
    let warning = lane.warning.as_ref().map(|w| format!("warning: {w}"));
    let said = sentence.into_iter().chain(warning);
    said.map(|s| format!("; {s}")).collect()
}

/// What a diagnosis says of the device: where nothing explains the output, or the device does the fault.
pub(super) fn of_diagnosis(lane: &LaneRecord, diagnosis: &Diagnosis) -> String {
    let Some(device) = lane.arithmetic.filter(|_| lane.status == Status::Ran) else {
        return String::new();
    };
    let flushed = "f16_subnormals_flushed";
    if !device.reads_f16_subnormals && diagnosis.names().iter().any(|n| n.contains(flushed)) {
        return "; unpack2x16float of this device does so".into();
    }
    let sentence = device.sentence().filter(|_| !diagnosis.explained);
    sentence.map_or_else(String::new, |s| format!("; {s}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DeviceArithmetic, Exactness, LaneName, OutputType, Verdict};
    use serde_json::json;

    const DEVICE: DeviceArithmetic = DeviceArithmetic {
        contracts: true,
        factors: true,
        sums_off: 9,
        guard_by_fma: false,
        guard_by_memory: false,
        reads_f16_subnormals: false,
        ..DeviceArithmetic::STRICT
    };

    fn lane(name: &str, status: Status, device: Option<DeviceArithmetic>) -> LaneRecord {
        LaneRecord {
            arithmetic: device,
            ..LaneRecord::new(name.into(), status)
        }
    }

    /// What is said of a decision with this arithmetic.
    fn decided(lane: &LaneRecord, verdict: Verdict, arithmetic: Option<Arithmetic>) -> String {
        let exact = Exactness {
            output: OutputType::Bf16,
            elements: 4,
            unequal: 1,
            unlike_multiply: u64::from(arithmetic != Some(Arithmetic::Multiply)),
            not_finite: 0,
            outside: 0,
            worst: None,
            beyond_tolerance: 0,
            ties_away: 0,
            arithmetic,
        };
        let decision = Decision {
            exactness: Some(exact),
            ..Decision::without_output(lane.name.clone(), verdict, "")
        };
        of_decision(lane, &decision)
    }

    #[test]
    fn a_decision_quotes_the_device_where_it_accounts_for_the_output() {
        use Arithmetic::{Contracted, Divide, Factored, Multiply, ScaleAfter};
        const SAID: &str = "; this device fuses a*b+c and factors a*s + b*s";
        let allowed = Verdict::Allowed;
        let own = lane("wgpu", Status::Ran, Some(DEVICE));
        assert_eq!(own.name, LaneName::Wgpu);
        assert_eq!(decided(&own, allowed, Some(Multiply)), "");
        for arithmetic in [Some(Contracted), Some(Divide), None] {
            assert_eq!(decided(&own, allowed, arithmetic), SAID);
            assert_eq!(decided(&own, Verdict::Differs, arithmetic), SAID);
        }
        let warned = LaneRecord {
            warning: DEVICE.warning(),
            ..own
        };
        let warning = format!("; warning: {}", DEVICE.warning().unwrap());
        assert_eq!(decided(&warned, allowed, Some(Multiply)), warning);
        assert_eq!(decided(&warned, allowed, None), format!("{SAID}{warning}"));

        let user = lane("mine", Status::Ran, Some(DEVICE));
        for arithmetic in [Some(Contracted), Some(Factored), Some(ScaleAfter), None] {
            assert_eq!(decided(&user, allowed, arithmetic), SAID);
        }
        for arithmetic in [Some(Multiply), Some(Divide)] {
            assert_eq!(decided(&user, allowed, arithmetic), "");
        }
        assert_eq!(decided(&user, Verdict::Differs, None), "");
        let strict = DeviceArithmetic {
            contracts: false,
            ..DEVICE
        };
        let strict = lane("mine", Status::Ran, Some(strict));
        assert_eq!(decided(&strict, allowed, Some(Contracted)), "");
        for silent in [
            lane("mine", Status::Recorded, Some(DEVICE)),
            lane("mine", Status::Ran, None),
        ] {
            assert_eq!(decided(&silent, allowed, Some(Contracted)), "");
        }
    }

    #[test]
    fn a_diagnosis_quotes_the_device_where_nothing_else_explains_the_output() {
        let diagnosis = |name: &str, explained: bool| -> Diagnosis {
            let fault = json!({"name": name, "advice": ""});
            serde_json::from_value(json!({
                "lane": "mine", "explained": explained, "faults": [fault], "equivalent": [], "reproduced": 1,
                "distinguishing": 1, "family": null, "only": [], "closest": null, "evidence": "",
                "group": {"row": 0, "group": 0, "expected": [], "got": []}, "elements": 2,
                "allowed": false, "wrong": 1, "wrong_rows": 1, "wrong_groups": 1, "first_row": 0,
                "first_group": 0, "positions": [[0, 1]],
                "signature": {"cosine": 0.5, "norm_ratio": 1.0, "magnitudes_equal": 1.0,
                    "signs_flipped": 0.0, "rows_of_other_rows": 0},
                "worst": {"row": 0, "col": 1, "code": 3, "centroid": 0.5, "scale": 1.0, "sign": -1,
                    "expected": 0.5, "got": null},
            }))
            .unwrap()
        };
        let there = lane("mine", Status::Ran, Some(DEVICE));
        let of = |lane, name, explained| of_diagnosis(lane, &diagnosis(name, explained));
        let flushed = "f16_subnormals_flushed";
        assert!(of(&there, flushed, true).contains("unpack2x16float of this device"));
        assert_eq!(of(&there, "zeros", true), "");
        assert!(of(&there, "zeros", false).starts_with("; this device fuses a*b+c"));
        let keeps = DeviceArithmetic {
            reads_f16_subnormals: true,
            ..DEVICE
        };
        let keeps = lane("mine", Status::Ran, Some(keeps));
        assert_eq!(of(&keeps, flushed, true), "");
        let recorded = lane("mine", Status::Recorded, Some(DEVICE));
        assert_eq!(of(&recorded, flushed, true), "");
    }
}
