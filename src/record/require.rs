//! Lanes that are required, and whether they ran.

use super::{LaneConfig, LaneKind, LaneName, LaneRecord, Status};

/// A required lane that did not run as it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The lane.
    pub lane: LaneName,
    /// The device, where it ran and on software only.
    pub software: Option<String>,
    /// Whether there are several tensors, on each of which it must run.
    pub several: bool,
}

/// The required lanes that did not run on each of `tensors`, given by its lanes.
///
/// Required are the lanes of `require`, and of `lanes` those that no recording stands in for. A recording
/// meets no requirement: it shows another machine's lane. A software adapter does only where it is allowed.
/// Each of `kernels`, the users' own, is required too, on whatever device it was asked for.
pub fn unmet(
    config: &LaneConfig,
    recordings: &[LaneName],
    kernels: &[LaneName],
    tensors: &[&[LaneRecord]],
) -> Vec<Unmet> {
    let replaced = |kind: LaneKind| recordings.iter().any(|r| r.kind() == Some(kind));
    let named = config.lanes.iter().filter(|kind| !replaced(**kind));
    let mut required: Vec<LaneKind> = Vec::new();
    for kind in config.require.iter().chain(named) {
        // The reference always runs.
        if *kind != LaneKind::Reference && !required.contains(kind) {
            required.push(*kind);
        }
    }
    let mut all = Vec::new();
    for kind in required {
        let is = |l: &LaneRecord| l.name.kind() == Some(kind);
        all.extend(one(kind.into(), is, config.allow_software, tensors));
    }
    for kernel in kernels {
        let is = |l: &LaneRecord| l.name.is_of(kernel);
        all.extend(one(kernel.clone(), is, true, tensors));
    }
    all
}

/// The lane that `is` tells, where it did not run as it must.
fn one(
    lane: LaneName,
    is: impl Fn(&LaneRecord) -> bool,
    allow_software: bool,
    tensors: &[&[LaneRecord]],
) -> Option<Unmet> {
    let (mut everywhere, mut software) = (true, None);
    for lanes in tensors {
        let ran = || lanes.iter().filter(|l| is(l) && l.status == Status::Ran);
        let on_software = |l: &&LaneRecord| l.software == Some(true) && !allow_software;
        if ran().any(|l| !on_software(&l)) {
            continue;
        }
        match ran().next() {
            Some(l) => software = Some(l.device.clone().unwrap_or_default()),
            None => everywhere = false,
        }
    }
    (!everywhere || software.is_some()).then(|| Unmet {
        lane,
        software: software.filter(|_| everywhere),
        several: tensors.len() > 1,
    })
}
