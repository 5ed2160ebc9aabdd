//! What the devices of this machine make of f32 arithmetic, and where it is said.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::lane::{check_all, random_strips, strip};
use crate::support::tint::{self, Tint};
use crate::support::{REQUIRE, again, not_run, root, tool};
use crate::wgpu::{FORMS, OUTPUTS, adapters};
use serde_json::{Value, json};
use std::sync::Arc;
use tq4::Slot;
use tq4::judge::{Judge, JudgeOptions, blank};
use tq4::lane::cpu::Cpu;
use tq4::lane::kernel::Manifest;
use tq4::lane::wgpu::{self, AdapterInfo, SHADER, Select, ShaderProgram, Wgpu};
use tq4::lane::{Decoded, Lane, LaneState};
use tq4::record::{DeviceArithmetic, LaneName, LaneRecord, OutputType};
use tq4::synthetic::ScaleDistribution;
use tq4::tensor::Layout;

/// Set in the process whose Vulkan driver is SwiftShader.
const INNER: &str = "TQ4_INNER_ARITHMETIC";

fn options(a: &AdapterInfo) -> wgpu::WgpuOptions {
    wgpu::WgpuOptions {
        adapter: Select::Index(a.index),
        ..Default::default()
    }
}

fn open(options: &wgpu::WgpuOptions) -> Wgpu {
    Wgpu::open(options, LaneName::Wgpu).unwrap()
}

/// What is known of a software device; `None` of others, of which nothing is.
fn known(device: &str) -> Option<DeviceArithmetic> {
    let [mesa, swiftshader] = ["llvmpipe", "SwiftShader"].map(|name| device.contains(name));
    (mesa || swiftshader).then_some(DeviceArithmetic {
        contracts: false,
        reassociates: mesa,
        factors: mesa,
        sums_off: 0,
        guard_by_fma: true,
        guard_by_memory: true,
        flushes_results: swiftshader,
        flushes_operands: swiftshader,
        moves_subnormals: true,
        reads_f16_subnormals: true,
        division_off: 0,
    })
}

/// Fails unless `found` is what is known of the device. How many sums a driver changes is its own.
#[track_caller]
fn as_known(device: &str, found: DeviceArithmetic) {
    let Some(expected) = known(device) else {
        return not_run("the arithmetic that is known of software devices", device);
    };
    assert_eq!(found.sums_off > 500, expected.factors, "{found:?}");
    let sums_off = found.sums_off;
    assert_eq!(
        found,
        DeviceArithmetic {
            sums_off,
            ..expected
        }
    );
}

#[test]
fn each_software_device_does_what_is_known_of_it() {
    let plain = Manifest::read(&root().join("examples/kernels/plain_wgpu.toml")).unwrap();
    for a in adapters() {
        let lane = open(&options(&a));
        as_known(&a.name, lane.info().arithmetic.unwrap());
        assert_eq!(lane.info().kernel_variant, "products by fma");
        let user = wgpu::WgpuOptions {
            kernel: Some(plain.clone()),
            ..options(&a)
        };
        let lane = Wgpu::open(&user, plain.name().clone()).unwrap();
        as_known(&a.name, lane.info().arithmetic.unwrap());
    }
}

#[test]
fn swiftshader_keeps_the_order_and_flushes() {
    if std::env::var_os(INNER).is_some() {
        assert!(adapters().iter().all(|a| a.name.contains("SwiftShader")));
        return each_software_device_does_what_is_known_of_it();
    }
    let how = "set TQ4_SWIFTSHADER_ICD to its ICD file (see .ci/run)";
    let Some(icd) = tool("TQ4_SWIFTSHADER_ICD", "arithmetic of SwiftShader", how) else {
        return;
    };
    let out = again::tests("arithmetic::swiftshader_keeps_the_order_and_flushes")
        .arg("--exact")
        .env("VK_DRIVER_FILES", icd)
        .env(INNER, "1")
        .env(REQUIRE, "1")
        .output()
        .unwrap();
    let [text, log] = [&out.stdout, &out.stderr].map(|t| String::from_utf8_lossy(t));
    assert!(out.status.success(), "{text}{log}");
    assert_eq!(again::ran(&text), 1);
}

#[test]
fn tint_leaves_swiftshader_as_it_is() {
    let Some(tools) = tint::tools() else {
        return;
    };
    let mut lane = Tint::open(&tools, "tint", ShaderProgram::own(false, OutputType::Bf16));
    as_known("SwiftShader", lane.arithmetic().unwrap());
}

/// The lane's decision on a tensor, why it was made, and the lane's record.
fn decide(lane: Wgpu) -> (String, LaneRecord) {
    let name = lane.info().name.clone();
    let cpu = Cpu::new(OutputType::F32);
    let mut slots = vec![Slot::Live(Box::new(cpu)), Slot::Live(Box::new(lane))];
    let lanes: Vec<LaneRecord> = slots.iter().map(Slot::record).collect();
    let strip = strip(
        5,
        Layout::new(4, 128).unwrap(),
        64,
        8,
        ScaleDistribution::Usual,
    );
    let record = blank(&strip.base, &strip.rows, strip.cols);
    let mut judge = Judge::new(record, lanes.clone(), JudgeOptions::default());
    judge.push(&Arc::new(Decoded::new(
        strip,
        true,
        &mut slots,
        &mut [LaneState::Ready, LaneState::Ready],
        Vec::new(),
    )));
    let record = judge.finish(None);
    let reason = record.decision_of(&name).unwrap().reason.clone();
    (reason, lanes[1].clone())
}

