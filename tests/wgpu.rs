//! The wgpu lane against the reference, on every adapter of this machine and on SwiftShader.

#[path = "support/lane.rs"]
mod lane;

use lane::{check, check_all, layouts, not_run, random_tensors};
use tq4::Error;
use tq4::backend::wgpu::{AdapterInfo, Options, SHADER, Select, Wgpu, list};
use tq4::backend::{Backend, dequantize_bf16};
use tq4::synthetic::{self, Rng, Scales};
use tq4::tensor::Layout;

/// Adapters of this machine; says so when there is none.
fn adapters() -> Vec<AdapterInfo> {
    let all = list();
    if all.is_empty() {
        not_run(
            "wgpu",
            "no adapter (Debian: mesa-vulkan-drivers libvulkan1)",
        );
    }
    all
}

fn open(index: usize, change: impl Fn(&mut Options)) -> Wgpu {
    let mut options = Options {
        adapter: Select::Index(index),
        ..Default::default()
    };
    change(&mut options);
    Wgpu::open(&options, "wgpu").unwrap_or_else(|e| panic!("adapter {index}: {e}"))
}

#[test]
fn a_hundred_random_tensors_match_the_reference() {
    for a in adapters() {
        eprintln!("on {}", a.name);
        check_all(&mut open(a.index, |_| ()), &random_tensors(11, 100))
            .unwrap_or_else(|e| panic!("{}: {e}", a.name));
    }
}

#[test]
fn small_limits_cut_a_tensor_into_chunks_that_match() {
    for a in adapters() {
        // 4096 bytes hold 16 groups of 128 BF16, 8 of f32; 1 x 1 workgroups hold 1024 elements.
        for (bytes, workgroups) in [(4096, u32::MAX), (u64::MAX, 1), (u64::MAX, 2), (6000, 3)] {
            let mut lane = open(a.index, |o| {
                o.max_chunk_bytes = Some(bytes);
                o.max_workgroups = Some(workgroups);
            });
            check_all(&mut lane, &random_tensors(12, 24))
                .unwrap_or_else(|e| panic!("{}, {bytes} bytes, {workgroups}: {e}", a.name));
        }
        let t = synthetic::tensor(
            &mut Rng::new(1),
            Layout::new(4, 128).unwrap(),
            33,
            1024,
            Scales::Usual,
        )
        .unwrap();
        let mut lane = open(a.index, |o| o.max_chunk_bytes = Some(4096));
        let mut out = vec![half::bf16::ZERO; t.elements()];
        let cost = lane
            .dequantize(&t, tq4::backend::OutMut::Bf16(&mut out))
            .unwrap();
        assert_eq!(cost.launches, (33 * 8usize).div_ceil(16) as u32);
    }
}

#[test]
fn a_tensor_beyond_the_binding_limit_and_65535_groups_goes_through() {
    for a in adapters() {
        let layout = Layout::new(4, 32).unwrap();
        // 36 Mi elements: 1.1 million groups, 144 MiB of f32; llvmpipe binds 128 MiB at most.
        let t = synthetic::tensor(&mut Rng::new(2), layout, 9001, 4096, Scales::Usual).unwrap();
        check(&mut open(a.index, |_| ()), &t).unwrap_or_else(|e| panic!("{}: {e}", a.name));
    }
}

