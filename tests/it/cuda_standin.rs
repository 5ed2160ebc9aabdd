//! The whole CUDA lane against a stand-in for the driver that runs the kernel on the CPU: decoding,
//! tiling, and a clean error for every failure of the driver. Results are emulated.
//!
//! The driver's library is found once in a process, so each case runs this program again, with the
//! stand-in on the library path; [`child`] is what runs there.

use crate::support::{again, cuda, standin, tool};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tq4::backend::cuda::{Cuda, Options, list};
use tq4::backend::{Backend, OutMut, dequantize_bf16, dequantize_f32};
use tq4::synthetic::{self, Rng, Scales};
use tq4::tensor::{GROUP_SIZES, Layout, TqTensor};
use tq4::{Error, reference};

const CASE: &str = "TQ4_STANDIN_CASE";
const GET_NVRTC: &str = "pip install nvidia-cuda-nvrtc-cu12==12.0.76, and set TQ4_NVRTC_LIB to its \
                         libnvrtc.so.12";

// ---------------------------------------------------------------------------------------------------
// In the child

fn tensor(bits: u32, group: usize, rows: usize, groups: usize) -> TqTensor<'static> {
    let layout = Layout::new(bits, group).unwrap();
    synthetic::tensor(&mut Rng::new(5), layout, rows, groups * group, Scales::Any).unwrap()
}

fn show(e: &Error) -> String {
    let variant = match e {
        Error::Input(_) => "Input",
        Error::Unavailable(_) => "Unavailable",
        Error::Backend(_) => "Backend",
    };
    format!("{variant}: {}", e.to_string().replace('\n', " |"))
}

/// Decodes and compares; what it took, or the error.
fn decode(cuda: &mut Cuda, tensor: &TqTensor<'_>) -> Result<String, Error> {
    let mut out = vec![half::bf16::ZERO; tensor.elements()];
    let cost = cuda.dequantize(tensor, OutMut::Bf16(&mut out))?;
    assert!(cost.kernel.is_none_or(|k| k <= cost.total), "{cost:?}");
    let mut expected = out.clone();
    reference::dequantize_bf16_into(tensor, &mut expected);
    compare(&out, &expected);
    Ok(format!(
        "launches {} bytes {} allocations {} timed {}",
        cost.launches,
        cost.bytes_copied,
        cost.allocations,
        cost.kernel.is_some()
    ))
}

/// The pieces of work that a benchmark times, each set's result compared; how many runs the device timed.
fn bench(cuda: &mut Cuda, tensor: &TqTensor<'_>) -> Result<String, Error> {
    let mut expected = vec![half::bf16::ZERO; tensor.elements()];
    reference::dequantize_bf16_into(tensor, &mut expected);
    let timing = cuda.timing().expect("the lane can be timed");
    assert_eq!(timing.clock(), "CUDA events");
    timing.load(tensor, 2, 4096)?;
    let mut out = vec![half::bf16::ZERO; tensor.elements()];
    let mut timed = 0;
    for set in [0, 1] {
        timing.read(set, &mut out)?;
        let poison = tq4::backend::POISON_BF16;
        assert!(out.iter().all(|v| v.to_bits() == poison), "set {set}");
        let time = timing.kernel(set)?;
        assert!(time.device.is_none_or(|d| d <= time.wall), "{time:?}");
        timed += u32::from(time.device.is_some());
        timing.read(set, &mut out)?;
        compare(&out, &expected);
    }
    timed += u32::from(timing.copy()?.device.is_some());
    timing.unload();
    Ok(format!("timed {timed} of 3"))
}

fn compare(got: &[half::bf16], expected: &[half::bf16]) {
    let mut differ = 0;
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let order = |b: half::bf16| {
            let magnitude = i32::from(b.to_bits() & 0x7FFF);
            if b.to_bits() >> 15 == 0 {
                magnitude
            } else {
                -magnitude
            }
        };
        let steps = (order(*g) - order(*e)).abs();
        assert!(!g.is_nan() && steps <= 1, "element {i}: {g}, expected {e}");
        differ += usize::from(steps != 0);
    }
    assert!(
        differ * 1000 <= got.len(),
        "{differ} of {} differ",
        got.len()
    );
}

