//! The checkpoint against its source, through the program.

use crate::support::cli::{Model, stderr, stdout, tq4, unfolded};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tq4::synthetic::{self, Rng};

/// A source of three tensors of 96 x 4096 and the TQ4 model that was made from it.
struct Case {
    dir: tempfile::TempDir,
}

const ROWS: usize = 96;
const COLS: usize = 4096;

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        write_source(&source, 1);
        let case = Self { dir };
        let made = tq4(&[
            "quantize",
            "--source-model",
            &case.at("source"),
            "--output",
            &case.at("tq4"),
        ]);
        assert!(made.status.success(), "{}", stderr(&made));
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn validate(&self, tq: &str, source: &str, more: &[&str]) -> Output {
        let (tq, source) = (self.at(tq), self.at(source));
        let mut args = vec!["validate", "--all", "--lanes", "reference"];
        args.extend(["--tq-model", &tq, "--source-model", &source]);
        args.extend(more);
        tq4(&args)
    }

    /// The model with bytes of one part of a tensor written over by `f`.
    fn damaged(&self, part: &str, f: impl Fn(&mut [u8])) {
        let (from, to) = (self.path("tq4"), self.path("damaged"));
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(&from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        let path = to.join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let head = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
        let header: Value = serde_json::from_slice(&bytes[8..head]).unwrap();
        let at = |i: usize| header[part]["data_offsets"][i].as_u64().unwrap() as usize;
        f(&mut bytes[head + at(0)..head + at(1)]);
        std::fs::write(path, bytes).unwrap();
    }
}

fn name(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate_proj")
}

fn write_source(dir: &Path, seed: u64) {
    let mut rng = Rng::new(seed);
    let plain = (0..3).map(|layer| tq4::checkpoint::PlainTensor {
        name: format!("{}.weight", name(layer)),
        shape: [ROWS, COLS],
        values: synthetic::weight(&mut rng, ROWS, COLS)
            .into_iter()
            .map(half::bf16::from_f32)
            .collect(),
    });
    let plain: Vec<_> = plain.collect();
    tq4::checkpoint::write_plain_model(dir, &plain).unwrap();
}

fn noise(rng: &mut Rng, bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .for_each(|b| *b = (rng.next_u64() >> 56) as u8);
}

fn json(out: &Output) -> Value {
    serde_json::from_str(&stdout(out)).unwrap_or_else(|e| panic!("{e}: {}", stderr(out)))
}

