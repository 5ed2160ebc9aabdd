//! `tq4 quantize` writes every format, as a reader that shares no code with it understands it.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::gguf::Gguf;
use crate::support::reader::{numpy_agrees, reference_values};
use crate::support::source;
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tq4::checkpoint::Checkpoint;
use tq4::format::TqModel;
use tq4::synthetic::{self, Rng};

/// Options, the type of the weights where it is a GGUF file, bits, and the least and most rms error.
type Case = (&'static [&'static str], &'static str, u32, [f64; 2]);

const CASES: [Case; 10] = [
    (&["turboquant"], "", 4, [0.08, 0.11]),
    (&["arle", "--bits", "3"], "", 3, [0.17, 0.20]),
    (&["tq3-native"], "", 4, [0.08, 0.11]),
    (&["tq3-native", "--bits", "3"], "", 3, [0.17, 0.20]),
    (&["tq3-native", "--bits", "2"], "", 2, [0.30, 0.36]),
    (&["tq3-native", "--group-size", "32"], "", 4, [0.08, 0.11]),
    (
        &[
            "tq3-native",
            "--bits",
            "3",
            "--sensitive-bits",
            "4",
            "--sensitive",
            "q_proj",
        ],
        "",
        3,
        [0.08, 0.20],
    ),
    (&["gguf-tq4_1s"], "TQ4_1S", 4, [0.07, 0.10]),
    (&["gguf-tq3_1s"], "TQ3_1S", 3, [0.14, 0.19]),
    (&["gguf-tq3_4s"], "TQ3_4S", 3, [0.12, 0.19]),
];

fn run(command: &str, from: &Path, output: &Path, more: &[&str]) -> Output {
    let input = match command {
        "quantize" => "--source-model",
        _ => "--tq-model",
    };
    let (from, output) = (from.to_str().unwrap(), output.to_str().unwrap());
    let args = [command, input, from, "--output", output, "--format", "json"];
    tq4(&[&args[..], more].concat())
}

fn quantize(source: &Path, output: &Path, encoding: &[&str]) -> Output {
    run(
        "quantize",
        source,
        output,
        &[&["--format"], encoding].concat(),
    )
}

fn report(out: &Output) -> Value {
    assert!(out.status.success(), "{}", stderr(out));
    serde_json::from_str(&stdout(out)).unwrap()
}

fn refused(out: &Output, what: &str) {
    assert_eq!(out.status.code(), Some(2), "{}", stdout(out));
    assert!(stderr(out).contains(what), "{}", stderr(out));
}

/// The output of a case: a directory, or a file.
fn place(dir: &Path, i: usize, kind: &str) -> PathBuf {
    dir.join(match kind {
        "" => format!("{i}"),
        _ => format!("{i}.gguf"),
    })
}

#[test]
fn numpy_reads_every_format_and_decodes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    source::write(&src, 2, 10, 256);
    let plain = Checkpoint::open(&src).unwrap();
    for (i, (options, kind, bits, [least, most])) in CASES.into_iter().enumerate() {
        let out = place(dir.path(), i, kind);
        let done = report(&quantize(&src, &out, options));
        assert_eq!(done["bits"], bits, "{options:?}");
        assert_eq!(done["weights"].as_array().unwrap().len(), 4);
        let model = TqModel::open(&out).unwrap();
        assert_eq!(model.bases().count(), 4);
        // The printed ratio is the one of the decoded file against the source.
        for w in done["weights"].as_array().unwrap() {
            let base = w["tensor_base"].as_str().unwrap();
            let shape = model.info(base).unwrap().shape;
            let weight = plain
                .rows_f32(&format!("{base}.weight"), shape, 0..shape[0])
                .unwrap();
            let decoded = reference_values(&model, base);
            let square =
                |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>();
            let error = square(&mut decoded.iter().zip(&weight).map(|(d, w)| d - w));
            let ratio = (error / square(&mut weight.iter().copied())).sqrt();
            let printed = w["rmse_ratio"].as_f64().unwrap();
            assert!((ratio - printed).abs() < 1e-12, "{ratio} {printed}");
            assert!((least..most).contains(&printed), "{options:?}: {printed}");
        }
        numpy_agrees(&out, kind);
        // The same once more, to the byte.
        let again = place(dir.path(), i + 100, kind);
        report(&quantize(&src, &again, options));
        if out.is_file() {
            assert!(std::fs::read(&out).unwrap() == std::fs::read(&again).unwrap());
        } else {
            assert!(source::files(&out) == source::files(&again), "{options:?}");
        }
        // And back.
        let back = dir.path().join(format!("{i}-back"));
        let done = report(&run("dequantize", &out, &back, &[]));
        assert_eq!(done["left_out"].as_array().unwrap().len(), 0);
        let back = Checkpoint::open(&back).unwrap();
        assert!(back.names().eq(plain.names()));
        for base in model.bases() {
            let name = format!("{base}.weight");
            let found = back.shard_of(&name).unwrap().data(&name).unwrap();
            let values = reference_values(&model, base).into_iter();
            let rounded: Vec<u8> = values
                .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                .collect();
            assert!(found == rounded, "{options:?} {name}");
        }
    }
}