/// Runs the case that the environment names.
#[test]
#[ignore = "the other tests of this module run it, on a driver of their own"]
fn child() {
    let case = std::env::var(CASE).expect(CASE);
    let (case, argument) = case.split_once(' ').unwrap_or((&case, ""));
    let mut options = Options::default();
    match case {
        "list" => {
            match list() {
                Ok(devices) => println!("outcome: {devices:?}"),
                Err(e) => println!("outcome: {}", show(&e)),
            }
            return;
        }
        "tile" => options.max_tile_bytes = Some(argument.parse().unwrap()),
        "ptx" => options.ptx = Some(argument.to_owned()),
        "nvrtc" => options.nvrtc = true,
        "device" => options.device = argument.parse().unwrap(),
        _ => {}
    }
    let mut cuda = match Cuda::open(&options, "cuda:0") {
        Ok(cuda) => cuda,
        Err(e) => {
            println!("outcome: {}", show(&e));
            return;
        }
    };
    println!("device: {:?}", cuda.device());
    if case == "all" {
        for bits in 2..=4 {
            for group in GROUP_SIZES {
                for (rows, groups) in [(1, 1), (5, 3), (37, 7)] {
                    let t = tensor(bits, group, rows, groups);
                    let mut expected = vec![half::bf16::ZERO; t.elements()];
                    reference::dequantize_bf16_into(&t, &mut expected);
                    compare(&dequantize_bf16(&mut cuda, &t).unwrap(), &expected);
                    let got = dequantize_f32(&mut cuda, &t).unwrap();
                    for (g, e) in got.iter().zip(reference::dequantize(&t)) {
                        assert!(g.to_bits().abs_diff(e.to_bits()) <= 1, "{g}, expected {e}");
                    }
                }
            }
        }
        // Another thread, after this one.
        std::thread::spawn(move || decode(&mut cuda, &tensor(4, 128, 3, 2)).unwrap())
            .join()
            .unwrap();
        println!("outcome: decoded");
        return;
    }
    let t = tensor(4, 128, 37, 2);
    // Twice: what failed once may work the next time, and must then be right.
    for _ in 0..2 {
        let result = if case == "bench" {
            bench(&mut cuda, &t)
        } else {
            decode(&mut cuda, &t)
        };
        match result {
            Ok(text) => println!("outcome: {text}"),
            Err(e) => println!("outcome: {}", show(&e)),
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// In the parent

/// Runs a case on the library in `dir`: its `outcome:` lines, and all it printed.
fn run_in(dir: &Path, case: &str, env: &[(&str, &str)]) -> (Vec<String>, String) {
    let mut path = dir.as_os_str().to_owned();
    if let Some((_, more)) = env.iter().find(|(k, _)| *k == "LIBRARIES") {
        path.push(":");
        path.push(more);
    }
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut process = again::one("cuda_standin::child")
        .env("LD_LIBRARY_PATH", path)
        .env(CASE, case)
        .envs(env.iter().copied())
        .stdout(Stdio::from(out.reopen().unwrap()))
        .stderr(Stdio::from(out.reopen().unwrap()))
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                process.kill().unwrap();
                panic!("{case} {env:?} hangs");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = std::fs::read_to_string(out.path()).unwrap();
    assert!(status.success(), "{case} {env:?}: {status}\n{text}");
    assert_eq!(again::ran(&text), 1);
    assert!(!text.contains("stand-in: "), "{case} {env:?}: {text}");
    let results: Vec<String> = text
        .lines()
        .filter_map(|l| l.split_once("outcome: ").map(|(_, r)| r.to_owned()))
        .collect();
    assert!(!results.is_empty(), "{case} {env:?}: {text}");
    (results, text)
}

fn run(case: &str, env: &[(&str, &str)]) -> Option<(Vec<String>, String)> {
    Some(run_in(standin::right()?, case, env))
}

#[test]
fn devices_are_listed() {
    let Some((results, _)) = run("list", &[]) else {
        return;
    };
    assert_eq!(
        results[0].split(", driver").next().unwrap(),
        "[CudaDeviceInfo { index: 0, name: \"tq4 stand-in (emulated)\", compute_capability: (9, 0)"
    );
    assert!(results[0].contains("CUDA 12.0"), "{results:?}");
    assert!(
        results[0].contains("memory: 1073741824, software: true"),
        "{results:?}"
    );
}

#[test]
fn every_configuration_decodes_as_the_reference() {
    let Some((results, text)) = run("all", &[]) else {
        return;
    };
    assert_eq!(results, ["decoded"]);
    let checksum = tq4::backend::checksum(cuda::ptx().as_bytes());
    for part in [
        "lane: \"cuda:0\"",
        "api: \"CUDA\"",
        "software: true",
        &format!("kernel_checksum: \"{checksum}\""),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_tensor_that_fits_is_one_launch() {
    let Some((results, _)) = run("run", &[]) else {
        return;
    };
    // Codes, scales at 256-byte steps with signs and centroids before them, and the output.
    let bytes = 256 + 256 + 256 + 37 * 128 + 37 * 256 * 2;
    // Inputs and output, on the device and page-locked; kept for the second call.
    assert_eq!(
        results,
        [4, 0].map(|made| format!("launches 1 bytes {bytes} allocations {made} timed true"))
    );
}

#[test]
fn large_tensors_go_through_two_streams_in_tiles() {
    let Some(driver) = standin::right() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for (case, env) in [
        ("tile 6000", None),
        ("run", Some(("TQ4_STANDIN_FREE", "14000"))),
    ] {
        let log = dir.path().join(case);
        let mut variables = vec![("TQ4_STANDIN_LOG", log.to_str().unwrap())];
        variables.extend(env);
        let (results, _) = run_in(driver, case, &variables);
        assert_eq!(results.len(), 2);
        let launches: u32 = results[0].split(' ').nth(1).unwrap().parse().unwrap();
        assert!(launches > 3 && launches < 37, "{results:?}");
        // Two slots of four.
        assert_eq!(
            results[0].replace("allocations 8", "allocations 0"),
            results[1]
        );
        assert_ne!(results[0], results[1]);
        let log = std::fs::read_to_string(log).unwrap();
        let count = |symbol: &str| log.lines().filter(|l| *l == symbol).count();
        // Two slots, kept for the second call.
        assert_eq!(count("cuStreamCreate"), 2, "{case}");
        assert_eq!(count("cuMemHostAlloc"), 4, "{case}");
        assert_eq!(count("cuMemAlloc_v2"), 4, "{case}");
        for symbol in ["cuLaunchKernel", "cuMemsetD32Async", "cuMemcpyDtoHAsync_v2"] {
            assert_eq!(count(symbol), 2 * launches as usize, "{case}: {symbol}");
        }
        // The second tile is queued before the first is waited for.
        let order: Vec<&str> = log
            .lines()
            .filter(|l| matches!(*l, "cuLaunchKernel" | "cuStreamSynchronize"))
            .collect();
        assert_eq!(
            order[..4],
            [
                "cuLaunchKernel",
                "cuLaunchKernel",
                "cuStreamSynchronize",
                "cuLaunchKernel"
            ]
        );
    }
}

#[test]
fn too_little_memory_for_a_row_is_said() {
    for (case, env) in [
        ("tile 600", ("A", "")),
        ("run", ("TQ4_STANDIN_FREE", "2000")),
    ] {
        let Some((results, _)) = run(case, &[env]) else {
            return;
        };
        assert!(
            results[0].starts_with("Backend: one row of synthetic takes"),
            "{results:?}"
        );
    }
}

/// What fails, the variant of the error, texts in it, and whether the next call works.
const FAULTS: &[(&str, &str, &[&str], bool)] = &[
    (
        "cuInit:100",
        "Unavailable",
        &["finds no device", "CUDA_VISIBLE_DEVICES"],
        false,
    ),
    (
        "cuInit:803",
        "Unavailable",
        &["does not start: cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"],
        false,
    ),
    (
        "cuInit:4321",
        "Unavailable",
        &["cuInit failed: unknown error (4321)"],
        false,
    ),
    (
        "cuDeviceGetCount:0",
        "Unavailable",
        &["finds no device"],
        false,
    ),
    (
        "cuDeviceGetCount:3",
        "Backend",
        &["cuDeviceGetCount failed: CUDA_ERROR_NOT_INITIALIZED (3)"],
        false,
    ),
    (
        "cuDeviceGet:101",
        "Backend",
        &["cuDeviceGet failed: CUDA_ERROR_INVALID_DEVICE"],
        false,
    ),
    (
        "cuDeviceGetName:1",
        "Backend",
        &["cuDeviceGetName failed"],
        false,
    ),
    (
        "cuDeviceTotalMem_v2:1",
        "Backend",
        &["cuDeviceTotalMem failed"],
        false,
    ),
    (
        "cuDeviceGetAttribute:1:2",
        "Backend",
        &["cuDeviceGetAttribute failed"],
        false,
    ),
    (
        "cuDriverGetVersion:1",
        "Backend",
        &["cuDriverGetVersion failed"],
        false,
    ),
    (
        "cuDevicePrimaryCtxRetain:2",
        "Backend",
        &["cuDevicePrimaryCtxRetain failed: CUDA_ERROR_OUT_OF_MEMORY"],
        false,
    ),
    (
        "cuCtxSetCurrent:201:1",
        "Backend",
        &["cuCtxSetCurrent failed"],
        false,
    ),
    (
        "cuModuleLoadDataEx:222",
        "Unavailable",
        &["does not read PTX 8.0", "driver 525 or later (CUDA 12.0"],
        false,
    ),
    (
        "cuModuleLoadDataEx:209",
        "Unavailable",
        &["does not run on this device", "compute capability 7.5"],
        false,
    ),
    (
        "cuModuleLoadDataEx:221",
        "Unavailable",
        &["without its compiler"],
        false,
    ),
    (
        "cuModuleLoadDataEx:218",
        "Backend",
        &["cuModuleLoadDataEx failed: CUDA_ERROR_INVALID_PTX (218)"],
        false,
    ),
    (
        "cuModuleGetFunction:500:1",
        "Backend",
        &[
            "cuModuleGetFunction failed",
            "entry point tq4_dequant_b4_g128_bf16",
        ],
        true,
    ),
    (
        "cuMemGetInfo_v2:1:1",
        "Backend",
        &["cuMemGetInfo failed"],
        true,
    ),
    (
        "cuMemAlloc_v2:2:1",
        "Backend",
        &[
            "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory",
            "smaller tiles",
        ],
        true,
    ),
    ("cuMemAlloc_v2:2:2", "Backend", &["cuMemAlloc failed"], true),
    ("cuMemAlloc_v2:2:3", "Backend", &["cuMemAlloc failed"], true),
    ("cuMemAlloc_v2:2:4", "Backend", &["cuMemAlloc failed"], true),
    (
        "cuMemHostAlloc:2:1",
        "Backend",
        &["cuMemHostAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"],
        true,
    ),
    (
        "cuMemHostAlloc:2:2",
        "Backend",
        &["cuMemHostAlloc failed"],
        true,
    ),
    (
        "cuMemHostAlloc:2:3",
        "Backend",
        &["cuMemHostAlloc failed"],
        true,
    ),
    (
        "cuMemHostAlloc:2:4",
        "Backend",
        &["cuMemHostAlloc failed"],
        true,
    ),
    (
        "cuStreamCreate:2:1",
        "Backend",
        &["cuStreamCreate failed"],
        true,
    ),
    (
        "cuStreamCreate:2:2",
        "Backend",
        &["cuStreamCreate failed"],
        true,
    ),
    (
        "cuEventCreate:2:1",
        "Backend",
        &["cuEventCreate failed"],
        true,
    ),
    (
        "cuEventCreate:2:4",
        "Backend",
        &["cuEventCreate failed"],
        true,
    ),
    (
        "cuMemcpyHtoDAsync_v2:1:1",
        "Backend",
        &["cuMemcpyHtoDAsync failed: CUDA_ERROR_INVALID_VALUE"],
        true,
    ),
    (
        "cuMemcpyHtoDAsync_v2:700:3",
        "Backend",
        &[
            "cuMemcpyHtoDAsync failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)",
            "context is lost",
        ],
        true,
    ),
    (
        "cuMemsetD32Async:1:2",
        "Backend",
        &["cuMemsetD32Async failed"],
        true,
    ),
    (
        "cuEventRecord:1:1",
        "Backend",
        &["cuEventRecord failed"],
        true,
    ),
    (
        "cuEventRecord:1:2",
        "Backend",
        &["cuEventRecord failed"],
        true,
    ),
    (
        "cuLaunchKernel:719:1",
        "Backend",
        &["cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure"],
        true,
    ),
    (
        "cuLaunchKernel:719:3",
        "Backend",
        &["cuLaunchKernel failed"],
        true,
    ),
    (
        "cuLaunchKernel:719",
        "Backend",
        &["cuLaunchKernel failed"],
        false,
    ),
    (
        "cuMemcpyDtoHAsync_v2:1:1",
        "Backend",
        &["cuMemcpyDtoHAsync failed"],
        true,
    ),
    (
        "cuStreamSynchronize:719:1",
        "Backend",
        &["cuStreamSynchronize failed: CUDA_ERROR_LAUNCH_FAILED"],
        true,
    ),
    (
        "cuEventElapsedTime:1:1",
        "Backend",
        &["cuEventElapsedTime failed"],
        true,
    ),
];

#[test]
fn every_failure_of_the_driver_is_a_clean_error() {
    for &(fault, variant, texts, recovers) in FAULTS {
        // Small tiles, so that there are two slots and several launches.
        let Some((results, _)) = run("tile 6000", &[("TQ4_STANDIN_FAIL", fault)]) else {
            return;
        };
        let first = &results[0];
        assert!(
            first.starts_with(&format!("{variant}: ")),
            "{fault}: {first}"
        );
        for text in texts {
            assert!(first.contains(text), "{fault}: {text:?} is not in: {first}");
        }
        assert!(first.contains("where: lane cuda:0"), "{fault}: {first}");
        match results.get(1) {
            Some(second) if recovers => {
                assert!(second.starts_with("launches "), "{fault}: {second}");
            }
            Some(second) => assert_eq!(first, second, "{fault}"),
            None => assert!(!recovers, "{fault}: {first}"),
        }
    }
}

/// A failure of each call that timing makes, after which the next attempt works.
const TIMING_FAULTS: &[&str] = &[
    "cuModuleGetFunction:500:1",
    "cuMemGetInfo_v2:1:1",
    "cuMemAlloc_v2:2:1",
    "cuMemAlloc_v2:2:4",
    "cuMemAlloc_v2:2:6",
    "cuMemHostAlloc:2:1",
    "cuEventCreate:2:2",
    "cuStreamCreate:2:1",
    "cuMemcpyHtoDAsync_v2:1:2",
    "cuMemsetD32Async:1:4",
    "cuStreamSynchronize:719:1",
    "cuEventRecord:1:1",
    "cuEventRecord:1:2",
    "cuLaunchKernel:719:2",
    "cuMemcpyDtoHAsync_v2:1:1",
    "cuMemcpyDtoDAsync_v2:1:1",
    "cuEventElapsedTime:1:1",
];

#[test]
fn timing_runs_and_every_failure_in_it_is_a_clean_error() {
    let Some(driver) = standin::right() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (results, _) = run_in(
        driver,
        "bench",
        &[("TQ4_STANDIN_LOG", log.to_str().unwrap())],
    );
    assert_eq!(results, ["timed 3 of 3"; 2]);
    let log = std::fs::read_to_string(log).unwrap();
    let count = |symbol: &str| log.lines().filter(|l| *l == symbol).count();
    // Twice: two sets of input and output and two buffers to copy between, one page-locked buffer, one
    // upload a set, one fill an output and copy buffer, one launch a set, one copy, two reads a set.
    for (symbol, calls) in [
        ("cuMemAlloc_v2", 6),
        ("cuMemHostAlloc", 1),
        ("cuMemcpyHtoDAsync_v2", 2),
        ("cuMemsetD32Async", 4),
        ("cuLaunchKernel", 2),
        ("cuMemcpyDtoDAsync_v2", 1),
        ("cuMemcpyDtoHAsync_v2", 4),
        ("cuEventRecord", 6),
        ("cuMemFree_v2", 6),
    ] {
        assert_eq!(count(symbol), 2 * calls, "{symbol}");
    }
    for fault in TIMING_FAULTS {
        let (results, _) = run_in(driver, "bench", &[("TQ4_STANDIN_FAIL", fault)]);
        let call = fault.split(':').next().unwrap().trim_end_matches("_v2");
        assert!(
            results[0].starts_with(&format!("Backend: {call} failed: ")),
            "{fault}: {results:?}"
        );
        assert_eq!(results[1], "timed 3 of 3", "{fault}");
    }
    // 1000 bytes are nothing; time that stands still is no time.
    let (results, _) = run_in(driver, "bench", &[("TQ4_STANDIN_FREE", "1000")]);
    assert!(
        results[0].contains("bytes of device memory are needed at once, 1000 are free"),
        "{results:?}"
    );
    for elapsed in ["0", "-1", "nan"] {
        let (results, _) = run_in(driver, "bench", &[("TQ4_STANDIN_ELAPSED", elapsed)]);
        assert_eq!(results, ["timed 0 of 3"; 2], "{elapsed}");
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
        ("ptx .version 8.0", "entry point tq4_dequant_b4_g128_bf16"),
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
fn the_kernel_compiles_for_the_device_where_there_is_a_compiler() {
    // SAFETY: opens NVRTC if there is one, as the lane does.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        let Some((results, _)) = run("nvrtc", &[]) else {
            return;
        };
        assert!(
            results[0]
                .starts_with("Unavailable: the kernel cannot be compiled: the library libnvrtc"),
            "{results:?}"
        );
    }
    let what = "the kernel compiled for a device's own architecture";
    let Some(library) = tool("TQ4_NVRTC_LIB", what, GET_NVRTC) else {
        return;
    };
    let dir = library.parent().unwrap().to_str().unwrap();
    let Some((results, text)) = run("nvrtc", &[("LIBRARIES", dir)]) else {
        return;
    };
    assert!(results[0].starts_with("launches 1"), "{results:?}");
    let committed = tq4::backend::checksum(cuda::ptx().as_bytes());
    assert!(!text.contains(&committed), "{text}");
    // An architecture that no compiler knows.
    let env = [("LIBRARIES", dir), ("TQ4_STANDIN_CAPABILITY", "99.9")];
    let (results, _) = run("nvrtc", &env).unwrap();
    assert!(
        results[0].starts_with("Backend: nvrtcCompileProgram failed"),
        "{results:?}"
    );
}

/// `tq4 demo` on the stand-in, with a failure injected: its exit code and report.
fn demo(fault: &str) -> Option<(Option<i32>, serde_json::Value)> {
    let dir = tempfile::tempdir().unwrap();
    let args = ["demo", "--format", "json", "--require", "cuda", "--dir"];
    let out = standin::command(standin::right()?, &args)
        .arg(dir.path())
        .env("TQ4_STANDIN_FAIL", fault)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{fault}: {e}: {}", String::from_utf8_lossy(&out.stderr)));
    Some((out.status.code(), report))
}

fn lane<'a>(tensor: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let lanes = tensor["lanes"].as_array().unwrap();
    lanes.iter().find(|l| l["name"] == name).unwrap()
}

#[test]
fn the_command_decides_from_the_lane_and_calls_it_emulated() {
    let Some((code, report)) = demo("") else {
        return;
    };
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        report["decision"],
        "cuda_dequant_matches_reference_with_bf16_rounding"
    );
    for tensor in report["tensors"].as_array().unwrap() {
        let cuda = lane(tensor, "cuda");
        assert_eq!(
            (&cuda["status"], &cuda["software"], &cuda["device"]),
            (
                &"ran".into(),
                &true.into(),
                &"tq4 stand-in (emulated)".into()
            )
        );
        assert!(tensor["fwht_bug_control"].is_object());
    }
}

#[test]
fn a_lane_that_breaks_or_is_absent_leaves_the_others_their_report() {
    for (fault, code, status) in [
        ("cuLaunchKernel:719", 2, "failed"),
        ("cuMemAlloc_v2:2", 2, "failed"),
        ("cuModuleLoadDataEx:222", 3, "unavailable"),
        ("cuDeviceGetCount:0", 3, "unavailable"),
    ] {
        let Some((exit, report)) = demo(fault) else {
            return;
        };
        assert_eq!(exit, Some(code), "{fault}: {report}");
        assert_eq!(report["decision"], "cuda_dequant_not_run", "{fault}");
        for tensor in report["tensors"].as_array().unwrap() {
            let cuda = lane(tensor, "cuda");
            assert_eq!(cuda["status"], status, "{fault}: {cuda}");
            assert!(cuda["reason"].as_str().unwrap().len() > 10, "{fault}");
            assert_eq!(lane(tensor, "reference")["status"], "ran");
            let against_source = &tensor["metrics"][0];
            assert_eq!(against_source["lhs"], "reference_dequant");
            for d in tensor["decisions"].as_array().unwrap() {
                assert_ne!(d["passed"], false, "{fault}: {d}");
            }
        }
    }
}
