//! Manifests, right and wrong.

use super::{Argument, Manifest, Part, ScalarValue, Shape};
use crate::error::{Error, Result};
use crate::record::OutputType;
use crate::tensor::Layout;
use proptest::prelude::*;

const CUDA: &str = "name = 'mine'
source = 'k.cu'
entry = 'k_b{bits}_g{group_size}'
arguments = ['packed', 'scales', 'signs', 'centroids', 'out', 'u32:rows', 'f32:1/sqrt(group_size)', 'u64:elements']
grid = ['(groups + 127) / 128', 2]
block = 128
output = 'f16'
[defines]
N = 'group_size'
FAST = true
";

const WGSL: &str = "name = 'mine'
source = 'k.wgsl'
entry = 'main'
arguments = ['packed', 'out', { uniform = ['u32:groups', 'centroids', 'i32:-1'] }]
grid = 'groups'
overrides = { N = 'group_size' }
";

/// A folder with a manifest and empty sources.
fn read(text: &str) -> Result<Manifest> {
    let dir = tempfile::tempdir().unwrap();
    for source in ["k.cu", "k.ptx", "k.cubin", "k.wgsl"] {
        std::fs::write(dir.path().join(source), "text").unwrap();
    }
    std::fs::write(dir.path().join("bad.cu"), [0xFF]).unwrap();
    let path = dir.path().join("k.toml");
    std::fs::write(&path, text).unwrap();
    Manifest::read(&path)
}

fn shape() -> Shape {
    Shape {
        rows: 300,
        cols: 256,
        layout: Layout::new(3, 64).unwrap(),
    }
}

#[test]
fn a_manifest_says_what_a_kernel_is_launched_with() {
    let m = read(CUDA).unwrap();
    assert_eq!(
        (m.name().to_string(), m.output()),
        ("mine".into(), OutputType::F16)
    );
    assert_eq!(m.entry(&shape()).unwrap(), "k_b3_g64");
    let constants = [("FAST".to_owned(), 1.0), ("N".to_owned(), 64.0)];
    assert_eq!(m.constants(&shape()).unwrap(), constants);
    let launch = m.launch(&shape(), &[0.0; 16], [1000; 3]).unwrap();
    assert_eq!((launch.grid, launch.block), ([10, 2, 1], [128, 1, 1]));
    let values = [
        ScalarValue::from(300),
        ScalarValue::word(0.125f32.to_le_bytes()),
        ScalarValue {
            bytes: 76_800u64.to_le_bytes(),
            size: 8,
        },
    ];
    let parts = [
        Part::Packed,
        Part::Scales,
        Part::Signs,
        Part::Centroids,
        Part::Out,
    ];
    let expected = parts
        .map(Argument::Part)
        .into_iter()
        .chain(values.map(Argument::Value));
    assert_eq!(launch.arguments, expected.collect::<Vec<_>>());
}

