//! The CUDA lane on a stand-in for the driver that runs the kernel on the CPU: what it asks of the driver.
//! Results are emulated. What fails is in [`crate::cuda_failures`].
//!
//! The driver's library is found once in a process, so each case runs this program again, with the
//! stand-in on the library path; [`child`] is what runs there.

use crate::support::lane::{check, strip};
use crate::support::{again, cli, cuda, standin};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tq4::Error;
use tq4::codebook::Codebook;
use tq4::format::every_codec;
use tq4::lane::cuda::{Cuda, CudaOptions, OwnKernel, list};
use tq4::lane::{Lane, checksum};
use tq4::strip::Strip;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{Layout, Parts, TqTensor};

const CASE: &str = "TQ4_STANDIN_CASE";
/// In the log of the stand-in after each round of work.
const DONE: &str = "done";
// ---------------------------------------------------------------------------------------------------
// In the child

fn show(e: &Error) -> String {
    let variant = match e {
        Error::Unavailable(_) => "Unavailable",
        Error::Backend(_) => "Backend",
        Error::Lost(_) => "Lost",
        _ => "Another error",
    };
    format!("{variant}: {}", e.to_string().replace('\n', " |"))
}

/// All that the lane does, with a strip of so many rows; how much of it the device timed.
fn work(cuda: &mut Cuda, rows: usize) -> Result<String, Error> {
    let layout = Layout::new(4, 128).unwrap();
    let strip = strip(5, layout, rows, 2, ScaleDistribution::Any);
    assert_eq!(cuda.clock(), "CUDA events");
    cuda.load(&strip)?;
    let mut times = vec![cuda.run()?, cuda.run()?];
    cuda.read(&mut vec![0; strip.elements() * 2])?;
    times.push(cuda.copy(4096)?.expect("memory of its own"));
    for t in &times {
        assert!(t.device.is_none_or(|d| d <= t.wall), "{t:?}");
    }
    let timed = times.iter().filter(|t| t.device.is_some()).count();
    Ok(format!("timed {timed} of 3"))
}

/// Marks the end of a round in the log of the stand-in.
fn end_of_round() {
    if let Some(log) = std::env::var_os("TQ4_STANDIN_LOG") {
        let mut log = std::fs::File::options().append(true).open(log).unwrap();
        writeln!(log, "{DONE}").unwrap();
    }
}

