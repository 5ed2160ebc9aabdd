// TQ4 dequantisation, plainly: one invocation decodes one group, by the very loops of src/reference/scalar.rs.
// `tq4 validate --kernel examples/kernels/plain_wgpu.toml` runs it beside tq4's own shader: where both are
// wrong, look at the driver; where only that one is, at its optimisations.

override N: u32;
override STORED_BITS: u32;

struct Sizes { groups: u32, groups_per_row: u32, groups_in_x: u32, sqrt_n: f32 }

@group(0) @binding(0) var<storage, read> packed: array<u32>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;     // two f16 a word
@group(0) @binding(2) var<storage, read> signs: array<u32>;      // four i8 a word
@group(0) @binding(3) var<storage, read> centroids: array<f32, 16>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;  // two BF16 a word
@group(0) @binding(5) var<uniform> sizes: Sizes;

// f16 to f32, exact, of a scale: no infinity, no NaN, not negative but for -0.
fn decode_f16(half: u32) -> f32 {
    let exponent = (half >> 10u) & 31u;
    let mantissa = half & 1023u;
    return select(bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u)),
                  f32(mantissa) * 5.9604644775390625e-8, exponent == 0u);
}

// To nearest, ties to even; there is no NaN.
fn round_bf16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

@compute @workgroup_size(64)
fn plain_dequant(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.y * sizes.groups_in_x + id.x;
    if group >= sizes.groups || id.x >= sizes.groups_in_x { return; }
    var x: array<f32, 256>;

    // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
    let scale = decode_f16((scales[group / 2u] >> (16u * (group & 1u))) & 0xffffu);
    for (var k = 0u; k < N; k++) {
        let shift = (group * N + k) % (32u / STORED_BITS) * STORED_BITS;
        let word = packed[(group * N + k) / (32u / STORED_BITS)];
        let code = (word >> shift) & ((1u << STORED_BITS) - 1u);
        x[k] = centroids[code] * scale;
    }

    // 4. inverse FWHT: butterflies, division by sqrt(n), sign
    for (var stride = 1u; stride < N; stride *= 2u) {
        for (var k = 0u; k < N; k++) {
            if (k & stride) != 0u { continue; }
            let a = x[k];
            let b = x[k + stride];
            x[k] = a + b;
            x[k + stride] = a - b;
        }
    }
    for (var k = 0u; k < N; k += 2u) {
        let column = group % sizes.groups_per_row * N + k;
        let sign = bitcast<vec2<i32>>(vec2(signs[column / 4u]) << (vec2(24u, 16u) - 8u * (column & 2u)));
        let value = vec2(x[k], x[k + 1u]) / sizes.sqrt_n * vec2<f32>(sign >> vec2(24u));
        out[(group * N + k) / 2u] = round_bf16(value.x) | (round_bf16(value.y) << 16u);
    }
}