#[test]
fn other_tensors_are_f16_in_tq3_native_and_as_they_are_in_gguf() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    let mut model = Model::source();
    let values: Vec<f32> = (0..8).map(|i| 1.0 + i as f32 / 7.0).collect();
    let bytes = bytemuck::cast_slice(&values).to_vec();
    model.set("a.norm", "weight", Dtype::F32, &[8], bytes.clone());
    model.set("a.ids", "table", Dtype::I32, &[2, 4], bytes.clone());
    model.write(&src);
    let native = dir.path().join("native");
    report(&quantize(&src, &native, &["tq3-native"]));
    let of = |model: &Checkpoint, name: &str| {
        let shard = model.shard_of(name).unwrap();
        let dtype = format!("{:?}", shard.info(name).unwrap().dtype);
        (dtype, shard.data(name).unwrap())
    };
    let opened = Checkpoint::open(&native).unwrap();
    let half = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
    assert_eq!(of(&opened, "a.norm.weight"), ("F16".into(), half.collect()));
    assert_eq!(of(&opened, "a.ids.table"), ("I32".into(), bytes.clone()));
    let config: Value =
        serde_json::from_slice(&std::fs::read(native.join("tq_config.json")).unwrap()).unwrap();
    assert_eq!(config["format"], "tq3_native");
    assert_eq!(config["compressed_layers"], 2);
    assert_eq!(config["original_model"], "src");
    let file = dir.path().join("a.gguf");
    let done = report(&quantize(&src, &file, &["gguf-tq4_1s"]));
    assert!(
        done["notes"][1]
            .as_str()
            .unwrap()
            .contains("llama.cpp wants names of its own")
    );
    let opened = TqModel::open(&file).unwrap();
    assert_eq!(
        of(opened.checkpoint(), "a.norm.weight"),
        ("F32".into(), bytes.clone())
    );
    assert_eq!(
        of(opened.checkpoint(), "a.ids.table"),
        ("I32".into(), bytes)
    );
    // What F16 cannot hold is not made infinite.
    let large = bytemuck::cast_slice(&[1e6f32; 2]).to_vec();
    model.set("a.norm", "weight", Dtype::F32, &[2], large.clone());
    model.write(&src);
    let out = dir.path().join("b");
    refused(
        &quantize(&src, &out, &["tq3-native"]),
        "value 1000000 of element 0 is beyond F16",
    );
    assert!(!out.exists());
    // Nor is a type lost that GGUF does not have.
    model.set("a.norm", "weight", Dtype::U32, &[2], large);
    model.write(&src);
    let out = dir.path().join("b.gguf");
    refused(
        &quantize(&src, &out, &["gguf-tq4_1s"]),
        "a.norm.weight is of type U32, which files of gguf-tq4_1s do not have",
    );
    assert!(!out.exists());
}

