// TQ4 dequantisation: unpack, centroid lookup, scale, inverse FWHT.
//
// The same text as kernels/tq4_dequant_sm80.cu and src/reference/scalar.rs. One invocation decodes 32 consecutive
// elements of a group into eight vectors of four; N / 32 invocations make a group, a workgroup of 64 has
// 2048 elements. Butterflies of stride 1 to 16 stay in registers. Then the invocations of a group exchange
// vectors, once, and those of stride 32 to 128 stay in registers as well. Groups are numbered flat, row by
// row, from the chunk's first.
//
// Least bytes moved per element: STORED_BITS / 8 of codes, 2 / N of scales, 2 of BF16. Per element 3 words of
// workgroup memory: a centroid is read, a value written and read. Two barriers.

override N: u32 = 128u;              // elements per group
override STORED_BITS: u32 = 4u;      // bits per stored code: 4 or 2
override INV_SQRT_N: f32 = 0.088388346;
override OUT_F32: bool = false;      // f32 before rounding in place of BF16
override HAND_OVER: bool = false;    // another invocation multiplies, where `product` is not safe from the driver

override LANES: u32 = N / 32u;       // invocations per group, and as a power of two
override LANE_BITS: u32 = firstTrailingBit(LANES);
override MASK: u32 = (1u << STORED_BITS) - 1u;
override KEPT: u32 = 7u & ~((LANES - 1u) << 1u) & ~((LANES - 1u) >> 2u);   // see the exchange

