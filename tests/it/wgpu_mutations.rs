//! Mistakes in the shader, each caught by what a lane must do. Missing barriers are for [`crate::shader`], which
//! counts them, and [`crate::tint`]: Mesa runs eight invocations in step, and a group has no more.

use crate::support::lane::{check_all, f16_ties, random_strips, strip_of, ties};
use crate::wgpu::{FORMS, OUTPUTS, adapters};
use tq4::format::every_codec;
use tq4::lane::wgpu::{AdapterInfo, SHADER, Select, Wgpu, WgpuOptions};
use tq4::record::{LaneName, OutputType};
use tq4::run::Strip;
use tq4::synthetic::ScaleDistribution;

/// Lines of the shader that compute, broken in one way; all must be caught.
const MUTATIONS: &[(&str, &str, &str)] = &[
    (
        "codes out of order, 0 and 1",
        "table[codes & MASK],\n        table[(codes >> STORED_BITS) & MASK]",
        "table[(codes >> STORED_BITS) & MASK],\n        table[codes & MASK]",
    ),
    ("code 2", "(2u * STORED_BITS)", "(3u * STORED_BITS)"),
    ("code 3", "(3u * STORED_BITS)", "(2u * STORED_BITS)"),
    ("mask of 2-bit codes", "(1u << STORED_BITS) - 1u", "15u"),
    (
        "high codes",
        "eights >> vec4<u32>(4u * STORED_BITS)",
        "eights",
    ),
    (
        "2-bit halves of a vector",
        "select(two.xy, two.zw,",
        "select(two.zw, two.xy,",
    ),
    ("2-bit codes, second half word", "half.x >> 16u", "half.x"),
    ("2-bit codes, last half word", "half.y >> 16u", "half.y"),
    (
        "2-bit codes, second word",
        "half.y, half.y",
        "half.x, half.y",
    ),
    (
        "2-bit codes, vector",
        "packed[codes >> 1u]",
        "packed[codes]",
    ),
    (
        "codes of the group's first invocation",
        "(decoder & (LANES - 1u))",
        "0u",
    ),
    (
        "neighbour's scale",
        "(16u * (i & 1u))",
        "(16u * (1u - (i & 1u)))",
    ),
    ("scale of another group", "scales[i >> 1u]", "scales[0]"),
    (
        "f16 subnormals flushed",
        "f32(mantissa) * 5.9604644775390625e-8",
        "0.0",
    ),
    ("f16 bias", "exponent + 112u", "exponent + 111u"),
    ("f16 mantissa", "mantissa << 13u", "mantissa << 12u"),
    ("scale omitted", "vec4<f32>(s)", "vec4<f32>(1.0)"),
    (
        "scale as an addend",
        "vec4<f32>(params.minus_zero)",
        "vec4<f32>(s)",
    ),
    (
        "handed over: to itself",
        "write_vectors(lane ^ 1u, x)",
        "write_vectors(lane, x)",
    ),
    (
        "handed over: its own",
        "select(lane, lane ^ 1u, HAND_OVER)",
        "lane",
    ),
    (
        "handed over: kept bits",
        "read_vectors(lane, 0u, 7u)",
        "read_vectors(lane, 0u, 5u)",
    ),
    (
        "handed over: row",
        "read_vectors(lane, 0u, 7u)",
        "read_vectors(lane, 1u, 6u)",
    ),
    ("handed over: kept bits of 2", "(2u & kept)", "(0u & kept)"),
    ("stride 1, first pair", "v.x - v.y", "v.y - v.x"),
    ("stride 1, second pair", "v.z + v.w", "v.z - v.w"),
    ("stride 2, first pair", "a.x - a.z", "a.z - a.x"),
    ("stride 2, second pair", "a.y + a.w", "a.y - a.w"),
    (
        "strides in another order",
        "apart_4(apart_2(apart_1(x)))",
        "apart_1(apart_2(apart_4(x)))",
    ),
    ("stride 32 dropped", "x = apart_2(x);", ""),
    ("stride 64 dropped", "if N > 64u {", "if N > 128u {"),
    ("stride 64 of short groups", "if N > 64u {", "if N > 32u {"),
    ("stride 128 dropped", "if N > 128u {", "if N > 256u {"),
    (
        "stride 128 of short groups",
        "if N > 128u {",
        "if N > 64u {",
    ),
    ("no exchange", "if N > 32u {", "if N > 64u {"),
    (
        "taker of the eighth",
        "((k >> 1u) | (k << 2u))",
        "(k >> 1u)",
    ),
    ("taker of a vector", "((k >> 1u) | (k << 2u))", "k"),
    (
        "taken of the eighth",
        "((q << 1u) | (q >> 2u))",
        "(q << 1u)",
    ),
    (
        "taken by others",
        "taken(lane & (LANES - 1u)), KEPT",
        "taken((lane ^ 1u) & (LANES - 1u)), KEPT",
    ),
    ("kept bits", "(LANES - 1u)), KEPT", "(LANES - 1u)), 0u"),
    ("place among the group's", "8u * taker(k)", "4u * taker(k)"),
    ("place among the invocation's", "(k & KEPT)", "k"),
    (
        "place of bits that are given",
        "& ~((LANES - 1u) << 1u)",
        "",
    ),
    (
        "place of the last bit that is given",
        "& ~((LANES - 1u) >> 2u)",
        "",
    ),
    (
        "centroids out of order",
        "params.centroids[lane >> 2u][lane & 3u]",
        "params.centroids[lane & 3u][lane >> 2u]",
    ),
    ("half of the table", "if lane < 16u {", "if lane < 8u {"),
    (
        "no barrier after the table",
        "workgroupBarrier();\n\n    // 1. unpack",
        "// 1. unpack",
    ),
    (
        "signs of another group",
        "params.first_group + group",
        "group",
    ),
    (
        "quotient of the row dropped",
        "+ (middle >> 16u) + (other >> 16u)",
        "",
    ),
    (
        "quotient 1 too small",
        "min(rest, rest - params.groups_per_row)",
        "rest",
    ),
    (
        "truncation",
        "bits + 0x7fffu + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))",
        "bits",
    ),
    (
        "round half up",
        "0x7fffu + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))",
        "0x8000u",
    ),
    (
        "BF16 pair order",
        "(bits.xz >> vec2<u32>(16u)) | (bits.yw",
        "(bits.yw >> vec2<u32>(16u)) | (bits.xz",
    ),
    ("BF16 pair mixed", "0xffff0000u", "0xffff8000u"),
    (
        "signs of pairs",
        "select(eight.xy, eight.zw,",
        "select(eight.zw, eight.xy,",
    ),
    ("signs of eight", "signs[column >> 1u]", "signs[0]"),
    (
        "f32 signs out of order",
        "sign.x << 16u, sign.x,",
        "sign.x, sign.x << 16u,",
    ),
    (
        "f32 signs out of order, second pair",
        "sign.y << 16u, sign.y)",
        "sign.y, sign.y << 16u)",
    ),
    (
        "f32 signs omitted",
        "bitcast<vec4<u32>>(value) ^ bits",
        "bitcast<vec4<u32>>(value)",
    ),
    ("f32 sign bits alone", " & vec4<u32>(0x80000000u)", ""),
    (
        "f32 signs of the first",
        "let sign = signs_of(column + place(k))",
        "let sign = signs_of(column)",
    ),
    ("f32 place", "result[to + place(k)]", "result[to + k]"),
    (
        "half: signs omitted",
        "half_pairs(value) ^ signs_of(column + place(k))",
        "half_pairs(value)",
    ),
    (
        "half: signs of the first",
        "^ signs_of(column + place(k))",
        "^ signs_of(column)",
    ),
    ("half: place", "halves[to + place(k)]", "halves[to + k]"),
    (
        "vectors out of order",
        "half_pairs(lo), half_pairs(hi)",
        "half_pairs(hi), half_pairs(lo)",
    ),
    ("signs omitted", "half_pairs(hi)) ^ sign", "half_pairs(hi))"),
    (
        "signs of the first",
        "signs[(column + place(k)) >> 1u]",
        "signs[column >> 1u]",
    ),
    (
        "stored at the first",
        "result[(to + place(k)) >> 1u]",
        "result[to >> 1u]",
    ),
    (
        "tail unwritten",
        "if group < params.groups {",
        "if group + 1u < params.groups {",
    ),
    ("last group", "params.groups - 1u)", "params.groups - 2u)"),
    (
        "place in the group",
        "let mine = taken(lane & (LANES - 1u));",
        "let mine = 0u;",
    ),
    (
        "second grid dimension",
        "workgroup.y * params.workgroups_x + workgroup.x",
        "workgroup.x",
    ),
    (
        "groups of a workgroup",
        "(INVOCATIONS >> LANE_BITS)",
        "(INVOCATIONS >> 2u)",
    ),
];