/// A GGUF model of F16, BF16 and F32, with experts.
fn gguf_source() -> Gguf {
    let mut rng = Rng::new(3);
    let mut values = |count: usize| synthetic::weight(&mut rng, count / 64, 64);
    let half = |v: Vec<f32>| -> Vec<u8> {
        v.into_iter()
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect()
    };
    let query = half(values(10 * 320));
    let experts = values(3 * 5 * 64);
    let experts: Vec<u8> = experts
        .into_iter()
        .flat_map(|v| bf16::from_f32(v).to_le_bytes())
        .collect();
    let norm: Vec<u8> = values(320).into_iter().flat_map(f32::to_le_bytes).collect();
    let tokens = [
        &8u32.to_le_bytes()[..],
        &1u64.to_le_bytes(),
        &1u64.to_le_bytes(),
        b"a",
    ]
    .concat();
    Gguf::default()
        .text("general.architecture", "llama")
        .key("llama.rope.freq_base", 6, &1e6f32.to_le_bytes())
        .key("tokenizer.ggml.tokens", 9, &tokens)
        .key("general.file_type", 4, &1u32.to_le_bytes())
        .tensor("blk.0.attn_q.weight", &[320, 10], 1, &query)
        .tensor("blk.0.ffn_up_exps.weight", &[64, 5, 3], 30, &experts)
        .tensor("blk.0.attn_norm.weight", &[320], 0, &norm)
}

#[test]
fn a_gguf_file_keeps_its_metadata_and_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src.gguf");
    let made = gguf_source();
    made.write(&src, 32);
    for kind in ["TQ4_1S", "TQ3_1S", "TQ3_4S"] {
        let name = format!("gguf-{}", kind.to_lowercase());
        let out = dir.path().join(format!("{kind}.gguf"));
        let done = report(&quantize(&src, &out, &[&name]));
        assert_eq!(done["weights"].as_array().unwrap().len(), 2);
        assert_eq!(done["copied"], 1);
        let bytes = std::fs::read(&out).unwrap();
        assert_eq!(bytes[24..][..made.metadata().len()], *made.metadata());
        numpy_agrees(&out, kind);
        let back = dir.path().join(format!("{kind}-back"));
        report(&run("dequantize", &out, &back, &[]));
        assert_eq!(
            source::names(&back),
            [".tq4-finished.jsonl", "model.safetensors"]
        );
        let back = Checkpoint::open(&back).unwrap();
        for (name, shape) in [
            ("blk.0.attn_q.weight", &[10, 320][..]),
            ("blk.0.ffn_up_exps.weight", &[3, 5, 64]),
            ("blk.0.attn_norm.weight", &[320]),
        ] {
            let info = back.shard_of(name).unwrap().info(name).unwrap();
            assert_eq!(info.shape, shape, "{name}");
        }
    }
    // Another alignment, as another type; a model of two files becomes one.
    let aligned = gguf_source().key("general.alignment", 10, &128u64.to_le_bytes());
    aligned.write(&src, 128);
    let out = dir.path().join("aligned.gguf");
    report(&quantize(&src, &out, &["gguf-tq4_1s"]));
    assert!(numpy_agrees(&out, "TQ4_1S") || out.exists());
    let count = |n: u32| n.to_le_bytes();
    for (i, tensor) in ["a.attn_q.weight", "b.attn_q.weight"].iter().enumerate() {
        let part = Gguf::default()
            .text("general.architecture", "llama")
            .key("split.no", 4, &count(i as u32))
            .key("split.count", 4, &count(2))
            .tensor(tensor, &[32, 2], 0, &[1; 256]);
        part.write(
            &dir.path().join(format!("s-{:05}-of-00002.gguf", i + 1)),
            32,
        );
    }
    let out = dir.path().join("whole.gguf");
    let split = dir.path().join("s-00002-of-00002.gguf");
    report(&quantize(&split, &out, &["gguf-tq4_1s"]));
    assert_eq!(TqModel::open(&out).unwrap().bases().count(), 2);
    // As directories: of one file and of two.
    for (from, to, files) in [(&src, "one", 1), (&split, "two", 2)] {
        let out = dir.path().join(to);
        report(&quantize(from, &out, &["tq3-native", "--group-size", "32"]));
        numpy_agrees(&out, "");
        let shards = source::names(&out);
        let shards = shards.iter().filter(|n| n.ends_with(".safetensors"));
        assert_eq!(shards.count(), files);
    }
    refused(
        &quantize(&out, &dir.path().join("again"), &["turboquant"]),
        "quantised already",
    );
}

