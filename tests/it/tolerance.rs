//! Kernels that are lossy by intent, outputs of F16, and drivers that change the arithmetic.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::fake::{Fake, beside_reference};
use half::{bf16, f16};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tq4::format::TqModel;
use tq4::judge::{Judge, JudgeOptions, blank};
use tq4::lane::{Decoded, LaneState};
use tq4::reference;
use tq4::run::Strip;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::Layout;

const BASE: &str = "a.gate_proj";

/// A dump of what `f` makes of every element of the reference.
fn dump(model: &Path, f: impl Fn(usize, f32) -> f32) -> String {
    let open = TqModel::open(model).unwrap();
    let [rows, cols] = open.info(BASE).unwrap().shape;
    let values = reference::dequantize(&open.rows(BASE, 0..rows).unwrap());
    let values: Vec<f32> = values
        .into_iter()
        .enumerate()
        .map(|(i, v)| f(i, v))
        .collect();
    let path = model.join("dump.json");
    let json = json!({"tensor_base": BASE, "shape": [rows, cols], "values": values});
    std::fs::write(&path, json.to_string()).unwrap();
    format!("mine={}", path.display())
}

/// Exit code, what is printed, and the decision on the recording.
fn validate(model: &Path, recording: &str, more: &[&str]) -> (Option<i32>, String, Value) {
    let mut args = vec!["validate", "--lanes", "reference", "--format", "json"];
    args.extend(["--tq-model", model.to_str().unwrap(), "--tensor-base", BASE]);
    args.extend(["--recording", recording]);
    args.extend(more);
    let out = tq4(&args);
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap_or_default();
    let decisions = report["tensors"][0]["decisions"].as_array();
    let mine = decisions.and_then(|d| d.iter().find(|d| d["lane"] == "mine"));
    (
        out.status.code(),
        stderr(&out),
        mine.cloned().unwrap_or_default(),
    )
}

#[test]
fn a_lossy_kernel_passes_within_its_tolerance_and_never_as_correct() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path();
    Model::valid().write(model);
    // As an int8 codebook would: about 0.4 % off.
    let lossy = dump(model, |i, v| v * if i % 2 == 0 { 1.004 } else { 0.996 });
    for (tolerance, code, verdict, gate) in [
        (None, 1, "differs", "allowed"),
        (Some("rmse=0.01"), 0, "within_tolerance", "tolerance_rmse"),
        (Some("rmse=0.001"), 1, "differs", "tolerance_rmse"),
        (
            Some("atol=0.000001,rtol=0.005"),
            0,
            "within_tolerance",
            "tolerance_elements",
        ),
        (Some("rtol=0.002"), 1, "differs", "tolerance_elements"),
        (
            Some("rmse=0.01,rtol=0.002"),
            1,
            "differs",
            "tolerance_elements",
        ),
    ] {
        let more: Vec<&str> = tolerance.iter().flat_map(|t| ["--tolerance", t]).collect();
        let (found, log, d) = validate(model, &lossy, &more);
        assert_eq!(
            (found, &d["verdict"]),
            (Some(code), &json!(verdict)),
            "{log} {d}"
        );
        let gates = d["gates"].as_array().unwrap();
        assert!(gates.iter().any(|g| g["name"] == gate), "{d}");
        assert_eq!(d["passed"], code == 0);
        if code == 0 {
            assert_eq!(d["decision"], "mine_dequant_within_tolerance");
            let reason = d["reason"].as_str().unwrap();
            assert!(reason.contains(tolerance.unwrap()), "{reason}");
        }
    }
    // What needs no tolerance is what it is without one.
    let right = dump(model, |_, v| bf16::from_f32(v).to_f32());
    let (_, _, d) = validate(model, &right, &["--tolerance", "rmse=0.01"]);
    assert_eq!(d["verdict"], "identical");
    // A NaN is within none.
    let nan = dump(model, |i, v| if i == 3 { f32::NAN } else { v });
    let (code, _, d) = validate(model, &nan, &["--tolerance", "rmse=10,atol=10"]);
    assert_eq!((code, &d["verdict"]), (Some(1), &json!("differs")));
    let (code, log, _) = validate(model, &right, &["--tolerance", "rsme=0.1"]);
    assert_eq!(code, Some(2));
    assert!(
        log.contains("--tolerance") && log.contains("rmse=0.01"),
        "{log}"
    );
}

