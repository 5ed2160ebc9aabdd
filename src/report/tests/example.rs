//! A run by hand.

use crate::codebook::Codebook;
use crate::judge::gate::decide;
use crate::metrics::{Values, compare};
use crate::record::*;
use serde_json::json;

pub const NAME: &str = "layers.1.<b>\u{1b}|x|*";

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
pub fn failed() -> TensorRecord {
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

pub fn checkpoint() -> CheckpointRecord {
    CheckpointRecord {
        verdict: CheckpointVerdict::AsExpected,
        expected_rms: 0.25,
        measured_rms: 0.25,
        ratio: 1.0,
        damaged_rows: Vec::new(),
        damaged_groups: 0,
        worst_group: None,
        wrong_signs: Vec::new(),
        reason: "the rms error is 1.00 times what it costs".into(),
    }
}

pub fn diagnosis() -> StripDiagnosis {
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
pub fn run() -> Run {
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
        file: None,
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
    let header = ReportHeader {
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
pub fn runs() -> [Run; 2] {
    let all = run();
    let header = || ReportHeader {
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
