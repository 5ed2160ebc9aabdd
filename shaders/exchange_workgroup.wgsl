// Between invocations through workgroup memory: for every adapter. tq4_dequant.wgsl follows.

// Gives each invocation of a pair what the other has.
fn hand_over(lane: u32, lo: ptr<function, vec4<f32>>, hi: ptr<function, vec4<f32>>) {
    exchange[lane ^ 1u] = *lo;
    exchange[INVOCATIONS + (lane ^ 1u)] = *hi;
    workgroupBarrier();
    *lo = exchange[lane];
    *hi = exchange[INVOCATIONS + lane];
}

// The butterflies of stride 8 and more.
fn butterflies_across(lane: u32, lo: ptr<function, vec4<f32>>, hi: ptr<function, vec4<f32>>) {
    butterflies_through_memory(1u, lane, lo, hi);
}

