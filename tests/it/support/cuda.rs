//! What the tests of the CUDA lane share: its sources, and building the emulation.

use super::{not_run, root, tool};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use tq4::codec::Scaling;
use tq4::format::every_codec;
use tq4::format::gguf::BlockType;
use tq4::lane::cuda::{OwnKernel, Variant};
use tq4::record::OutputType;
use tq4::tensor::{GROUP_SIZES, Layout};

/// A text file with the line ends that it has in the repository.
fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap()
        .replace("\r\n", "\n")
}

/// The name of a kernel's files.
pub fn name(own: OwnKernel) -> &'static str {
    match own {
        OwnKernel::Sm75 => "tq4_dequant_sm75",
        OwnKernel::Sm80 => "tq4_dequant_sm80",
        OwnKernel::Codecs => "tq4_dequant_codecs",
    }
}

/// Where a kernel's source is.
pub fn path(own: OwnKernel) -> PathBuf {
    root().join(format!("kernels/{}.cu", name(own)))
}

/// A kernel's source.
pub fn source(own: OwnKernel) -> String {
    text(&format!("kernels/{}.cu", name(own)))
}

/// A kernel's PTX as committed.
pub fn ptx(own: OwnKernel) -> String {
    text(&format!("kernels/{}.ptx", name(own)))
}

/// How to come by the NVRTC that makes the committed PTX.
pub const GET_NVRTC: &str = "pip install nvidia-cuda-nvrtc-cu12==12.0.76, and set TQ4_NVRTC_LIB to its \
                             libnvrtc.so.12";

/// How to come by the ptxas that the golden tables are of.
pub const GET_PTXAS: &str =
    "pip install nvidia-cuda-nvcc-cu12==12.8.93, and set TQ4_PTXAS to its bin/ptxas";

/// Architectures, with the kernel that runs on each.
pub const ARCHITECTURES: [(OwnKernel, &str); 12] = [
    (OwnKernel::Sm75, "sm_75"),
    (OwnKernel::Sm80, "sm_80"),
    (OwnKernel::Sm80, "sm_89"),
    (OwnKernel::Sm80, "sm_90"),
    (OwnKernel::Sm80, "sm_100"),
    (OwnKernel::Sm80, "sm_120"),
    (OwnKernel::Codecs, "sm_75"),
    (OwnKernel::Codecs, "sm_80"),
    (OwnKernel::Codecs, "sm_89"),
    (OwnKernel::Codecs, "sm_90"),
    (OwnKernel::Codecs, "sm_100"),
    (OwnKernel::Codecs, "sm_120"),
];

/// The version of one of the CUDA toolkit's programs.
pub fn version(program: &Path) -> String {
    let text = run(Command::new(program).arg("--version"));
    let version = text.lines().find_map(|l| l.split_once(", V"));
    version.unwrap().1.to_owned()
}

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

/// Types of output.
pub const OUTPUTS: [OutputType; 3] = [OutputType::Bf16, OutputType::F16, OutputType::F32];

/// Every entry point, in the order of the source.
pub fn entry_points(own: OwnKernel) -> Vec<String> {
    let plain = [2, 4]
        .into_iter()
        .flat_map(|bits| GROUP_SIZES.map(|n| Layout::new(bits, n).unwrap()));
    let blocks = BlockType::ALL.map(|block| block.codec().layout);
    let others = every_codec().into_iter().map(|(_, codec)| codec.layout);
    let last = others.filter(|layout| layout.scales().scaling == Scaling::After);
    let mut last: Vec<Layout> = last.collect();
    last.sort_by_key(|layout| layout.bits());
    let layouts: Vec<Layout> = blocks.into_iter().chain(last).chain(plain).collect();
    let mut names = Vec::new();
    for variant in [Variant::Single, Variant::Pairs] {
        for layout in &layouts {
            for output in OUTPUTS {
                if own.variants(*layout, output).contains(&variant) {
                    let name = own.entry(variant, *layout, output);
                    // That for other codecs has one for groups of any size.
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
        }
    }
    names
}

/// Whether a golden table has an entry point: of the kernel for other codecs those that return BF16 are enough.
pub fn is_listed(own: OwnKernel, entry: &str) -> bool {
    own != OwnKernel::Codecs || entry.ends_with("_bf16")
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

/// What defines the kernel at `source` for the emulation.
pub fn define(kernel: &str, source: &Path) -> String {
    format!("-DTQ4_{kernel}=\"{}\"", source.display())
}

/// [`define`] of one of this project's.
pub fn define_own(own: OwnKernel, source: &Path) -> String {
    let kernel = match own {
        OwnKernel::Sm75 => "SM75",
        OwnKernel::Sm80 => "SM80",
        OwnKernel::Codecs => "CODECS",
    };
    define(kernel, source)
}

/// The command that compiles `file` of tests/emulation around the kernels that are defined.
pub fn compile(cxx: &str, defined: &[String], file: &str, output: &Path) -> Command {
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
        .args(defined)
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
