//! Vulkan fails at each call in turn, on this machine's driver: `tq4` never panics, the report is whole, and
//! the lane says loss or memory and works again.

use crate::support::cli::{Model, stderr};
use crate::support::{cuda, root, standin};
use crate::wgpu::adapters;
use libloading::Library;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

const WHAT: &str = "failures of Vulkan";
const LOST: i32 = -4;
const NO_MEMORY: i32 = -2;

/// Most calls of one function that are made to fail, the first and the last among them.
const CALLS: usize = 20;

/// What Vulkan lets say that a device is lost; anything may want memory.
fn may_lose(function: &str) -> bool {
    let words = [
        "vkQueue",
        "vkWait",
        "vkGet",
        "vkDeviceWait",
        "vkCreateDevice",
    ];
    words.iter().any(|w| function.starts_with(w))
}

/// The loader that stands before the real one.
struct Shim {
    folder: PathBuf,
    loader: PathBuf,
    model: PathBuf,
    dir: tempfile::TempDir,
}

impl Shim {
    /// `None`, with a notice, where there is nothing to stand before or no compiler.
    fn new() -> Option<Self> {
        let cxx = cuda::cxx(WHAT)?;
        if adapters().is_empty() {
            return None;
        }
        // Held until its file is known: listing adapters has closed it again.
        // SAFETY: it is the loader that the adapters were listed by.
        let held = unsafe { Library::new("libvulkan.so.1") }.expect("there are adapters");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        drop(held);
        let mut files = maps.lines().filter_map(|l| Some(&l[l.find('/')?..]));
        let loader = files.find(|f| f.contains("/libvulkan.so"));
        let loader = loader.expect("it is in memory");
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        Model::valid().write(&model);
        let folder = dir.path().join("shim");
        std::fs::create_dir(&folder).unwrap();
        let mut command = Command::new(cxx);
        command
            .args([
                "-std=c++17",
                "-O1",
                "-shared",
                "-fPIC",
                "-Wl,-z,nodelete",
                "-o",
            ])
            .arg(folder.join("libvulkan.so.1"))
            .arg(root().join("tests/emulation/libvulkan_fault.cpp"));
        cuda::run(&mut command);
        Some(Self {
            folder,
            loader: loader.into(),
            model,
            dir,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `tq4` with a fault.
    fn tq4(&self, fault: &str, name: &str, args: &[&str]) -> Run {
        let log = self.path(&format!("{name}.log"));
        let mut command = standin::command(&self.folder, args);
        command
            .env("TQ4_FAULT_LOADER", &self.loader)
            .env("TQ4_FAULT_LOG", &log);
        if !fault.is_empty() {
            command.env("TQ4_FAULT", fault);
        }
        let out = command.output().unwrap();
        Run {
            fault: fault.to_owned(),
            calls: calls(&log),
            out,
        }
    }

    /// Validates the model; the records of its tensors.
    fn validate(&self, fault: &str, name: &str) -> (Run, Vec<Value>) {
        let report = self.path(&format!("{name}.json"));
        let (model, path) = (self.model.to_str().unwrap(), report.to_str().unwrap());
        let lane = ["--lanes", "wgpu", "--allow-software"];
        let args = ["validate", "--all", "--tq-model", model, "--report", path];
        let run = self.tq4(fault, name, &[&args[..], &lane[..]].concat());
        run.ends_well();
        let text = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("{fault}: {e}"));
        let mut report: Value = serde_json::from_str(&text).unwrap();
        let Value::Array(tensors) = report["tensors"].take() else {
            panic!("{fault}: {text}");
        };
        (run, tensors)
    }
}

/// Calls of each function, and how many of them failed.
fn calls(log: &Path) -> BTreeMap<String, [usize; 2]> {
    // A program that crashed wrote none; its exit status is looked at.
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let count = |i: usize| words[i].parse().unwrap();
        (words[0].to_owned(), [count(1), count(2)])
    };
    text.lines().map(line).collect()
}

struct Run {
    fault: String,
    calls: BTreeMap<String, [usize; 2]>,
    out: Output,
}

impl Run {
    /// With an exit code of the program's own, and without a panic's words.
    #[track_caller]
    fn ends_well(&self) {
        let (said, fault) = (stderr(&self.out), &self.fault);
        let code = self.out.status.code();
        assert!(
            code.is_some_and(|c| c <= 3),
            "{fault}: {:?}: {said}",
            self.out.status
        );
        assert!(!said.contains("panicked"), "{fault}: {said}");
        if let Some((function, _)) = fault.split_once(':') {
            assert!(self.calls[function][1] > 0, "{fault}: it did not happen");
        }
    }
}

fn lane<'a>(record: &'a Value, name: &str) -> &'a Value {
    let lanes = record["lanes"].as_array().unwrap();
    lanes.iter().find(|l| l["name"] == name).unwrap()
}

/// Holds the records to what a failure may do; how many tensors the lane decoded.
fn whole(fault: &str, tensors: &[Value]) -> usize {
    assert_eq!(tensors.len(), 2, "{fault}");
    let mut ran = 0;
    for record in tensors {
        assert_eq!(lane(record, "reference")["status"], "ran", "{fault}");
        let lane = lane(record, "wgpu");
        if lane["status"] == "ran" {
            ran += 1;
            continue;
        }
        let reason = lane["reason"]
            .as_str()
            .unwrap_or_else(|| panic!("{fault}: {lane}"));
        // wgpu does not say why an instance has no adapter.
        let named = [
            "device lost: ",
            "out of memory",
            "no Vulkan, Metal or D3D12 adapter",
        ];
        assert!(
            named.iter().any(|w| reason.contains(w)),
            "{fault}: {reason}"
        );
    }
    ran
}

