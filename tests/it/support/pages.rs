//! One page of each kind, written by the commands themselves.

use super::{cli, recording};
use std::path::Path;
use tq4::record::bench::{Bench, Checked, Measure, Ratio};
use tq4::record::to_json;

/// The tensor that the failing pages are about.
pub const BASE: &str = "model.layers.0.self_attn.q_proj";

fn run(args: &[&str], code: i32) {
    let out = cli::tq4(args);
    assert_eq!(
        out.status.code(),
        Some(code),
        "{args:?}: {}",
        cli::stderr(&out)
    );
}

/// Writes into `dir`: `NAME.html` for each name that it returns, and the reports `sweep.jsonl`,
/// `bench.json`, `pairs.json` and `compare.json` beside them.
pub fn write_all(dir: &Path) -> [&'static str; 6] {
    let path = |name: &str| dir.join(name).display().to_string();
    let (tq, source) = (path("demo/tq4"), path("demo/source"));
    let demo = path("demo");
    run(
        &[
            "demo",
            "--dir",
            &demo,
            "--lanes",
            "reference",
            "--html",
            &path("demo.html"),
        ],
        0,
    );
    run(
        &[
            "validate",
            "--all",
            "--tq-model",
            &tq,
            "--source-model",
            &source,
            "--lanes",
            "reference",
            "--report",
            &path("sweep.jsonl"),
            "--html",
            &path("sweep.html"),
        ],
        0,
    );
    let (dump, right) = (path("bug.json"), path("right.safetensors"));
    write_bug(Path::new(&tq), BASE, Path::new(&dump), None);
    let nan = path("nan.json");
    write_bug(Path::new(&tq), BASE, Path::new(&nan), Some(70));
    run(
        &[
            "validate",
            "--tensor-base",
            BASE,
            "--tq-model",
            &tq,
            "--source-model",
            &source,
            "--lanes",
            "reference",
            "--recording",
            &format!("cuda={dump}"),
            "--recording",
            &format!("mine={nan}"),
            "--html",
            &path("failure.html"),
        ],
        1,
    );
    run(
        &[
            "record",
            "--tq-model",
            &tq,
            "--tensor-base",
            BASE,
            "--lane",
            "reference",
            "--output",
            &right,
        ],
        0,
    );
    let (one, two) = (format!("h100={dump}"), format!("laptop={right}"));
    run(
        &[
            "compare",
            &one,
            &two,
            "--report",
            &path("pairs.json"),
            "--html",
            &path("pairs.html"),
        ],
        1,
    );
    run(
        &[
            "compare",
            &one,
            &two,
            "--tq-model",
            &tq,
            "--report",
            &path("compare.json"),
            "--html",
            &path("compare.html"),
        ],
        1,
    );
    write_bench(dir);
    ["demo", "sweep", "failure", "pairs", "compare", "bench"]
}

/// A recording with the sign bug, and NaN in place of one element.
pub fn write_bug(model: &Path, base: &str, to: &Path, nan: Option<usize>) {
    let model = tq4::format::TqModel::open(model).unwrap();
    let rows = model.info(base).unwrap().shape[0];
    let tensor = model.rows(base, 0..rows).unwrap();
    let fault = tq4::fault::Fault::named("fwht_upper_lane_sign", &tensor).unwrap();
    let mut out = vec![half::bf16::ZERO; tensor.elements()];
    tq4::fault::emulate(&tensor, &[fault], 0, &mut out);
    if let Some(at) = nan {
        out[at] = half::bf16::NAN;
    }
    recording::dump(to, base, [rows, tensor.cols()], &out);
}

/// `bench.html` and `bench.json`: three sizes on the reference, timed; the second lane, a wrong one and the
/// baseline, in which one speed is far higher and one far lower, are made from it.
pub fn write_bench(dir: &Path) {
    let json = dir.join("bench.json");
    run(
        &[
            "bench",
            "--shape",
            "64x1024",
            "--shape",
            "128x2048",
            "--shape",
            "256x4096",
            "--lanes",
            "reference",
            "--time-limit",
            "0.3",
            "--copy-size",
            "1",
            "--json",
            json.to_str().unwrap(),
            "--html",
            dir.join("bench.html").to_str().unwrap(),
        ],
        0,
    );
    let mut record = Bench::read(&json).unwrap();
    for (i, shape) in record.shapes.iter_mut().enumerate() {
        let mut other = shape.lanes[0].clone();
        other.lane = "wgpu".into();
        if i == 1 {
            other.verdict = Checked::Wrong;
            other.reason = Some("bit_equal is 0.5, must be at least 0.999".into());
            other.times = None;
        } else if let Some(times) = &mut other.times {
            times.kernel_cold.interval_s = None;
            times.kernel_cold.gb_per_s *= 3.0;
            times.kernel_cold.percent_of_copy = times.kernel_cold.percent_of_copy.map(|p| 3.0 * p);
        }
        shape.lanes.push(other);
        if i != 1 {
            let ratio = |measure| Ratio {
                lhs: "wgpu".into(),
                rhs: "reference".into(),
                measure,
                speed_ratio: 3.0,
                interval: (i == 0).then_some([2.9, 3.2]),
            };
            shape.ratios = Measure::DECODING.map(ratio).into();
        }
        shape
            .warnings
            .push("the interval is wide: <other> work ran beside it".into());
    }
    // Times of its own, so that one speed is surely slower and one faster, whatever ran beside the test.
    let steady = |s: f64| -> Vec<f64> { (0..40).map(|i| s + s * f64::from(i % 5) / 1e3).collect() };
    let mut baseline = record.clone();
    for (of, cold, warm) in [(&mut record, 2e-3, 1e-3), (&mut baseline, 1e-3, 3e-3)] {
        if let Some(times) = &mut of.shapes[0].lanes[0].times {
            times.kernel_cold.samples_s = steady(cold);
            times.kernel_warm.samples_s = steady(warm);
        }
    }
    record.comparison = Some(tq4::bench::baseline::compare(&baseline, &record, 0.05));
    std::fs::write(&json, to_json(&record)).unwrap();
    let page = tq4::report::bench_page(&record);
    std::fs::write(dir.join("bench.html"), page).unwrap();
}
