// What a device makes of f32 arithmetic. Stands behind the shader's own text, exchange_workgroup.wgsl or
// exchange_subgroup.wgsl with tq4_dequant.wgsl, whose `hand_over` it tries. src/lane/wgpu/arithmetic.rs
// gives the numbers and reads what was found. All numbers come from a buffer: no compiler computes them.

@group(0) @binding(5) var<storage, read> given: array<u32>;
@group(0) @binding(6) var<storage, read_write> found: array<u32>;
@group(0) @binding(7) var<storage, read_write> stored: array<f32>;    // a number, and room for it

// Pairs (a, b); four in succession have one s, as the elements of a group have one scale.
const PAIRS: u32 = 4096u;
const FOURS: u32 = 1024u;

// In `given`: single numbers, one for each invocation, the pairs, the s.
const EACH: u32 = 16u;
const PAIR: u32 = EACH + INVOCATIONS;
const SCALE: u32 = PAIR + 2u * PAIRS;

// In `found`: single results, three for each invocation, three sums and a quotient for each pair.
const OWN: u32 = 16u;
const BY_MEMORY: u32 = OWN + INVOCATIONS;
const MOVED: u32 = BY_MEMORY + INVOCATIONS;
const SUM: u32 = MOVED + INVOCATIONS;
const SUM_OWN: u32 = SUM + PAIRS;
const SUM_BY_MEMORY: u32 = SUM_OWN + PAIRS;
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

// What the neighbour gives, through workgroup memory whatever the variant.
fn through_memory(lane: u32, value: vec4<f32>) -> vec4<f32> {
    exchange[lane ^ 1u] = value;
    workgroupBarrier();
    let got = exchange[lane];
    workgroupBarrier();
    return got;
}

@compute @workgroup_size(128)
fn probe_arithmetic(@builtin(local_invocation_index) lane: u32) {
    // a*s + b*s, as they stand and with products from the neighbour.
    for (var first = 0u; first < FOURS; first += INVOCATIONS) {
        let mine = first + lane;
        let own_lo = pairs(PAIR + 8u * mine) * number(SCALE + mine);
        let own_hi = pairs(PAIR + 8u * mine + 4u) * number(SCALE + mine);
        say_four(SUM + 4u * mine, own_lo, own_hi);

        let theirs = first + (lane ^ 1u);
        var lo = pairs(PAIR + 8u * theirs) * number(SCALE + theirs);
        var hi = pairs(PAIR + 8u * theirs + 4u) * number(SCALE + theirs);
        let memory_lo = through_memory(lane, lo);
        let memory_hi = through_memory(lane, hi);
        hand_over(lane, &lo, &hi);
        // The next to write must wait for the last to read.
        workgroupBarrier();
        say_four(SUM_OWN + 4u * mine, lo, hi);
        say_four(SUM_BY_MEMORY + 4u * mine, memory_lo, memory_hi);
    }
    for (var i = lane; i < PAIRS; i += INVOCATIONS) {
        say(QUOTIENT + i, number(PAIR + 2u * i) / number(PAIR + 2u * i + 1u));
    }

    // x*x + y is 0, unless fused. Each invocation has its own x: what all share need not be handed over.
    let x = number(EACH + lane);
    let y = number(1u);
    var lo = vec4<f32>(x * x);
    var hi = lo;
    let memory = through_memory(lane, lo);
    hand_over(lane, &lo, &hi);
    workgroupBarrier();
    say(OWN + lane, lo.x + y);
    say(BY_MEMORY + lane, memory.x + y);
    say(MOVED + lane, through_memory(lane, vec4<f32>(number(2u))).x);

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