#[test]
fn padded_rows_have_their_width_from_config_json_or_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    source::write(&src, 1, 6, 200);
    let gate = ["--include", "*.gate_proj"];
    let encode = |to: &str| {
        let out = dir.path().join(to);
        (
            quantize(&src, &out, &[&["tq3-native"], &gate[..]].concat()),
            out,
        )
    };
    let (done, out) = encode("untold");
    let note = "config.json does not tell the width of 1 of the weights, such as \
                model.layers.0.mlp.gate_proj.weight of 200 columns";
    assert!(
        report(&done)["notes"][0]
            .as_str()
            .unwrap()
            .starts_with(note)
    );
    assert!(stderr(&done).contains(note), "{}", stderr(&done));
    let base = "model.layers.0.mlp.gate_proj";
    assert_eq!(
        TqModel::open(&out).unwrap().info(base).unwrap().shape,
        [6, 256]
    );
    std::fs::write(src.join("config.json"), r#"{"hidden_size": 200}"#).unwrap();
    let (done, out) = encode("told");
    let done = report(&done);
    assert_eq!(done["notes"], serde_json::json!([]));
    assert_eq!(done["weights"][0]["shape"], serde_json::json!([6, 200]));
    let ratio = done["weights"][0]["rmse_ratio"].as_f64().unwrap();
    assert!((0.06..0.11).contains(&ratio), "{ratio}");
    assert_eq!(
        TqModel::open(&out).unwrap().info(base).unwrap().shape,
        [6, 200]
    );
    numpy_agrees(&out, "");
    let back = dir.path().join("back");
    report(&run("dequantize", &out, &back, &[]));
    let name = format!("{base}.weight");
    let back = Checkpoint::open(&back).unwrap();
    assert_eq!(
        back.shard_of(&name).unwrap().info(&name).unwrap().shape,
        [6, 200]
    );
}

#[test]
fn experts_of_one_tensor_are_taken_where_the_format_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    let mut model = Model::source();
    let values = synthetic::weight(&mut Rng::new(2), 24, 128);
    let bytes = bytemuck::cast_slice(&values).to_vec();
    model.set("m.experts", "gate_up_proj", Dtype::F32, &[3, 8, 128], bytes);
    model.write(&src);
    let count = |to: &str, encoding: &str| {
        let out = dir.path().join(to);
        let done = report(&quantize(&src, &out, &[encoding]));
        (done["weights"].as_array().unwrap().len(), out)
    };
    assert_eq!(count("first", "turboquant").0, 2);
    let (n, out) = count("native", "tq3-native");
    assert_eq!(n, 3);
    numpy_agrees(&out, "");
    let name = "m.experts.gate_up_proj";
    let opened = TqModel::open(&out).unwrap();
    assert_eq!(opened.info(name).unwrap().shape, [24, 128]);
    let (n, out) = count("a.gguf", "gguf-tq4_1s");
    assert_eq!(n, 3);
    numpy_agrees(&out, "TQ4_1S");
    let back = dir.path().join("back");
    report(&run("dequantize", &out, &back, &[]));
    let back = Checkpoint::open(&back).unwrap();
    let info = back.shard_of(name).unwrap().info(name).unwrap();
    assert_eq!(info.shape, [3, 8, 128]);
}

#[test]
fn the_group_size_that_would_do_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    let mut model = Model::source();
    for (base, cols) in [("a.k_proj", 2880), ("a.v_proj", 100)] {
        let bytes = vec![0; 4 * cols];
        model.set(base, "weight", Dtype::F32, &[1, cols], bytes);
    }
    model.write(&src);
    for (encoding, reasons) in [
        (
            "turboquant",
            [
                "2880 columns, not a multiple of 128; group size 64 would do",
                "100 columns, not a multiple of 128, nor of any other group size",
            ]
            .to_vec(),
        ),
        (
            "gguf-tq4_1s",
            vec!["100 columns, not a multiple of 32, the only group size of this format"],
        ),
        ("tq3-native", vec![]),
    ] {
        let done = report(&quantize(&src, &dir.path().join(encoding), &[encoding]));
        let left = done["left"].as_array().unwrap();
        let found: Vec<&str> = left.iter().map(|l| l["reason"].as_str().unwrap()).collect();
        assert_eq!(found, reasons, "{encoding}");
    }
    let only = ["turboquant", "--include", "a.k_proj"];
    refused(
        &quantize(&src, &dir.path().join("none"), &only),
        "group size 64 would do",
    );
}

