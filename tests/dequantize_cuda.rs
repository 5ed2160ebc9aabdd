//! The converters and recordings on the CUDA lane, over a stand-in for the driver that runs the kernel
//! on the CPU, as it is and with a fault. Results are emulated.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/cuda.rs"]
mod cuda;
#[path = "support/source.rs"]
mod source;

use cli::{stderr, stdout, tq4};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a stand-in that runs the kernel with `from` replaced by `to`.
fn standin(name: &str, from: &str, to: &str) -> Option<PathBuf> {
    let cxx = cuda::cxx("dequantize by the CUDA lane on a stand-in driver")?;
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("standin-convert")
        .join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let text = cuda::source();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let kernel = dir.join("kernel.cu");
    std::fs::write(&kernel, text.replace(from, to)).unwrap();
    let library = dir.join("libcuda.so.1");
    let flags = ["-shared", "-fPIC", "-fvisibility-inlines-hidden"];
    cuda::run(cuda::compile(&cxx, &kernel, "libcuda_standin.cpp", &library).args(flags));
    std::fs::copy(&library, dir.join("libcuda.so")).unwrap();
    Some(dir)
}

fn on(driver: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tq4"))
        .args(args)
        .env("LD_LIBRARY_PATH", driver)
        .output()
        .unwrap()
}

#[test]
fn a_right_kernel_is_taken_and_a_wrong_one_refused() {
    let lower_minus_upper = "x[k + STRIDE] = a - b;";
    let Some(right) = standin("right", lower_minus_upper, lower_minus_upper) else {
        return;
    };
    let wrong = standin("wrong", lower_minus_upper, "x[k + STRIDE] = b - a;").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    source::write(&dir.path().join("src"), 2, 16, 256);
    let (src, tq) = (path("src"), path("tq"));
    let made = tq4(&["quantize", "--source-model", &src, "--output", &tq]);
    assert!(made.status.success(), "{}", stderr(&made));

    let out = path("plain");
    let args = [
        "dequantize",
        "--tq-model",
        &tq,
        "--output",
        &out,
        "--lane",
        "cuda",
    ];
    let refused = on(&wrong, &args);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let error = stderr(&refused);
    assert!(
        error.contains("cuda_dequant_differs_from_reference"),
        "{error}"
    );
    assert!(error.contains("diagnosis of cuda"), "{error}");
    assert!(error.contains("nothing was written"), "{error}");
    assert!(!Path::new(&out).exists());
    let done = on(&right, &args);
    assert!(done.status.success(), "{}", stderr(&done));
    let reference = path("reference");
    let done = tq4(&["dequantize", "--tq-model", &tq, "--output", &reference]);
    assert!(done.status.success(), "{}", stderr(&done));
    let names = source::names(Path::new(&out));
    assert_eq!(names, source::names(Path::new(&reference)));

    // The NVIDIA box records, another machine compares.
    for (driver, code) in [(&right, 0), (&wrong, 1)] {
        let file = path("recording.safetensors");
        let record = ["record", "--tq-model", &tq, "--all", "--lane", "cuda"];
        let recorded = on(driver, &[&record[..], &["--output", &file]].concat());
        assert!(recorded.status.success(), "{}", stderr(&recorded));
        let compared = tq4(&["compare", &file, "--lane", "reference", "--tq-model", &tq]);
        assert_eq!(compared.status.code(), Some(code), "{}", stdout(&compared));
    }
}