#[test]
fn f16_output_is_judged_as_f16() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path();
    Model::valid().write(model);
    let half = |v: f32| f16::from_f32(v).to_f32();
    let (code, log, d) = validate(model, &dump(model, |_, v| half(v)), &[]);
    assert_eq!(
        (code, &d["verdict"]),
        (Some(0), &json!("identical")),
        "{log} {d}"
    );
    assert_eq!(d["exactness"]["output"], "f16");
    // One step of F16 is an eighth of one of BF16, and is seen all the same.
    let step = |i: usize, v: f32| {
        let v = f16::from_f32(v);
        f16::from_bits(v.to_bits() + u16::from(i == 5)).to_f32()
    };
    let (code, _, d) = validate(model, &dump(model, step), &[]);
    assert_eq!((code, &d["verdict"]), (Some(1), &json!("differs")), "{d}");
    assert_eq!(d["exactness"]["outside"], 1);
}

#[test]
fn f16_subnormals_are_right_where_f16_holds_no_more() {
    let layout = Layout::new(4, 128).unwrap();
    let mut rng = Rng::new(9);
    let tensor = synthetic::tensor(&mut rng, layout, 64, 512, ScaleDistribution::Any).unwrap();
    let values = reference::dequantize(&tensor);
    let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
    assert!(halves.iter().any(|h| h.to_f32() != 0.0 && !h.is_normal()));
    let record = tq4::judge_values("mine", tensor, tq4::Output::F16(halves)).unwrap();
    assert_eq!(record.decisions[1].verdict.word(), "identical");
}

#[test]
fn values_at_hand_are_held_to_some_rows_with_a_tolerance() {
    let layout = Layout::new(4, 128).unwrap();
    let tensor =
        synthetic::tensor(&mut Rng::new(7), layout, 8, 512, ScaleDistribution::Usual).unwrap();
    let strip = Strip {
        rows: 24..32,
        ..Strip::of(tensor)
    };
    let exact = reference::dequantize(strip.tensor().unwrap());
    let values: Vec<f32> = exact.iter().map(|v| v * 1.001).collect();
    let judge = |tolerance: Option<&str>| {
        let values = tq4::Output::F32(values.clone());
        let tolerance = tolerance.map(|t| t.parse().unwrap());
        let record = tq4::judge_strip("mine", strip.clone(), values, tolerance).unwrap();
        let stored = 8 * (256 + 2 * 4) + 512;
        assert_eq!((record.row_start, record.row_count), (24, 8));
        assert_eq!((record.bits, record.bytes), (Some(4), stored));
        record.decision_of(&"mine".into()).unwrap().verdict.word()
    };
    assert_eq!(judge(None), "differs");
    assert_eq!(judge(Some("rmse=0.01")), "within tolerance");
    assert_eq!(judge(Some("rmse=0.0001")), "differs");
}

/// What the decision on a live lane says of an element that its program cannot give.
fn moved(name: &str, change: fn(f32) -> f32) -> String {
    let layout = Layout::new(4, 128).unwrap();
    let tensor =
        synthetic::tensor(&mut Rng::new(8), layout, 64, 4096, ScaleDistribution::Usual).unwrap();
    let exact = tq4::oracle::dequantize_rows(&tensor, 0..tensor.rows());
    let fake = Fake::new(name, 1).wrong(move |_, out| {
        for (o, e) in out.iter_mut().zip(&exact) {
            *o = bf16::from_f32(change(*e as f32));
        }
    });
    let mut slots = beside_reference([fake]);
    let lanes: Vec<_> = slots.iter().map(tq4::Slot::record).collect();
    let strip = Strip::of(tensor);
    let record = blank(&strip.base, &strip.rows, strip.cols);
    let mut judge = Judge::new(record, lanes, JudgeOptions::default());
    judge.push(&Arc::new(Decoded::new(
        strip,
        true,
        &mut slots,
        &mut [LaneState::Ready, LaneState::Ready],
        Vec::new(),
    )));
    let record = judge.finish(None);
    let decisions = record.decisions.iter();
    let of_lane = decisions.filter(|d| d.lane == name.into());
    of_lane.map(|d| d.reason.clone()).collect()
}

#[test]
fn a_driver_that_changes_the_arithmetic_is_told_of() {
    for name in ["cuda", "wgpu"] {
        let reason = moved(name, |v| v);
        assert!(
            reason.contains("the driver changes the program's arithmetic: it moved"),
            "{reason}"
        );
        assert!(reason.contains("f64"), "{reason}");
    }
    // Of the kernel of somebody else nothing is known.
    assert!(!moved("mine", |v| v).contains("driver"));
}