/// The same mistake in each of eight lines, or of twelve sums.
fn in_each_line() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let mut add = |what: &str, from: String, to: String| {
        all.push((format!("{what}: {from}"), from, to));
    };
    for k in 0..8 {
        let other = k ^ 1;
        let line = |text: &str| text.replace('#', &k.to_string());
        let s = ["s.x", "s.y", "s.z", "s.w"][k / 2];
        let end = if k == 0 { "] =" } else { ")] =" };
        add(
            "product",
            line(&format!("product(c[#], {s})")),
            format!("product(c[{other}], {s})"),
        );
        add("strides 1 and 2", line("inside(x[#])"), line("x[#]"));
        add("written", line("] = x[#];"), format!("] = x[{other}];"));
        add(
            "column",
            line("taker(#u)]").replace(']', end),
            line("taker(#u) ^ 1u]").replace(']', end),
        );
        add("1/sqrt(n)", line("x[#] * INV_SQRT_N"), line("x[#]"));
        add(
            "stored",
            line("store_f32(to, column, #u, x[#])"),
            format!("store_f32(to, column, {k}u, x[{other}])"),
        );
        add(
            "stored",
            line("store_half(to, column, #u, x[#])"),
            format!("store_half(to, column, {k}u, x[{other}])"),
        );
        if k % 2 == 0 {
            let two = |a, b| format!("store_two(to, column, {k}u, x[{a}], x[{b}])");
            add("stored", two(k, other), two(other, k));
        }
        // Vector 2 is one of those that go together whatever the group: only a hand-over needs the bit.
        if ![0, 2].contains(&k) {
            add("row", line("(#u & kept)"), "(0u & kept)".into());
        }
        for distance in [1, 2, 4].into_iter().filter(|d| k & d == 0) {
            let upper = k + distance;
            let [sum, difference] = ["+", "-"].map(|sign| format!("x[{k}] {sign} x[{upper}]"));
            add("lower", sum, difference.clone());
            add(
                "lower minus upper",
                difference,
                format!("x[{upper}] - x[{k}]"),
            );
        }
    }
    for (x, y) in [("x", "y"), ("y", "z"), ("z", "w"), ("w", "x")] {
        let from = format!("centroids_of_four(eights.{x}), centroids_of_four(upper.{x})");
        add(
            "codes",
            from.clone(),
            from.replace(&format!("upper.{x}"), &format!("upper.{y}")),
        );
        add(
            "codes",
            from.clone(),
            from.replace(&format!("eights.{x}"), &format!("eights.{y}")),
        );
    }
    all
}

