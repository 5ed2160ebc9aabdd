// TQ4 dequantisation: unpack, centroid lookup, scale, inverse FWHT; of some layouts with signs before the
// transform, or with the scale after it.
//
// The same text as kernels/tq4_dequant_sm80.cu and src/reference/scalar.rs. One invocation decodes 32 consecutive
// elements of a group into eight vectors of four; N / 32 invocations make a group, a workgroup of 64 has
// 2048 elements. Butterflies of stride 1 to 16 stay in registers. Then the invocations of a group exchange
// vectors, once, and those of stride 32 to 128 stay in registers as well. Groups are numbered flat, row by
// row, from the chunk's first.
//
// Least bytes moved per element: STORED_BITS / 8 of codes, SCALE_BITS / 8 / SHARED of scales, 2 of BF16. Per
// element 3 words of workgroup memory: a centroid is read, a value written and read. Two barriers.

override N: u32 = 128u;              // elements per group
override STORED_BITS: u32 = 4u;      // bits per stored code: 4, 2, or 3 without gaps
override SCALE_BITS: u32 = 16u;      // bits per scale: 16 of f16, 32 of f32, 8 of E3M5
override SHARED: u32 = N;            // elements that share a scale: a power of two, 8 to N
override SIGNS_BEFORE: bool = false; // signs before the transform as well as after
override SCALE_AFTER: bool = false;  // the scale, a group's only one, after the transform
override INV_SQRT_N: f32 = 0.088388346;
override OUT: u32 = 0u;              // 0 BF16, 1 f32 before rounding, 2 F16
override HAND_OVER: bool = false;    // another invocation multiplies, where `product` is not safe from the driver

override LANES: u32 = N / 32u;       // invocations per group, and as a power of two
override LANE_BITS: u32 = firstTrailingBit(LANES);
override MASK: u32 = (1u << STORED_BITS) - 1u;
override SHARED_BITS: u32 = firstTrailingBit(max(SHARED, 32u)) - 5u;
override KEPT: u32 = 7u & ~((LANES - 1u) << 1u) & ~((LANES - 1u) >> 2u);   // see the exchange

struct Params {
    groups: u32,            // groups in this chunk
    groups_per_row: u32,
    reciprocal: u32,        // (2^32 - 1) / groups_per_row
    first_group: u32,       // the chunk's first group, modulo groups_per_row
    workgroups_x: u32,      // the dispatch is two-dimensional
    minus_zero: f32,        // -0.0, which no compiler knows
    zero: u32,              // nor this
    centroids: array<vec4<f32>, 4>,
    signs_before: array<vec4<u32>, 2>,    // of a group, low bits first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> packed: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;           // 32 / SCALE_BITS a word
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

fn packed_word(at: u32) -> u32 {
    return packed[at >> 2u][at & 3u];
}

// Eight codes a word, of those of 2 and 3 bits with others behind them.
fn unpacked(codes: u32) -> vec4<u32> {
    if STORED_BITS == 4u {
        return packed[codes];
    }
    if STORED_BITS == 3u {
        let a = packed_word(3u * codes);
        let b = packed_word(3u * codes + 1u);
        let c = packed_word(3u * codes + 2u);
        return vec4<u32>(a, (a >> 24u) | (b << 8u), (b >> 16u) | (c << 16u), c >> 8u);
    }
    let two = packed[codes >> 1u];
    let half = select(two.xy, two.zw, (codes & 1u) != 0u);
    return vec4<u32>(half.x, half.x >> 16u, half.y, half.y >> 16u);
}

// Bit i of `bits` set: component i turned around.
fn turned(c: vec4<f32>, bits: u32) -> vec4<f32> {
    let signs = (vec4<u32>(bits) << vec4<u32>(31u, 30u, 29u, 28u)) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(c) ^ signs);
}

// With the signs before the transform of the group's part `q`.
fn all_turned(c: Vectors, q: u32) -> Vectors {
    let bits = params.signs_before[q >> 2u][q & 3u];
    return Vectors(
        turned(c[0], bits), turned(c[1], bits >> 4u), turned(c[2], bits >> 8u), turned(c[3], bits >> 12u),
        turned(c[4], bits >> 16u), turned(c[5], bits >> 20u), turned(c[6], bits >> 24u), turned(c[7], bits >> 28u),
    );
}

// By integers: unpack2x16float may flush f16 subnormals, and scales have them.
fn decode_f16(half: u32) -> f32 {
    let exponent = (half >> 10u) & 31u;
    let mantissa = half & 1023u;
    let sign = (half & 0x8000u) << 16u;
    if exponent == 0u {
        return bitcast<f32>(bitcast<u32>(f32(mantissa) * 5.9604644775390625e-8) | sign);
    }
    return bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u) | sign);
}

// 0, or (1 + mantissa / 32) * 2^(exponent - 9).
fn decode_e3m5(byte: u32) -> f32 {
    let bits = (((byte >> 5u) + 118u) << 23u) | ((byte & 31u) << 18u);
    return bitcast<f32>(select(bits, 0u, byte == 0u));
}

