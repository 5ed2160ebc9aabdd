// Copies a buffer, 16 bytes an invocation: the yardstick of a device whose API has no timestamps around a copy.
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> destination: array<vec4<u32>>;

@compute @workgroup_size(256)
fn copy(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let i = id.y * workgroups.x * 256u + id.x;
    if i < arrayLength(&destination) {
        destination[i] = source[i];
    }
}
