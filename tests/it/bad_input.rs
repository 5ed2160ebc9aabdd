//! Bad input gets one clear error and exit code 2. The exact texts are a golden file.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use safetensors::Dtype;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;

type Break = Box<dyn Fn(&Path)>;

/// Damage done to a valid model before it is written.
fn model(change: impl Fn(&mut Model) + 'static) -> Break {
    Box::new(move |dir| {
        let mut m = Model::valid();
        change(&mut m);
        m.write(dir);
    })
}

/// Damage done to the configuration.
fn config(key: &'static str, value: serde_json::Value) -> Break {
    model(move |m| {
        let config = m.config.as_mut().unwrap();
        if value.is_null() {
            config.as_object_mut().unwrap().remove(key);
        } else {
            config[key] = value.clone();
        }
    })
}

/// Damage done to the files after they were written.
fn files(sharded: bool, change: impl Fn(&Path) + 'static) -> Break {
    Box::new(move |dir| {
        if sharded {
            Model::valid().write_sharded(dir);
        } else {
            Model::valid().write(dir);
        }
        change(dir);
    })
}

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "turboquant_config.json";

fn header(dir: &Path, text: &str, claimed: u64) {
    let mut bytes = claimed.to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    std::fs::write(dir.join(FILE), bytes).unwrap();
}

fn edit_index(dir: &Path, change: impl Fn(&mut serde_json::Value)) {
    let path = dir.join(INDEX);
    let mut v: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut v);
    std::fs::write(path, v.to_string()).unwrap();
}

