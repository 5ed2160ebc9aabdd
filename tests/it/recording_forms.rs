//! Outputs of other programs: every form in which they come, found by name or by shape, whole or in part.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use crate::support::tool;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use tq4::format::TqModel;
use tq4::reference;

const BASE: &str = "a.gate_proj";

/// A model, and the reference's values of one of its tensors.
struct Case {
    dir: tempfile::TempDir,
    values: Vec<f32>,
}

/// What a kernel wrote, as bytes of a type.
#[derive(Clone, Copy)]
enum Of {
    Bf16,
    F16,
    F32,
}

impl Of {
    const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    fn word(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }

    fn bytes(self, values: &[f32]) -> Vec<u8> {
        let each = values.iter();
        match self {
            Self::Bf16 => each
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            Self::F16 => each.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Self::F32 => each.flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Model::valid().write(&dir.path().join("m"));
        let model = TqModel::open(&dir.path().join("m")).unwrap();
        let values = reference::dequantize(&model.rows(BASE, 0..ROWS).unwrap());
        Self { dir, values }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn validate(&self, args: &[&str]) -> Output {
        let model = self.path("m");
        let start = [
            "validate",
            "--tq-model",
            model.to_str().unwrap(),
            "--lanes",
            "reference",
        ];
        tq4(&[&start[..], args].concat())
    }

    /// Exit code and verdict of one recording of one tensor.
    fn verdict(&self, args: &[&str], recording: &str) -> (Option<i32>, String) {
        let recording = format!("mine={recording}");
        let rest = [
            "--tensor-base",
            BASE,
            "--format",
            "json",
            "--recording",
            &recording,
        ];
        let out = self.validate(&[args, &rest].concat());
        let report: Value = serde_json::from_str(&stdout(&out))
            .unwrap_or_else(|_| panic!("{recording}: {}", stderr(&out)));
        (out.status.code(), verdict_of(&report["tensors"][0], "mine"))
    }

    fn identical(&self, args: &[&str], recording: &str) {
        let found = self.verdict(args, recording);
        assert_eq!(found, (Some(0), "identical".into()), "{recording}");
    }

    /// The error that a recording gets.
    fn refused(&self, args: &[&str], recording: &str) -> String {
        let recording = format!("mine={recording}");
        let out = self.validate(&[args, &["--recording", &recording]].concat());
        assert_eq!(out.status.code(), Some(2), "{recording}: {}", stdout(&out));
        let text = stderr(&out);
        assert!(text.starts_with("error: "), "{text}");
        text
    }
}

fn verdict_of(tensor: &Value, lane: &str) -> String {
    let all = tensor["decisions"].as_array().unwrap();
    let one = all.iter().find(|d| d["lane"] == lane).unwrap();
    one["verdict"].as_str().unwrap().to_owned()
}

/// A plain safetensors file.
fn safetensors(tensors: &[(&str, Of, &[usize], &[f32])], row_start: Option<usize>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, of, _, v)| of.bytes(v)).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, of, shape, _), bytes)| {
            (
                *name,
                TensorView::new(of.dtype(), shape.to_vec(), bytes).unwrap(),
            )
        });
    let metadata = row_start.map(|n| HashMap::from([("row_start".to_owned(), n.to_string())]));
    safetensors::serialize(views, metadata).unwrap()
}

/// What `numpy.save` writes.
fn npy(descr: &str, shape: [usize; 2], values: &[u8]) -> Vec<u8> {
    let [rows, cols] = shape;
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {cols}), }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), values].concat()
}

#[test]
fn safetensors_are_found_by_name_in_every_type() {
    let case = Case::new();
    for of in Of::ALL {
        for name in [BASE.to_owned(), format!("{BASE}.weight"), "y".into()] {
            let one = [(&*name, of, &[ROWS, COLS][..], &case.values[..])];
            let file = case.write("out.safetensors", &safetensors(&one, None));
            case.identical(&[], &file);
        }
    }
    // A type is told for 16 bits without one.
    let bytes = Of::Bf16.bytes(&case.values);
    let view = TensorView::new(Dtype::U16, vec![ROWS, COLS], &bytes).unwrap();
    let file = safetensors::serialize([(BASE, view)], None).unwrap();
    let file = case.write("bits.safetensors", &file);
    case.identical(&[], &format!("{file}:bf16"));
    assert!(
        case.refused(&["--all"], &file)
            .contains("dtype U16 found, expected BF16, F16 or F32")
    );
}

