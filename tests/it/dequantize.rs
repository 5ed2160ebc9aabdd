//! `tq4 dequantize` writes a plain model that loaders open, and nothing when a lane is wrong.

use crate::support::cli::{Model, seed_case, stderr, stdout, tq4};
use crate::support::fake::Fake;
use crate::support::{not_run, source};
use half::bf16;
use serde_json::Value;
use std::path::Path;
use tq4::checkpoint::Checkpoint;
use tq4::convert::{DequantizeOutcome, dequantize};
use tq4::format::TqModel;
use tq4::lane::Slot;
use tq4::reference;

fn run(model: &Path, output: &Path, more: &[&str]) -> std::process::Output {
    let (model, output) = (model.to_str().unwrap(), output.to_str().unwrap());
    let mut args = vec!["dequantize", "--tq-model", model, "--output", output];
    args.extend(more);
    tq4(&args)
}

/// Makes a TQ4 model of three shards and returns nothing but success.
fn quantised(dir: &Path, bits: &str) {
    let src = dir.join("src");
    source::write(&src, 3, 40, 256);
    let (src, out) = (src.to_str().unwrap(), dir.join("tq"));
    let out = out.to_str().unwrap();
    let run = tq4(&[
        "quantize",
        "--source-model",
        src,
        "--output",
        out,
        "--bits",
        bits,
    ]);
    assert!(run.status.success(), "{}", stderr(&run));
}

/// Every weight of `plain` against the rounded reference.
fn check(tq: &Path, plain: &Path) {
    let (tq, plain) = (TqModel::open(tq).unwrap(), Checkpoint::open(plain).unwrap());
    for base in tq.bases() {
        let shape = tq.info(base).unwrap().shape;
        let tensor = tq.rows(base, 0..shape[0]).unwrap();
        let expected: Vec<bf16> = reference::dequantize(&tensor)
            .into_iter()
            .map(bf16::from_f32)
            .collect();
        let name = format!("{base}.weight");
        let shard = plain.shard_of(&name).unwrap();
        assert_eq!(shard.info(&name).unwrap().shape, shape);
        let expected: &[u8] = bytemuck::cast_slice(&expected);
        assert!(shard.data(&name).unwrap() == expected, "{name}");
    }
}

#[test]
fn the_plain_model_is_the_rounded_reference_and_the_rest_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    quantised(dir.path(), "4");
    let (tq, out) = (dir.path().join("tq"), dir.path().join("plain"));
    let done = run(&tq, &out, &["--format", "json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(report["copied"], 6);
    assert_eq!(report["weights"].as_array().unwrap().len(), 6);
    check(&tq, &out);
    // The same files as the source model has, but for the weights' values.
    let names = source::names(&dir.path().join("src"));
    let kept: Vec<String> = [".tq4-finished.jsonl".to_owned()]
        .into_iter()
        .chain(names)
        .filter(|n| n != ".hidden" && n != "pytorch_model.bin")
        .collect();
    assert_eq!(source::names(&out), kept);
    let src = Checkpoint::open(&dir.path().join("src")).unwrap();
    let plain = Checkpoint::open(&out).unwrap();
    assert!(src.names().eq(plain.names()));
    for name in src.names().filter(|n| !n.contains("_proj")) {
        let bytes = |c: &Checkpoint| c.shard_of(name).unwrap().data(name).unwrap().to_vec();
        assert_eq!(bytes(&src), bytes(&plain), "{name}");
    }
}

#[test]
fn python_reads_it_back_and_decodes_the_same() {
    let what = "tests/support/decoder.py against dequantize";
    for bits in ["2", "3", "4"] {
        let Some(mut python) = source::python(what) else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        quantised(dir.path(), bits);
        let (tq, out) = (dir.path().join("tq"), dir.path().join("plain"));
        let done = run(&tq, &out, &[]);
        assert!(done.status.success(), "{}", stderr(&done));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/decoder.py");
        let read = python.args([&script, &tq, &out]).output().unwrap();
        assert_eq!(
            stdout(&read),
            "6 weights equal, 6 copied\n",
            "{}",
            stderr(&read)
        );
    }
}

#[test]
fn a_weight_whose_parts_lie_in_several_shards_goes_where_its_codes_are() {
    let dir = tempfile::tempdir().unwrap();
    let (tq, out) = (dir.path().join("tq"), dir.path().join("plain"));
    Model::valid().write_sharded(&tq);
    let done = run(&tq, &out, &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    check(&tq, &out);
    assert_eq!(
        source::names(&out),
        [
            ".tq4-finished.jsonl",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json"
        ]
    );
}

#[test]
fn the_real_tensor_comes_back() {
    let Some(seed) = seed_case() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plain");
    let done = run(&seed.join("tq-model"), &out, &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    check(&seed.join("tq-model"), &out);
}

#[test]
fn another_lane_is_held_to_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    quantised(dir.path(), "4");
    let (tq, out) = (dir.path().join("tq"), dir.path().join("plain"));
    let done = run(&tq, &out, &["--lane", "wgpu", "--format", "json"]);
    if done.status.code() == Some(3) {
        not_run("dequantize by wgpu", &stderr(&done));
        assert!(!out.exists());
        return;
    }
    assert!(done.status.success(), "{}", stderr(&done));
    let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(report["lane"], "wgpu");
    let equal: u64 = report["weights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["bit_equal"].as_u64().unwrap())
        .sum();
    assert!(equal as f64 >= 0.999 * (3 * 40 * 256 * 3) as f64, "{equal}");
}

#[test]
fn a_wrong_lane_is_named_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    quantised(dir.path(), "4");
    let (tq, out) = (dir.path().join("tq"), dir.path().join("plain"));
    // In the first shard, and after a shard is done.
    for (after, base) in [
        (0, "model.layers.0.mlp.gate_proj"),
        (3, "model.layers.1.self_attn.q_proj"),
    ] {
        let lane = Fake::new("cuda", 1).wrong(move |call, out| {
            if call.load > after {
                out.iter_mut().skip(1).step_by(2).for_each(|v| *v = -*v);
            }
        });
        let lane = Slot::Live(Box::new(lane));
        let outcome = dequantize(&TqModel::open(&tq).unwrap(), &out, lane, &mut |_| ()).unwrap();
        let DequantizeOutcome::GatesFailed {
            tensor_base,
            decision,
            diagnosis,
            ..
        } = outcome
        else {
            panic!("the lane is wrong");
        };
        assert_eq!(tensor_base, base);
        assert_eq!(decision.published(), "cuda_dequant_differs_from_reference");
        assert!(diagnosis.is_some());
        assert!(!out.exists());
    }
}

#[test]
fn a_lane_that_is_not_there_is_said_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (tq, out) = (dir.path().join("tq"), dir.path().join("plain"));
    Model::valid().write(&tq);
    let done = run(&tq, &out, &["--lane", "cuda"]);
    if done.status.success() {
        return check(&tq, &out);
    }
    assert_eq!(done.status.code(), Some(3), "{}", stderr(&done));
    assert!(!out.exists());
    let done = run(&tq, &out, &["--lane", "cpu"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(stderr(&done).contains("no lane \"cpu\""));
}