fn scale_at(i: u32) -> f32 {
    if SCALE_BITS == 32u {
        return bitcast<f32>(scales[i]);
    }
    if SCALE_BITS == 8u {
        return decode_e3m5((scales[i >> 2u] >> (8u * (i & 3u))) & 0xffu);
    }
    return decode_f16((scales[i >> 1u] >> (16u * (i & 1u))) & 0xffffu);
}

// The scale of each eight of the 32 elements `codes`.
fn scales_of(codes: u32) -> vec4<f32> {
    if SHARED == 8u {
        let i = 4u * codes;
        return vec4<f32>(scale_at(i), scale_at(i + 1u), scale_at(i + 2u), scale_at(i + 3u));
    }
    if SHARED == 16u {
        return vec2<f32>(scale_at(2u * codes), scale_at(2u * codes + 1u)).xxyy;
    }
    return vec4<f32>(scale_at(codes >> SHARED_BITS));
}

// The product rounded once, whether a driver fuses or not: with c * s + -0.0 nothing is left to fuse into the
// adds of step 4, or to take out of their sums, as Mesa does.
fn product(c: vec4<f32>, s: f32) -> vec4<f32> {
    return fma(c, vec4<f32>(s), vec4<f32>(params.minus_zero));
}

fn products(c: Vectors, s: vec4<f32>) -> Vectors {
    return Vectors(
        product(c[0], s.x), product(c[1], s.x), product(c[2], s.y), product(c[3], s.y),
        product(c[4], s.z), product(c[5], s.z), product(c[6], s.w), product(c[7], s.w),
    );
}

// The product with the scale that comes last. What it multiplies is a product with a constant: between them
// stands a zero from the uniform, put in by integers, so that no driver multiplies scale and constant first. Nothing
// follows but integers.
fn product_after(x: vec4<f32>, s: f32) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) | vec4<u32>(params.zero)) * s;
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

// Nearest, ties to even, in the lower halves; by integers, because pack2x16float may round otherwise and flush.
// Of the significand go 13 bits, below 2^-14 one more for each power of two, till nothing is left. What is too
// large becomes infinity.
fn round_f16(value: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let exponent = (bits >> vec4<u32>(23u)) & vec4<u32>(255u);
    let significand = (bits & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let shift = 126u - clamp(exponent, vec4<u32>(95u), vec4<u32>(113u));
    let below = (vec4<u32>(1u) << (shift - 1u)) - 1u + ((significand >> shift) & vec4<u32>(1u));
    let half = ((significand + below) >> shift) + ((max(exponent, vec4<u32>(113u)) - 113u) << vec4<u32>(10u));
    return min(half, vec4<u32>(0x7c00u)) | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
}

fn half_pairs(value: vec4<f32>) -> vec2<u32> {
    if OUT == 2u {
        let bits = round_f16(value);
        return bits.xz | (bits.yw << vec2<u32>(16u));
    }
    return bf16_pairs(value);
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
    halves[to + place(k)] = half_pairs(value) ^ signs_of(column + place(k));
}

// Stores vectors k and k + 1, which follow each other, as BF16 or F16: 16 bytes at a time.
fn store_two(to: u32, column: u32, k: u32, lo: vec4<f32>, hi: vec4<f32>) {
    let sign = signs[(column + place(k)) >> 1u];
    result[(to + place(k)) >> 1u] = vec4<u32>(half_pairs(lo), half_pairs(hi)) ^ sign;
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
    let eights = unpacked(codes);

    // 2. centroid lookup
    var x = centroids_of(eights);

    // 3. scale (one f32 rounding), sign before the transform
    let scale = scales_of(codes);
    if !SCALE_AFTER {
        x = products(x, scale);
    }
    if SIGNS_BEFORE {
        x = all_turned(x, decoder & (LANES - 1u));
    }
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
    x = Vectors(
        x[0] * INV_SQRT_N, x[1] * INV_SQRT_N, x[2] * INV_SQRT_N, x[3] * INV_SQRT_N,
        x[4] * INV_SQRT_N, x[5] * INV_SQRT_N, x[6] * INV_SQRT_N, x[7] * INV_SQRT_N,
    );

    // 5. scale, where it comes last
    if SCALE_AFTER {
        x = Vectors(
            product_after(x[0], scale.x), product_after(x[1], scale.x),
            product_after(x[2], scale.x), product_after(x[3], scale.x),
            product_after(x[4], scale.x), product_after(x[5], scale.x),
            product_after(x[6], scale.x), product_after(x[7], scale.x),
        );
    }
    return x;
}

// Round to BF16 or F16, put the signs on, and store.
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
        if OUT == 1u {
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

// Groups of 256 as BF16 or F16: the exchange leaves an invocation four elements in succession, 8 bytes. An entry
// point of its own, because one may not have both types of the result: and a part of a vec4 may not be written
// while another invocation writes the rest.
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
