//! The committed PTX is made from the committed sources, runs on old drivers and spills no register.

use crate::support::{cuda, not_run, root, tool};
use libloading::{Library, Symbol};
use sha2::{Digest, Sha256};
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use tq4::lane::cuda::OwnKernel;

/// PTX 8.0 is read by the drivers of CUDA 12.0 and later: 525.60.13 on Linux.
const ISA: &str = "8.0";
const MARK: &str = "// source sha256: ";
#[test]
fn ptx_is_of_this_source_and_for_old_drivers() {
    for own in OwnKernel::ALL {
        let ptx = cuda::ptx(own);
        let found = ptx.lines().last().unwrap().strip_prefix(MARK).unwrap();
        let digest = Sha256::digest(cuda::source(own));
        let expected: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            found, expected,
            "the PTX of {own:?} is stale: run kernels/build_ptx.py"
        );

        let lines: Vec<&str> = ptx.lines().collect();
        assert!(lines.contains(&format!(".version {ISA}").as_str()));
        let (major, minor) = own.capability();
        assert!(lines.contains(&format!(".target sm_{major}{minor}").as_str()));
        let entries: Vec<&str> = lines
            .iter()
            .filter_map(|l| l.strip_prefix(".visible .entry "))
            .map(|l| l.trim_end_matches('('))
            .collect();
        assert_eq!(entries, cuda::entry_points(own));
    }
}

/// Fused operations are those that are written so: the division's, by the upper part of 1/sqrt(n), which may be
/// chosen among several, and the butterflies' between lanes, with a factor of 1 or -1.
#[test]
fn ptx_rounds_each_operation_singly() {
    /// 1/sqrt(n) in f32, n = 32, 64, 128, 256.
    const UPPER_PARTS: [&str; 4] = ["0f3E3504F3", "0f3E000000", "0f3DB504F3", "0f3D800000"];
    const ONES: [&str; 2] = ["0fBF800000", "0f3F800000"];
    for own in OwnKernel::ALL {
        let mut rounded = 0;
        let mut factors = std::collections::BTreeSet::<String>::new();
        let ptx = cuda::ptx(own);
        for (i, line) in ptx.lines().enumerate() {
            // Registers are counted from the start in each entry point.
            if line.contains(".entry") {
                factors.clear();
            }
            let words = line.split([' ', '\t', ',', ';']);
            let words: Vec<&str> = words.filter(|w| !w.is_empty()).collect();
            let place = format!("{own:?}, line {}: {line}", i + 1);
            let upper = |w: &&str| UPPER_PARTS.contains(w) || factors.contains(*w);
            let exact = match words.first() {
                Some(&"mov.f32") => UPPER_PARTS.contains(&words[2]),
                Some(&"selp.f32") => {
                    ONES.iter().all(|one| words.contains(one)) || words[2..4].iter().all(upper)
                }
                _ => false,
            };
            if exact {
                factors.insert(words[1].to_owned());
            }
            for op in words.iter().take_while(|w| !w.starts_with("//")) {
                let float = op.ends_with(".f32") || op.ends_with(".f64");
                let written =
                    *op == "fma.rn.f32" && words[2..4].iter().any(|w| factors.contains(*w));
                let fused = (op.starts_with("fma") && !written) || (op.starts_with("mad") && float);
                let loose = op.contains(".ftz") || op.contains(".approx");
                assert!(!fused && !loose, "{place}");
                // Without `.rn` the driver's compiler may fuse a multiplication with an addition.
                if ["add.", "sub.", "mul."].iter().any(|o| op.starts_with(o)) && float {
                    assert!(op.contains(".rn."), "{place}");
                    rounded += 1;
                }
            }
        }
        assert!(rounded > 1000, "{rounded} operations found");
    }
}

#[test]
fn ptx_is_what_the_compiler_makes_of_the_source() {
    let what = "PTX against a fresh compilation";
    let Some(path) = cuda::nvrtc(what) else {
        return;
    };
    for own in OwnKernel::ALL {
        let ptx = cuda::ptx(own);
        let (committed, _) = ptx.split_once(MARK).unwrap();
        compare(own, what, &compile_ptx(&path, own), committed);
    }
}

fn compare(own: OwnKernel, what: &str, fresh: &str, committed: &str) {
    let version = |ptx: &str| {
        ptx.lines()
            .find(|l| l.contains("Cuda compilation tools"))
            .unwrap_or("no version")
            .trim_start_matches("// ")
            .to_owned()
    };
    if version(fresh) != version(committed) {
        let found = version(fresh);
        not_run(&format!("{what} (found {found})"), cuda::GET_NVRTC);
        return;
    }
    assert!(
        fresh.trim_end() == committed.trim_end(),
        "the PTX of {own:?} differs from what its source compiles to: run kernels/build_ptx.py"
    );
}