#[test]
fn the_models_own_source_is_as_expected() {
    let case = Case::new();
    let out = case.validate("tq4", "source", &["--format", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let report = json(&out);
    for t in report["tensors"].as_array().unwrap() {
        let c = &t["checkpoint"];
        assert_eq!(c["verdict"], "as_expected");
        assert_eq!(c["damaged_rows"], serde_json::json!([]));
        let ratio = c["ratio"].as_f64().unwrap();
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
    }
    let totals = &report["summary"]["checkpoint"];
    assert_eq!(
        (&totals["judged"], &totals["damaged"]),
        (&3.into(), &0.into())
    );
}

/// What is said in every form of a model one of whose tensors is damaged.
fn leads(case: &Case, tq: &str, source: &str, tensor: &str, said: &str) {
    let (page, lines) = (case.path("page.html"), case.path("lines.jsonl"));
    let more = ["--format", "json", "--html", page.to_str().unwrap()];
    let out = case.validate(tq, source, &more);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let report = json(&out);
    assert_eq!(report["summary"]["worst_first"][0], tensor);
    assert_eq!(report["summary"]["outcome"], "failed");
    let tensors = report["tensors"].as_array().unwrap();
    let found = tensors.iter().find(|t| t["tensor_base"] == tensor).unwrap();
    let c = &found["checkpoint"];
    assert_eq!(c["verdict"], "damaged_or_another_source");
    assert!(c["reason"].as_str().unwrap().contains(said), "{c}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("DAMAGED") && page.contains(said), "{said}");
    let rows: Vec<&str> = page.matches("<tr data-tensor=\"").collect();
    assert_eq!(rows.len(), 3);
    let first = page.split("<tr data-tensor=\"").nth(1).unwrap();
    let first = first.split("</tr>").next().unwrap();
    assert!(
        first.starts_with(tensor) && first.contains("DAMAGED"),
        "{first}"
    );

    let out = case.validate(tq, source, &["--report", lines.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1));
    let text = stdout(&out);
    let text = unfolded(&text);
    let last = text.lines().find(|l| l.starts_with("decision: ")).unwrap();
    let leading = "decision: FAILED: the checkpoint is damaged or the source is another model's: ";
    assert!(last.starts_with(leading) && last.contains(said), "{last}");
    std::fs::remove_file(lines).unwrap();
    let markdown = stdout(&case.validate(tq, source, &["--format", "markdown"]));
    assert!(
        markdown.contains("**FAILED**: the checkpoint is damaged"),
        "{markdown}"
    );
}

#[test]
fn a_tensor_of_random_codes_leads_the_list() {
    let case = Case::new();
    let part = format!("{}.tq_packed", name(1));
    case.damaged(&part, |bytes| noise(&mut Rng::new(2), bytes));
    leads(
        &case,
        "damaged",
        "source",
        &name(1),
        "times what 4 bits in groups of 128 cost",
    );
    let report = json(&case.validate("damaged", "source", &["--format", "json"]));
    let t = &report["tensors"][1];
    assert_eq!(
        t["checkpoint"]["damaged_rows"],
        serde_json::json!([[0, ROWS]])
    );
    let ratio = t["metrics"][0]["rmse_over_rhs_rms"].as_f64().unwrap();
    assert!((ratio - 1.77).abs() < 0.02, "{ratio}");
}

/// 4 kB of 196 kB, as 200 kB are of a usual tensor: the tensor as a whole is hardly off.
#[test]
fn bytes_that_were_written_over_are_found_by_their_rows() {
    let case = Case::new();
    let row = COLS / 2;
    for (part, from, to, rows) in [
        (
            "tq_packed",
            40 * row + 700,
            42 * row + 700,
            "groups in rows 40 to 42 are further from the source than 4 bits in groups of 128 put them",
        ),
        (
            "tq_scales",
            50 * 64,
            52 * 64,
            "64 groups in rows 50 to 51 are",
        ),
    ] {
        let base = name(2);
        case.damaged(&format!("{base}.{part}"), |bytes| {
            if part == "tq_packed" {
                noise(&mut Rng::new(3), &mut bytes[from..to]);
            } else {
                bytes[from..to].fill(0);
            }
        });
        leads(&case, "damaged", "source", &base, rows);
    }
}

/// 64 bytes of codes, two bytes of a scale, one of a sign: the tensor as a whole is as far off as before.
#[test]
fn a_group_a_scale_and_a_sign_are_found() {
    let case = Case::new();
    let (base, row) = (name(1), COLS / 2);
    case.damaged(&format!("{base}.tq_packed"), |bytes| {
        let group = 30 * row + 5 * 64;
        noise(&mut Rng::new(5), &mut bytes[group..group + 64]);
    });
    let said = "row 30, group 5 (from column 640 on) is ";
    leads(&case, "damaged", "source", &base, said);
    let report = json(&case.validate("damaged", "source", &["--format", "json"]));
    let c = &report["tensors"][1]["checkpoint"];
    assert_eq!(c["damaged_rows"], serde_json::json!([[30, 31]]));
    assert_eq!(c["damaged_groups"], 1);
    let worst = &c["worst_group"];
    assert_eq!((&worst["row"], &worst["group"]), (&30.into(), &5.into()));
    assert!(worst["times"].as_f64().unwrap() > 5.0, "{c}");
    assert!(c["ratio"].as_f64().unwrap() < 1.1, "{c}");

    case.damaged(&format!("{base}.tq_scales"), |bytes| {
        // One more in the exponent: twice the scale.
        bytes[2 * (7 * 32 + 9) + 1] += 4;
    });
    let said = "row 7, group 9 (from column 1152 on) is ";
    leads(&case, "damaged", "source", &base, said);

    case.damaged(&format!("{base}.tq_signs"), |bytes| {
        bytes[417] = bytes[417].wrapping_neg();
    });
    leads(
        &case,
        "damaged",
        "source",
        &base,
        "column 417 is negated in ",
    );
    let report = json(&case.validate("damaged", "source", &["--format", "json"]));
    let c = &report["tensors"][1]["checkpoint"];
    assert_eq!(c["wrong_signs"][0]["column"], 417);
    let rows = c["wrong_signs"][0]["rows"].as_u64().unwrap();
    assert!((ROWS as u64 / 2..=ROWS as u64).contains(&rows), "{c}");
}

#[test]
fn a_source_of_another_model_is_told() {
    let case = Case::new();
    write_source(&case.path("other"), 9);
    let out = case.validate("tq4", "other", &[]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = stdout(&out);
    assert!(
        text.contains("or the source is another model's: 3 of 3 tensors"),
        "{text}"
    );
}

#[test]
fn a_source_that_was_made_from_the_model_is_told() {
    let case = Case::new();
    let made = tq4(&[
        "dequantize",
        "--tq-model",
        &case.at("tq4"),
        "--output",
        &case.at("own"),
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let out = case.validate("tq4", "own", &[]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = stdout(&out);
    assert!(
        text.contains("the source is nearer than 4 bits in groups of 128 can be"),
        "{text}"
    );
    assert!(
        text.contains("it was itself made from this model"),
        "{text}"
    );
}

/// The judgement is of the rows that were asked for.
#[test]
fn rows_without_damage_are_as_expected() {
    let case = Case::new();
    let (part, row) = (format!("{}.tq_packed", name(0)), COLS / 2);
    case.damaged(&part, |bytes| {
        noise(&mut Rng::new(4), &mut bytes[10 * row..12 * row])
    });
    for (start, count, code) in [("0", "10", 0), ("8", "8", 1), ("12", "84", 0)] {
        let rows = [
            "--row-start",
            start,
            "--row-count",
            count,
            "--format",
            "json",
        ];
        let out = case.validate("damaged", "source", &rows);
        assert_eq!(out.status.code(), Some(code), "{start}: {}", stderr(&out));
        if code == 1 {
            let found = &json(&out)["tensors"][0]["checkpoint"]["damaged_rows"];
            assert_eq!(*found, serde_json::json!([[10, 12]]));
        }
    }
}

#[test]
fn small_tensors_are_judged_too() {
    let dir = tempfile::tempdir().unwrap();
    let (model, source) = (dir.path().join("m"), dir.path().join("s"));
    Model::valid().write(&model);
    let args = |source: &Path| {
        let (model, source) = (model.to_str().unwrap(), source.to_str().unwrap());
        tq4(&[
            "validate",
            "--all",
            "--lanes",
            "reference",
            "--tq-model",
            model,
            "--source-model",
            source,
        ])
    };
    Model::source().write(&source);
    assert_eq!(args(&source).status.code(), Some(0));
    let mut other = Model::source();
    let up = other.tensors["a.up_proj.weight"].clone();
    other.tensors.insert("a.gate_proj.weight".into(), up);
    other.write(&source);
    let out = args(&source);
    assert_eq!(out.status.code(), Some(1));
    let text = stdout(&out);
    assert!(
        unfolded(&text).contains("1 of 2 tensors, a.gate_proj first"),
        "{text}"
    );
}
