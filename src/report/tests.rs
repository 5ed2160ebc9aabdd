//! A run by hand in every format.

use super::{Detail, Exporter, Json, Markdown, Page, Table};
use crate::codebook::Codebook;
use crate::judge::gate::decide;
use crate::metrics::{Values, compare};
use crate::picture::{LaneRows, Picture};
use crate::record::*;
use crate::synthetic::{Rng, Scales, tensor};
use crate::tensor::Layout;
use serde_json::{Value, json};
use std::collections::BTreeSet;

mod long;

const NAME: &str = "layers.1.<b>\u{1b}|x|*";

/// Every key of a device's arithmetic, and a warning.
const UNGUARDED: DeviceArithmetic = DeviceArithmetic {
    contracts: true,
    sums_off: 1000,
    guard_by_fma: false,
    guard_by_memory: false,
    flushes_results: true,
    division_off: 3,
    ..DeviceArithmetic::STRICT
};

/// A tensor that CUDA gets wrong, the shader right, and a lane of the user's not at all.
fn failed() -> TensorRecord {
    use LaneName::{Cuda, Reference, Source};
    let rows: [(LaneName, &[f32]); 4] = [
        (Source, &[0.5, -1.0, 0.25, 2.0]),
        (Reference, &[0.5, -1.0, 0.25, 1.5]),
        (Cuda, &[0.5, 1.0, f32::NAN, 1.5]),
        (LaneName::Wgpu, &[0.5, -1.0, 0.25, 1.5]),
    ];
    let against = |l: usize, r: usize| {
        let side = |i: usize| (rows[i].0.clone(), Values::F32(rows[i].1));
        let ((lhs, a), (rhs, b)) = (side(l), side(r));
        compare(lhs, a, rhs, b)
    };
    let metrics = vec![against(1, 0), against(2, 0), against(2, 1), against(3, 1)];
    let mine = LaneName::from("@mine");
    let mut decisions: Vec<Decision> = metrics[2..]
        .iter()
        .zip([exactness(2), exactness(0)])
        .map(|(m, e)| decide(m.lhs.clone(), m, e, None, true))
        .collect();
    decisions.push(Decision::not_run(mine.clone(), "no such <file>"));
    let mut broken = LaneRecord::new(mine, Status::Unavailable);
    broken.reason = Some("no such <file>".into());
    broken.help = Some("write it".into());
    let ran = |name: LaneName, api: &str| {
        let info = LaneInfo {
            name,
            device: format!("a {api} device"),
            driver: "driver 1.2".into(),
            api: api.into(),
            software: api == "Vulkan",
            arithmetic: (api == "Vulkan").then_some(UNGUARDED),
            kernel_variant: "variant".into(),
            kernel_checksum: "0123456789abcdef".into(),
            output: OutputType::Bf16,
            pci: None,
            uuid: None,
        };
        LaneRecord {
            seconds: Some(0.25),
            kernel_seconds: Some(0.125),
            output_hash: Some("89ab".repeat(8)),
            ..LaneRecord::of(&info, Status::Ran)
        }
    };
    TensorRecord {
        source_model: Some("source".into()),
        tq_model: "model".into(),
        tensor_base: NAME.into(),
        row_start: 8,
        row_count: 2,
        shape: [2, 2],
        bits: Some(4),
        group_size: Some(128),
        centroids_config_vs_cuda: Some(CodebookComparison::new(&codebook(), 2, 32)),
        checkpoint: Some(checkpoint()),
        decision: leading(&decisions),
        metrics,
        fwht_bug_control: Some(FwhtBugControl {
            cuda_vs_good_python_max_abs: 1.0,
            cuda_vs_good_python_rmse: f64::NAN,
            cuda_vs_bug_emulation_max_abs: 0.0,
            cuda_vs_bug_emulation_rmse: 0.0,
            cuda_vs_bug_emulation_bf16_max_abs: 0.0,
            cuda_vs_bug_emulation_bf16_rmse: 0.0,
            interpretation: "it has the bug".into(),
        }),
        decisions,
        diagnosis: vec![diagnosis()],
        lanes: vec![
            ran(Reference, "CPU"),
            ran(Cuda, "CUDA"),
            ran(LaneName::Wgpu, "Vulkan"),
            broken,
        ],
        elements: 4,
        bytes: 20,
        checksum: Some("0123".repeat(8)),
        source_checksum: Some("00".into()),
        error: None,
        picture: None,
    }
}

