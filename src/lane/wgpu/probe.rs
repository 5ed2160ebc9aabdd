//! How far a shuffle reaches on this device.

use super::compute::Pass;
use super::gpu::{Gpu, READ};
use super::program::Binding;
use crate::error::Result;
use ::wgpu::BufferUsages;

/// Invocations of the kernel's workgroup.
const INVOCATIONS: usize = 128;
/// Strides that the kernel may shuffle over.
const STRIDES: [usize; 5] = [1, 2, 4, 8, 16];

/// Each invocation's number as its partner at each stride receives it.
const PROBE: &str = "
@group(0) @binding(0) var<storage, read_write> seen: array<u32>;
@compute @workgroup_size(128)
fn probe(@builtin(local_invocation_index) lane: u32) {
    seen[lane] = subgroupShuffleXor(lane, 1u);
    seen[128u + lane] = subgroupShuffleXor(lane, 2u);
    seen[256u + lane] = subgroupShuffleXor(lane, 4u);
    seen[384u + lane] = subgroupShuffleXor(lane, 8u);
    seen[512u + lane] = subgroupShuffleXor(lane, 16u);
}
";

/// Runs of this many invocations are neighbours in one subgroup: the least of what the adapter promises
/// and what it does. 1 when it does not do it at all.
///
/// No API promises that a subgroup holds consecutive invocations, so it is tried.
pub(super) fn reach(gpu: &mut Gpu, promised: u32) -> Result<u32> {
    let bytes = (INVOCATIONS * STRIDES.len() * 4) as u64;
    let read = gpu.scoped(|gpu| {
        let seen = gpu.allocate(
            "probe",
            bytes,
            BufferUsages::STORAGE | BufferUsages::COPY_SRC,
        );
        let read = gpu.allocate("probe read", bytes, READ);
        let pass = Pass::new(&gpu.device, "probe", PROBE, 0, &[Binding::Out]);
        let bound = pass.bind(&gpu.device, [(&seen, seen.size())]);
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        pass.encode(&mut encoder, &bound, [1, 1], None);
        encoder.copy_buffer_to_buffer(&seen, 0, &read, 0, bytes);
        gpu.queue.submit([encoder.finish()]);
        read
    })?;
    let words: Vec<u32> = gpu.map(&read, bytes, |bytes| {
        let words = bytes.chunks_exact(4);
        words
            .map(|b| u32::from_le_bytes(b.try_into().expect("4 bytes")))
            .collect()
    })?;
    Ok(reached(&words).min(promised))
}

/// The reach that the probe's result shows.
fn reached(seen: &[u32]) -> u32 {
    let mut reach = 1;
    for (stride, seen) in STRIDES.iter().zip(seen.chunks_exact(INVOCATIONS)) {
        if (0..INVOCATIONS).any(|lane| seen[lane] as usize != lane ^ stride) {
            break;
        }
        reach = 2 * *stride as u32;
    }
    reach
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reach_ends_where_a_partner_is_missing() {
        let good: Vec<u32> = STRIDES
            .iter()
            .flat_map(|s| (0..INVOCATIONS).map(move |l| (l ^ s) as u32))
            .collect();
        assert_eq!(reached(&good), 32);
        for (stride, reach) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16)] {
            for lane in [0, 77, 127] {
                let mut bad = good.clone();
                bad[stride * INVOCATIONS + lane] ^= 64;
                assert_eq!(reached(&bad), reach);
            }
        }
        assert_eq!(reached(&vec![0; good.len()]), 1);
    }
}