/// Runs the case that the environment names.
#[test]
#[ignore = "the other tests of this module run it, on a driver of their own"]
fn child() {
    let case = std::env::var(CASE).expect(CASE);
    let (case, argument) = case.split_once(' ').unwrap_or((&case, ""));
    let mut options = CudaOptions::default();
    match case {
        "list" => {
            match list() {
                Ok(devices) => {
                    for device in devices {
                        println!(
                            "outcome: {}",
                            device.map_or_else(|e| show(&e), |d| format!("{d:?}"))
                        );
                    }
                }
                Err(e) => println!("outcome: {}", show(&e)),
            }
            return;
        }
        "ptx" => options.ptx = Some(argument.to_owned()),
        "nvrtc" => options.nvrtc = true,
        "device" => options.device = argument.parse().unwrap(),
        _ => {}
    }
    if case == "codecs" {
        for output in cuda::OUTPUTS {
            options.output = output;
            let mut lane = Cuda::open(&options).unwrap();
            for (i, (name, codec)) in every_codec().into_iter().enumerate() {
                let cols = 3 * codec.layout.group_size();
                let rng = &mut Rng::new(i as u64);
                let tensor =
                    synthetic::of_codec(rng, &codec, 5, cols, ScaleDistribution::Any).unwrap();
                check(&mut lane, &Strip::of(tensor)).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
        println!("outcome: all right");
        return;
    }
    let mut cuda = match Cuda::open(&options) {
        Ok(cuda) => cuda,
        Err(e) => {
            println!("outcome: {}", show(&e));
            return;
        }
    };
    println!("device: {:?}", cuda.info());
    if case == "codebook" {
        let tensor = strip(5, Layout::new(2, 32).unwrap(), 3, 2, ScaleDistribution::Any);
        let tensor = tensor.tensor().unwrap();
        let parts = Parts {
            packed: tensor.packed().to_vec(),
            scales: tensor.scales().clone(),
            signs: tensor.signs().to_vec(),
        };
        let book = Codebook::new(vec![-1.0, 0.0, 1e-20, 1.0], None).unwrap();
        let shape = [tensor.rows(), tensor.cols()];
        let tensor = TqTensor::new("t", tensor.layout(), shape, parts, Arc::new(book)).unwrap();
        println!(
            "outcome: {}",
            show(&cuda.load(&Strip::of(tensor)).unwrap_err())
        );
        return;
    }
    if case == "round" {
        cuda.load(&strip(
            5,
            Layout::new(4, 128).unwrap(),
            37,
            2,
            ScaleDistribution::Any,
        ))
        .unwrap();
        cuda.copy(4096).unwrap();
        end_of_round();
        let round = cuda.round(4096).unwrap();
        let parts = [round.copy.unwrap(), round.cold, round.warm];
        assert!(
            parts.iter().all(|t| t.device.is_some_and(|d| d <= t.wall)),
            "{parts:?}"
        );
        println!("outcome: {}", parts.iter().all(|t| t.wall == parts[0].wall));
        return;
    }
    let rows: Vec<usize> = match case {
        "rows" => argument.split(' ').map(|r| r.parse().unwrap()).collect(),
        // Twice: what failed once may work the next time, and must then be right.
        _ => vec![37, 37],
    };
    for rows in rows {
        let result = work(&mut cuda, rows);
        end_of_round();
        match result {
            Ok(text) => {
                let strip = strip(6, Layout::new(2, 64).unwrap(), 5, 3, ScaleDistribution::Any);
                if case == "run" {
                    check(&mut cuda, &strip).unwrap();
                }
                println!("outcome: {text}");
            }
            Err(e) => println!("outcome: {}", show(&e)),
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// In the parent

/// Runs a case on the library in `dir`: its `outcome:` lines, and all it printed.
pub fn run_in(dir: &Path, case: &str, env: &[(&str, &str)]) -> (Vec<String>, String) {
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

pub fn run(case: &str, env: &[(&str, &str)]) -> Option<(Vec<String>, String)> {
    Some(run_in(standin::right()?, case, env))
}

#[test]
fn devices_are_listed() {
    let Some((results, _)) = run("list", &[]) else {
        return;
    };
    assert_eq!(
        results[0].split(", driver").next().unwrap(),
        "CudaDeviceInfo { index: 0, name: \"tq4 stand-in (emulated)\", compute_capability: (9, 0), multiprocessors: 2"
    );
    assert!(results[0].contains("CUDA 12.0"), "{results:?}");
    for part in [
        "memory: 1073741824, l2: Some(52428800)",
        "pci: Some(\"0000:0a:00.0\")",
        "uuid: Some(\"GPU-00112233-4455-6677-8899-aabbccddee00\")",
        "compute_mode: Some(\"exclusive process\"), software: true",
    ] {
        assert!(results[0].contains(part), "{part}: {results:?}");
    }
}

/// What is told of a device is no reason to do without it.
#[test]
fn a_driver_that_tells_little_of_its_devices_is_good_enough() {
    let without = ["cuDeviceGetPCIBusId", "cuDeviceGetUuid_v2"];
    let Some(driver) = standin::without("quiet", &without) else {
        return;
    };
    let (results, _) = run_in(&driver, "list", &[]);
    assert!(results[0].contains("pci: None, uuid: None"), "{results:?}");
    let (results, text) = run_in(&driver, "run", &[]);
    assert_eq!(results, ["timed 3 of 3"; 2]);
    assert!(text.contains("pci: None, uuid: None"), "{text}");
}

#[test]
fn a_bad_device_does_not_hide_the_others() {
    let env = [
        ("TQ4_STANDIN_DEVICES", "3"),
        ("TQ4_STANDIN_FAIL", "cuDeviceGetName:1"),
        ("TQ4_STANDIN_FAIL_ON", "1"),
    ];
    let Some((results, _)) = run("list", &env) else {
        return;
    };
    assert_eq!(results.len(), 3);
    assert!(
        results[1].starts_with("Backend: cuDeviceGetName failed"),
        "{results:?}"
    );
    for (i, result) in [(0, &results[0]), (2, &results[2])] {
        assert!(result.contains(&format!("index: {i}, ")), "{results:?}");
        let bus = format!("0000:{:02x}:00.0", 10 + i);
        assert!(result.contains(&bus), "{results:?}");
    }
}

/// The kernel for other codecs is loaded once, for the first that needs it.
#[test]
fn every_codec_is_right_in_every_type() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let env = [("TQ4_STANDIN_LOG", log.path().to_str().unwrap())];
    let Some((results, _)) = run("codecs", &env) else {
        return;
    };
    assert_eq!(results, ["all right"]);
    let log = std::fs::read_to_string(log.path()).unwrap();
    let count = |call| log.lines().filter(|l| l.starts_with(call)).count();
    let loaded = count("cuModuleLoadDataEx");
    assert_eq!(loaded, 2 * cuda::OUTPUTS.len(), "{log}");
    assert_eq!(count("cuModuleUnload"), loaded);
}

#[test]
fn the_lane_says_what_it_is() {
    let Some((_, text)) = run("run", &[]) else {
        return;
    };
    let texts = cuda::ptx(OwnKernel::Sm80) + &cuda::ptx(OwnKernel::Codecs);
    let checksum = checksum(texts.as_bytes());
    for part in [
        "name: Cuda",
        "api: \"CUDA\"",
        "software: true",
        &format!("kernel_checksum: \"{checksum}\""),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The calls of the rounds over strips of so many rows; the first has those of opening as well.
pub fn calls(rows: &str) -> Option<Vec<Vec<String>>> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let env = [("TQ4_STANDIN_LOG", log.path().to_str().unwrap())];
    let (results, _) = run(&format!("rows {rows}"), &env)?;
    assert!(results.iter().all(|r| r == "timed 3 of 3"), "{results:?}");
    let log = std::fs::read_to_string(log.path()).unwrap();
    let rounds = log.split(DONE).map(|r| r.lines().map(str::to_owned));
    Some(rounds.map(Iterator::collect).collect())
}

#[test]
fn memory_is_kept_and_grows() {
    let Some(rounds) = calls("37 37 5 64") else {
        return;
    };
    // Input, output and two buffers to copy between; the last strip needs a larger input and output.
    for (symbol, expected) in [
        ("cuMemAlloc_v2", [4, 0, 0, 2]),
        ("cuMemFree_v2", [0, 0, 0, 2]),
        ("cuMemHostAlloc", [1, 0, 0, 0]),
        ("cuStreamCreate", [1, 0, 0, 0]),
        ("cuEventCreate", [6, 0, 0, 0]),
        ("cuMemcpyHtoDAsync_v2", [1; 4]),
        ("cuMemsetD32Async", [3, 1, 1, 1]),
        ("cuLaunchKernel", [2; 4]),
        ("cuMemcpyDtoHAsync_v2", [2; 4]),
        ("cuMemcpyDtoDAsync_v2", [1; 4]),
        ("cuEventRecord", [6; 4]),
    ] {
        let count = |round: &Vec<String>| round.iter().filter(|c| *c == symbol).count();
        let counted: Vec<usize> = rounds[..4].iter().map(count).collect();
        assert_eq!(counted, expected, "{symbol}");
    }
}

/// A launch takes the host microseconds, in which an idle device would wait with its first event taken.
#[test]
fn a_benchmark_queues_copy_and_kernels_and_waits_once() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let env = [("TQ4_STANDIN_LOG", log.path().to_str().unwrap())];
    let Some((results, _)) = run("round", &env) else {
        return;
    };
    assert_eq!(results, ["true"]);
    let log = std::fs::read_to_string(log.path()).unwrap();
    let (_, round) = log.split_once(DONE).unwrap();
    let round: Vec<&str> = round.lines().filter(|c| !c.is_empty()).take(14).collect();
    let piece = |work| ["cuEventRecord", work, "cuEventRecord"];
    let mut expected = vec!["cuCtxSetCurrent"];
    expected.extend(piece("cuMemcpyDtoDAsync_v2"));
    expected.extend(piece("cuLaunchKernel"));
    expected.extend(piece("cuLaunchKernel"));
    expected.push("cuStreamSynchronize");
    expected.extend(["cuEventElapsedTime"; 3]);
    assert_eq!(round, expected);
}

#[test]
fn a_strip_that_does_not_fit_the_memory_is_said() {
    // 37 rows of 256: centroids, pairs of signs, scales and codes at steps of 256 bytes, and the output.
    let codes = (37usize * 128).next_multiple_of(256);
    let (input, output) = (256 + 512 + 256 + codes, 37 * 256 * 2 + 4096);
    let free = (input + output - 1).to_string();
    let Some((results, _)) = run("run", &[("TQ4_STANDIN_FREE", &free)]) else {
        return;
    };
    for r in results {
        let text = format!(
            "Backend: {} bytes of device memory are needed, {free} are free",
            input + output
        );
        assert!(r.starts_with(&text), "{r}");
        assert!(r.contains("help: take smaller strips"), "{r}");
    }
}

/// What the kernels' division is not exact for is not decoded.
#[test]
fn a_codebook_that_the_division_does_not_suit_is_refused() {
    let Some((results, _)) = run("codebook", &[]) else {
        return;
    };
    assert_eq!(results.len(), 1);
    assert!(
        results[0].starts_with(
            "Backend: the codebook has a centroid that is not 0 and smaller than 2^-50"
        ),
        "{results:?}"
    );
}

#[test]
fn time_that_stands_still_is_no_time() {
    for elapsed in ["0", "-1", "nan"] {
        let Some((results, _)) = run("run", &[("TQ4_STANDIN_ELAPSED", elapsed)]) else {
            return;
        };
        assert_eq!(results, ["timed 0 of 3"; 2], "{elapsed}");
    }
}

#[test]
fn the_kernel_compiles_for_the_device_where_there_is_a_compiler() {
    let what = "the kernel compiled for a device's own architecture";
    let Some(library) = cuda::nvrtc(what) else {
        return;
    };
    let dir = library.parent().unwrap().to_str().unwrap();
    let Some((results, text)) = run("nvrtc", &[("LIBRARIES", dir)]) else {
        return;
    };
    assert_eq!(results[0], "timed 3 of 3");
    let committed =
        checksum((cuda::ptx(OwnKernel::Sm80) + &cuda::ptx(OwnKernel::Codecs)).as_bytes());
    assert!(!text.contains(&committed), "{text}");
    // An architecture that no compiler knows.
    let env = [("LIBRARIES", dir), ("TQ4_STANDIN_CAPABILITY", "99.9")];
    let (results, _) = run("nvrtc", &env).unwrap();
    assert!(
        results[0].starts_with("Backend: nvrtcCompileProgram failed"),
        "{results:?}"
    );
}

/// An NVRTC of CUDA 13 is found, and what it makes suits the driver.
#[test]
fn an_nvrtc_of_any_cuda_release_is_found_and_suits_the_driver() {
    let [new, old] = [(".13", [13, 5]), (".12", [12, 0])];
    let Some(only) = standin::nvrtc("nvrtc_13", &[new]) else {
        return;
    };
    let both = standin::nvrtc("nvrtc_both", &[new, old]).unwrap();
    let ptx = "NVRTC, compute_90";
    let code = "NVRTC, sm_90";
    for (folder, cuda, variant) in [
        (&only, "13.5", ptx),
        (&only, "13.0", code),
        (&both, "13.5", ptx),
        (&both, "13.0", ptx),
        (&both, "12.0", ptx),
        (&both, "11.8", code),
    ] {
        let newest = match cuda {
            "13.5" => "9.5",
            _ => "8.0",
        };
        let env = [
            ("LIBRARIES", folder.to_str().unwrap()),
            ("TQ4_STANDIN_CUDA", cuda),
            ("TQ4_STANDIN_PTX", newest),
        ];
        let (results, text) = run("nvrtc", &env).unwrap();
        assert_eq!(results, ["timed 3 of 3"; 2], "{env:?}");
        assert!(
            text.contains(&format!("kernel_variant: \"{variant}\"")),
            "{env:?}: {text}"
        );
    }
    for (fault, said) in [
        (
            "cuModuleLoadDataEx:200",
            "Unavailable: the driver (CUDA 12.0",
        ),
        ("cuModuleLoadDataEx:2", "Backend: cuModuleLoadDataEx failed"),
    ] {
        let env = [
            ("LIBRARIES", only.to_str().unwrap()),
            ("TQ4_STANDIN_FAIL", fault),
        ];
        let (results, _) = run("nvrtc", &env).unwrap();
        assert!(results[0].starts_with(said), "{results:?}");
    }
}

#[test]
fn without_nvrtc_the_kernel_is_not_compiled() {
    let found = [
        "libnvrtc.so",
        "libnvrtc.so.13",
        "libnvrtc.so.12",
        "libnvrtc.so.11.2",
    ];
    // SAFETY: opens NVRTC if there is one, as the lane does.
    if found
        .iter()
        .any(|name| unsafe { libloading::Library::new(*name) }.is_ok())
    {
        return;
    }
    let Some((results, _)) = run("nvrtc", &[]) else {
        return;
    };
    let said = "Unavailable: the kernel cannot be compiled: the library libnvrtc";
    assert!(results[0].starts_with(said), "{results:?}");
}

/// `tq4 demo` on the stand-in, with a failure injected: its exit code and report.
fn demo(fault: &str) -> Option<(Option<i32>, serde_json::Value)> {
    let dir = tempfile::tempdir().unwrap();
    let args = ["demo", "--dir", dir.path().to_str().unwrap()];
    report(&args, &[("TQ4_STANDIN_FAIL", fault)])
}

/// A command on the stand-in in an environment: its exit code and report.
fn report(args: &[&str], env: &[(&str, &str)]) -> Option<(Option<i32>, serde_json::Value)> {
    let more = ["--format", "json", "--require", "cuda", "--allow-software"];
    let out = standin::command(standin::right()?, args)
        .args(more)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(!log.contains("stand-in: "), "{env:?}: {log}");
    let report =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{env:?}: {e}: {log}"));
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
        report["summary"]["decision"],
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
        let decision = &report["summary"]["decision"];
        assert_eq!(decision, "cuda_dequant_not_run", "{fault}");
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

#[test]
fn all_devices_are_lanes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    cli::Model::valid().write(dir.path());
    let args = [
        "validate",
        "--all",
        "--cuda-device",
        "all",
        "--lanes",
        "cuda",
        "--tq-model",
        dir.path().to_str().unwrap(),
    ];
    let three = ("TQ4_STANDIN_DEVICES", "3");
    for (fault, code, status, decision) in [
        (
            "",
            0,
            "ran",
            "cuda:0_dequant_matches_reference_with_bf16_rounding",
        ),
        ("cuLaunchKernel:719", 2, "failed", "cuda:1_dequant_not_run"),
        (
            "cuDevicePrimaryCtxRetain:2",
            2,
            "failed",
            "cuda:1_dequant_not_run",
        ),
        (
            "cuModuleLoadDataEx:209",
            0,
            "unavailable",
            "cuda:1_dequant_not_run",
        ),
    ] {
        let env = [
            three,
            ("TQ4_STANDIN_FAIL", fault),
            ("TQ4_STANDIN_FAIL_ON", "1"),
        ];
        let Some((exit, all)) = report(&args, &env) else {
            return;
        };
        assert_eq!(exit, Some(code), "{fault}: {all}");
        assert_eq!(all["summary"]["decision"], decision, "{fault}");
        assert_eq!(all["model"]["lanes"]["cuda_device"], "all");
        for tensor in all["tensors"].as_array().unwrap() {
            for i in 0..3 {
                let lane = lane(tensor, &format!("cuda:{i}"));
                let expected = if i == 1 { status } else { "ran" };
                assert_eq!(lane["status"], expected, "{fault}: {lane}");
                // Which card it is, whether it works or not.
                assert_eq!(lane["pci"], format!("0000:{:02x}:00.0", 10 + i), "{fault}");
                assert!(
                    lane["uuid"]
                        .as_str()
                        .unwrap()
                        .ends_with(&format!("ee{i:02}"))
                );
            }
        }
    }
    // One device is the lane that it was.
    let (exit, one) = report(&args, &[]).unwrap();
    assert_eq!(exit, Some(0), "{one}");
    assert_eq!(lane(&one["tensors"][0], "cuda")["status"], "ran");
    let none = [("TQ4_STANDIN_FAIL", "cuDeviceGetCount:0")];
    let (exit, none) = report(&args, &none).unwrap();
    assert_eq!(exit, Some(3), "{none}");
    assert_eq!(lane(&none["tensors"][0], "cuda")["status"], "unavailable");
}

#[test]
fn devices_are_opened_and_each_says_how_it_is() {
    let Some(driver) = standin::right() else {
        return;
    };
    let devices = |format: &str, fault: &str| {
        let out = standin::command(driver, &["devices", "--format", format])
            .envs([
                ("TQ4_STANDIN_DEVICES", "3"),
                ("TQ4_STANDIN_FAIL", fault),
                ("TQ4_STANDIN_FAIL_ON", "1"),
            ])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && !log.contains("stand-in: "), "{log}");
        String::from_utf8(out.stdout).unwrap()
    };
    for (fault, what) in [
        ("", ""),
        ("cuDeviceGet:101", "cuDeviceGet failed"),
        (
            "cuDevicePrimaryCtxRetain:719",
            "cuDevicePrimaryCtxRetain failed",
        ),
        ("cuModuleLoadDataEx:209", "does not run on this device"),
        ("cuStreamCreate:2", "cuStreamCreate failed"),
        ("cuLaunchKernel:719", "cuLaunchKernel failed"),
    ] {
        let all: serde_json::Value = serde_json::from_str(&devices("json", fault)).unwrap();
        let cuda = all
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["lane"] == "cuda")
            .unwrap();
        let found = cuda["devices"].as_array().unwrap();
        assert_eq!(found.len(), 3, "{cuda}");
        for (i, device) in found.iter().enumerate() {
            let good = i != 1 || fault.is_empty();
            assert_eq!(
                (&device["index"], &device["ready"]),
                (&i.into(), &good.into()),
                "{device}"
            );
            assert_eq!(device["reason"].is_null(), good, "{device}");
            if good {
                assert_eq!(device["compute_mode"], "exclusive process", "{device}");
                assert_eq!(
                    (&device["l2_bytes"], &device["free_memory_bytes"]),
                    (&(50 << 20).into(), &(1 << 30).into())
                );
                assert_eq!(device["kernel_variant"], "PTX 8.0, compute_80", "{device}");
            } else {
                assert!(
                    device["reason"].as_str().unwrap().contains(what),
                    "{device}"
                );
            }
        }
        for format in ["table", "markdown"] {
            let text = devices(format, fault);
            let bad = usize::from(!fault.is_empty());
            assert_eq!(text.matches("NOT READY: ").count(), bad, "{text}");
            assert!(text.contains(what), "{fault}: {text}");
            assert!(
                text.contains("GPU-00112233-4455-6677-8899-aabbccddee02"),
                "{text}"
            );
        }
    }
}
