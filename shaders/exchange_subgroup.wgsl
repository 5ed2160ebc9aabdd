// Between invocations by shuffles, as far as they reach: for adapters with subgroups. tq4_dequant.wgsl
// follows.

// Runs of REACH invocations, from a multiple of REACH on, are neighbours in one subgroup.
override REACH: u32 = 2u;

// Gives each invocation of a pair what the other has.
fn hand_over(lane: u32, lo: ptr<function, vec4<f32>>, hi: ptr<function, vec4<f32>>) {
    *lo = subgroupShuffleXor(*lo, 1u);
    *hi = subgroupShuffleXor(*hi, 1u);
}

// The butterflies of stride 8 and more.
fn butterflies_across(lane: u32, lo: ptr<function, vec4<f32>>, hi: ptr<function, vec4<f32>>) {
    for (var stride = 1u; stride < min(REACH, N / 8u); stride <<= 1u) {
        let upper = (lane & stride) != 0u;
        *lo = butterfly(*lo, subgroupShuffleXor(*lo, stride), upper);
        *hi = butterfly(*hi, subgroupShuffleXor(*hi, stride), upper);
    }
    butterflies_through_memory(REACH, lane, lo, hi);
}