/// Each of so many numbers, from 1, or some of them spread evenly, the first and the last among them.
fn some(count: usize) -> Vec<usize> {
    let most = count.min(CALLS);
    (0..most)
        .map(|i| 1 + i * (count - 1) / (most - 1).max(1))
        .collect()
}

#[test]
fn whatever_call_fails_the_report_is_whole_and_the_next_tensor_is_decoded() {
    let Some(shim) = Shim::new() else { return };
    let (healthy, tensors) = shim.validate("", "healthy");
    assert_eq!(whole("", &tensors), 2);
    let mut faults = Vec::new();
    for (function, [count, _]) in &healthy.calls {
        for result in [NO_MEMORY, LOST] {
            if result == LOST && !may_lose(function) {
                continue;
            }
            faults.extend(
                some(*count)
                    .iter()
                    .map(|n| format!("{function}:{n}:{result}")),
            );
        }
    }
    assert!(faults.len() > 100, "{faults:?}");
    let next = AtomicUsize::new(0);
    let again = AtomicUsize::new(0);
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (_, tensors) = shim.validate(fault, &fault.replace(':', "_"));
            let ran = whole(fault, &tensors);
            // A lane that could not be opened has no device.
            let opened = tensors.iter().all(|t| !lane(t, "wgpu")["device"].is_null());
            assert!(ran > 0 || !opened, "{fault}: {tensors:?}");
            let first = lane(&tensors[0], "wgpu")["status"] == "failed";
            again.fetch_add(usize::from(first && ran == 1), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let again = again.into_inner();
    assert!(
        again > 20,
        "{again} of {} broke the first tensor alone",
        faults.len()
    );
}

#[test]
fn a_device_that_stays_lost_ends_its_lane_alone() {
    let Some(shim) = Shim::new() else { return };
    let (healthy, _) = shim.validate("", "healthy");
    for function in ["vkQueueSubmit", "vkWaitSemaphores", "vkWaitForFences"] {
        let count = healthy.calls[function][0];
        for n in some(count) {
            let fault = format!("{function}:{n}+:{LOST}");
            let (_, tensors) = shim.validate(&fault, &format!("{function}{n}"));
            let ran = whole(&fault, &tensors);
            let [first, second] = [0, 1].map(|i| lane(&tensors[i], "wgpu"));
            match ran {
                0 if first["device"].is_null() => {}
                0 => {
                    let reason = second["reason"].as_str().unwrap();
                    // Opening submits nothing: the loss may show by what is done next.
                    let ends = ["opened again: device lost", "for the second time"];
                    assert!(ends.iter().any(|end| reason.contains(end)), "{reason}");
                }
                // At the end of the run a loss harms nobody.
                _ => assert_eq!(first["status"], "ran", "{fault}"),
            }
        }
    }
}

#[test]
fn a_benchmark_goes_on_with_the_other_lanes_and_shapes() {
    let Some(shim) = Shim::new() else { return };
    let json = shim.path("bench.json");
    let shapes = "--shape 64x1024 --shape 32x1024 --lanes wgpu --allow-software";
    // One round of each, so that calls are as many in each run.
    let rounds = "--time-limit 0.001 --copy-size 1 --json";
    let words = format!("bench {shapes} {rounds}");
    let words = words.split(' ').chain([json.to_str().unwrap()]);
    let args: Vec<&str> = words.collect();
    let bench = |fault: &str| {
        let run = shim.tq4(fault, "bench", &args);
        run.ends_well();
        let text = std::fs::read_to_string(&json).unwrap();
        let mut bench: Value = serde_json::from_str(&text).unwrap();
        let verdict = |shape: &mut Value| {
            let lanes = shape["lanes"].as_array().unwrap();
            assert_eq!(lanes[0]["verdict"], "verified", "{fault}");
            // A lane that could not be opened is not among them.
            lanes.get(1).cloned().unwrap_or_default()
        };
        let shapes = bench["shapes"].as_array_mut().unwrap();
        (run, shapes.iter_mut().map(verdict).collect::<Vec<Value>>())
    };
    // In the rounds of the first shape, and in those of the second.
    let (healthy, _) = bench("");
    let [submits, _] = healthy.calls["vkQueueSubmit"];
    for (n, broken) in [(submits / 3, 0), (submits - 2, 1)] {
        let (_, lanes) = bench(&format!("vkQueueSubmit:{n}:{LOST}"));
        let reason = lanes[broken]["reason"].as_str().unwrap();
        assert!(reason.starts_with("device lost: "), "{reason}");
        assert_eq!(lanes[1 - broken]["verdict"], "verified", "call {n}");
    }
    // Where memory is wanting the rows are cut, and both shapes are timed.
    let [buffers, _] = healthy.calls["vkBindBufferMemory"];
    for n in some(buffers) {
        let (_, lanes) = bench(&format!("vkBindBufferMemory:{n}:{NO_MEMORY}"));
        let broke = lanes.iter().filter(|l| l["verdict"] == "broke");
        let reasons: Vec<&str> = broke.map(|l| l["reason"].as_str().unwrap()).collect();
        assert!(reasons.len() < 2, "{n}: {reasons:?}");
        assert!(
            reasons.iter().all(|r| r.contains("out of memory")),
            "{n}: {reasons:?}"
        );
    }
}
