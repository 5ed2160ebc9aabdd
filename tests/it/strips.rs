//! The rows that go through at a time leave no trace: figures, hashes and decisions are the tensor's.

use crate::support::big;
use crate::support::cli::{stderr, stdout, tq4};
use crate::support::fake::{Fake, beside_reference, slots};
use crate::support::sweep::{run, tensors};
use half::bf16;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tq4::bench::measure::{BenchJob, BenchOptions, measure};
use tq4::convert::{DequantizeOutcome, dequantize};
use tq4::format::TqModel;
use tq4::record::bench::Checked;
use tq4::record::{Decision, LaneName, Run, StripSize, TensorRecord, Verdict};

/// What counts give where the elements are not all at hand.
const SKETCHED: [&str; 7] = [
    "quantiles",
    "rel_p50",
    "rel_p90",
    "rel_p95",
    "rel_p99",
    "rel_p999",
    "top1pct_rel_mean",
];

/// A tensor's record without times, diagnosis (of a strip) and quantiles; and the quantiles.
fn split(tensor: &Value) -> (Value, Vec<Value>) {
    let mut rest = tensor.clone();
    rest.as_object_mut().unwrap().remove("diagnosis");
    for lane in rest["lanes"].as_array_mut().unwrap() {
        let lane = lane.as_object_mut().unwrap();
        lane.retain(|key, _| !key.ends_with("seconds"));
        if lane["status"] == "ran" {
            assert!(lane["output_hash"].is_string(), "{lane:?}");
        }
    }
    assert!(rest["checksum"].is_string());
    let mut quantiles = Vec::new();
    for m in rest["metrics"].as_array_mut().unwrap() {
        let m = m.as_object_mut().unwrap();
        quantiles.extend(SKETCHED.map(|key| m.remove(key).unwrap()));
    }
    (rest, quantiles)
}

/// `in_strips` is the record of the same tensor as `whole`, its quantiles within the error of the counts.
fn same(whole: &Value, in_strips: &Value) {
    let ((whole, exact), (in_strips, sketched)) = (split(whole), split(in_strips));
    assert_eq!(in_strips, whole);
    assert!(!exact.is_empty());
    for (exact, sketched) in exact.iter().zip(&sketched) {
        if let (Some(e), Some(s)) = (exact.as_f64(), sketched.as_f64()) {
            assert!((s - e).abs() <= 0.004 * e, "{s} for {e}");
        } else {
            let how = [exact, sketched].map(|v| v.as_str().unwrap());
            assert_eq!(how, ["exact", "sketch"]);
        }
    }
}

fn json(t: &TensorRecord) -> Value {
    serde_json::to_value(t).unwrap()
}

#[test]
fn strips_give_the_figures_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    big::write_models(dir.path(), &tensors());
    let report = |strip| {
        // Wrong in some rows all over one tensor, told by what they hold.
        let cuda = Fake::new("cuda", 1).faulty("fwht_upper_lane_sign", |call, row| {
            let tensor = call.tensor();
            let scale = tensor.scales().get(row * tensor.groups_per_row());
            tensor.base() == "t0" && scale.to_bits().is_multiple_of(5)
        });
        let mut lanes = beside_reference([cuda, Fake::new("wgpu", 1)]);
        run(dir.path(), &mut lanes, strip)
    };
    let whole = report(StripSize::Whole);
    let verdicts = |run: &Run| -> Vec<Verdict> {
        let cuda = |t: &TensorRecord| t.decision_of(&LaneName::Cuda).unwrap().verdict;
        run.tensors.iter().map(cuda).collect()
    };
    use Verdict::{Differs, Identical};
    assert_eq!(verdicts(&whole), [Differs, Identical, Identical]);
    for strip in [StripSize::Auto, StripSize::Rows(3), StripSize::Rows(1000)] {
        let in_strips = report(strip);
        assert_eq!(in_strips.plain, whole.plain);
        for (whole, t) in whole.tensors.iter().zip(&in_strips.tensors) {
            assert_eq!(whole.metrics.len(), 6, "three lanes and the source");
            assert_eq!(t.diagnosis.len(), usize::from(t.tensor_base == "t0"));
            let one = t.tensor_base == "t2" && strip != StripSize::Rows(3);
            if one {
                assert_eq!(t.metrics, whole.metrics, "one strip is the whole");
            } else {
                same(&json(whole), &json(t));
            }
        }
    }
}

