//! A build without the `gpu` feature has no lane that needs a device.

use super::{Choice, Lane};
use crate::error::{Error, Result};

fn not_built(lane: &str) -> Lane {
    let error = Error::unavailable(
        "this build has no GPU lanes",
        format!("lane {lane}"),
        "build with the feature gpu",
    );
    Lane::absent(lane, &error)
}

/// Why the CUDA lane is not there.
pub(super) fn open_cuda(_: &Choice) -> Result<Lane> {
    Ok(not_built("cuda"))
}

/// Why the wgpu lane is not there.
pub(super) fn open_wgpu(_: &Choice, lanes: &mut Vec<Lane>) -> Result<()> {
    lanes.push(not_built("wgpu"));
    Ok(())
}
