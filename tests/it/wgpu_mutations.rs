//! Mistakes in the shader, each caught by what a lane must do.

use crate::support::lane::{check_all, random_strips, ties};
use crate::wgpu::{OUTPUTS, adapters, variants};
use tq4::lane::Lane;
use tq4::lane::wgpu::{Options, Select, Wgpu, shader};
use tq4::record::LaneName;

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
        "upper lane sign across invocations",
        "select(1.0, -1.0, upper)",
        "select(-1.0, 1.0, upper)",
    ),
    (
        "lower minus upper across invocations",
        "return other + mine",
        "return other - mine",
    ),
    (
        "first shuffled stage dropped",
        "stride = 1u;",
        "stride = 2u;",
    ),
    (
        "last shuffled stage dropped",
        "stride < min(REACH, N / 8u)",
        "2u * stride < min(REACH, N / 8u)",
    ),
    ("shuffles beyond the group", "min(REACH, N / 8u)", "REACH"),
    (
        "shuffled stages alike in all invocations",
        "!= 0u;\n        *lo = butterfly",
        "== 1000u;\n        *lo = butterfly",
    ),
    (
        "partner by shuffle, low",
        "subgroupShuffleXor(*lo, stride)",
        "subgroupShuffleXor(*hi, stride)",
    ),
    (
        "partner by shuffle, high",
        "subgroupShuffleXor(*hi, stride)",
        "subgroupShuffleXor(*lo, stride)",
    ),
    (
        "products not handed over, low",
        "*lo = subgroupShuffleXor(*lo, 1u);",
        "",
    ),
    (
        "products not handed over, high",
        "*hi = subgroupShuffleXor(*hi, 1u);",
        "",
    ),
    (
        "products written to the wrong half, low",
        "exchange[lane ^ 1u] = *lo;",
        "exchange[lane ^ 1u] = *hi;",
    ),
    (
        "products written to the wrong half, high",
        "exchange[INVOCATIONS + (lane ^ 1u)] = *hi;",
        "exchange[INVOCATIONS + (lane ^ 1u)] = *lo;",
    ),
    (
        "products not read back, low",
        "*lo = exchange[lane];",
        "*lo = exchange[lane ^ 1u];",
    ),
    (
        "products not read back, high",
        "*hi = exchange[INVOCATIONS + lane];",
        "*hi = exchange[INVOCATIONS + (lane ^ 1u)];",
    ),
    ("a stage dropped", "stride = first;", "stride = 2u * first;"),
    (
        "a stage dropped between shuffles and memory",
        "through_memory(REACH",
        "through_memory(2u * REACH",
    ),
    (
        "the first stage through memory dropped",
        "through_memory(1u",
        "through_memory(2u",
    ),
    (
        "the last stage dropped",
        "stride = first; stride < N / 8u",
        "stride = first; 2u * stride < N / 8u",
    ),
    (
        "stages alike in all invocations",
        "!= 0u;\n        exchange",
        "== 1000u;\n        exchange",
    ),
    (
        "stage written wrongly, low",
        "exchange[half + lane] = *lo;",
        "exchange[half + lane] = *hi;",
    ),
    (
        "stage written wrongly, high",
        "exchange[half + INVOCATIONS + lane] = *hi;",
        "exchange[half + INVOCATIONS + lane] = *lo;",
    ),
    (
        "no barrier in a stage",
        "workgroupBarrier();\n        *lo",
        "*lo",
    ),
    (
        "wrong partner, low",
        "exchange[half + (lane ^ stride)]",
        "exchange[half + lane]",
    ),
    (
        "wrong partner, high",
        "exchange[half + INVOCATIONS + (lane ^ stride)]",
        "exchange[half + INVOCATIONS + lane]",
    ),
    ("halves not taken in turn", "half ^= HALF;", ""),
    (
        "centroids out of order",
        "params.centroids[lane >> 2u][lane & 3u]",
        "params.centroids[lane & 3u][lane >> 2u]",
    ),
    ("half of the table", "if lane < 16u {", "if lane < 8u {"),
    (
        "no barrier after the table",
        "workgroupBarrier();\n\n    let lanes",
        "let lanes",
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
        "round_bf16(hi.x) | (round_bf16(hi.y) << 16u)",
        "round_bf16(hi.y) | (round_bf16(hi.x) << 16u)",
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
    let mut strips = random_strips(13, 24);
    strips.push(ties());
    let of_adapter = variants(&a);
    let mut missed = Vec::new();
    for (what, from, to) in MUTATIONS {
        let has = |subgroups: &bool| shader(*subgroups).contains(from);
        assert!(
            [false, true].iter().any(has),
            "{what}: the shader no longer has {from:?}"
        );
        for subgroups in of_adapter.iter().copied().filter(has) {
            let caught = OUTPUTS.into_iter().any(|output| {
                let options = Options {
                    adapter: Select::Index(a.index),
                    subgroups: Some(subgroups),
                    output,
                    shader: Some(shader(subgroups).replace(from, to)),
                    max_workgroups: Some(3),
                    max_chunk_bytes: Some(12_000),
                    ..Default::default()
                };
                let mut lane = Wgpu::open(&options, LaneName::WGPU).unwrap_or_else(|e| {
                    panic!("{what}: the mutation does not compile, which shows nothing: {e}")
                });
                // No group is smaller than 4 invocations: this changes nothing there.
                *what == "shuffles beyond the group"
                    && lane.info().kernel_variant == "subgroups, reach 4"
                    || check_all(&mut lane, &strips).is_err()
            });
            if !caught {
                missed.push((what, subgroups));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
