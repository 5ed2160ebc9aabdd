//! `--kernel`: kernels of users as lanes, right and wrong.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::lane::{check_all, random_strips};
use crate::support::{cuda, not_run, root, standin, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tq4::lane::kernel::Manifest;
use tq4::lane::wgpu;

/// This project's own PTX for compute capability 7.5, through a manifest.
const OWN: &str = "name = 'own'
source = 'KERNEL'
entry = 'tq4_dequant_sm75_b{stored_bits}_g{group_size}_f32'
arguments = ['packed', 'scales', 'signs', 'centroids', 'out', 'u32:elements / 32', 'u32:cols / 32']
grid = '(elements / 32 + 255) / 256'
block = 256
output = 'f32'
";

fn example(name: &str) -> PathBuf {
    root().join("examples/kernels").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(example(name)).unwrap()
}

/// A manifest and its source in a folder of their own.
fn write(dir: &Path, manifest: &str, source: &str, code: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join("kernel.toml");
    std::fs::write(&path, manifest).unwrap();
    std::fs::write(dir.join(source), code).unwrap();
    path
}

/// A small model in a folder.
fn model(dir: &Path) -> PathBuf {
    let path = dir.join("model");
    Model::valid().write(&path);
    path
}

/// The arguments that validate all of a model with a kernel, as JSON.
fn arguments<'a>(model: &'a Path, kernel: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["validate", "--all", "--format", "json"];
    args.extend(["--tq-model", model.to_str().unwrap()]);
    args.extend(["--kernel", kernel.to_str().unwrap()]);
    args.extend(more);
    args
}

fn report(out: &Output) -> Value {
    serde_json::from_str(&stdout(out)).unwrap_or_else(|e| panic!("{e}: {}", stderr(out)))
}

/// A decision of the first tensor.
fn decision<'a>(report: &'a Value, lane: &str) -> &'a Value {
    let all = report["tensors"][0]["decisions"].as_array().unwrap();
    all.iter().find(|d| d["lane"] == lane).unwrap()
}

/// Whether there is an adapter, which is said where there is none.
fn has_adapter() -> bool {
    let there = !wgpu::list().is_empty();
    if !there {
        not_run(
            "users' shaders",
            "no adapter (Debian: mesa-vulkan-drivers libvulkan1)",
        );
    }
    there
}

/// `tq4` on the stand-in, in its right or its wrong form, with NVRTC on the library path.
fn emulated(driver: Option<&Path>, args: &[&str]) -> Option<Output> {
    emulated_under(driver, args, &[])
}

/// The same with more in its environment.
fn emulated_under(driver: Option<&Path>, args: &[&str], env: &[(&str, &Path)]) -> Option<Output> {
    let libraries = cuda::with_nvrtc(Some(driver?), "users' CUDA kernels")?;
    let mut command = standin::command(driver?, args);
    command.env("LD_LIBRARY_PATH", libraries);
    Some(command.envs(env.iter().copied()).output().unwrap())
}

#[test]
fn the_plain_shader_passes_and_its_copy_with_the_published_bug_is_named() {
    if !has_adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let only = ["--lanes", "reference"];
    let out = tq4(&arguments(&model, &example("plain_wgpu.toml"), &only));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let report_of = report(&out);
    let kernels = report_of["model"]["kernels"].as_array().unwrap();
    assert!(kernels[0].as_str().unwrap().starts_with("plain_wgpu="));
    let lanes = report_of["tensors"][0]["lanes"].as_array().unwrap();
    let lane = lanes.iter().find(|l| l["name"] == "plain_wgpu").unwrap();
    assert_eq!(lane["kernel_variant"], "plain.wgsl");
    assert_eq!(lane["status"], "ran");

    let bug = standin::with_sign_bug(&text("plain.wgsl"));
    let kernel = write(dir.path(), &text("plain_wgpu.toml"), "plain.wgsl", bug);
    let out = tq4(&arguments(&model, &kernel, &only));
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let found = report(&out);
    let reason = decision(&found, "plain_wgpu");
    assert_eq!(
        reason["decision"],
        "plain_wgpu_dequant_differs_from_reference"
    );
    assert!(
        found.to_string().contains("fwht_upper_lane_sign"),
        "{found}"
    );
}