fn model_cases() -> Vec<(&'static str, Break)> {
    let g = "a.gate_proj";
    let centroids = |f: fn(usize) -> f64, n: usize| json!((0..n).map(f).collect::<Vec<_>>());
    vec![
        (
            "another project's norms",
            model(move |m| {
                let raw = m.tensors.remove("a.gate_proj.tq_scales").unwrap();
                m.tensors.insert("a.gate_proj.tq_norms".into(), raw);
            }),
        ),
        (
            "U32 packed words",
            model(move |m| {
                m.set(
                    g,
                    "tq_packed",
                    Dtype::U32,
                    &[ROWS, COLS / 8],
                    vec![1; ROWS * COLS / 2],
                );
            }),
        ),
        (
            "codes of the wrong row length",
            model(move |m| {
                m.set(
                    g,
                    "tq_packed",
                    Dtype::U8,
                    &[ROWS, COLS / 4],
                    vec![1; ROWS * COLS / 4],
                );
            }),
        ),
        (
            "packed rows of 0xFF",
            model(move |m| {
                let raw = m.tensors.get_mut("a.gate_proj.tq_packed").unwrap();
                raw.data[2 * COLS / 2..3 * COLS / 2].fill(0xFF);
            }),
        ),
        (
            "infinite scale",
            model(move |m| {
                let raw = m.tensors.get_mut("a.gate_proj.tq_scales").unwrap();
                raw.data[6..8].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
            }),
        ),
        (
            "NaN scale",
            model(move |m| {
                let raw = m.tensors.get_mut("a.gate_proj.tq_scales").unwrap();
                raw.data[6..8].copy_from_slice(&half::f16::NAN.to_le_bytes());
            }),
        ),
        (
            "negative scale",
            model(move |m| {
                let raw = m.tensors.get_mut("a.gate_proj.tq_scales").unwrap();
                raw.data[0..2].copy_from_slice(&half::f16::from_f32(-0.5).to_le_bytes());
            }),
        ),
        (
            "sign of 0",
            model(move |m| {
                m.tensors.get_mut("a.gate_proj.tq_signs").unwrap().data[17] = 0;
            }),
        ),
        (
            "sign of 2",
            model(move |m| {
                m.tensors.get_mut("a.gate_proj.tq_signs").unwrap().data[255] = 2;
            }),
        ),
        (
            "scales in F32",
            model(move |m| {
                m.set(g, "tq_scales", Dtype::F32, &[ROWS, 2], vec![0; ROWS * 8]);
            }),
        ),
        (
            "scales of another shape",
            model(move |m| {
                m.set(g, "tq_scales", Dtype::F16, &[2, ROWS], vec![0; ROWS * 4]);
            }),
        ),
        (
            "signs in two dimensions",
            model(move |m| {
                m.set(g, "tq_signs", Dtype::I8, &[1, COLS], vec![1; COLS]);
            }),
        ),
        (
            "no signs",
            model(move |m| {
                m.tensors.remove("a.gate_proj.tq_signs");
            }),
        ),
        (
            "packed in three dimensions",
            model(move |m| {
                m.set(
                    g,
                    "tq_packed",
                    Dtype::U8,
                    &[1, ROWS, COLS / 2],
                    vec![1; ROWS * COLS / 2],
                );
            }),
        ),
        (
            "columns that are no multiple of the group",
            model(move |m| {
                m.set(g, "tq_signs", Dtype::I8, &[100], vec![1; 100]);
                m.set(g, "tq_packed", Dtype::U8, &[ROWS, 50], vec![1; 50 * ROWS]);
            }),
        ),
        (
            "no rows",
            model(move |m| {
                m.set(g, "tq_packed", Dtype::U8, &[0, COLS / 2], vec![]);
                m.set(g, "tq_scales", Dtype::F16, &[0, 2], vec![]);
            }),
        ),
        (
            "3-bit codes over 7",
            model(move |m| {
                let c = m.config.as_mut().unwrap();
                c["bits"] = json!(3);
                c["centroids"] = json!([-0.2, -0.1, -0.05, -0.01, 0.01, 0.05, 0.1, 0.2]);
            }),
        ),
        ("no centroids", config("centroids", json!(null))),
        (
            "unsorted centroids",
            config("centroids", centroids(|i| -(i as f64), 16)),
        ),
        (
            "15 centroids",
            config("centroids", centroids(|i| i as f64, 15)),
        ),
        (
            "8 centroids for 4 bits",
            config("centroids", centroids(|i| i as f64, 8)),
        ),
        ("no centroid at all", config("centroids", json!([]))),
        (
            "a centroid beyond f32",
            config("centroids", centroids(|i| 1e300 * i as f64, 16)),
        ),
        ("centroids as text", config("centroids", json!("none"))),
        (
            "boundaries of another length",
            config("boundaries", json!([-1.0, 1.0])),
        ),
        ("5 bits", config("bits", json!(5))),
        ("group size 96", config("group_size", json!(96))),
        ("group size 0", config("group_size", json!(0))),
        ("negative group size", config("group_size", json!(-128))),
        ("another quantisation", config("quant_type", json!("gptq"))),
        ("another rotation", config("rotation", json!("random"))),
        ("no bits", config("bits", json!(null))),
        (
            "no config",
            files(false, |d| std::fs::remove_file(d.join(CONFIG)).unwrap()),
        ),
        (
            "empty config",
            files(false, |d| std::fs::write(d.join(CONFIG), "").unwrap()),
        ),
        (
            "config is a directory",
            files(false, |d| {
                std::fs::remove_file(d.join(CONFIG)).unwrap();
                std::fs::create_dir(d.join(CONFIG)).unwrap();
            }),
        ),
        (
            "truncated model",
            files(false, |d| {
                let all = std::fs::read(d.join(FILE)).unwrap();
                std::fs::write(d.join(FILE), &all[..all.len() - 100]).unwrap();
            }),
        ),
        (
            "model cut inside the header",
            files(false, |d| {
                let all = std::fs::read(d.join(FILE)).unwrap();
                std::fs::write(d.join(FILE), &all[..40]).unwrap();
            }),
        ),
        (
            "bytes after the model",
            files(false, |d| {
                let mut all = std::fs::read(d.join(FILE)).unwrap();
                all.extend([0; 9]);
                std::fs::write(d.join(FILE), all).unwrap();
            }),
        ),
        (
            "empty model file",
            files(false, |d| std::fs::write(d.join(FILE), "").unwrap()),
        ),
        (
            "model of 5 bytes",
            files(false, |d| std::fs::write(d.join(FILE), "hello").unwrap()),
        ),
        (
            "a mislabelled file",
            files(false, |d| {
                std::fs::write(d.join(FILE), [b"PK\x03\x04".as_slice(), &[7; 200]].concat())
                    .unwrap();
            }),
        ),
        (
            "model file is a directory",
            files(false, |d| {
                std::fs::remove_file(d.join(FILE)).unwrap();
                std::fs::create_dir(d.join(FILE)).unwrap();
            }),
        ),
        (
            "no model file",
            files(false, |d| std::fs::remove_file(d.join(FILE)).unwrap()),
        ),
        (
            "a header of 2^60 bytes",
            files(false, |d| header(d, "{}", 1 << 60)),
        ),
        (
            "a header that is no JSON",
            files(false, |d| header(d, "{\"a\": ", 6)),
        ),
        (
            "a shape that overflows",
            files(false, |d| {
                let h =
                    r#"{"x":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
                header(d, h, h.len() as u64);
            }),
        ),
        (
            "an offset outside the file",
            files(false, |d| {
                let h = r#"{"x":{"dtype":"U8","shape":[1000],"data_offsets":[0,1000]}}"#;
                header(d, h, h.len() as u64);
            }),
        ),
        (
            "offsets that run backwards",
            files(false, |d| {
                let h = r#"{"x":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#;
                header(d, h, h.len() as u64);
            }),
        ),
        (
            "an unknown dtype",
            files(false, |d| {
                let h = r#"{"x":{"dtype":"Q4","shape":[0],"data_offsets":[0,0]}}"#;
                header(d, h, h.len() as u64);
            }),
        ),
        (
            "two shards and no index",
            files(true, |d| std::fs::remove_file(d.join(INDEX)).unwrap()),
        ),
        (
            "a shard is missing",
            files(true, |d| {
                std::fs::remove_file(d.join("model-00002-of-00002.safetensors")).unwrap();
            }),
        ),
        (
            "the index names a tensor that is not there",
            files(true, |d| {
                edit_index(d, |v| {
                    v["weight_map"]["b.up_proj.weight"] = json!("model-00001-of-00002.safetensors");
                });
            }),
        ),
        (
            "the index leaves the directory",
            files(true, |d| {
                edit_index(d, |v| v["weight_map"]["x"] = json!("../../etc/passwd"));
            }),
        ),
        (
            "the index names an absolute path",
            files(true, |d| {
                edit_index(d, |v| v["weight_map"]["x"] = json!("/etc/passwd"));
            }),
        ),
        (
            "the index is not JSON",
            files(true, |d| std::fs::write(d.join(INDEX), "nonsense").unwrap()),
        ),
        (
            "the index has no map",
            files(true, |d| std::fs::write(d.join(INDEX), "{}").unwrap()),
        ),
        (
            "a plain model",
            files(false, |d| {
                Model::source().write(d);
            }),
        ),
    ]
}

