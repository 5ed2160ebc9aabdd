//! Cutting a tensor into chunks on group boundaries, so that every buffer fits the adapter.

use crate::error::Result;
use crate::lane::broke;
use crate::record::LaneName;
use crate::tensor::TqTensor;
use std::ops::Range;

/// Elements per workgroup of the shader.
pub(super) const ELEMENTS_PER_WORKGROUP: usize = 2048;

/// A chunk is never larger: it bounds the staging of a read, and the adapter loses nothing by it.
const ENOUGH: u64 = 256 << 20;

/// What one dispatch may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Largest binding, bytes.
    pub buffer: u64,
    /// Most workgroups in one dimension.
    pub workgroups: u32,
}

/// Ranges of groups that cover the tensor.
pub(super) fn plan_chunks(
    limits: &Limits,
    tensor: &TqTensor,
    out_group_bytes: usize,
    lane: &LaneName,
) -> Result<Vec<Range<usize>>> {
    let per_workgroup = ELEMENTS_PER_WORKGROUP / tensor.layout().group_size();
    let by_bytes = limits.buffer.min(ENOUGH) / out_group_bytes as u64;
    let by_grid = u64::from(limits.workgroups).pow(2) * per_workgroup as u64;
    let most = by_bytes.min(by_grid).min(u64::from(u32::MAX)) as usize;
    if most == 0 || 2 * tensor.cols() as u64 > limits.buffer {
        return Err(broke(
            lane,
            format!(
                "a group or the signs do not fit a buffer of {} bytes",
                limits.buffer
            ),
            "use another adapter",
        ));
    }
    Ok(split(tensor.groups(), most))
}

/// Ranges of groups that are whole rows, as many as fit, for a shader that is told rows.
pub(super) fn plan_rows(
    limits: &Limits,
    tensor: &TqTensor,
    out_group_bytes: usize,
    lane: &LaneName,
) -> Result<Vec<Range<usize>>> {
    let per_row = tensor.groups_per_row();
    let most = (limits.buffer / (per_row * out_group_bytes) as u64) as usize * per_row;
    if most == 0 {
        let what = format!("a row does not fit a buffer of {} bytes", limits.buffer);
        return Err(broke(lane, what, "use another adapter"));
    }
    Ok(split(tensor.groups(), most))
}

/// Ranges of at most `most` that cover so many groups.
fn split(groups: usize, most: usize) -> Vec<Range<usize>> {
    let starts = (0..groups).step_by(most);
    starts
        .map(|start| start..(start + most).min(groups))
        .collect()
}

/// Workgroups in x and y that cover `count` of them.
pub(super) fn grid(count: u32, max: u32) -> [u32; 2] {
    if count <= max {
        [count, 1]
    } else {
        let y = count.div_ceil(max);
        [count.div_ceil(y), y]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_grid_covers_its_workgroups(max in 1u32..70_000, fill in 0f64..1.0) {
            let most = u64::from(max).pow(2).min(u64::from(u32::MAX) / 2) as f64;
            let count = (fill * most) as u32 + 1;
            let [x, y] = grid(count.min(most as u32), max);
            prop_assert!(x <= max && y <= max);
            let covered = u64::from(x) * u64::from(y);
            prop_assert!(covered >= u64::from(count.min(most as u32)));
            prop_assert!(covered < u64::from(count) + u64::from(y) + 1);
        }
    }
}