/// A guard that is none: the products as they stand.
const PLAIN: (&str, &str) = (
    "fma(c, vec4<f32>(s), vec4<f32>(params.minus_zero))",
    "c * s",
);

/// Nothing is handed over: each keeps what it decoded.
const KEPT: [(&str, &str); 2] = [
    ("select(lane, lane ^ 1u, HAND_OVER)", "lane"),
    ("return read_vectors(lane, 0u, 7u);", "return x;"),
];

/// Mesa takes the scale out of the sums of products that have no guard.
#[test]
fn a_shader_without_its_guard_is_warned_of_and_told_what_its_device_does() {
    let all = adapters();
    let Some(a) = all.iter().find(|a| a.name.contains("llvmpipe")) else {
        return not_run("a device that factors sums", "no llvmpipe");
    };
    let sentence = "; this device reassociates sums and factors a*s + b*s";
    let guards = |lane: &LaneRecord| {
        let found = lane.arithmetic.unwrap();
        (found.guard_by_fma, found.guard_by_memory)
    };
    for form in FORMS {
        let (reason, lane) = decide(open(&wgpu::WgpuOptions {
            hand_over: Some(form),
            ..options(a)
        }));
        assert_eq!((guards(&lane), lane.warning), ((true, true), None));
        assert!(!reason.contains("this device"), "{reason}");
    }

    let (from, to) = PLAIN;
    let plain = SHADER.replace(from, to);
    assert_ne!(plain, SHADER);
    // The probe sees it, and the other form runs, which is as right as the first.
    let without = wgpu::WgpuOptions {
        shader: Some(plain.clone()),
        ..options(a)
    };
    let (reason, lane) = decide(open(&without));
    assert_eq!(guards(&lane), (false, true));
    assert_eq!(lane.kernel_variant.unwrap(), "products handed over");
    assert_eq!(lane.warning, None);
    assert!(!reason.contains("this device"), "{reason}");
    for output in OUTPUTS {
        let mut lane = open(&wgpu::WgpuOptions {
            output,
            ..without.clone()
        });
        check_all(&mut lane, &random_strips(20, 30)).unwrap();
    }

    // Made to run all the same, it is wrong.
    let (reason, lane) = decide(open(&wgpu::WgpuOptions {
        hand_over: Some(false),
        ..without
    }));
    assert!(reason.contains("it moved "), "{reason}");
    assert!(reason.ends_with(sentence), "{reason}");
    assert_eq!(lane.warning, None);

    // Neither guard holds.
    let none = KEPT.iter().fold(plain, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    let (reason, lane) = decide(open(&wgpu::WgpuOptions {
        shader: Some(none),
        ..options(a)
    }));
    assert_eq!(guards(&lane), (false, false));
    assert_eq!(lane.kernel_variant.unwrap(), "products handed over");
    let end = format!("{sentence}; warning: {}", lane.warning.unwrap());
    assert!(reason.ends_with(&end), "{reason}");
}

#[test]
fn a_device_that_cannot_run_the_probe_opens_all_the_same() {
    for a in adapters() {
        let taken = wgpu::WgpuOptions {
            shader: Some(SHADER.to_owned() + "fn probe_arithmetic() {}\n"),
            ..options(&a)
        };
        let (reason, lane) = decide(open(&taken));
        assert_eq!((lane.arithmetic, lane.warning), (None, None));
        assert!(reason.contains("elements equal the reference"), "{reason}");
    }
    let noop = wgpu::WgpuOptions {
        noop: true,
        ..Default::default()
    };
    assert_eq!(open(&noop).info().arithmetic, None);
}

#[test]
fn devices_and_reports_say_what_was_found() {
    let all = adapters();
    let out = tq4(&["devices", "--format", "json"]);
    let devices: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let [table, markdown] = ["table", "markdown"].map(|form| {
        let out = tq4(&["devices", "--format", form]);
        assert_eq!(stderr(&out), "");
        stdout(&out)
    });
    for a in &all {
        let found = open(&options(a));
        let found = found.info().arithmetic.unwrap();
        let device = &devices[0]["devices"][a.index];
        assert_eq!(device["arithmetic"], json!(found));
        assert_eq!(device["warning"], Value::Null);
        let escaped = found.to_string().replace('*', "\\*");
        assert!(markdown.contains(&escaped), "{markdown}");
        // A table for a terminal breaks its lines.
        let first = found.to_string();
        let first = first.split([';', '(']).next().unwrap().trim();
        assert!(table.contains(first), "{table}");
    }
    if all.is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    Model::valid().write(&model);
    let kernel = root().join("examples/kernels/plain_wgpu.toml");
    let args = ["validate", "--all", "--format", "json", "--lanes", "wgpu"];
    let more = ["--allow-software", "--tq-model", model.to_str().unwrap()];
    let out = tq4(&[&args[..], &more, &["--kernel", kernel.to_str().unwrap()]].concat());
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    for lane in report["tensors"][0]["lanes"].as_array().unwrap() {
        let probed = lane["name"] == "wgpu" || lane["name"] == "plain_wgpu";
        assert_eq!(lane["arithmetic"].is_object(), probed, "{lane}");
        assert!(lane.get("warning").is_none(), "{lane}");
    }
}