/// Arguments after a valid model.
const ARGUMENT_CASES: &[(&str, &[&str])] = &[
    ("no such tensor", &["--tensor-base", "a.gate_prj"]),
    ("a glob that matches nothing", &["--tensor-base", "zzz*"]),
    ("a malformed glob", &["--tensor-base", "a[.gate"]),
    (
        "rows outside",
        &[
            "--tensor-base",
            "a.up_proj",
            "--row-start",
            "4",
            "--row-count",
            "3",
        ],
    ),
    (
        "first row outside",
        &["--tensor-base", "a.up_proj", "--row-start", "6"],
    ),
    (
        "no rows",
        &["--tensor-base", "a.up_proj", "--row-count", "0"],
    ),
    (
        "rows that overflow",
        &[
            "--all",
            "--row-start",
            "1",
            "--row-count",
            "18446744073709551615",
        ],
    ),
    ("several tensors and none chosen", &[]),
    ("no such lane", &["--all", "--lanes", "rocm"]),
    ("no such required lane", &["--all", "--require", "metal"]),
    (
        "a recording without a name",
        &["--all", "--recording", "DIR/rec.json"],
    ),
    (
        "no such recording",
        &["--all", "--recording", "cuda=DIR/none.json"],
    ),
    (
        "a recording that is a directory",
        &["--all", "--recording", "cuda=DIR"],
    ),
    (
        "a recording of nonsense",
        &["--all", "--recording", "cuda=DIR/nonsense.json"],
    ),
    (
        "a recording of another length",
        &["--all", "--recording", "cuda=DIR/short.json"],
    ),
    (
        "a recording that is a model",
        &["--all", "--recording", "cuda=DIR/model.safetensors"],
    ),
    (
        "a stand-in for the reference",
        &["--all", "--recording", "reference=DIR/short.json"],
    ),
    (
        "no such source model",
        &["--all", "--source-model", "DIR/none"],
    ),
    (
        "a source model without the tensor",
        &["--all", "--source-model", "DIR/other"],
    ),
    (
        "a source model of another shape",
        &["--all", "--source-model", "DIR/shape"],
    ),
    (
        "a report in no directory",
        &["--all", "--report", "/none/r.json"],
    ),
    (
        "a report over the model",
        &["--all", "--report", "DIR/model.safetensors"],
    ),
    (
        "a page over the source model's config",
        &[
            "--all",
            "--source-model",
            "DIR/other",
            "--html",
            "DIR/other/config.json",
        ],
    ),
    (
        "recordings in the model's directory",
        &["--all", "--record", "DIR/rec"],
    ),
    (
        "a list of errors over a recording",
        &[
            "--all",
            "--recording",
            "cuda=DIR/short.json",
            "--top-errors",
            "DIR/short.json",
        ],
    ),
    (
        "both all and a name",
        &["--all", "--tensor-base", "a.up_proj"],
    ),
];

