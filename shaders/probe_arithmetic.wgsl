// What a device makes of f32 arithmetic. Stands behind tq4_dequant.wgsl, whose guards it tries, `product` and
// `hand_over`. src/lane/wgpu/arithmetic.rs gives the numbers and reads what was found. All numbers come from
// a buffer: no compiler computes them. The bindings are in place of the shader's, but for `params`.

@group(0) @binding(1) var<storage, read> given: array<u32>;
@group(0) @binding(2) var<storage, read_write> found: array<u32>;
@group(0) @binding(3) var<storage, read_write> stored: array<f32>;    // a number, and room for it

// Pairs (a, b); four in succession have one s, as the elements of a group have one scale.
const PAIRS: u32 = 4096u;
const FOURS: u32 = 1024u;

// In `given`: single numbers, one for each invocation, the pairs, the s.
const EACH: u32 = 16u;
const PAIR: u32 = EACH + INVOCATIONS;
const SCALE: u32 = PAIR + 2u * PAIRS;

// In `found`: single results, three for each invocation, three sums and a quotient for each pair.
const BY_FMA: u32 = 16u;
const BY_MEMORY: u32 = BY_FMA + INVOCATIONS;
const MOVED: u32 = BY_MEMORY + INVOCATIONS;
const SUM: u32 = MOVED + INVOCATIONS;
const SUM_BY_FMA: u32 = SUM + PAIRS;
const SUM_BY_MEMORY: u32 = SUM_BY_FMA + PAIRS;
const QUOTIENT: u32 = SUM_BY_MEMORY + PAIRS;

fn number(at: u32) -> f32 {
    return bitcast<f32>(given[at]);
}

fn say(at: u32, value: f32) {
    found[at] = bitcast<u32>(value);
}

fn say_four(at: u32, lo: vec4<f32>, hi: vec4<f32>) {
    say(at, lo.x + lo.y);
    say(at + 1u, lo.z + lo.w);
    say(at + 2u, hi.x + hi.y);
    say(at + 3u, hi.z + hi.w);
}

fn pairs(at: u32) -> vec4<f32> {
    return vec4<f32>(number(at), number(at + 1u), number(at + 2u), number(at + 3u));
}

// What the neighbour has in its first two vectors.
fn through_memory(lane: u32, lo: vec4<f32>, hi: vec4<f32>) -> Vectors {
    let got = hand_over(lane, Vectors(lo, hi, lo, lo, lo, lo, lo, lo));
    // The next to write must wait for the last to read.
    workgroupBarrier();
    return got;
}

@compute @workgroup_size(64)
fn probe_arithmetic(@builtin(local_invocation_index) lane: u32) {
    // a*s + b*s: as they stand, by the shader's product, and with products from the neighbour.
    for (var first = 0u; first < FOURS; first += INVOCATIONS) {
        let mine = first + lane;
        let lo = pairs(PAIR + 8u * mine);
        let hi = pairs(PAIR + 8u * mine + 4u);
        let s = number(SCALE + mine);
        say_four(SUM + 4u * mine, lo * s, hi * s);
        say_four(SUM_BY_FMA + 4u * mine, product(lo, s), product(hi, s));

        let theirs = first + (lane ^ 1u);
        let their_lo = pairs(PAIR + 8u * theirs) * number(SCALE + theirs);
        let their_hi = pairs(PAIR + 8u * theirs + 4u) * number(SCALE + theirs);
        let got = through_memory(lane, their_lo, their_hi);
        say_four(SUM_BY_MEMORY + 4u * mine, got[0], got[1]);
    }
    for (var i = lane; i < PAIRS; i += INVOCATIONS) {
        say(QUOTIENT + i, number(PAIR + 2u * i) / number(PAIR + 2u * i + 1u));
    }

    // x*x + y is 0, unless fused. Each invocation has its own x: what all share need not be handed over.
    let x = number(EACH + lane);
    let y = number(1u);
    say(BY_FMA + lane, product(vec4<f32>(x), x).x + y);
    say(BY_MEMORY + lane, through_memory(lane, vec4<f32>(x * x), vec4<f32>(x * x))[0].x + y);
    let small = vec4<f32>(number(2u));
    say(MOVED + lane, through_memory(lane, small, small)[0].x);

    if lane == 0u {
        found[0] = given[0];                                  // that it ran at all
        say(1u, x * x + y);
        say(2u, (number(3u) + number(4u)) - number(3u));      // reassociated: the second number
        say(3u, number(5u) * number(6u));                     // a subnormal result
        say(4u, number(7u) * number(8u));                     // a subnormal operand
        say(5u, unpack2x16float(given[9]).x);
        stored[1] = stored[0];
    }
}
