//! The stand-in for the CUDA driver, which runs the kernel on the CPU; each form is built once.

use super::{cuda, root};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tq4::lane::cuda::OwnKernel;

const FLAGS: [&str; 3] = ["-shared", "-fPIC", "-fvisibility-inlines-hidden"];
const WHAT: &str = "the CUDA lane on a stand-in driver";

/// The folder of one form.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("standin")
        .join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A folder with the driver's library, made around these kernels, but for the functions `without`.
fn build(cxx: &str, kernels: &[String], dir: PathBuf, without: &[&str]) -> PathBuf {
    // cudarc asks for libcuda.so before libcuda.so.1.
    let library = dir.join("libcuda.so.1");
    let renamed = without.iter().map(|s| format!("-D{s}=not_{s}"));
    let mut command = cuda::compile(cxx, kernels, "libcuda_standin.cpp", &library);
    cuda::run(command.args(FLAGS).args(renamed));
    std::fs::copy(&library, dir.join("libcuda.so")).unwrap();
    dir
}

/// The kernels as they are.
fn kernels() -> Vec<String> {
    let own = OwnKernel::ALL.map(|own| cuda::define_own(own, &cuda::path(own)));
    let plain = cuda::define("PLAIN", &plain());
    own.into_iter().chain([plain]).collect()
}

fn plain() -> PathBuf {
    root().join("examples/kernels/plain.cu")
}

/// A kernel's text with the published bug: a butterfly that takes the lower from the upper.
pub fn with_sign_bug(text: &str) -> String {
    let from = "] = a - b;";
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let text = text.replace(from, "] = b - a;");
    // Between lanes the upper one has b.
    text.replace(
        "x[k] = __fmaf_rn(x[k], direction,",
        "x[k] = direction * __fmaf_rn(x[k], direction,",
    )
}

/// The driver with the kernels as they are; `None` with a notice where there is no compiler.
pub fn right() -> Option<&'static Path> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let cxx = cuda::cxx(WHAT)?;
    Some(BUILT.get_or_init(|| build(&cxx, &kernels(), folder("right"), &[])))
}

/// The driver without some functions, under a name of its own.
pub fn without(name: &str, functions: &[&str]) -> Option<PathBuf> {
    let cxx = cuda::cxx(WHAT)?;
    let folder = folder(name);
    Some(build(&cxx, &kernels(), folder, functions))
}

/// The driver with the kernels in their wrong form, see [`with_sign_bug`].
pub fn wrong() -> Option<&'static Path> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let cxx = cuda::cxx(WHAT)?;
    Some(BUILT.get_or_init(|| {
        let dir = folder("wrong");
        let wrong = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap();
            let copy = dir.join(path.file_name().unwrap());
            std::fs::write(&copy, with_sign_bug(&text)).unwrap();
            copy
        };
        let own = OwnKernel::ALL.map(|own| cuda::define_own(own, &wrong(&cuda::path(own))));
        let plain = cuda::define("PLAIN", &wrong(&plain()));
        let all: Vec<String> = own.into_iter().chain([plain]).collect();
        build(&cxx, &all, dir, &[])
    }))
}

/// A library of the driver's name that has none of its functions.
pub fn empty() -> Option<&'static Path> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let cxx = cuda::cxx(WHAT)?;
    Some(BUILT.get_or_init(|| {
        let dir = folder("empty");
        let source = dir.join("nothing.cpp");
        std::fs::write(&source, "int tq4_nothing;\n").unwrap();
        let mut command = Command::new(&cxx);
        command
            .args(FLAGS)
            .arg("-o")
            .arg(dir.join("libcuda.so"))
            .arg(&source);
        cuda::run(&mut command);
        dir
    }))
}

/// A folder with NVRTCs, each given by the end of its library's name and its CUDA version.
pub fn nvrtc(form: &str, all: &[(&str, [u32; 2])]) -> Option<PathBuf> {
    let cxx = cuda::cxx(WHAT)?;
    let dir = folder(form);
    for (end, [major, minor]) in all {
        let mut command = Command::new(&cxx);
        command
            .args(FLAGS)
            .arg("-std=c++17")
            .args([format!("-DMAJOR={major}"), format!("-DMINOR={minor}")])
            .arg("-o")
            .arg(dir.join(format!("libnvrtc.so{end}")))
            .arg(root().join("tests/emulation/libnvrtc_standin.cpp"));
        cuda::run(&mut command);
    }
    Some(dir)
}

/// `tq4` with the driver in this folder.
pub fn command(driver: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tq4"));
    command.args(args).env("LD_LIBRARY_PATH", driver);
    command
}

/// Runs [`command`] to its end.
pub fn tq4(driver: &Path, args: &[&str]) -> Output {
    command(driver, args).output().unwrap()
}
