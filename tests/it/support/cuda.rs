//! What the tests of the CUDA lane share: its sources, and building the emulation.

use super::{not_run, root, tool};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file with the line ends that it has in the repository.
fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap()
        .replace("\r\n", "\n")
}

/// The kernel's source.
pub fn source() -> String {
    text("kernels/tq4_dequant.cu")
}

/// The kernel's PTX as committed.
pub fn ptx() -> String {
    text("kernels/tq4_dequant.ptx")
}

/// How to come by the NVRTC that makes the committed PTX.
pub const GET_NVRTC: &str = "pip install nvidia-cuda-nvrtc-cu12==12.0.76, and set TQ4_NVRTC_LIB to its \
                             libnvrtc.so.12";

/// NVRTC's library; `None` with a notice where it is not named.
pub fn nvrtc(what: &str) -> Option<PathBuf> {
    tool("TQ4_NVRTC_LIB", what, GET_NVRTC)
}

/// The library path with `first`, and then NVRTC's folder.
pub fn with_nvrtc(first: Option<&Path>, what: &str) -> Option<OsString> {
    let library = nvrtc(what)?;
    let folders = first.into_iter().chain(library.parent());
    Some(std::env::join_paths(folders).unwrap())
}

/// Every entry point, in the order of the source.
pub fn entry_points() -> Vec<String> {
    let mut names = Vec::new();
    for bits in [2, 4] {
        for group in [32, 64, 128, 256] {
            for out in ["bf16", "f32"] {
                names.push(format!("tq4_dequant_b{bits}_g{group}_{out}"));
            }
        }
    }
    names
}

/// A C++ compiler for this machine, or `None` with a note.
pub fn cxx(what: &str) -> Option<String> {
    if !cfg!(target_os = "linux") {
        not_run(what, "the emulation is for Linux");
        return None;
    }
    let named = std::env::var("CXX").ok().filter(|v| !v.is_empty());
    let found = named
        .into_iter()
        .chain(["c++".to_owned(), "g++".to_owned()])
        .find(|c| {
            Command::new(c)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        });
    if found.is_none() {
        not_run(what, "install g++, or name a C++ compiler in CXX");
    }
    found
}

/// The command that compiles `file` of tests/emulation around the kernel in `source`.
pub fn compile(cxx: &str, source: &Path, file: &str, output: &Path) -> Command {
    let mut command = Command::new(cxx);
    command
        .args([
            "-std=c++17",
            "-O1",
            "-ffp-contract=off",
            "-U_FORTIFY_SOURCE",
        ])
        // nvcc lets memory be read as words and vectors of any type.
        .arg("-fno-strict-aliasing")
        .arg(format!("-DTQ4_SOURCE=\"{}\"", source.display()))
        .arg("-o")
        .arg(output)
        .arg(root().join("tests/emulation").join(file));
    command
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> String {
    let out = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}