#[test]
fn a_sharded_directory_serves_every_tensor_each_in_its_type() {
    let case = Case::new();
    let model = TqModel::open(&case.path("m")).unwrap();
    let other = reference::dequantize(&model.rows("a.up_proj", 0..ROWS).unwrap());
    let dir = case.path("out");
    std::fs::create_dir(&dir).unwrap();
    let shape = &[ROWS, COLS][..];
    let norm = ("norm.weight", Of::F32, &[COLS][..], &other[..COLS]);
    let gate = ("a.gate_proj.weight", Of::F16, shape, &case.values[..]);
    let up = ("a.up_proj.weight", Of::Bf16, shape, &other[..]);
    std::fs::write(dir.join("1.safetensors"), safetensors(&[gate, norm], None)).unwrap();
    std::fs::write(dir.join("2.safetensors"), safetensors(&[up], None)).unwrap();
    let index = serde_json::json!({"weight_map": {
        "a.gate_proj.weight": "1.safetensors", "norm.weight": "1.safetensors", "a.up_proj.weight": "2.safetensors",
    }});
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    let recording = format!("mine={}", dir.display());
    let out = case.validate(&["--all", "--format", "json", "--recording", &recording]);
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    for tensor in report["tensors"].as_array().unwrap() {
        assert_eq!(verdict_of(tensor, "mine"), "identical");
    }
}

#[test]
fn npy_and_plain_values_are_found_by_their_shape() {
    let case = Case::new();
    for (of, descr, told) in [
        (Of::F16, "<f2", ""),
        (Of::F32, "<f4", ""),
        (Of::Bf16, "<V2", ":bf16"),
        (Of::Bf16, "<u2", ":bf16"),
    ] {
        let bytes = npy(descr, [ROWS, COLS], &of.bytes(&case.values));
        let file = case.write("out.npy", &bytes);
        case.identical(&[], &format!("{file}{told}"));
    }
    for of in Of::ALL {
        let file = case.write("out.bin", &of.bytes(&case.values));
        case.identical(&[], &format!("{file}:{}", of.word()));
    }
}

#[test]
fn what_numpy_saves_is_read() {
    let Some(python) = tool("TQ4_PYTHON", "NumPy", "name a Python that has NumPy") else {
        return;
    };
    let case = Case::new();
    let raw = case.write("out.bin", &Of::F32.bytes(&case.values));
    let script = format!(
        "import numpy as np, sys\n\
         x = np.fromfile(sys.argv[1], '<f4').reshape({ROWS}, {COLS})\n\
         np.save(sys.argv[2], x); np.save(sys.argv[3], x.astype(np.float16))\n\
         np.save(sys.argv[4], np.asfortranarray(x)); np.save(sys.argv[5], x.astype(np.float64))\n"
    );
    let names = ["f4.npy", "f2.npy", "fortran.npy", "f8.npy"];
    let files = names.map(|n| case.path(n).to_str().unwrap().to_owned());
    let status = std::process::Command::new(python)
        .args(["-c", &script, &raw])
        .args(&files)
        .status();
    assert!(status.unwrap().success());
    case.identical(&[], &files[0]);
    case.identical(&[], &files[1]);
    assert!(
        case.refused(&["--all"], &files[2])
            .contains("numpy.ascontiguousarray")
    );
    assert!(case.refused(&["--all"], &files[3]).contains("<f8"));
}

#[test]
fn json_is_read_flat_nested_and_bare() {
    let case = Case::new();
    let rounded: Vec<f32> = case
        .values
        .iter()
        .map(|v| bf16::from_f32(*v).to_f32())
        .collect();
    let rows: Vec<&[f32]> = rounded.chunks(COLS).collect();
    let exact: Vec<&[f32]> = case.values.chunks(COLS).collect();
    let shape = [ROWS, COLS];
    for (json, told) in [
        (
            serde_json::json!({"tensor_base": BASE, "shape": shape, "values": rounded}),
            "",
        ),
        (
            serde_json::json!({"tensor_base": format!("{BASE}.weight"), "values": rows}),
            "",
        ),
        (serde_json::json!({"values": rows}), ""),
        (serde_json::json!({"values": rounded}), ""),
        (serde_json::json!(rows), ""),
        (serde_json::json!(exact), ""),
        (serde_json::json!(exact), ":f32"),
        (serde_json::json!({"values": exact, "dtype": "f32"}), ""),
        (
            serde_json::json!({"values": exact, "dtype": "torch.float32"}),
            "",
        ),
    ] {
        let file = case.write("out.json", json.to_string().as_bytes());
        case.identical(&[], &format!("{file}{told}"));
    }
}