/// Lines that serve other layouts than plain ones, or F16, broken in one way. The guard of the scale that comes
/// last is not among them: the drivers here leave that product alone.
const OF_OTHERS: &[(&str, &str, &str)] = &[
    ("3-bit codes as 4", "STORED_BITS == 3u", "STORED_BITS == 5u"),
    ("word of a vector", "[at & 3u]", "[0]"),
    ("vector of a word", "packed[at >> 2u][", "packed[0]["),
    (
        "codes, first word",
        "packed_word(3u * codes);",
        "packed_word(4u * codes);",
    ),
    ("codes, second word", "3u * codes + 1u", "3u * codes"),
    ("codes, third word", "3u * codes + 2u", "3u * codes + 1u"),
    ("second eight, low", "(a >> 24u) | (b << 8u)", "b << 8u"),
    ("second eight, high", "(a >> 24u) | (b << 8u)", "a >> 24u"),
    ("third eight, low", "(b >> 16u) | (c << 16u)", "c << 16u"),
    ("third eight, high", "(b >> 16u) | (c << 16u)", "b >> 16u"),
    ("fourth eight", "c >> 8u", "c"),
    (
        "signs before: 0 and 1",
        "31u, 30u, 29u, 28u",
        "30u, 31u, 29u, 28u",
    ),
    (
        "signs before: 2 and 3",
        "31u, 30u, 29u, 28u",
        "31u, 30u, 28u, 29u",
    ),
    (
        "signs before: all bits",
        "28u)) & vec4<u32>(0x80000000u)",
        "28u))",
    ),
    (
        "signs before: omitted",
        "bitcast<vec4<u32>>(c) ^ signs",
        "bitcast<vec4<u32>>(c)",
    ),
    ("signs before: none", "if SIGNS_BEFORE {", "if false {"),
    (
        "signs before: vector",
        "signs_before[q >> 2u]",
        "signs_before[0]",
    ),
    (
        "signs before: word",
        "signs_before[q >> 2u][q & 3u]",
        "signs_before[q >> 2u][0]",
    ),
    (
        "signs before: part",
        "all_turned(x, decoder & (LANES - 1u))",
        "all_turned(x, 0u)",
    ),
    ("scale's sign", "(half & 0x8000u) << 16u", "0u"),
    ("sign of subnormals", "e-8) | sign)", "e-8))"),
    (
        "sign of others",
        "(mantissa << 13u) | sign",
        "(mantissa << 13u)",
    ),
    ("E3M5: bias", "+ 118u", "+ 119u"),
    ("E3M5: as E4M3", "(byte >> 5u)", "(byte >> 4u)"),
    ("E3M5: mantissa", "(byte & 31u)", "(byte & 15u)"),
    ("E3M5: place of the mantissa", "<< 18u", "<< 17u"),
    ("E3M5: zero", "select(bits, 0u, byte == 0u)", "bits"),
    ("E3M5: as f16", "SCALE_BITS == 8u", "SCALE_BITS == 7u"),
    ("E3M5: word", "scales[i >> 2u]", "scales[0]"),
    ("E3M5: byte", "(8u * (i & 3u))", "0u"),
    ("E3M5: bits", "& 0xffu", "& 0x7fu"),
    ("f32 scale as f16", "SCALE_BITS == 32u", "SCALE_BITS == 31u"),
    ("f32 scale of another group", "(scales[i])", "(scales[0])"),
    ("four scales as one", "SHARED == 8u", "SHARED == 7u"),
    (
        "four scales: of another block",
        "let i = 4u * codes;",
        "let i = codes;",
    ),
    ("four scales: second", "scale_at(i + 1u)", "scale_at(i)"),
    ("four scales: third", "scale_at(i + 2u)", "scale_at(i)"),
    ("four scales: fourth", "scale_at(i + 3u)", "scale_at(i)"),
    ("two scales as one", "SHARED == 16u", "SHARED == 15u"),
    (
        "two scales: first",
        "scale_at(2u * codes),",
        "scale_at(2u * codes + 1u),",
    ),
    (
        "two scales: second",
        "scale_at(2u * codes + 1u)",
        "scale_at(2u * codes)",
    ),
    ("two scales: alternating", ".xxyy", ".xyxy"),
    ("scale of an invocation", "codes >> SHARED_BITS", "codes"),
    ("scale twice", "if !SCALE_AFTER {", "if true {"),
    ("scale never", "if SCALE_AFTER {", "if false {"),
    (
        "scale after: omitted",
        "(params.zero)) * s",
        "(params.zero))",
    ),
    ("F16 as BF16", "OUT == 2u", "OUT == 3u"),
    (
        "F16: pair order",
        "bits.xz | (bits.yw",
        "bits.yw | (bits.xz",
    ),
    ("F16: exponent", "vec4<u32>(255u)", "vec4<u32>(127u)"),
    ("F16: significand", "(bits & vec4<u32>(0x7fffffu))", "bits"),
    ("F16: first bit", " | vec4<u32>(0x800000u)", ""),
    ("F16: bits that go", "126u - clamp", "125u - clamp"),
    ("F16: far below", "vec4<u32>(95u)", "vec4<u32>(103u)"),
    (
        "F16: above 2^-14",
        "vec4<u32>(113u));\n    let below",
        "vec4<u32>(112u));\n    let below",
    ),
    ("F16: truncation", "(significand + below)", "significand"),
    ("F16: half up", "(shift - 1u)) - 1u", "(shift - 1u))"),
    (
        "F16: half down",
        "- 1u + ((significand >> shift) & vec4<u32>(1u))",
        "- 1u",
    ),
    (
        "F16: subnormal",
        "(max(exponent, vec4<u32>(113u)) - 113u)",
        "(exponent - 113u)",
    ),
    (
        "F16: place of the exponent",
        "<< vec4<u32>(10u)",
        "<< vec4<u32>(11u)",
    ),
    ("F16: infinity", "min(half, vec4<u32>(0x7c00u))", "half"),
    ("F16: sign", "& vec4<u32>(0x8000u)", "& vec4<u32>(0u)"),
];