/// Each line of the shader that computes, broken in one way; all must be caught.
const MUTATIONS: &[(&str, &str, &str)] = &[
    ("lower minus upper", "hi = a - hi;", "hi = hi - a;"),
    ("stride 1, first pair", "lo.x - lo.y", "lo.y - lo.x"),
    (
        "stride 1, second pair",
        "hi.z - hi.w);\n    lo",
        "hi.z + hi.w);\n    lo",
    ),
    ("stride 2, first pair", "lo.x - lo.z", "lo.z - lo.x"),
    (
        "stride 2, second pair",
        "hi.y - hi.w);\n    let a",
        "hi.y + hi.w);\n    let a",
    ),
    ("stride 4 dropped", "lo = a + hi;", "lo = a;"),
    (
        "upper lane sign across lanes",
        "lo = other_lo - lo;",
        "lo = lo - other_lo;",
    ),
    (
        "upper lane sign across lanes, high",
        "hi = other_hi - hi;",
        "hi = hi - other_hi;",
    ),
    (
        "lower lane across lanes",
        "hi = hi + other_hi;",
        "hi = hi - other_hi;",
    ),
    ("a stage dropped", "var stride = 1u;", "var stride = 2u;"),
    (
        "the last stage dropped",
        "stride < lanes_per_group;",
        "2u * stride < lanes_per_group;",
    ),
    (
        "wrong partner",
        "let other_hi = exchange[half + INVOCATIONS + (lane ^ stride)]",
        "let other_hi = exchange[half + INVOCATIONS + lane]",
    ),
    (
        "halves not taken in turn, no second barrier",
        "params.centroids[code >> 2u][code & 3u]",
        "params.centroids[code & 3u][code >> 2u]",
    ),
    (
        "nibbles swapped",
        "centroid(codes & mask),\n        centroid((codes >> STORED_BITS) & mask)",
        "centroid((codes >> STORED_BITS) & mask),\n        centroid(codes & mask)",
    ),
    (
        "high codes",
        "centroids_of(codes >> (4u * STORED_BITS))",
        "centroids_of(codes)",
    ),
    ("2-bit half word", ">> (16u * (eight & 1u))", ""),
    (
        "neighbour's scale",
        "(16u * (decoded & 1u))",
        "(16u * (1u - (decoded & 1u)))",
    ),
    ("scale omitted, low", "c_lo * scale", "c_lo"),
    ("scale omitted, high", "c_hi * scale", "c_hi"),
    (
        "f16 subnormals flushed",
        "f32(mantissa) * 5.9604644775390625e-8",
        "0.0",
    ),
    ("f16 bias", "exponent + 112u", "exponent + 111u"),
    ("f16 mantissa", "mantissa << 13u", "mantissa << 12u"),
    ("1/sqrt(n) omitted", "hi * INV_SQRT_N", "hi"),
    (
        "signs omitted",
        "lo * INV_SQRT_N * signs_of(signs[sign_word])",
        "lo * INV_SQRT_N",
    ),
    (
        "signs of the neighbour",
        "signs[sign_word + 1u]",
        "signs[sign_word]",
    ),
    (
        "signs out of order",
        "word << 24u, word << 16u",
        "word << 16u, word << 24u",
    ),
    (
        "signs of another group",
        "params.first_group + min(group, last)",
        "min(group, last)",
    ),
    ("signs of the row", "% params.groups_per_row", "% 1u"),
    (
        "truncation",
        "bits + 0x7fffu + ((bits >> 16u) & 1u)",
        "bits",
    ),
    ("round half up", "0x7fffu + ((bits >> 16u) & 1u)", "0x8000u"),
    (
        "BF16 pair order",
        "bf16_bits(hi.x) | (bf16_bits(hi.y) << 16u)",
        "bf16_bits(hi.y) | (bf16_bits(hi.x) << 16u)",
    ),
    (
        "f32 halves",
        "result[2u * index + 1u]",
        "result[2u * index]",
    ),
    ("tail unwritten", "if group <= last {", "if group < last {"),
    (
        "decoded group clamped wrong",
        "let last = params.groups - 1u;",
        "let last = params.groups - 2u;",
    ),
    (
        "second grid dimension",
        "workgroup.y * params.workgroups_x + workgroup.x",
        "workgroup.x",
    ),
];