/// So many of four elements are wrong.
fn exactness(wrong: u64) -> Exactness {
    Exactness {
        output: OutputType::Bf16,
        elements: 4,
        unequal: wrong,
        unlike_multiply: wrong,
        not_finite: wrong / 2,
        outside: wrong,
        worst: (wrong > 0).then_some(Outside {
            row: 1,
            col: 0,
            got: None,
            allowed: [0.25, 0.25],
            bounds_away: f64::INFINITY,
        }),
        beyond_tolerance: 0,
        ties_away: 0,
        arithmetic: (wrong == 0).then_some(Arithmetic::Identical),
    }
}

fn checkpoint() -> CheckpointRecord {
    CheckpointRecord {
        verdict: CheckpointVerdict::AsExpected,
        expected_rms: 0.25,
        measured_rms: 0.25,
        ratio: 1.0,
        damaged_rows: Vec::new(),
        reason: "the rms error is 1.00 times what it costs".into(),
    }
}

fn diagnosis() -> StripDiagnosis {
    let fault = json!({"name": "zeros", "advice": "it did not run"});
    serde_json::from_value(json!({
        "strip_start": 9, "strip_rows": 1, "lane": "cuda", "explained": true, "faults": [fault],
        "equivalent": [{"name": "other", "advice": "look there"}], "reproduced": 1, "distinguishing": 1,
        "family": {"kind": "rounding", "toward_zero": 1, "away": 0}, "only": ["odd_rows"],
        "group": {"row": 0, "group": 0, "expected": [0.5, 0.25], "got": [null, 0.25]}, "closest": {"fault": fault, "reproduced": 1},
        "evidence": "zeros: explains 1 of 2 <elements>", "elements": 2, "allowed": false, "wrong": 1,
        "wrong_rows": 1, "wrong_groups": 1, "first_row": 0, "first_group": 0, "positions": [[0, 1]],
        "signature": {"cosine": 0.5, "norm_ratio": 1.0, "magnitudes_equal": 1.0, "signs_flipped": 0.0,
            "rows_of_other_rows": 0},
        "worst": {"row": 0, "col": 1, "code": 3, "centroid": 0.5, "scale": 1.0, "sign": -1,
            "expected": 0.5, "got": null},
    }))
    .expect("a diagnosis")
}

fn codebook() -> Codebook {
    Codebook::new(vec![-1.5, -0.5, 0.5, 1.5], None).expect("four centroids")
}

/// A run that fills every key: a failed tensor, one that passed, bad input, plain tensors.
fn run() -> Run {
    let mut passed = failed();
    passed.tensor_base = "layers.0.good".into();
    passed.decisions.remove(0);
    passed.metrics.drain(1..3);
    passed.diagnosis.clear();
    let mut bad = passed.clone();
    bad.tensor_base = "layers.2.bad".into();
    bad.metrics.clear();
    for d in &mut bad.decisions {
        *d = Decision::not_run(d.lane.clone(), "bad input");
    }
    bad.checkpoint = None;
    bad.error = Some(TensorError {
        what: "3 bytes found".into(),
        place: "a\nfile".into(),
        help: "copy it again".into(),
    });
    let plain = |name: &str, status, reason: Option<&str>| PlainRecord {
        name: name.into(),
        status,
        dtype: "BF16".into(),
        shape: vec![2],
        bytes: 4,
        differing_bytes: Some(1),
        first_difference: Some(3),
        checksum: None,
        reason: reason.map(String::from),
    };
    let model = |name: &str| {
        let (name, fingerprint) = (name.into(), "4567".repeat(8));
        Some(ModelIdentity { name, fingerprint })
    };
    let tensors = vec![failed(), passed, bad];
    let header = Header {
        format: FORMAT.into(),
        tool: Tool {
            version: "tq4 VERSION".into(),
            command_line: vec!["validate".into(), "--all".into()],
            host: "HOST".into(),
            os: Some("OS".into()),
        },
        model: Model {
            tq: model("model"),
            source: model("source"),
            format: Some("turboquant".into()),
            bits: Some(4),
            group_size: Some(128),
            centroids_config_vs_cuda: Some(CodebookComparison::new(&codebook(), 2, 32)),
            lanes: LaneConfig::default(),
            tolerance: Some("rmse=0.5".parse().unwrap()),
            recordings: vec!["mine=00".into()],
            programs: vec!["hip:bf16=./kernel".into()],
            kernels: vec!["plain=0123456789abcdef0123456789abcdef".into()],
            rows: Rows {
                start: 8,
                count: Some(2),
            },
            strip: StripSize::Auto,
            partition: Partition { index: 1, count: 2 },
            tensors: tensors.iter().map(|t| t.tensor_base.clone()).collect(),
            plain: vec!["norm".into(), "bias".into()],
        },
    };
    let plain = vec![
        plain("norm", PlainStatus::Equal, None),
        plain("bias", PlainStatus::Differs, Some("1 of 4 bytes differ")),
    ];
    Run::new(header, tensors, plain)
}

