// TQ4 dequantisation: unpack, centroid lookup, scale, inverse FWHT.
//
// The same text as kernels/tq4_dequant.cu and src/reference/scalar.rs. One invocation holds eight
// consecutive elements of a group in registers; N / 8 invocations make a group, a workgroup of 128
// holds 1024 / N groups. Butterflies of stride 1, 2 and 4 stay in registers. The others are between
// invocations: exchange_workgroup.wgsl or exchange_subgroup.wgsl stands before this text and says how.
// Groups are numbered flat, row by row, from the chunk's first.
//
// Least bytes moved per element: STORED_BITS / 8 of codes, 2 / N of scales, 2 of BF16.

override N: u32 = 128u;              // elements per group
override STORED_BITS: u32 = 4u;      // bits per stored code: 4 or 2
override INV_SQRT_N: f32 = 0.088388346;
override OUT_F32: bool = false;      // f32 before rounding in place of BF16

struct Params {
    groups: u32,            // groups in this chunk
    groups_per_row: u32,
    first_group: u32,       // the chunk's first group, modulo groups_per_row
    workgroups_x: u32,      // the dispatch is two-dimensional
    centroids: array<vec4<f32>, 4>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> packed: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;      // two f16 a word
@group(0) @binding(3) var<storage, read> signs: array<u32>;       // four i8 a word
@group(0) @binding(4) var<storage, read_write> result: array<vec4<u32>>;

const INVOCATIONS: u32 = 128u;
// Two halves of 2 x 128 vectors, used in turn, so that one barrier a stage is enough.
const HALF: u32 = 256u;
var<workgroup> exchange: array<vec4<f32>, 512>;

// The centroids: lookups differ from invocation to invocation, which uniform memory serves one by one.
var<workgroup> table: array<f32, 16>;

fn centroid(code: u32) -> f32 {
    return table[code];
}

fn centroids_of(codes: u32) -> vec4<f32> {
    let mask = (1u << STORED_BITS) - 1u;
    return vec4<f32>(
        centroid(codes & mask),
        centroid((codes >> STORED_BITS) & mask),
        centroid((codes >> (2u * STORED_BITS)) & mask),
        centroid((codes >> (3u * STORED_BITS)) & mask),
    );
}

// By integers: unpack2x16float may flush f16 subnormals, and scales have them.
fn decode_f16(half: u32) -> f32 {
    let exponent = (half >> 10u) & 31u;
    let mantissa = half & 1023u;
    if exponent == 0u {
        return f32(mantissa) * 5.9604644775390625e-8;
    }
    return bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
}

// Nearest, ties to even. Values are finite: scales and centroids are checked when a model is read.
fn round_bf16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn bf16_pairs(lo: vec4<f32>, hi: vec4<f32>) -> vec4<u32> {
    return vec4<u32>(
        round_bf16(lo.x) | (round_bf16(lo.y) << 16u),
        round_bf16(lo.z) | (round_bf16(lo.w) << 16u),
        round_bf16(hi.x) | (round_bf16(hi.y) << 16u),
        round_bf16(hi.z) | (round_bf16(hi.w) << 16u),
    );
}

// Lower gets a + b, upper a - b: lower minus upper. A product with 1 or -1 is exact, so that a compiler
// may fuse it into the add and change nothing.
fn butterfly(mine: vec4<f32>, other: vec4<f32>, upper: bool) -> vec4<f32> {
    return other + mine * select(1.0, -1.0, upper);
}

// Between invocations, from the stride `first` on, in invocations; one barrier a stage.
fn butterflies_through_memory(
    first: u32,
    lane: u32,
    lo: ptr<function, vec4<f32>>,
    hi: ptr<function, vec4<f32>>,
) {
    var half = HALF;
    for (var stride = first; stride < N / 8u; stride <<= 1u) {
        let upper = (lane & stride) != 0u;
        exchange[half + lane] = *lo;
        exchange[half + INVOCATIONS + lane] = *hi;
        workgroupBarrier();
        *lo = butterfly(*lo, exchange[half + (lane ^ stride)], upper);
        *hi = butterfly(*hi, exchange[half + INVOCATIONS + (lane ^ stride)], upper);
        half ^= HALF;
    }
}

fn signs_of(word: u32) -> vec4<f32> {
    let bytes = bitcast<vec4<i32>>(vec4<u32>(word << 24u, word << 16u, word << 8u, word));
    return vec4<f32>(bytes >> vec4<u32>(24u));
}

@compute @workgroup_size(128)
fn tq4_dequant(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if lane < 16u {
        table[lane] = params.centroids[lane >> 2u][lane & 3u];
    }
    workgroupBarrier();

    let lanes_per_group = N / 8u;
    let workgroup_index = workgroup.y * params.workgroups_x + workgroup.x;
    let workgroup_group = workgroup_index * (8u * INVOCATIONS / N);
    // Invocations past the last group work on it again and store nothing: they must meet the barriers.
    let last = params.groups - 1u;

    // 1. unpack. Each invocation decodes its neighbour's eight codes and hands the products over: no
    // compiler can then fuse the multiply of step 3 into the adds of step 4, or take the scale out of their
    // sums, as Mesa does.
    let neighbour = lane ^ 1u;
    let decoded = min(workgroup_group + neighbour / lanes_per_group, last);
    let eight = decoded * lanes_per_group + neighbour % lanes_per_group;
    var codes: u32;
    if STORED_BITS == 4u {
        codes = packed[eight];
    } else {
        codes = packed[eight >> 1u] >> (16u * (eight & 1u));
    }

    // 2. centroid lookup
    let c_lo = centroids_of(codes);
    let c_hi = centroids_of(codes >> (4u * STORED_BITS));

    // 3. scale (one f32 rounding)
    let scale = decode_f16((scales[decoded >> 1u] >> (16u * (decoded & 1u))) & 0xffffu);
    var lo = c_lo * scale;
    var hi = c_hi * scale;
    hand_over(lane, &lo, &hi);

    // 4. inverse FWHT: butterflies, division by sqrt(n), sign
    lo = vec4<f32>(lo.x + lo.y, lo.x - lo.y, lo.z + lo.w, lo.z - lo.w);
    hi = vec4<f32>(hi.x + hi.y, hi.x - hi.y, hi.z + hi.w, hi.z - hi.w);
    lo = vec4<f32>(lo.x + lo.z, lo.y + lo.w, lo.x - lo.z, lo.y - lo.w);
    hi = vec4<f32>(hi.x + hi.z, hi.y + hi.w, hi.x - hi.z, hi.y - hi.w);
    let a = lo;
    lo = a + hi;
    hi = a - hi;
    butterflies_across(lane, &lo, &hi);
    // Division as a multiplication.
    let group = workgroup_group + lane / lanes_per_group;
    let lane_in_group = lane % lanes_per_group;
    let column_group = (params.first_group + min(group, last)) % params.groups_per_row;
    let sign_word = 2u * (column_group * lanes_per_group + lane_in_group);
    lo = lo * INV_SQRT_N * signs_of(signs[sign_word]);
    hi = hi * INV_SQRT_N * signs_of(signs[sign_word + 1u]);

    // Round to BF16 and store, 16 bytes at a time.
    if group <= last {
        let index = group * lanes_per_group + lane_in_group;
        if OUT_F32 {
            result[2u * index] = bitcast<vec4<u32>>(lo);
            result[2u * index + 1u] = bitcast<vec4<u32>>(hi);
        } else {
            result[index] = bf16_pairs(lo, hi);
        }
    }
}