/// The same mistake in each of eight lines of those.
fn in_each_line_of_others() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for k in 0..8 {
        let (s, other) = (["x", "y", "z", "w"][k / 2], ["y", "x", "w", "z"][k / 2]);
        let shift = |k| match k {
            0 => "bits)".to_owned(),
            k => format!("bits >> {}u)", 4 * k),
        };
        for (what, from, to) in [
            (
                "scale",
                format!("product(c[{k}], s.{s})"),
                format!("product(c[{k}], s.{other})"),
            ),
            (
                "signs before",
                format!("turned(c[{k}], {}", shift(k)),
                format!("turned(c[{k}], {}", shift(k ^ 1)),
            ),
            (
                "scale after",
                format!("product_after(x[{k}], scale.x)"),
                format!("x[{k}]"),
            ),
        ] {
            all.push((format!("{what}: {from}"), from, to));
        }
    }
    all
}

/// Whether what a lane must do finds the shader's mistake on one of the strips.
fn caught(
    a: &AdapterInfo,
    what: &str,
    text: &str,
    form: bool,
    outputs: &[OutputType],
    strips: &[Strip],
) -> bool {
    outputs.iter().any(|output| {
        let options = WgpuOptions {
            adapter: Select::Index(a.index),
            hand_over: Some(form),
            output: *output,
            shader: Some(text.to_owned()),
            max_workgroups: Some(2),
            max_chunk_bytes: Some(12_000),
            ..Default::default()
        };
        let mut lane = Wgpu::open(&options, LaneName::Wgpu).unwrap_or_else(|e| {
            panic!("{what}: the mutation does not compile, which shows nothing: {e}")
        });
        check_all(&mut lane, strips).is_err()
    })
}