#[test]
fn the_plain_cuda_kernel_is_identical_and_its_copy_with_the_published_bug_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let only = ["--lanes", "reference"];
    let Some(out) = emulated(
        standin::right(),
        &arguments(&model, &example("plain_cuda.toml"), &only),
    ) else {
        return;
    };
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let found = report(&out);
    assert_eq!(
        decision(&found, "plain_cuda")["verdict"],
        "identical",
        "{found}"
    );

    let bug = standin::with_sign_bug(&text("plain.cu"));
    let kernel = write(dir.path(), &text("plain_cuda.toml"), "plain.cu", bug);
    let out = emulated(standin::wrong(), &arguments(&model, &kernel, &only)).unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let found = report(&out);
    assert_eq!(decision(&found, "plain_cuda")["verdict"], "differs");
    assert!(
        found.to_string().contains("fwht_upper_lane_sign"),
        "{found}"
    );
}

#[test]
fn ptx_and_cubins_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let Some(driver) = standin::right() else {
        return;
    };
    let ptx = root().join("kernels/tq4_dequant_sm75.ptx");
    let mut forms = vec![("k.ptx", std::fs::read(&ptx).unwrap())];
    let how = "pip install nvidia-cuda-nvcc-cu12, and set TQ4_PTXAS to its ptxas";
    if let Some(ptxas) = tool("TQ4_PTXAS", "users' cubins", how) {
        let cubin = dir.path().join("own.cubin");
        let mut command = Command::new(ptxas);
        command.args(["--gpu-name=sm_90", "-O0", "-o"]).arg(&cubin);
        cuda::run(command.arg(&ptx));
        forms.push(("k.cubin", std::fs::read(&cubin).unwrap()));
    }
    for (name, code) in forms {
        let manifest = OWN.replace("KERNEL", name);
        let kernel = write(dir.path(), &manifest, name, code);
        let only = ["--lanes", "reference"];
        let out = standin::tq4(driver, &arguments(&model, &kernel, &only));
        assert_eq!(out.status.code(), Some(0), "{name}: {}", stderr(&out));
        let found = report(&out);
        assert_eq!(
            decision(&found, "own")["verdict"],
            "identical",
            "{name}: {found}"
        );
    }
}

#[test]
fn values_of_f16_and_f32_are_held_to_their_own_sets() {
    if !has_adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let store = "out[(group * N + k) / 2u] = round_bf16(value.x) | (round_bf16(value.y) << 16u);";
    let single = "out[group * N + k] = bitcast<u32>(value.x); out[group * N + k + 1u] = bitcast<u32>(value.y);";
    let half = "out[(group * N + k) / 2u] = pack2x16float(value);";
    assert!(text("plain.wgsl").contains(store));
    for (output, other) in [("f32", single), ("f16", half)] {
        let manifest = text("plain_wgpu.toml").replace("\"bf16\"", &format!("\"{output}\""));
        let code = text("plain.wgsl").replace(store, other);
        let kernel = write(dir.path(), &manifest, "plain.wgsl", code);
        let out = tq4(&arguments(&model, &kernel, &["--lanes", "reference"]));
        assert_eq!(out.status.code(), Some(0), "{output}: {}", stderr(&out));
        let out = stdout(&out);
        assert!(
            out.contains("plain_wgpu_dequant_matches_reference"),
            "{out}"
        );
    }
}

#[test]
fn a_kernel_without_its_device_is_a_requirement_that_is_not_met() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let Some(driver) = standin::right() else {
        return;
    };
    let kernel = example("plain_cuda.toml");
    let args = arguments(&model, &kernel, &["--lanes", "reference"]);
    let out = standin::command(driver, &args)
        .env("TQ4_STANDIN_FAIL", "cuDeviceGetCount:0")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    let said = stderr(&out);
    assert!(
        said.contains("error: lane plain_cuda is required and did not run"),
        "{said}"
    );
    let found = report(&out);
    let decision = decision(&found, "plain_cuda");
    assert_eq!(decision["decision"], "plain_cuda_dequant_not_run");
}

