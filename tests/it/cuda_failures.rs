//! A clean error for every failure of the CUDA driver, over the stand-in of [`crate::cuda_standin`].

use crate::cuda_standin::{calls, run, run_in};
use crate::support::cli::{Model, stderr};
use crate::support::standin;
use serde_json::Value;
use std::path::Path;

/// Calls that the lane can do without: they only tell of a device. Of an attribute, the NTH.
const OPTIONAL: [(&str, i32); 4] = [
    ("cuDeviceGetPCIBusId", 1),
    ("cuDeviceGetUuid_v2", 1),
    ("cuDeviceGetAttribute", 4),
    ("cuDeviceGetAttribute", 5),
];

/// Every call of the driver fails once: the error names it, and the lane works again.
#[test]
fn every_call_that_fails_is_a_clean_error() {
    let Some(rounds) = calls("37") else {
        return;
    };
    let mut seen = std::collections::BTreeMap::new();
    for symbol in &rounds[0] {
        let nth = seen.entry(symbol).or_insert(0);
        *nth += 1;
        // Memory that cannot be locked is done without.
        if symbol == "cuMemHostAlloc" {
            continue;
        }
        let fault = format!("{symbol}:2:{nth}");
        let (results, _) = run("run", &[("TQ4_STANDIN_FAIL", &fault)]).unwrap();
        let call = symbol.trim_end_matches("_v2");
        if OPTIONAL.contains(&(symbol.as_str(), *nth)) {
            assert_eq!(results, ["timed 3 of 3"; 2], "{fault}");
            continue;
        }
        let expected = format!("{call} failed: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory");
        assert!(results[0].contains(&expected), "{fault}: {results:?}");
        assert!(
            results[0].contains("where: lane cuda"),
            "{fault}: {results:?}"
        );
        for second in &results[1..] {
            assert_eq!(second, "timed 3 of 3", "{fault}");
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
}

/// What fails, the variant of the error, and texts in it.
const FAULTS: &[(&str, &str, &[&str])] = &[
    (
        "cuInit:100",
        "Unavailable",
        &["finds no device", "CUDA_VISIBLE_DEVICES"],
    ),
    (
        "cuInit:803",
        "Unavailable",
        &[
            "does not start: cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)",
            "different versions",
        ],
    ),
    (
        "cuInit:34",
        "Unavailable",
        &["CUDA_ERROR_STUB_LIBRARY (34)", "lib64/stubs"],
    ),
    (
        "cuInit:802",
        "Unavailable",
        &["(802)", "nvidia-fabricmanager"],
    ),
    ("cuInit:804", "Unavailable", &["(804)", "compat"]),
    (
        "cuDevicePrimaryCtxRetain:46",
        "Unavailable",
        &[
            "CUDA_ERROR_DEVICE_UNAVAILABLE (46)",
            "has the device for itself",
        ],
    ),
    ("cuLaunchKernel:701", "Backend", &["smaller blocks"]),
    (
        "cuLaunchKernel:702",
        "Lost",
        &["longer than the system lets it"],
    ),
    ("cuStreamSynchronize:214", "Lost", &["uncorrectable ECC"]),
    (
        "cuInit:4321",
        "Unavailable",
        &["cuInit failed: unknown error (4321)"],
    ),
    ("cuDeviceGetCount:0", "Unavailable", &["finds no device"]),
    (
        "cuModuleLoadDataEx:222",
        "Unavailable",
        &["does not read PTX 8.0", "driver 525 or later (CUDA 12.0"],
    ),
    (
        "cuModuleLoadDataEx:209",
        "Unavailable",
        &["does not run on this device", "compute capability 7.5"],
    ),
    (
        "cuModuleLoadDataEx:221",
        "Unavailable",
        &["without its compiler"],
    ),
    (
        "cuModuleLoadDataEx:218",
        "Backend",
        &["cuModuleLoadDataEx failed: CUDA_ERROR_INVALID_PTX (218)"],
    ),
    (
        "cuModuleGetFunction:500",
        "Backend",
        &[
            "cuModuleGetFunction failed",
            "entry point tq4_dequant_sm80_b4_g128_bf16",
        ],
    ),
    ("cuMemAlloc_v2:2", "Backend", &["take smaller strips"]),
    (
        "cuMemcpyHtoDAsync_v2:700",
        "Lost",
        &["CUDA_ERROR_ILLEGAL_ADDRESS (700)", "compute-sanitizer"],
    ),
    (
        "cuLaunchKernel:719",
        "Lost",
        &["CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure"],
    ),
];

#[test]
fn failures_that_last_say_what_helps() {
    for &(fault, variant, texts) in FAULTS {
        let Some((results, _)) = run("run", &[("TQ4_STANDIN_FAIL", fault)]) else {
            return;
        };
        for result in &results {
            let start = format!("{variant}: ");
            assert!(result.starts_with(&start), "{fault}: {result}");
            for text in texts {
                assert!(
                    result.contains(text),
                    "{fault}: {text:?} is not in: {result}"
                );
            }
        }
    }
}

#[test]
fn failures_of_listing_are_clean_errors() {
    for (fault, text) in [
        ("cuInit:100", "Unavailable: the CUDA driver finds no device"),
        (
            "cuDeviceGetCount:0",
            "Unavailable: the CUDA driver finds no device",
        ),
        ("cuDeviceGetName:1", "Backend: cuDeviceGetName failed"),
    ] {
        let Some((results, _)) = run("list", &[("TQ4_STANDIN_FAIL", fault)]) else {
            return;
        };
        assert!(results[0].starts_with(text), "{fault}: {results:?}");
    }
}

#[test]
fn old_drivers_and_devices_are_named() {
    let future = "ptx .version 99.9";
    for (case, env, text) in [
        (
            "run",
            ("TQ4_STANDIN_PTX", "7.8"),
            "does not read PTX 8.0: cuModuleLoadDataEx failed: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)",
        ),
        (future, ("A", ""), "does not read PTX 99.9"),
        (
            "run",
            ("TQ4_STANDIN_CAPABILITY", "7.0"),
            "compute capability 7.0, the kernel needs 7.5",
        ),
        ("device 1", ("A", ""), "no CUDA device 1: there are 1"),
    ] {
        let Some((results, _)) = run(case, &[env]) else {
            return;
        };
        assert!(results[0].starts_with("Unavailable: "), "{results:?}");
        assert!(results[0].contains(text), "{text}: {results:?}");
    }
}

#[test]
fn foreign_ptx_is_refused() {
    for (case, text) in [
        ("ptx no text of that kind", "no .version directive"),
        (
            "ptx .version 8.0",
            "entry point tq4_dequant_sm80_b4_g128_bf16",
        ),
    ] {
        let Some((results, _)) = run(case, &[]) else {
            return;
        };
        assert!(results[0].starts_with("Backend: "), "{results:?}");
        assert!(results[0].contains(text), "{text}: {results:?}");
    }
}

#[test]
fn a_driver_without_the_functions_is_unavailable() {
    let Some(empty) = standin::empty() else {
        return;
    };
    for case in ["list", "run"] {
        let (results, _) = run_in(empty, case, &[]);
        assert!(
            results[0].starts_with("Unavailable: the CUDA driver has no function cuInit"),
            "{results:?}"
        );
    }
}

#[test]
fn memory_that_cannot_be_locked_is_done_without() {
    let Some((results, _)) = run("run", &[("TQ4_STANDIN_FAIL", "cuMemHostAlloc:2")]) else {
        return;
    };
    assert_eq!(results, ["timed 3 of 3"; 2]);
}

/// A sweep over a model, with this failure of the driver; its exit code, its lines and what it said.
fn sweep(dir: &Path, fault: &str, resume: bool) -> Option<(Option<i32>, Vec<Value>, String)> {
    let (model, report) = (dir.join("model"), dir.join("r.jsonl"));
    if !resume {
        Model::valid().write(&model);
    }
    let mut args = vec!["validate", "--all", "--lanes", "cuda", "--allow-software"];
    args.extend(["--tq-model", model.to_str().unwrap()]);
    args.extend(["--report", report.to_str().unwrap()]);
    args.extend(resume.then_some("--resume"));
    let out = standin::command(standin::right()?, &args)
        .env("TQ4_STANDIN_FAIL", fault)
        .output()
        .unwrap();
    let lines = std::fs::read_to_string(&report).unwrap();
    let lines = lines.lines().map(|l| serde_json::from_str(l).unwrap());
    Some((out.status.code(), lines.collect(), stderr(&out)))
}

/// The context is gone after the first kernel: the second tensor gets no record, and what follows has both.
#[test]
fn a_lost_context_ends_the_sweep_and_resume_takes_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let Some((code, lines, said)) = sweep(dir.path(), "cuLaunchKernel:719:1", false) else {
        return;
    };
    assert_eq!(code, Some(2), "{said}");
    let of = |lines: &[Value], kind: &str| lines.iter().filter(|l| l["record"] == kind).count();
    assert_eq!(
        (of(&lines, "tensor"), of(&lines, "summary")),
        (1, 0),
        "{lines:?}"
    );
    assert!(said.contains("run again with --resume"), "{said}");
    assert!(said.contains("CUDA_ERROR_LAUNCH_FAILED (719)"), "{said}");
    let (code, lines, said) = sweep(dir.path(), "", true).unwrap();
    assert_eq!(code, Some(0), "{said}");
    let summary = lines.last().unwrap();
    assert_eq!(summary["record"], "summary");
    assert_eq!(summary["tensors"], 2);
    let cuda = &summary["lanes"][0];
    assert_eq!(
        (&cuda["lane"], &cuda["passed"]),
        (&"cuda".into(), &2.into())
    );
}

/// A failure that is no more than one leaves the context as it was.
#[test]
fn what_failed_once_is_tried_again_on_the_next_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let Some((code, lines, said)) = sweep(dir.path(), "cuLaunchKernel:701:1", false) else {
        return;
    };
    assert_eq!(code, Some(2), "{said}");
    let summary = lines.last().unwrap();
    let cuda = &summary["lanes"][0];
    assert_eq!((&cuda["passed"], &cuda["broke"]), (&1.into(), &1.into()));
}

#[test]
fn the_time_between_events_is_read_by_either_name() {
    let [old, new] = ["cuEventElapsedTime", "cuEventElapsedTime_v2"];
    for (name, without) in [
        ("before_13", &[new][..]),
        ("after_13", &[old]),
        ("without_time", &[old, new]),
    ] {
        let Some(driver) = standin::without(name, without) else {
            return;
        };
        let (results, _) = run_in(&driver, "run", &[]);
        if without.len() == 1 {
            assert_eq!(results, ["timed 3 of 3"; 2], "{name}");
        } else {
            let missing = format!("Unavailable: the CUDA driver has no function {old}");
            assert!(results[0].starts_with(&missing), "{results:?}");
        }
    }
}
