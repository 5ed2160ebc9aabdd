//! `tq4 bench`: what its figures are made of, and that a wrong lane or one that breaks gets none. No test
//! here looks at how long anything took.

use crate::support::cli::{self, stderr, stdout, tq4};
use serde_json::Value;
use std::path::Path;
use tq4::bench::plan;

/// Options that end soon.
pub const QUICK: [&str; 4] = ["--time-limit", "0.2", "--copy-size", "1"];

fn bench(args: &[&str]) -> std::process::Output {
    tq4(&[&["bench"], &QUICK[..], args].concat())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every figure in a record, computed again from its samples by other code.
pub fn check_record(record: &Value) {
    assert_eq!(record["schema"], "tq4-bench/1");
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{v} is no number"));
    let middle = |samples: &Value| {
        let mut s: Vec<f64> = samples.as_array().unwrap().iter().map(number).collect();
        s.sort_by(f64::total_cmp);
        let n = s.len();
        (s[(n - 1) / 2] + s[n / 2]) / 2.0
    };
    for shape in record["shapes"].as_array().unwrap() {
        let rounds = shape["rounds"].as_u64().unwrap() as usize;
        assert!(rounds > 0);
        let (rows, cols) = (number(&shape["shape"][0]), number(&shape["shape"][1]));
        assert_eq!(number(&shape["elements"]), rows * cols);
        close(
            number(&shape["bytes"]),
            rows * cols * number(&shape["bytes_per_element"]) + cols,
        );
        let mut timed = Vec::new();
        for lane in shape["lanes"].as_array().unwrap() {
            assert_eq!(lane["verdict"], "verified", "{lane}");
            assert!(number(&lane["equal"]) >= 0.999 * rows * cols);
            let times = &lane["times"];
            let copy = &times["copy"];
            close(
                number(&copy["gb_per_s"]),
                2.0 * number(&shape["copy_bytes"]) / middle(&copy["samples_s"]) / 1e9,
            );
            assert_eq!(copy["percent_of_copy"], Value::Null);
            for measure in ["copy", "kernel_cold", "kernel_warm", "end_to_end"] {
                let speed = &times[measure];
                // A round whose timestamps make no sense has none.
                let samples = speed["samples_s"].as_array().unwrap().len();
                assert!((1..=rounds).contains(&samples), "{samples} of {rounds}");
                let median = number(&speed["median_s"]);
                assert!(median > 0.0);
                close(median, middle(&speed["samples_s"]));
                if let Some(i) = speed["interval_s"].as_array() {
                    assert!(number(&i[0]) <= median && median <= number(&i[1]));
                } else {
                    assert!(samples < 6);
                }
                if measure != "copy" {
                    close(number(&speed["elements_per_s"]), rows * cols / median);
                    close(
                        number(&speed["gb_per_s"]),
                        number(&shape["bytes"]) / median / 1e9,
                    );
                    close(
                        number(&speed["percent_of_copy"]),
                        100.0 * number(&speed["gb_per_s"]) / number(&copy["gb_per_s"]),
                    );
                }
            }
            timed.push((lane["lane"].as_str().unwrap(), times));
        }
        let ratios = shape["ratios"].as_array().unwrap();
        // Of a kernel by its device's clock and one by the wall there is none.
        let pairs = timed.len() * (timed.len() - 1) / 2;
        assert!((pairs..=3 * pairs).contains(&ratios.len()), "{ratios:?}");
        for ratio in ratios {
            let samples = |lane: &str| -> Vec<f64> {
                let (_, times) = timed.iter().find(|(n, _)| *n == lane).unwrap();
                let speed = &times[ratio["measure"].as_str().unwrap()];
                speed["samples_s"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(number)
                    .collect()
            };
            let [lhs, rhs] = ["lhs", "rhs"].map(|side| samples(ratio[side].as_str().unwrap()));
            if [lhs.len(), rhs.len()] != [rounds; 2] {
                continue;
            }
            let quotients: Vec<f64> = rhs.iter().zip(lhs).map(|(r, l)| r / l).collect();
            close(
                number(&ratio["speed_ratio"]),
                middle(&serde_json::json!(quotients)),
            );
        }
    }
}

#[test]
fn a_record_holds_together_and_is_its_own_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let arg = |name: &str| path(name).to_str().unwrap().to_owned();
    let out = bench(&[
        "--shape",
        "8x256",
        "--shape",
        "3x512",
        "--json",
        &arg("a.json"),
        "--csv",
        &arg("a.csv"),
        "--markdown",
        &arg("a.md"),
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let record = json(&path("a.json"));
    check_record(&record);
    assert_eq!(record["shapes"][0]["name"], "8x256");
    assert_eq!(record["shapes"][1]["shape"], serde_json::json!([3, 512]));
    assert_eq!(record["comparison"], Value::Null);

    let text = stdout(&out);
    assert!(text.contains("8x256  8 x 256, 4 bits, group 128: "));
    assert!(
        text.contains("2.515625 an element (codes 0.5, scales 0.015625, BF16 2), signs 256 once")
    );
    let markdown = std::fs::read_to_string(path("a.md")).unwrap();
    assert!(markdown.contains("### 8x256") && markdown.contains("| reference"));
    let mut csv = csv::Reader::from_path(path("a.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    let lanes = record["shapes"][0]["lanes"].as_array().unwrap().len();
    assert_eq!(rows.len(), 2 * lanes * 4);
    let header = csv.headers().unwrap();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    for row in &rows {
        let shape = usize::from(&row[column("name")] == "3x512");
        let lane = record["shapes"][shape]["lanes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["lane"] == row[column("lane")])
            .unwrap();
        let median: f64 = row[column("median_s")].parse().unwrap();
        assert_eq!(
            lane["times"][&row[column("measure")]]["median_s"],
            serde_json::json!(median)
        );
    }

    let out = bench(&[
        "--shape",
        "8x256",
        "--shape",
        "5x512",
        "--lanes",
        "reference",
        "--baseline",
        &arg("a.json"),
        "--format",
        "json",
        "--tolerance",
        "10",
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let with: Value = serde_json::from_slice(&out.stdout).unwrap();
    check_record(&with);
    let comparison = &with["comparison"];
    assert_eq!(comparison["tolerance"], 0.1);
    assert_eq!(comparison["changes"].as_array().unwrap().len(), 4);
    for change in comparison["changes"].as_array().unwrap() {
        // The whole interval lies beyond the tolerance, or the whole within it.
        let outcome = match change["interval"].as_array() {
            Some(i) if i[0].as_f64() > Some(1.1) => "faster",
            Some(i) if i[1].as_f64() < Some(0.9) => "slower",
            Some(i) if i[0].as_f64() >= Some(0.9) && i[1].as_f64() <= Some(1.1) => "same",
            _ => "not_decidable",
        };
        assert_eq!(change["outcome"], outcome, "{change}");
        let measure = change["measure"].as_str().unwrap();
        let median = |r: &Value| {
            r["shapes"][0]["lanes"][0]["times"][measure]["median_s"]
                .as_f64()
                .unwrap()
        };
        let ratio = change["speed_ratio"].as_f64().unwrap();
        assert!((ratio * median(&with) / median(&record) - 1.0).abs() < 1e-9);
    }
    assert_eq!(
        comparison["left_out"],
        serde_json::json!(["5x512, 4 bits, group 128 is not in the baseline"])
    );
}

/// A baseline that is a hundred times as fast, or as slow: no machine is so noisy.
#[test]
fn slower_than_the_baseline_is_exit_code_1_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let arg = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let shape = ["--shape", "8x256", "--lanes", "reference"];
    let out = bench(&[&shape[..], &["--json", &arg("a.json")]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let record = json(&dir.path().join("a.json"));
    let scaled = |name: &str, factor: f64| {
        let mut record = record.clone();
        let times = &mut record["shapes"][0]["lanes"][0]["times"];
        for measure in ["kernel_cold", "kernel_warm", "end_to_end"] {
            for s in times[measure]["samples_s"].as_array_mut().unwrap() {
                *s = (s.as_f64().unwrap() * factor).into();
            }
        }
        std::fs::write(dir.path().join(name), record.to_string()).unwrap();
        arg(name)
    };
    let (fast, slow) = (scaled("fast.json", 0.01), scaled("slow.json", 100.0));
    for (baseline, more, code) in [
        (&fast, &["--fail-if-slower", "50"][..], 1),
        (&fast, &[], 0),
        (&slow, &["--fail-if-slower", "50"], 0),
    ] {
        let out = bench(&[&shape[..], &["--baseline", baseline], more].concat());
        assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
        let told = stderr(&out).contains("lane reference is slower than in the baseline");
        assert_eq!(told, code == 1, "{}", stderr(&out));
    }
    // Another shape: nothing is compared, and that is no pass.
    let other = [
        "--shape",
        "4x256",
        "--lanes",
        "reference",
        "--baseline",
        &slow,
    ];
    let out = bench(&[&other[..], &["--fail-if-slower", "50"]].concat());
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert!(stderr(&out).contains("nothing was compared"));
    let out = bench(&["--fail-if-slower", "5"]);
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn tensors_of_a_model_are_timed_under_their_names() {
    let dir = tempfile::tempdir().unwrap();
    cli::Model::valid().write(dir.path());
    let model = dir.path().to_str().unwrap();
    let out = bench(&[
        "--tq-model",
        model,
        "--tensor-base",
        "a.*",
        "--lanes",
        "reference",
        "--format",
        "json",
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let record: Value = serde_json::from_slice(&out.stdout).unwrap();
    check_record(&record);
    let names: Vec<&Value> = record["shapes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["name"])
        .collect();
    assert_eq!(names, ["a.gate_proj", "a.up_proj"]);
    assert_eq!(record["shapes"][0]["shape"], serde_json::json!([6, 256]));
}

#[test]
fn help_says_what_runs_when_nothing_is_asked_for() {
    let out = tq4(&["bench", "--help"]);
    let text = stdout(&out);
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    for shape in plan::DEFAULT_SHAPES {
        assert!(
            text.contains(&format!("{}x{}", shape[0], shape[1])),
            "{text}"
        );
    }
    assert!(text.contains("within 1 % of it [default: 10]"), "{text}");
}

#[test]
fn every_layout_is_timed() {
    for bits in ["2", "3", "4"] {
        for group in ["32", "256"] {
            let out = bench(&[
                "--shape",
                "5x512",
                "--bits",
                bits,
                "--group-size",
                group,
                "--format",
                "json",
            ]);
            assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
            check_record(&serde_json::from_slice(&out.stdout).unwrap());
        }
    }
}

#[test]
fn bad_usage_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (no_json, other, damaged) = (
        write("a", "no json"),
        write("b", "{\"schema\": \"other/1\"}"),
        write("c", "{\"schema\": \"tq4-bench/1\"}"),
    );
    let missing = dir.path().join("none").to_str().unwrap().to_owned();
    for (args, text) in [
        (vec!["--shape", "8"], "expected ROWSxCOLUMNS"),
        (
            vec!["--shape", "8x100"],
            "not a multiple of the group size 128",
        ),
        (
            vec!["--shape", "8x128", "--bits", "5"],
            "expected 2, 3 or 4",
        ),
        (vec!["--shape", "8x128", "--time-limit", "0"], "more than 0"),
        (
            vec!["--shape", "8x128", "--time-limit", "nan"],
            "more than 0",
        ),
        (
            vec!["--shape", "8x128", "--lanes", "gpu"],
            "no lane \"gpu\"",
        ),
        (vec!["--baseline", &missing], "cannot read the baseline"),
        (vec!["--baseline", &no_json], "no JSON"),
        (vec!["--baseline", &other], "expected \"tq4-bench/1\""),
        (vec!["--baseline", &damaged], "a damaged record"),
        (
            vec!["--shape", "8x128", "--tq-model", "x"],
            "cannot be used with",
        ),
        (vec!["--tq-model", "x"], "--tensor-base"),
        (
            vec![
                "--shape",
                "8x128",
                "--baseline",
                &other,
                "--tolerance",
                "101",
            ],
            "--tolerance",
        ),
        (
            vec![
                "--shape",
                "8x128",
                "--lanes",
                "reference",
                "--json",
                "no/such/dir/a.json",
            ],
            "the directory does not exist",
        ),
    ] {
        let out = tq4(&[&["bench"], &args[..]].concat());
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(stderr(&out).contains(text), "{args:?}: {}", stderr(&out));
        assert_eq!(stdout(&out), "", "{args:?}");
    }
}

#[test]
fn a_required_lane_that_is_not_there_is_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .arg("bench")
        .args(QUICK)
        .args(["--shape", "8x256", "--lanes", "wgpu", "--require", "wgpu"])
        // No Vulkan driver is to be found here.
        .env("VK_DRIVER_FILES", dir.path().join("none.json"))
        .output()
        .unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
        assert!(stdout(&out).contains("NOT RUN"));
        assert!(stderr(&out).contains("lane wgpu is required and did not run"));
    }
}