/// A run of one tensor, and one of so many that each has a line.
fn runs() -> [Run; 2] {
    let all = run();
    let header = || Header {
        format: all.format.clone(),
        tool: all.tool.clone(),
        model: all.model.clone(),
    };
    let many = (0..12).flat_map(|i| {
        all.tensors.iter().cloned().map(move |mut t| {
            t.tensor_base += &format!(".{i}");
            t
        })
    });
    let one = Run::new(header(), vec![failed()], Vec::new());
    [one, Run::new(header(), many.collect(), all.plain.clone())]
}

fn text(exporter: &dyn Exporter, run: &Run) -> String {
    let mut bytes = Vec::new();
    exporter.export(run, &mut bytes).expect("a vector");
    String::from_utf8(bytes).expect("text")
}

/// Text for a terminal with every paragraph in one line.
fn unfolded(text: &str) -> String {
    text.replace("\n  ", " ")
}

fn lines_of(detail: Detail) -> Table {
    Table {
        detail: Some(detail),
        ..Table::default()
    }
}

#[test]
fn json_is_the_record() {
    let text = text(&Json, &run());
    insta::assert_snapshot!("json", text);
    let again: Run = serde_json::from_str(&text).expect("a report");
    assert_eq!(to_json(&again), text);
}

/// Reports of versions that probed no device.
#[test]
fn lanes_without_arithmetic_are_read() {
    let mut report = serde_json::to_value(run()).expect("plain data");
    for lane in report["tensors"][0]["lanes"].as_array_mut().expect("lanes") {
        let lane = lane.as_object_mut().expect("a lane");
        let probed = lane["name"] == "wgpu";
        for key in ["arithmetic", "warning"] {
            assert_eq!(lane.remove(key).is_some(), probed, "{key}");
        }
    }
    let old: Run = serde_json::from_value(report).expect("a report");
    let lanes = &old.tensors[0].lanes;
    assert!(
        lanes
            .iter()
            .all(|l| l.arithmetic.is_none() && l.warning.is_none())
    );
}

#[test]
fn tables_tell_of_few_tensors_one_by_one_and_of_many_in_lines() {
    let [one, many] = runs();
    let few = text(&Table::default(), &run());
    insta::assert_snapshot!("table", few);
    for part in ["NOT RUN", "identical", "FAIL"] {
        assert!(text(&Table::default(), &one).contains(part), "{part}");
    }
    let lines = text(&Table::default(), &many);
    assert_eq!(lines.matches("BAD INPUT").count(), 12);
    insta::assert_snapshot!("table_lines", text(&lines_of(Detail::Lines), &run()));
    for text in [&few, &lines] {
        assert!(text.contains("cuda_dequant_differs_from_reference ("));
        assert!(!text.contains('\u{1b}'));
    }
}

#[test]
fn markdown_is_narrow_and_escaped() {
    let [one, many] = runs();
    insta::assert_snapshot!("markdown", text(&Markdown::default(), &run()));
    let lines = text(&Markdown::default(), &many);
    assert!(lines.contains("All 36 tensors, worst first"));
    let one = text(&Markdown::default(), &one);
    assert!(one.starts_with(
        "|   |   |\n|---|---|\n| model | model: turboquant, 4 bits, group 128, 3 quantised"
    ));
    assert!(one.contains("\n- \u{2718} **FAIL** cuda: cuda_dequant_differs_from_reference ("));
    for text in [one, lines] {
        assert!(text.contains("layers.1.&lt;b&gt;\\\\u{1b}\\|x\\|\\*"));
        assert!(!text.contains("<b>") && !text.contains('\u{1b}'));
    }
}