#[test]
fn every_mutation_of_what_other_layouts_take_is_caught() {
    let Some(a) = adapters().into_iter().next() else {
        return;
    };
    let codecs = every_codec().into_iter().filter(|(name, _)| {
        let few = [
            "3 bits, group 32",
            "2 bits, group 64",
            "4 bits, group 128",
            "3 bits, group 256",
        ];
        let native = few.map(|few| format!("tq3_native, {few}"));
        name.starts_with("TQ") || native.contains(name)
    });
    let of = |(i, (_, codec))| strip_of(i, &codec, 19, 3, ScaleDistribution::Any);
    let mut strips: Vec<Strip> = (20..).zip(codecs).map(of).collect();
    assert_eq!(strips.len(), 7);
    strips.push(f16_ties());
    let outputs = [OutputType::F16, OutputType::F32];
    let lines = OF_OTHERS.iter();
    let lines = lines.map(|(what, from, to)| [what, from, to].map(|t| t.to_string()));
    let lines = lines.chain(
        in_each_line_of_others()
            .into_iter()
            .map(<[String; 3]>::from),
    );
    let missed = lines.filter(|[what, from, to]| {
        assert!(
            SHADER.contains(from),
            "{what}: the shader no longer has {from:?}"
        );
        !caught(
            &a,
            what,
            &SHADER.replace(from, to),
            false,
            &outputs,
            &strips,
        )
    });
    let missed: Vec<String> = missed.map(|[what, ..]| what).collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

#[test]
fn every_mutation_of_the_shader_is_caught() {
    let Some(a) = adapters().into_iter().next() else {
        return;
    };
    // Small grids and chunks, so that the lines which serve them are exercised as well.
    let mut strips = random_strips(13, 24);
    strips.push(ties());
    let mut missed = Vec::new();
    let lines = MUTATIONS.iter();
    let lines = lines.map(|(what, from, to)| [what, from, to].map(|t| t.to_string()));
    for [what, from, to] in lines.chain(in_each_line().into_iter().map(<[String; 3]>::from)) {
        assert!(
            SHADER.contains(&from),
            "{what}: the shader no longer has {from:?}"
        );
        // What only one of the forms does is caught in that one.
        for form in FORMS
            .into_iter()
            .filter(|f| *f || !what.starts_with("handed over"))
        {
            let caught = caught(
                &a,
                &what,
                &SHADER.replace(&from, &to),
                form,
                &OUTPUTS,
                &strips,
            );
            if !caught {
                missed.push((what.clone(), form));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}