#[test]
fn the_command_says_the_same_of_strips_and_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let two = [("a", 7), ("b", 64)].map(|(base, rows)| big::Tensor {
        base: base.into(),
        rows,
        cols: 1024,
    });
    big::write_models(dir.path(), &two);
    let report = |strip: &str| -> Value {
        let out = tq4(&[
            "validate",
            "--tq-model",
            &path("tq4"),
            "--source-model",
            &path("source"),
            "--all",
            "--format",
            "json",
            "--strip",
            strip,
        ]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        serde_json::from_str(&stdout(&out)).unwrap()
    };
    // Every lane that this machine has.
    let (whole, in_strips) = (report("whole"), report("3"));
    let tensors = |v: &Value| v["tensors"].as_array().unwrap().clone();
    assert_eq!(tensors(&whole).len(), 2);
    for (whole, in_strips) in tensors(&whole).iter().zip(&tensors(&in_strips)) {
        same(whole, in_strips);
    }
    assert_eq!(in_strips["summary"], whole["summary"]);
    for bad in ["0", "-1", "half"] {
        let out = tq4(&["validate", "--tq-model", &path("tq4"), "--strip", bad]);
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    }
}

const BASE: &str = "t";
const ROWS: usize = 9000;
const COLS: usize = 1024;

/// A kernel one BF16 step off in the last `count` elements of the tensor.
fn one_step(count: usize) -> Fake {
    Fake::new("cuda", 1).wrong(move |call, out| {
        let first = call.strip.rows.start * COLS;
        let from = (ROWS * COLS - count).saturating_sub(first).min(out.len());
        for v in &mut out[from..] {
            *v = bf16::from_bits(v.to_bits() + 1);
        }
    })
}

/// What `validate` decides.
fn validated(dir: &Path, count: usize, strip: StripSize) -> Decision {
    let run = run(dir, &mut beside_reference([one_step(count)]), strip);
    run.tensors[0].decision_of(&LaneName::Cuda).unwrap().clone()
}

#[test]
fn a_tensor_is_gated_as_a_whole_whatever_the_strips() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = big::Tensor {
        base: BASE.into(),
        rows: ROWS,
        cols: COLS,
    };
    big::write_models(dir.path(), &[tensor]);
    let tq = dir.path().join("tq4");
    let packed = TqModel::open(&tq).unwrap().rows(BASE, 0..ROWS).unwrap();
    // One element is enough, the last of all.
    for (count, verdict) in [(0, Verdict::Identical), (1, Verdict::Differs)] {
        let whole = validated(dir.path(), count, StripSize::Whole);
        assert_eq!(whole.verdict, verdict);
        for strip in [StripSize::Rows(64), StripSize::Rows(4000)] {
            assert_eq!(validated(dir.path(), count, strip), whole, "{strip}");
        }

        // Strips of 4 Mi elements.
        let out = dir.path().join(format!("plain-{count}"));
        let slot = slots([one_step(count)]).remove(0);
        match dequantize(&TqModel::open(&tq).unwrap(), &out, slot, &mut |_| ()).unwrap() {
            DequantizeOutcome::Done(done) => {
                assert_eq!(verdict, Verdict::Identical);
                assert_eq!(done.weights[0].bit_equal, (ROWS * COLS - count) as u64);
            }
            DequantizeOutcome::GatesFailed { decision, .. } => assert_eq!(*decision, whole),
        }
        assert_eq!(out.exists(), verdict == Verdict::Identical);

        // Blocks of 8 Mi elements.
        let job = BenchJob {
            name: BASE,
            tensor: &packed,
            rows_asked: ROWS,
            cut: Vec::new(),
        };
        let options = BenchOptions {
            time_limit: Duration::ZERO,
            copy_bytes: 1000,
            least_rounds: 1,
            warm_up: Duration::ZERO,
        };
        let r = measure(job, &mut slots([one_step(count)]), &options, |_| ()).unwrap();
        let lane = &r.lanes[0];
        assert_eq!(lane.equal, (ROWS * COLS - count) as u64);
        if verdict == Verdict::Identical {
            assert_eq!((lane.verdict, &lane.reason), (Checked::Verified, &None));
        } else {
            assert_eq!(lane.verdict, Checked::Wrong);
            assert_eq!(lane.reason.as_ref(), Some(&whole.reason));
        }
    }
}