#[test]
fn a_kernel_that_does_not_compile_or_does_not_fit_its_manifest_is_a_lane_that_broke() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let broken = |out: &Output, lane: &str, what: &str| {
        assert_eq!(out.status.code(), Some(2), "{what}: {}", stderr(out));
        let said = stderr(out);
        assert!(said.contains(what), "{what}: {said}");
        assert!(
            said.contains(&format!("where: lane {lane}")),
            "{what}: {said}"
        );
        let lanes = &report(out)["tensors"][0]["lanes"];
        let status = |name: &str| {
            let mut all = lanes.as_array().unwrap().iter();
            all.find(|l| l["name"] == name).unwrap()["status"].clone()
        };
        assert_eq!(status("reference"), "ran", "{what}");
        assert_eq!(status(lane), "failed", "{what}");
    };
    let (manifest, code) = (text("plain_wgpu.toml"), text("plain.wgsl"));
    let wgsl = if has_adapter() { 4 } else { 0 };
    for (from, to, what) in [
        (
            "let a = x[k];",
            "let a = y[k];",
            "plain.wgsl:50:21: no definition in scope for identifier: `y`\n",
        ),
        ("fn plain_dequant", "fn other", "plain_dequant"),
        ("\"signs\", ", "", "binding"),
        ("N = \"group_size\"", "M = \"group_size\"", "M"),
    ]
    .into_iter()
    .take(wgsl)
    {
        let manifest = manifest.replace(from, to);
        let kernel = write(dir.path(), &manifest, "plain.wgsl", code.replace(from, to));
        let out = tq4(&arguments(&model, &kernel, &["--lanes", "reference"]));
        broken(&out, "plain_wgpu", what);
    }
    let (manifest, code) = (text("plain_cuda.toml"), text("plain.cu"));
    for (from, to, what) in [
        (
            "float x[256];",
            "floot x[256];",
            "plain.cu(26): error: identifier \"floot\"",
        ),
        ("\"plain_dequant\"", "\"plain\"", "(entry point plain)"),
        ("block = 128", "block = 2048", "block is 2048 in x"),
        ("[\"packed\",", "[\"u64:0\",", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        (
            ", \"i32:stored_bits\"",
            "",
            "plain_dequant has 9 parameters, the manifest has 8 arguments",
        ),
        (
            "i32:stored_bits",
            "i64:stored_bits",
            "parameter 9 of plain_dequant has 4 bytes, the manifest's argument 8",
        ),
        (
            "\"u32:groups\"",
            "\"u32:groups + 1\"",
            "the kernel writes behind the end of its output",
        ),
    ] {
        let manifest = manifest.replace(from, to);
        let kernel = write(dir.path(), &manifest, "plain.cu", code.replace(from, to));
        let only = ["--lanes", "reference"];
        let Some(out) = emulated(standin::right(), &arguments(&model, &kernel, &only)) else {
            return;
        };
        if what.starts_with("block") {
            let place = format!("where: {}:8", kernel.display());
            assert!(stderr(&out).contains(what) || stderr(&out).contains(&place));
        } else {
            broken(&out, "plain_cuda", what);
        }
    }
}

#[test]
fn manifests_that_cannot_be_are_refused_before_any_device_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let manifest = text("plain_wgpu.toml").replace("\"out\"", "\"output\"");
    let kernel = write(dir.path(), &manifest, "plain.wgsl", text("plain.wgsl"));
    let out = tq4(&arguments(&model, &kernel, &[]));
    assert_eq!(out.status.code(), Some(2));
    let said = stderr(&out);
    assert!(said.contains("no argument \"output\""), "{said}");
    assert!(
        said.contains(&format!("where: {}:6", kernel.display())),
        "{said}"
    );

    let plain = example("plain_wgpu.toml");
    let plain = plain.to_str().unwrap();
    for (more, what) in [
        (vec!["--kernel", plain], "two lanes are named plain_wgpu"),
        (
            vec!["--exec", "plain_wgpu=sh"],
            "two lanes are named plain_wgpu",
        ),
        (
            vec!["--recording", "plain_wgpu=x.npy"],
            "a kernel or program is named \"plain_wgpu\" as well",
        ),
    ] {
        let out = tq4(&arguments(&model, Path::new(plain), &more));
        assert_eq!(out.status.code(), Some(2), "{more:?}");
        assert!(stderr(&out).contains(what), "{more:?}: {}", stderr(&out));
    }
}