#[test]
fn what_a_format_does_not_leave_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    Model::source().write(&src);
    let out = dir.path().join("out");
    for (options, what) in [
        (
            &["gguf-tq4_1s", "--bits", "3"][..],
            "bits 3 asked for, but gguf-tq4_1s has 4",
        ),
        (
            &["gguf-tq3_1s", "--group-size", "64"],
            "group size 64 asked for, but gguf-tq3_1s has 32",
        ),
        (
            &["gguf-tq3_4s", "--sign-seed", "name"],
            "sign seed Name asked for",
        ),
        (
            &["tq3-native", "--sign-seed", "python-hash"],
            "but tq3-native has 42",
        ),
        (&["tq3-native", "--sensitive-bits", "5"], "bits = 5 found"),
        (
            &["turboquant", "--sensitive-bits", "4"],
            "sensitive bits 4 asked for",
        ),
        (&["tq3-native", "--sensitive", "a"], "--sensitive-bits"),
        (&["q4_0"], "invalid value 'q4_0'"),
    ] {
        refused(&quantize(&src, &out, options), what);
        assert!(!out.exists());
    }
    // What is the format's own may be said.
    report(&quantize(
        &src,
        &out,
        &["gguf-tq4_1s", "--bits", "4", "--group-size", "32"],
    ));
}

#[test]
fn a_scale_beyond_its_type_is_refused_by_place() {
    let dir = tempfile::tempdir().unwrap();
    let (src, out) = (dir.path().join("src"), dir.path().join("out.gguf"));
    let mut values = vec![0.01f32; 4 * 64];
    values[2 * 64 + 40] = 1e3;
    let mut model = Model::source();
    let bytes = bytemuck::cast_slice(&values).to_vec();
    model.set("b.q_proj", "weight", Dtype::F32, &[4, 64], bytes);
    model.write(&src);
    refused(
        &quantize(&src, &out, &["gguf-tq3_4s"]),
        "the scale at row 2, column 32 is beyond e3m5, of which at most 0.4921875 is read",
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    report(&quantize(&src, &out, &["gguf-tq4_1s"]));
}

#[test]
fn a_file_is_whole_or_not_there_and_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (src, out) = (dir.path().join("src"), dir.path().join("a.gguf"));
    Model::source().write(&src);
    // What a run that was killed leaves.
    std::fs::write(dir.path().join(".a.gguf.tq4-part"), "half a file").unwrap();
    std::fs::write(dir.path().join(".a.gguf.tq4-lock"), "").unwrap();
    report(&quantize(&src, &out, &["gguf-tq4_1s"]));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    let bytes = std::fs::read(&out).unwrap();
    refused(
        &quantize(&src, &out, &["gguf-tq3_1s"]),
        "it is there already",
    );
    assert!(std::fs::read(&out).unwrap() == bytes);
    refused(
        &quantize(&src, &src.join("model.safetensors"), &["gguf-tq4_1s"]),
        "would be written into the input",
    );
    // Another process is at it.
    let lock = dir.path().join(".b.gguf.tq4-lock");
    let held = std::fs::File::create(&lock).unwrap();
    held.try_lock().unwrap();
    let other = dir.path().join("b.gguf");
    refused(
        &quantize(&src, &other, &["gguf-tq4_1s"]),
        "another process is writing it",
    );
    drop(held);
    report(&quantize(&src, &other, &["gguf-tq4_1s"]));
    assert!(!lock.exists());
}

#[test]
fn a_finished_directory_is_left_as_it_is_and_another_format_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (src, out) = (dir.path().join("src"), dir.path().join("out"));
    source::write(&src, 2, 4, 256);
    let done = report(&quantize(&src, &out, &["tq3-native"]));
    let files = source::files(&out);
    let again = report(&quantize(&src, &out, &["tq3-native"]));
    assert_eq!(again["already_finished"], true);
    assert_eq!(again["weights"], done["weights"]);
    assert!(source::files(&out) == files);
    for other in [
        &["tq3-native", "--bits", "3"][..],
        &["tq3-native", "--sensitive-bits", "3"],
        &["turboquant"],
    ] {
        refused(
            &quantize(&src, &out, other),
            "another conversion, which is finished",
        );
    }
}