#[test]
fn a_uniform_struct_lies_as_wgsl_has_it() {
    let centroids: [f32; 16] = std::array::from_fn(|i| i as f32);
    let launch = read(WGSL)
        .unwrap()
        .launch(&shape(), &centroids, [2000; 3])
        .unwrap();
    let Argument::Uniform(bytes) = &launch.arguments[2] else {
        panic!("{launch:?}");
    };
    assert_eq!(bytes.len(), 16 + 64 + 16);
    assert_eq!(bytes[..4], 1200u32.to_le_bytes());
    assert_eq!(bytes[16 + 12..][..4], 3f32.to_le_bytes());
    assert_eq!(bytes[80..84], (-1i32).to_le_bytes());
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let replaced = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for (text, from, to, line, what) in [
        (
            CUDA,
            "name = 'mine'",
            "name = mine",
            1,
            "string values must be quoted",
        ),
        (CUDA, "name = 'mine'\n", "", 1, "missing field `name`"),
        (CUDA, "'mine'", "'cuda'", 1, "one of tq4's own lanes"),
        (
            CUDA,
            "'mine'",
            "'a b'",
            1,
            "expected a name of at most 64 letters",
        ),
        (CUDA, "output", "outputs", 7, "unknown field `outputs`"),
        (CUDA, "'f16'", "'f8'", 7, "output \"f8\" found"),
        (
            CUDA,
            "k.cu",
            "k.cpp",
            2,
            "expected a name that ends with .cu",
        ),
        (CUDA, "k.cu", "bad.cu", 2, "is no text"),
        (CUDA, "{bits}", "{bit}", 3, "uses bit"),
        (CUDA, "{bits}", "{bits", 3, "is no expression"),
        (CUDA, "{bits}", "bits}", 3, "a brace that does not begin"),
        (CUDA, "'out'", "'output'", 4, "no argument \"output\""),
        (CUDA, ", 'out'", "", 4, "have to name \"out\" once"),
        (CUDA, "'signs'", "'out'", 4, "have to name \"out\" once"),
        (CUDA, "u32:rows", "u8:rows", 4, "no type \"u8\""),
        (CUDA, "u32:rows", "u32:rows +", 4, "is no expression"),
        (CUDA, "'signs'", "1", 4, "type integer found"),
        (
            CUDA,
            "'signs'",
            "{ uniform = ['u32:rows'] }",
            4,
            "is for WGSL",
        ),
        (CUDA, ", 2]", ", 2, 1, 1]", 5, "grid has 4 sizes"),
        (
            CUDA,
            "(groups + 127) / 128",
            "group",
            5,
            "uses group, expected sizes",
        ),
        (CUDA, "block = 128\n", "", 5, "grid is there without block"),
        (CUDA, "block = 128", "block = 'x'", 6, "uses x"),
        (CUDA, "[defines]", "[overrides]", 8, "overrides is for WGSL"),
        (CUDA, "FAST = true", "FAST = []", 10, "FAST has type array"),
        (WGSL, "grid", "block = 64\ngrid", 5, "@workgroup_size"),
        (WGSL, "overrides", "defines", 6, "defines is for CUDA C++"),
        (
            WGSL,
            "grid",
            "options = ['-G']\ngrid",
            5,
            "options is for CUDA C++",
        ),
        (
            WGSL,
            "grid",
            "shared_memory = 1\ngrid",
            5,
            "shared_memory is for CUDA",
        ),
        (
            WGSL,
            "'packed'",
            "'u32:rows'",
            4,
            "a shader gets in { uniform",
        ),
        (WGSL, "uniform =", "uniforms =", 4, "expected { uniform"),
        (WGSL, "i32:-1", "u64:rows", 4, "WGSL has no type"),
        (WGSL, "i32:-1", "packed", 4, "in a uniform struct"),
    ] {
        let e = read(&replaced(text, from, to)).unwrap_err();
        let p = e.problem();
        assert!(matches!(e, Error::Input(_)), "{to}: {e}");
        assert!(p.what.contains(what), "{to}: {e}");
        assert!(p.place.ends_with(&format!("k.toml:{line}")), "{to}: {e}");
    }
    let e = read(&replaced(CUDA, "k.cu", "none.cu")).unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e}");
    assert!(read("\u{0}").is_err());
}

#[test]
fn sizes_that_no_device_takes_are_said_with_their_line() {
    for (from, to, line, what) in [
        (
            "(groups + 127) / 128",
            "rows - 300",
            5,
            "grid is 0 in x (\"rows - 300\" for 300 x 256)",
        ),
        (", 2]", ", 'elements']", 5, "grid is 76800 in y"),
        ("128\noutput", "2048\noutput", 6, "block is 2048 in x"),
        (
            "128\noutput",
            "[64, 64]\noutput",
            6,
            "a block of 4096 threads",
        ),
        ("u32:rows", "u32:-rows", 4, "is -300, which is no u32"),
        ("u32:rows", "u32:rows / 2.0", 4, "is no integer"),
        ("u32:rows", "u32:1 / (rows - 300)", 4, "divides by zero"),
        (
            "block = 128",
            "block = 128\nshared_memory = '-1'",
            7,
            "-1 bytes of shared memory",
        ),
    ] {
        let m = read(&CUDA.replacen(from, to, 1)).unwrap();
        let e = m.launch(&shape(), &[0.0; 16], [65_535; 3]).unwrap_err();
        assert!(e.problem().what.contains(what), "{to}: {e}");
        assert!(
            e.problem().place.ends_with(&format!("k.toml:{line}")),
            "{to}: {e}"
        );
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(
        at in 0usize..CUDA.len(),
        len in 0usize..12,
        what in "\\PC{0,8}",
        wgsl in any::<bool>(),
    ) {
        let mut text = if wgsl { WGSL } else { CUDA }.to_owned();
        let at = at.min(text.len());
        text.replace_range(at..(at + len).min(text.len()), &what);
        if let Ok(m) = read(&text) {
            let _ = m.launch(&shape(), &[0.0; 16], [65_535; 3]);
            let _ = (m.entry(&shape()), m.constants(&shape()));
        }
    }
}