#[test]
fn a_damaged_checkpoint_leads_in_every_form() {
    let whole = run();
    let mut damaged = whole.tensors[0].clone();
    assert!(damaged.error.is_none() && !damaged.failed());
    damaged.checkpoint = Some(CheckpointRecord {
        verdict: CheckpointVerdict::DamagedOrAnotherSource,
        damaged_rows: vec![[8, 9]],
        reason: "rows 8..9 are <far> off".into(),
        ..checkpoint()
    });
    let name = damaged.tensor_base.clone();
    let header = Header {
        format: whole.format,
        tool: whole.tool,
        model: whole.model,
    };
    let tensors = vec![damaged, failed()];
    let run = Run::new(header, tensors, Vec::new());
    assert_eq!(run.summary.outcome, Outcome::Failed);
    assert_eq!(run.summary.worst_first, [name.as_str(), NAME]);
    let problem = format!(
        "the checkpoint is damaged or the source is another model's: 1 of 2 tensors, {name} first: rows 8..9 are"
    );
    for table in [
        text(&Table::default(), &run),
        text(&lines_of(Detail::Summary), &run),
    ] {
        let said = unfolded(&table);
        assert!(
            said.contains(&format!("decision: FAILED: {problem}")),
            "{table}"
        );
        assert!(
            table.contains("checkpoint: rows 8..9 are <far> off"),
            "{table}"
        );
    }
    let markdown = text(&Markdown::default(), &run);
    assert!(
        markdown.contains(&format!("FAIL** {problem}")),
        "{markdown}"
    );
    assert!(
        markdown.contains("> checkpoint: rows 8..9 are &lt;far"),
        "{markdown}"
    );
    let page = text(&Page, &run);
    assert!(
        page.contains(&format!(
            "1 of 2 tensors, {name} first: rows 8..9 are &#60;far"
        )),
        "{page}"
    );
    // Among those that failed, in the table and over its section.
    assert!(page.matches("DAMAGED").count() == 3, "{page}");
}

#[test]
fn the_page_has_every_tensor_worst_first_with_pictures_of_those_that_have_them() {
    let mut run = run();
    let (mut rng, layout) = (Rng::new(1), Layout::new(4, 128).expect("a layout"));
    let weight = tensor(&mut rng, layout, 2, 256, Scales::Usual).expect("whole groups");
    let lanes = [LaneName::Source, LaneName::Reference, LaneName::Cuda];
    let values = vec![0.5f32; weight.elements()];
    let columns = LaneRows {
        row_start: 8,
        lanes: lanes.map(|l| (l, Values::F32(&values))).into(),
        tolerance: None,
    };
    let picture = Picture::new(&weight, &columns, &[&diagnosis().diagnosis]);
    let name = |t: &TensorRecord| t.tensor_base == NAME;
    let t = run.tensors.iter_mut().find(|t| name(t)).expect("it");
    t.picture = Some(Box::new(picture.clone()));
    let verbose = Table {
        pictures: true,
        ..Table::default()
    };
    let told = text(&verbose, &run);
    assert!(told.contains("cuda vs reference: error by row and group"));
    assert!(told.contains("cuda: row 9, group 0: 2 of its 2 elements, furthest off first"));
    assert!(told.contains("NaN or infinity"));

    let page = text(&Page, &run);
    assert!(!page.contains("<b>") && !page.contains('\u{1b}'));
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let document = roxmltree::Document::parse_with_options(&page, options).expect("XML");
    let of = |tag: &str| -> Vec<String> {
        let nodes = document.descendants().filter(|n| n.has_tag_name(tag));
        let names = nodes.filter_map(|n| n.attribute("data-tensor"));
        names.map(String::from).collect()
    };
    let order = ["layers.2.bad", "layers.1.<b>\\u{1b}|x|*", "layers.0.good"];
    assert_eq!(of("tr"), order);
    assert_eq!(of("section"), order);
    for t in &run.tensors {
        for d in &t.decisions {
            assert!(page.contains(&d.published()), "{d:?}");
        }
    }
    for words in [
        "BAD INPUT",
        "3 bytes found (a\\nfile); copy it again",
        "rows 9..10: zeros",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.contains("(software); warning: the driver changes sums even"));
    // Two panels of the lanes' error by projection, one of the source's, which is not finite for the other; the map and the group; the fault's two pairs; of the lane the
    // scatter alone, of the source three charts; the codes' two.
    let drawings = document
        .descendants()
        .filter(|n| n.attribute("role") == Some("img"));
    let labels: Vec<_> = drawings.map(|n| n.attribute("aria-label")).collect();
    assert_eq!(labels.len(), 2 + 1 + 3 + 4 + 1 + 3 + 2, "{labels:#?}");
}

/// Every key in a value, however deep.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| keys(v, into)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_json_is_documented() {
    let run = run();
    let mut all = BTreeSet::new();
    keys(&serde_json::to_value(&run).expect("plain data"), &mut all);
    // `against` stands only where a lane is not held to the reference; `record` only in lines.
    let pair = Decision {
        rhs: LaneName::Cuda,
        ..run.tensors[0].decisions[0].clone()
    };
    keys(&serde_json::to_value(pair).expect("plain data"), &mut all);
    let line = Record::Plain(run.plain[0].clone()).to_line();
    keys(&serde_json::from_str(&line).expect("JSON"), &mut all);
    assert!(all.len() > 100, "{}", all.len());
    let text = include_str!("../../docs/report.md");
    let missing: Vec<&String> = all
        .iter()
        .filter(|key| !text.contains(&format!("`{key}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