struct Params {
    groups: u32,            // groups in this chunk
    groups_per_row: u32,
    reciprocal: u32,        // (2^32 - 1) / groups_per_row
    first_group: u32,       // the chunk's first group, modulo groups_per_row
    workgroups_x: u32,      // the dispatch is two-dimensional
    minus_zero: f32,        // -0.0, which no compiler knows
    centroids: array<vec4<f32>, 4>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> packed: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;           // two f16 a word
@group(0) @binding(3) var<storage, read> signs: array<vec4<u32>>;      // of eight columns; bits 15 and 31
@group(0) @binding(4) var<storage, read_write> result: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> halves: array<vec2<u32>>;    // in its place, see below

alias Vectors = array<vec4<f32>, 8>;

const INVOCATIONS: u32 = 64u;
// 8 KB: eight rows of vectors.
var<workgroup> exchange: array<vec4<f32>, 512>;

// The centroids: lookups differ from invocation to invocation, which uniform memory serves one by one.
var<workgroup> table: array<f32, 16>;

fn centroids_of_four(codes: u32) -> vec4<f32> {
    return vec4<f32>(
        table[codes & MASK],
        table[(codes >> STORED_BITS) & MASK],
        table[(codes >> (2u * STORED_BITS)) & MASK],
        table[(codes >> (3u * STORED_BITS)) & MASK],
    );
}

fn centroids_of(eights: vec4<u32>) -> Vectors {
    let upper = eights >> vec4<u32>(4u * STORED_BITS);
    return Vectors(
        centroids_of_four(eights.x), centroids_of_four(upper.x),
        centroids_of_four(eights.y), centroids_of_four(upper.y),
        centroids_of_four(eights.z), centroids_of_four(upper.z),
        centroids_of_four(eights.w), centroids_of_four(upper.w),
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

// The product rounded once, whether a driver fuses or not: with c * s + -0.0 nothing is left to fuse into the
// adds of step 4, or to take out of their sums, as Mesa does.
fn product(c: vec4<f32>, s: f32) -> vec4<f32> {
    return fma(c, vec4<f32>(s), vec4<f32>(params.minus_zero));
}

fn products(c: Vectors, s: f32) -> Vectors {
    return Vectors(
        product(c[0], s), product(c[1], s), product(c[2], s), product(c[3], s),
        product(c[4], s), product(c[5], s), product(c[6], s), product(c[7], s),
    );
}

// Butterflies: lower gets a + b, upper a - b, lower minus upper. Strides 1 and 2, in a vector.
fn inside(v: vec4<f32>) -> vec4<f32> {
    let a = vec4<f32>(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    return vec4<f32>(a.x + a.z, a.y + a.w, a.x - a.z, a.y - a.w);
}

// Between vectors one, two, four apart.
fn apart_1(x: Vectors) -> Vectors {
    return Vectors(
        x[0] + x[1], x[0] - x[1], x[2] + x[3], x[2] - x[3],
        x[4] + x[5], x[4] - x[5], x[6] + x[7], x[6] - x[7],
    );
}

fn apart_2(x: Vectors) -> Vectors {
    return Vectors(
        x[0] + x[2], x[1] + x[3], x[0] - x[2], x[1] - x[3],
        x[4] + x[6], x[5] + x[7], x[4] - x[6], x[5] - x[7],
    );
}

fn apart_4(x: Vectors) -> Vectors {
    return Vectors(
        x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7],
        x[0] - x[4], x[1] - x[5], x[2] - x[6], x[3] - x[7],
    );
}

// The exchange: of a vector's number k, as many bits as number a group's invocations change places with them,
// bit 1 first, then 2, then 0, so that an invocation ends with eight elements in succession while it can. It
// gives vector k to invocation `taker(k)` of its group; invocation q takes those with the bits `taken(q)`, and
// any in the bits KEPT.
fn taker(k: u32) -> u32 {
    return ((k >> 1u) | (k << 2u)) & (LANES - 1u);
}

fn taken(q: u32) -> u32 {
    return ((q << 1u) | (q >> 2u)) & 7u;
}

// What vector k is after the exchange, among all of its group, less the bits taken.
fn place(k: u32) -> u32 {
    return 8u * taker(k) + (k & KEPT);
}

// Row k has vector k of all, its columns exchanged by the taker's number: eight invocations in succession
// write, and read, in eight columns that differ modulo 8, each 16 bytes of its own 4 of 32 banks.
fn write_vectors(lane: u32, x: Vectors) {
    exchange[lane ^ taker(0u)] = x[0];
    exchange[INVOCATIONS + (lane ^ taker(1u))] = x[1];
    exchange[2u * INVOCATIONS + (lane ^ taker(2u))] = x[2];
    exchange[3u * INVOCATIONS + (lane ^ taker(3u))] = x[3];
    exchange[4u * INVOCATIONS + (lane ^ taker(4u))] = x[4];
    exchange[5u * INVOCATIONS + (lane ^ taker(5u))] = x[5];
    exchange[6u * INVOCATIONS + (lane ^ taker(6u))] = x[6];
    exchange[7u * INVOCATIONS + (lane ^ taker(7u))] = x[7];
}

// From rows with the bits `first` and `kept` ones; what is got as vector k is of invocation `taker(k)`.
fn read_vectors(lane: u32, first: u32, kept: u32) -> Vectors {
    let row = first * INVOCATIONS;
    return Vectors(
        exchange[row + (lane ^ taker(0u))],
        exchange[row + (1u & kept) * INVOCATIONS + (lane ^ taker(1u))],
        exchange[row + (2u & kept) * INVOCATIONS + (lane ^ taker(2u))],
        exchange[row + (3u & kept) * INVOCATIONS + (lane ^ taker(3u))],
        exchange[row + (4u & kept) * INVOCATIONS + (lane ^ taker(4u))],
        exchange[row + (5u & kept) * INVOCATIONS + (lane ^ taker(5u))],
        exchange[row + (6u & kept) * INVOCATIONS + (lane ^ taker(6u))],
        exchange[row + (7u & kept) * INVOCATIONS + (lane ^ taker(7u))],
    );
}

// Gives each invocation of a pair what the other has, in places that it may write to next without a barrier:
// nobody else reads there.
fn hand_over(lane: u32, x: Vectors) -> Vectors {
    write_vectors(lane ^ 1u, x);
    workgroupBarrier();
    return read_vectors(lane, 0u, 7u);
}

// Upper half of the product: WGSL has the lower. No sum is more than (2^16 - 1)^2 + 2^16 - 1.
fn high_product(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

// Modulo groups_per_row: the reciprocal is at most 1 less than 2^32 / groups_per_row, hence the quotient, of
// any u32, right or 1 too small, and `rest` below 2 * groups_per_row.
fn column_group(group: u32) -> u32 {
    let rest = group - high_product(group, params.reciprocal) * params.groups_per_row;
    return min(rest, rest - params.groups_per_row);
}

// Nearest, ties to even, in the upper halves. Values are finite: scales and centroids are checked when a model
// is read.
fn round_bf16(value: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(value);
    return bits + 0x7fffu + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u));
}

fn bf16_pairs(value: vec4<f32>) -> vec2<u32> {
    let bits = round_bf16(value);
    return (bits.xz >> vec2<u32>(16u)) | (bits.yw & vec2<u32>(0xffff0000u));
}

// The sign words of four columns.
fn signs_of(column: u32) -> vec2<u32> {
    let eight = signs[column >> 1u];
    return select(eight.xy, eight.zw, (column & 1u) != 0u);
}

// Stores vector k; `to` and `column` are where vector 0 of the invocation goes, in the result and in a row.
fn store_f32(to: u32, column: u32, k: u32, value: vec4<f32>) {
    let sign = signs_of(column + place(k));
    let bits = vec4<u32>(sign.x << 16u, sign.x, sign.y << 16u, sign.y) & vec4<u32>(0x80000000u);
    result[to + place(k)] = bitcast<vec4<u32>>(value) ^ bits;
}

fn store_half(to: u32, column: u32, k: u32, value: vec4<f32>) {
    halves[to + place(k)] = bf16_pairs(value) ^ signs_of(column + place(k));
}

// Stores vectors k and k + 1, which follow each other, as BF16: 16 bytes at a time.
fn store_two(to: u32, column: u32, k: u32, lo: vec4<f32>, hi: vec4<f32>) {
    let sign = signs[(column + place(k)) >> 1u];
    result[(to + place(k)) >> 1u] = vec4<u32>(bf16_pairs(lo), bf16_pairs(hi)) ^ sign;
}

fn first_group(workgroup: vec3<u32>) -> u32 {
    let index = workgroup.y * params.workgroups_x + workgroup.x;
    return index * (INVOCATIONS >> LANE_BITS);
}

// The steps, less the signs.
fn dequantised(workgroup: vec3<u32>, lane: u32) -> Vectors {
    if lane < 16u {
        table[lane] = params.centroids[lane >> 2u][lane & 3u];
    }
    workgroupBarrier();

    // 1. unpack. Invocations past the last group work on it again, and store nothing: they must meet the
    // barriers.
    let decoder = select(lane, lane ^ 1u, HAND_OVER);
    let decoded = min(first_group(workgroup) + (decoder >> LANE_BITS), params.groups - 1u);
    let codes = (decoded << LANE_BITS) + (decoder & (LANES - 1u));
    var eights: vec4<u32>;
    if STORED_BITS == 4u {
        eights = packed[codes];
    } else {
        let two = packed[codes >> 1u];
        let half = select(two.xy, two.zw, (codes & 1u) != 0u);
        eights = vec4<u32>(half.x, half.x >> 16u, half.y, half.y >> 16u);
    }

    // 2. centroid lookup
    let c = centroids_of(eights);

    // 3. scale (one f32 rounding)
    let scale = decode_f16((scales[decoded >> 1u] >> (16u * (decoded & 1u))) & 0xffffu);
    var x = products(c, scale);
    if HAND_OVER {
        x = hand_over(lane, x);
    }

    // 4. inverse FWHT: butterflies, division by sqrt(n), sign
    x = Vectors(
        inside(x[0]), inside(x[1]), inside(x[2]), inside(x[3]),
        inside(x[4]), inside(x[5]), inside(x[6]), inside(x[7]),
    );
    x = apart_4(apart_2(apart_1(x)));
    if N > 32u {
        write_vectors(lane, x);
        workgroupBarrier();
        x = read_vectors(lane, taken(lane & (LANES - 1u)), KEPT);
        // Strides 32, 64 and 128: the bits 0, 1 and 2 of `taker`.
        x = apart_2(x);
        if N > 64u {
            x = apart_4(x);
        }
        if N > 128u {
            x = apart_1(x);
        }
    }
    // Division as a multiplication.
    return Vectors(
        x[0] * INV_SQRT_N, x[1] * INV_SQRT_N, x[2] * INV_SQRT_N, x[3] * INV_SQRT_N,
        x[4] * INV_SQRT_N, x[5] * INV_SQRT_N, x[6] * INV_SQRT_N, x[7] * INV_SQRT_N,
    );
}

// Round to BF16, put the signs on, and store.
@compute @workgroup_size(64)
fn tq4_dequant(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x = dequantised(workgroup, lane);
    let group = first_group(workgroup) + (lane >> LANE_BITS);
    if group < params.groups {
        let mine = taken(lane & (LANES - 1u));
        let to = group * (N / 4u) + mine;
        let column = column_group(params.first_group + group) * (N / 4u) + mine;
        if OUT_F32 {
            store_f32(to, column, 0u, x[0]);
            store_f32(to, column, 1u, x[1]);
            store_f32(to, column, 2u, x[2]);
            store_f32(to, column, 3u, x[3]);
            store_f32(to, column, 4u, x[4]);
            store_f32(to, column, 5u, x[5]);
            store_f32(to, column, 6u, x[6]);
            store_f32(to, column, 7u, x[7]);
        } else {
            store_two(to, column, 0u, x[0], x[1]);
            store_two(to, column, 2u, x[2], x[3]);
            store_two(to, column, 4u, x[4], x[5]);
            store_two(to, column, 6u, x[6], x[7]);
        }
    }
}

// Groups of 256 as BF16: the exchange leaves an invocation four elements in succession, 8 bytes. An entry point
// of its own, because one may not have both types of the result: and a part of a vec4 may not be written while
// another invocation writes the rest.
@compute @workgroup_size(64)
fn tq4_dequant_256(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x = dequantised(workgroup, lane);
    let group = first_group(workgroup) + (lane >> LANE_BITS);
    if group < params.groups {
        let mine = taken(lane & (LANES - 1u));
        let to = group * (N / 4u) + mine;
        let column = column_group(params.first_group + group) * (N / 4u) + mine;
        store_half(to, column, 0u, x[0]);
        store_half(to, column, 1u, x[1]);
        store_half(to, column, 2u, x[2]);
        store_half(to, column, 3u, x[3]);
        store_half(to, column, 4u, x[4]);
        store_half(to, column, 5u, x[5]);
        store_half(to, column, 6u, x[6]);
        store_half(to, column, 7u, x[7]);
    }
}
