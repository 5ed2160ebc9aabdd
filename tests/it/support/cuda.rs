//! What the tests of the CUDA lane share: its sources, and building the emulation.

use super::{not_run, root};
use std::path::Path;
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