#[test]
fn every_mutation_of_the_shader_is_caught() {
    let Some(a) = adapters().into_iter().next() else {
        return;
    };
    // Small grids and chunks, so that the lines which serve them are exercised as well.
    let mut tensors = random_tensors(13, 24);
    tensors.push(ties());
    let mut missed = Vec::new();
    for (what, from, to) in MUTATIONS {
        assert!(
            SHADER.contains(from),
            "{what}: the shader no longer has {from:?}"
        );
        let lane = Wgpu::open(
            &Options {
                adapter: Select::Index(a.index),
                shader: Some(SHADER.replace(from, to)),
                max_workgroups: Some(3),
                max_chunk_bytes: Some(12_000),
                ..Default::default()
            },
            "wgpu",
        );
        let caught = match lane {
            Ok(mut lane) => check_all(&mut lane, &tensors).is_err(),
            Err(e) => panic!("{what}: the mutation does not compile, which shows nothing: {e}"),
        };
        if !caught {
            missed.push(what);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Outputs that lie halfway between two BF16 values: one group per row, every centroid a small
/// integer and 1/sqrt(n) a power of two, so that sums have few bits more than BF16.
fn ties() -> tq4::tensor::TqTensor<'static> {
    use tq4::codebook::Codebook;
    use tq4::tensor::{Parts, TqTensor};
    let layout = Layout::new(4, 64).unwrap();
    let book = Codebook::new((0..16).map(|i| i as f32).collect(), None).unwrap();
    let mut rng = Rng::new(3);
    let packed: Vec<u8> = (0..64 * 32).map(|_| (rng.next_u64() >> 56) as u8).collect();
    TqTensor::new(
        "ties",
        layout,
        [64, 64],
        Parts {
            packed: packed.into(),
            scales: vec![half::f16::from_f32(3.0); 64].into(),
            signs: rng.signs(64).into(),
        },
        std::sync::Arc::new(book),
    )
    .unwrap()
}

#[test]
fn a_shader_that_does_not_compile_is_an_error_not_a_panic() {
    let Some(a) = adapters().into_iter().next() else {
        return;
    };
    let options = Options {
        adapter: Select::Index(a.index),
        shader: Some("this is no shader".into()),
        ..Default::default()
    };
    assert!(matches!(
        Wgpu::open(&options, "wgpu"),
        Err(Error::Backend(_))
    ));
}

#[test]
fn an_adapter_that_is_not_there_is_named_with_those_that_are() {
    let all = adapters();
    let Some(a) = all.first() else { return };
    for select in [Select::Index(99), Select::Name("no such adapter".into())] {
        let options = Options {
            adapter: select,
            ..Default::default()
        };
        let Err(e @ Error::Input(_)) = Wgpu::open(&options, "wgpu") else {
            panic!("an adapter was found that is not there");
        };
        assert!(e.to_string().contains(&a.name), "{e}");
    }
    let name = a.name[..4].to_uppercase();
    assert!(
        Wgpu::open(
            &Options {
                adapter: Select::Name(name),
                ..Default::default()
            },
            "wgpu"
        )
        .is_ok()
    );
}

#[test]
fn the_noop_backend_computes_nothing_and_fails() {
    let mut lane = Wgpu::open(
        &Options {
            noop: true,
            ..Default::default()
        },
        "wgpu",
    )
    .unwrap();
    for layout in layouts() {
        let t = synthetic::tensor(&mut Rng::new(4), layout, 3, 512, Scales::Usual).unwrap();
        assert!(check(&mut lane, &t).is_err());
    }
}

#[test]
fn results_are_the_same_every_time() {
    for a in adapters() {
        let t = &random_tensors(14, 3)[2];
        let mut lane = open(a.index, |_| ());
        let first = dequantize_bf16(&mut lane, t).unwrap();
        for _ in 0..5 {
            assert_eq!(dequantize_bf16(&mut lane, t).unwrap(), first);
        }
    }
}

/// Runs this file's other tests once more with SwiftShader as the only Vulkan driver.
#[test]
fn swiftshader_passes_the_same_tests() {
    const ICD: &str = "TQ4_SWIFTSHADER_ICD";
    const INNER: &str = "TQ4_INNER_SWIFTSHADER";
    if std::env::var_os(INNER).is_some() {
        let names: Vec<String> = list().into_iter().map(|a| a.name).collect();
        assert!(names.iter().any(|n| n.contains("SwiftShader")), "{names:?}");
        return;
    }
    let Some(icd) = std::env::var_os(ICD) else {
        not_run(
            "wgpu on SwiftShader",
            "set TQ4_SWIFTSHADER_ICD to its ICD file (see .ci/run)",
        );
        return;
    };
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .env("VK_DRIVER_FILES", icd)
        .env(INNER, "1")
        .env(lane::REQUIRE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