#[test]
fn standard_input_is_a_recording_of_any_form() {
    let case = Case::new();
    let model = case.path("m");
    let bytes = Of::Bf16.bytes(&case.values);
    let nested: Vec<&[f32]> = case.values.chunks(COLS).collect();
    for (input, recording) in [
        (bytes.clone(), "mine=-:bf16"),
        (npy("<V2", [ROWS, COLS], &bytes), "mine=-:bf16"),
        (serde_json::to_vec(&nested).unwrap(), "mine=-"),
        (
            safetensors(&[(BASE, Of::F32, &[ROWS, COLS], &case.values)], None),
            "mine=-",
        ),
    ] {
        let out = assert_cmd::Command::cargo_bin("tq4")
            .unwrap()
            .args([
                "validate",
                "--tq-model",
                model.to_str().unwrap(),
                "--lanes",
                "reference",
            ])
            .args(["--tensor-base", BASE, "--recording", recording])
            .write_stdin(input)
            .output()
            .unwrap();
        assert_eq!(
            out.status.code(),
            Some(0),
            "{}{}",
            stdout(&out),
            stderr(&out)
        );
        assert!(stdout(&out).contains("mine_dequant_matches_reference"));
    }
    let out = case.validate(&["--all", "--recording", "a=-", "--recording", "b=-"]);
    assert!(
        stderr(&out).contains("two recordings from standard input"),
        "{}",
        stderr(&out)
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_to_its_end() {
    let case = Case::new();
    let pipe = case.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let bytes = Of::F16.bytes(&case.values);
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, &bytes).unwrap());
        case.identical(&[], &format!("{}:f16", pipe.display()));
    });
}

#[test]
fn slices_are_placed_by_their_shape_or_by_what_the_file_says() {
    let case = Case::new();
    let slice = &case.values[2 * COLS..5 * COLS];
    let asked = ["--row-start", "2", "--row-count", "3"];
    let raw = case.write("slice.bin", &Of::Bf16.bytes(slice));
    case.identical(&asked, &format!("{raw}:bf16"));
    let whole = case.write("whole.bin", &Of::Bf16.bytes(&case.values));
    case.identical(&asked, &format!("{whole}:bf16"));
    let said = safetensors(&[(BASE, Of::F32, &[3, COLS], slice)], Some(2));
    let said = case.write("said.safetensors", &said);
    case.identical(&asked, &said);
    case.identical(&["--row-start", "3", "--row-count", "1"], &said);
    let silent = safetensors(&[(BASE, Of::F32, &[3, COLS], slice)], None);
    let silent = case.write("silent.safetensors", &silent);
    case.identical(&asked, &silent);
    let e = case.refused(&["--tensor-base", BASE], &silent);
    for what in [
        "a.gate_proj: shape [3, 256] found, expected [6, 256]",
        "ask for the rows that it holds with --row-start and --row-count",
    ] {
        assert!(e.contains(what), "{e}");
    }
}

#[test]
fn recordings_of_different_tensors_are_each_compared_where_they_fit() {
    let case = Case::new();
    let model = TqModel::open(&case.path("m")).unwrap();
    let other = reference::dequantize(&model.rows("a.up_proj", 0..ROWS).unwrap());
    let shape = &[ROWS, COLS][..];
    let gate = safetensors(&[(BASE, Of::F32, shape, &case.values)], None);
    let up = safetensors(&[("a.up_proj.weight", Of::F16, shape, &other)], None);
    let (gate, up) = (
        case.write("gate.safetensors", &gate),
        case.write("up.safetensors", &up),
    );
    let (one, two) = (format!("one={gate}"), format!("two={up}"));
    let args = ["--all", "--recording", &one, "--recording", &two];
    let out = case.validate(&[&args[..], &["--format", "json"]].concat());
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    for (tensor, lane) in [(0, "one"), (1, "two")] {
        let tensor = &report["tensors"][tensor];
        assert_eq!(verdict_of(tensor, lane), "identical");
        assert_eq!(tensor["metrics"].as_array().unwrap().len(), 1);
    }
    for lane in report["summary"]["lanes"].as_array().unwrap() {
        if ["one", "two"].contains(&lane["lane"].as_str().unwrap()) {
            assert!(
                lane["decision"]
                    .as_str()
                    .unwrap()
                    .contains("matches_reference"),
                "{lane}"
            );
        }
    }
    let text = stdout(&case.validate(&args));
    let lines = text
        .lines()
        .filter(|l| l.starts_with(" one") || l.starts_with(" two"));
    let statuses: Vec<&str> = lines
        .filter_map(|l| l.split_whitespace().nth(1))
        .filter(|word| *word != "vs" && !word.starts_with('('))
        .collect();
    assert_eq!(statuses, ["recorded", "recorded"], "{text}");
    // Two files side by side, without and with the model.
    let both = [
        (BASE, Of::F32, shape, &case.values[..]),
        ("a.up_proj", Of::F32, shape, &other[..]),
    ];
    let both = case.write("both.safetensors", &safetensors(&both, None));
    let model = case.path("m").to_str().unwrap().to_owned();
    for with in [&[][..], &["--tq-model", &model]] {
        let out = tq4(&[&["compare", &gate, &both][..], with].concat());
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        assert!(
            stderr(&out).contains("1 tensor is in one of the recordings only"),
            "{}",
            stderr(&out)
        );
    }
    let out = tq4(&["compare", &gate, &up]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("not of the same input"),
        "{}",
        stderr(&out)
    );
}