#[test]
fn no_entry_point_spills() {
    let what = "register use by ptxas";
    let Some(ptxas) = tool("TQ4_PTXAS", what, cuda::GET_PTXAS) else {
        return;
    };
    let version = cuda::version(&ptxas);
    let mut table = format!("ptxas {version}\n");
    for (own, arch) in cuda::ARCHITECTURES {
        let out = Command::new(&ptxas)
            .args(["-v", "-arch", arch, "-o", "/dev/null"])
            .arg(cuda::path(own).with_extension("ptx"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{arch}: {text}");
        let mut rows = resources(arch, &text);
        rows.sort();
        assert_eq!(rows.len(), cuda::entry_points(own).len(), "{arch}: {text}");
        rows.retain(|(name, ..)| cuda::is_listed(own, name));
        for (name, registers, shared) in rows {
            writeln!(table, "{arch} {name} {registers} registers {shared} shared").unwrap();
        }
    }
    let golden = root().join("tests/golden/ptxas.txt");
    if std::env::var_os("TQ4_UPDATE_GOLDEN").is_some_and(|v| !v.is_empty()) {
        std::fs::write(&golden, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    if expected.lines().next() != table.lines().next() {
        not_run(
            &format!("register counts (found {version})"),
            cuda::GET_PTXAS,
        );
        return;
    }
    assert_eq!(
        table, expected,
        "look at the change, then accept it with TQ4_UPDATE_GOLDEN=1"
    );
}

/// Name, registers and shared bytes of each entry point; fails on spills and stack.
fn resources(arch: &str, text: &str) -> Vec<(String, u32, u32)> {
    let mut rows = Vec::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            name = rest.split('\'').next().unwrap().to_owned();
        } else if line.contains("bytes stack frame") {
            assert_eq!(
                line.trim(),
                "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
                "{arch} {name}"
            );
        } else if line.contains("Used ") {
            let number = |unit: &str| {
                line.split([',', ':'])
                    .find_map(|part| part.trim().strip_suffix(unit))
                    .map_or(0, |n| n.trim_start_matches("Used ").trim().parse().unwrap())
            };
            rows.push((name.clone(), number("registers"), number("bytes smem")));
        }
    }
    rows
}

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;

/// What kernels/build_ptx.py does.
fn compile_ptx(library: &Path, own: OwnKernel) -> String {
    let source = CString::new(cuda::source(own)).unwrap();
    let name = CString::new(format!("{}.cu", cuda::name(own))).unwrap();
    let (major, minor) = own.capability();
    let architecture = format!("--gpu-architecture=compute_{major}{minor}");
    let architecture = CString::new(architecture).unwrap();
    let options = [&*architecture, c"--fmad=false"].map(|o| o.as_ptr());
    // SAFETY: the declarations are those of nvrtc.h, every string ends in NUL, and the buffer has the
    // size that NVRTC gave.
    unsafe {
        // NVRTC opens its companion by name: loading that first lets it be found.
        let builtins: Vec<Library> = std::fs::read_dir(library.parent().unwrap())
            .unwrap()
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.to_string_lossy().contains("libnvrtc-builtins.so"))
            .map(|p| Library::new(p).unwrap())
            .collect();
        let nvrtc = Library::new(library).unwrap();
        let create: Symbol<Create> = nvrtc.get(b"nvrtcCreateProgram").unwrap();
        let compile: Symbol<Compile> = nvrtc.get(b"nvrtcCompileProgram").unwrap();
        let size: Symbol<Size> = nvrtc.get(b"nvrtcGetPTXSize").unwrap();
        let get: Symbol<Get> = nvrtc.get(b"nvrtcGetPTX").unwrap();
        let mut program = std::ptr::null_mut();
        let none = std::ptr::null();
        assert_eq!(
            create(&mut program, source.as_ptr(), name.as_ptr(), 0, none, none),
            0
        );
        assert_eq!(
            compile(program, 2, options.as_ptr()),
            0,
            "nvrtcCompileProgram"
        );
        let mut bytes = 0;
        assert_eq!(size(program, &mut bytes), 0);
        let mut ptx = vec![0u8; bytes];
        assert_eq!(get(program, ptx.as_mut_ptr().cast()), 0);
        drop(builtins);
        ptx.retain(|&b| b != 0);
        String::from_utf8(ptx).unwrap()
    }
}