fn assert_clear(what: &str, out: &std::process::Output) -> String {
    let text = stderr(out);
    assert_eq!(out.status.code(), Some(2), "{what}: {text}{}", stdout(out));
    assert!(!text.contains("panicked"), "{what}: {text}");
    assert!(text.starts_with("error: "), "{what}: {text}");
    text
}

/// An error with a model's directory as `DIR`, and in the words and separators of Linux.
fn portable(text: &str, dir: &Path) -> String {
    let absent = std::io::Error::from_raw_os_error(2).to_string();
    let text = text
        .replace(dir.to_str().unwrap(), "DIR")
        .replace(&absent, "No such file or directory (os error 2)");
    let lines = text.split_inclusive('\n').map(|line| {
        if line.contains("DIR") {
            line.replace(std::path::MAIN_SEPARATOR, "/")
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

#[test]
fn every_bad_input_has_its_error() {
    let mut golden = String::new();
    for (what, damage) in model_cases() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::create_dir(&path).unwrap();
        damage(&path);
        let out = tq4(&[
            "validate",
            "--tq-model",
            path.to_str().unwrap(),
            "--tensor-base",
            "a.gate_proj",
            "--lanes",
            "reference",
        ]);
        let text = portable(&assert_clear(what, &out), &path);
        assert!(text.lines().count() <= 3, "{what}: {text}");
        writeln!(golden, "# {what}\n{text}").unwrap();
    }
    for (what, args) in ARGUMENT_CASES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        Model::valid().write(&path);
        std::fs::write(path.join("nonsense.json"), "{\"values\": [").unwrap();
        let short = json!({"tensor_base": "a", "shape": [2, 256], "values": [1.0]});
        std::fs::write(path.join("short.json"), short.to_string()).unwrap();
        let mut other = Model::source();
        other.tensors.retain(|n, _| n == "a.gate_proj.weight");
        other.write(&path.join("other"));
        let mut shape = Model::source();
        shape.set("a.gate_proj", "weight", Dtype::BF16, &[2, 2], vec![0; 8]);
        shape.write(&path.join("shape"));
        let dir = path.to_str().unwrap();
        let args: Vec<String> = args.iter().map(|a| a.replace("DIR", dir)).collect();
        let mut all = vec!["validate", "--tq-model", dir, "--lanes", "reference"];
        if args.iter().any(|a| a == "--lanes") {
            all.truncate(3);
        }
        all.extend(args.iter().map(String::as_str));
        let text = portable(&assert_clear(what, &tq4(&all)), &path);
        writeln!(golden, "# {what}\n{text}").unwrap();
    }
    insta::assert_snapshot!(golden);
}

#[test]
fn of_several_bad_tensors_the_first_is_told_and_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut m = Model::valid();
    for base in ["a.gate_proj", "a.up_proj"] {
        m.tensors.get_mut(&format!("{base}.tq_signs")).unwrap().data[17] = 0;
    }
    m.write(dir.path());
    let out = tq4(&[
        "validate",
        "--tq-model",
        dir.path().to_str().unwrap(),
        "--all",
        "--lanes",
        "reference",
    ]);
    let text = assert_clear("two bad tensors", &out);
    assert_eq!(text.matches("a.gate_proj: signs").count(), 1, "{text}");
    assert!(!text.contains("a.up_proj"), "{text}");
    let last = "\nerror: tensors that are bad input: 2; the report has each\n";
    assert!(text.ends_with(last), "{text}");
    assert!(stdout(&out).contains("a.up_proj: signs"));
}

#[test]
fn names_from_files_cannot_drive_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut m = Model::valid();
    for part in ["tq_packed", "tq_scales", "tq_signs"] {
        let raw = m.tensors.remove(&format!("a.gate_proj.{part}")).unwrap();
        let name = format!("a\u{1b}[2J\n\u{202e}\u{2028}\u{feff}.gate.{part}");
        m.tensors.insert(name, raw);
    }
    m.write(dir.path());
    let page = tempfile::NamedTempFile::new().unwrap();
    for format in ["table", "markdown"] {
        let out = tq4(&[
            "validate",
            "--tq-model",
            dir.path().to_str().unwrap(),
            "--tensor-base",
            "*",
            "--lanes",
            "reference",
            "--format",
            format,
            "--html",
            page.path().to_str().unwrap(),
        ]);
        assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
        let html = std::fs::read_to_string(page.path()).unwrap();
        for text in [&stdout(&out), &stderr(&out), &html] {
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{2028}', '\u{feff}']));
        }
        for text in [&stdout(&out).replace('\\', ""), &html.replace('\\', "")] {
            assert!(
                text.contains("u{1b}[2Jnu{202e}u{2028}u{feff}.gate"),
                "{text}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn a_fifo_is_refused_and_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    Model::valid().write(dir.path());
    let fifo = dir.path().join(FILE);
    std::fs::remove_file(&fifo).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success());
    let out = tq4(&[
        "validate",
        "--tq-model",
        dir.path().to_str().unwrap(),
        "--all",
    ]);
    assert_clear("fifo", &out);
    assert!(
        stderr(&out).contains("not a regular file"),
        "{}",
        stderr(&out)
    );
}

#[cfg(unix)]
#[test]
fn a_report_goes_through_a_link_and_over_nothing_but_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let (target, link) = (dir.path().join("target.json"), dir.path().join("link.json"));
    std::fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let run = |report: &Path| {
        tq4(&[
            "validate",
            "--tq-model",
            model.to_str().unwrap(),
            "--tensor-base",
            "a.up_proj",
            "--lanes",
            "reference",
            "--report",
            report.to_str().unwrap(),
        ])
    };
    // Nothing is compared, and the report is written.
    assert_eq!(run(&link).status.code(), Some(3));
    assert!(link.is_symlink());
    assert!(std::fs::read_to_string(&target).unwrap().starts_with('{'));

    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    for (path, what) in [
        (fifo.as_path(), "a device or a pipe is there"),
        (dir.path(), "a directory is there"),
    ] {
        // A directory around the model is refused as that before it is looked at.
        let text = assert_clear(what, &run(path));
        let refused = text.contains(what) || text.contains("would be written into the input");
        assert!(refused, "{text}");
    }
    assert!(!fifo.is_file() && dir.path().is_dir());
}

#[test]
fn a_report_that_cannot_be_written_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let report = dir.path().join("r.json");
    std::fs::write(&report, "old").unwrap();
    let out = tq4(&[
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--tensor-base",
        "none",
        "--report",
        report.to_str().unwrap(),
        "--lanes",
        "reference",
    ]);
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&report).unwrap(), "old");
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
}