#[test]
fn errors_name_what_was_found_and_what_would_do() {
    let case = Case::new();
    let one = ["--tensor-base", BASE];
    let f32s = Of::F32.bytes(&case.values);
    let named =
        |name: &str, shape: &[usize]| safetensors(&[(name, Of::F32, shape, &case.values)], None);
    for (args, name, bytes, told, what) in [
        (
            &one[..],
            "t.npy",
            npy("<f4", [COLS, ROWS], &f32s),
            "",
            "it is the transpose",
        ),
        (
            &one,
            "long.bin",
            f32s.clone(),
            ":bf16",
            "are the values f32?",
        ),
        (
            &one,
            "odd.bin",
            f32s[..7].to_vec(),
            ":f32",
            "no whole values of 4 bytes",
        ),
        (
            &one,
            "cut.npy",
            npy("<f4", [ROWS, COLS], &f32s[4..]),
            "",
            "truncated or damaged",
        ),
        (
            &one,
            "bits.npy",
            npy("<V2", [ROWS, COLS], &f32s),
            "",
            "FILE:bf16",
        ),
        (
            &one,
            "untold.bin",
            f32s.clone(),
            "",
            "say which type plain values are",
        ),
        (
            &one,
            "numbers.txt",
            b"1.0 2.0 3.0 4.0 5.0".to_vec(),
            "",
            "text found that is not JSON",
        ),
        (&one, "empty", Vec::new(), "", "the file is empty"),
        (
            &one,
            "double.bin",
            f32s.clone(),
            ":f64",
            "no output type \"f64\"",
        ),
        (
            &one,
            "rows.bin",
            f32s[..4 * 2 * COLS].to_vec(),
            ":f32",
            "--row-start",
        ),
        (
            &one,
            "layer.safetensors",
            named("b.gate_proj", &[ROWS, COLS]),
            "",
            "it holds b.gate_proj",
        ),
        (
            &one,
            "x.npz",
            b"PK\x03\x04rest of the zip".to_vec(),
            "",
            "numpy.save",
        ),
        (
            &one,
            "x.gguf",
            b"GGUF\x03rest of the file".to_vec(),
            "",
            "a GGUF file found",
        ),
        (
            &["--all"],
            "any.npy",
            npy("<f4", [ROWS, COLS], &f32s),
            "",
            "which 2 tensors have",
        ),
        (
            &one,
            "shape.safetensors",
            named(BASE, &[ROWS * 2, COLS / 2]),
            "",
            "expected [6, 256]",
        ),
        (
            &one,
            "ragged.json",
            b"[[1, 2], [3]]".to_vec(),
            "",
            "an array of 1 ends at value number 3",
        ),
        (
            &one,
            "small.json",
            b"[[1, 2], [3, 4]]".to_vec(),
            "",
            "shape [2, 2] found, expected [6, 256]",
        ),
    ] {
        let file = case.write(name, &bytes);
        let e = case.refused(args, &format!("{file}{told}"));
        assert!(e.contains(what), "{name}: {e}");
        assert!(
            e.contains("\n  where: ") && e.contains("\n  help: "),
            "{name}: {e}"
        );
    }
    let many = ["x", "a.gate_prok", "y", "z"];
    let many = many.map(|name| (name, Of::F32, &[1, COLS][..], &case.values[..COLS]));
    let file = case.write("many.safetensors", &safetensors(&many, None));
    let e = case.refused(&one, &file);
    assert!(
        e.contains("it holds 4 tensors; nearest names: a.gate_prok"),
        "{e}"
    );
    let none = Path::new("/dev/null");
    if none.exists() {
        assert!(
            case.refused(&one, "/dev/null")
                .contains("neither a file nor a pipe")
        );
    }
}