#[test]
fn a_shader_gets_whole_rows_where_a_strip_does_not_fit_a_buffer() {
    let kernel = Manifest::read(&example("plain_wgpu.toml")).unwrap();
    let strips = random_strips(31, 24);
    for a in wgpu::list() {
        for bytes in [8192, 20_000] {
            let options = wgpu::WgpuOptions {
                adapter: wgpu::Select::Index(a.index),
                kernel: Some(kernel.clone()),
                max_chunk_bytes: Some(bytes),
                ..Default::default()
            };
            let mut lane = wgpu::Wgpu::open(&options, kernel.name().clone()).unwrap();
            check_all(&mut lane, &strips).unwrap_or_else(|e| panic!("{}, {bytes}: {e}", a.name));
        }
    }
}

#[test]
fn a_kernel_that_changed_is_not_resumed() {
    if !has_adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let report = dir.path().join("r.jsonl");
    let more = ["--lanes", "reference", "--report", report.to_str().unwrap()];
    let kernel = write(
        dir.path(),
        &text("plain_wgpu.toml"),
        "plain.wgsl",
        text("plain.wgsl"),
    );
    let args = arguments(&model, &kernel, &more);
    assert_eq!(tq4(&args).status.code(), Some(0));
    let again = [&args[..], &["--resume"]].concat();
    assert_eq!(tq4(&again).status.code(), Some(0));
    std::fs::write(dir.path().join("plain.wgsl"), text("plain.wgsl") + "\n").unwrap();
    let out = tq4(&again);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("kernels: plain_wgpu="),
        "{}",
        stderr(&out)
    );
}

#[test]
fn kernels_are_timed_beside_the_other_lanes() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("bench.json");
    let wgpu = example("plain_wgpu.toml");
    let cuda = example("plain_cuda.toml");
    let mut args = vec!["bench", "--lanes", "reference", "--shape", "64x1024"];
    args.extend(["--time-limit", "0.2", "--copy-size", "1"]);
    args.extend(["--json", json.to_str().unwrap()]);
    args.extend(["--kernel", cuda.to_str().unwrap()]);
    let mut lanes = vec!["plain_cuda"];
    if has_adapter() {
        args.extend(["--kernel", wgpu.to_str().unwrap()]);
        lanes.push("plain_wgpu");
    }
    let Some(out) = emulated(standin::right(), &args) else {
        return;
    };
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let record: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for name in lanes {
        let all = record["shapes"][0]["lanes"].as_array().unwrap();
        let lane = all.iter().find(|l| l["lane"] == name).unwrap();
        assert!(lane["times"]["kernel_warm"].is_object(), "{name}: {lane}");
        assert!(lane["times"]["copy"].is_object(), "{name}: {lane}");
    }
}

#[test]
fn large_shared_memory_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let log = dir.path().join("log");
    for (bytes, asked) in [(48 << 10, false), (64 << 10, true)] {
        let manifest = format!("{}shared_memory = {bytes}\n", text("plain_cuda.toml"));
        let kernel = write(dir.path(), &manifest, "plain.cu", text("plain.cu"));
        let args = arguments(&model, &kernel, &["--lanes", "reference"]);
        let env = [("TQ4_STANDIN_LOG", log.as_path())];
        let Some(out) = emulated_under(standin::right(), &args, &env) else {
            return;
        };
        assert_eq!(out.status.code(), Some(0), "{bytes}: {}", stderr(&out));
        let calls = std::fs::read_to_string(&log).unwrap();
        assert_eq!(calls.contains("cuFuncSetAttribute"), asked, "{bytes}");
    }
}
