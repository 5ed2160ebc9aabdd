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
/// meets no requirement of tq4's own lanes: it shows another machine's. A software adapter does only where it is allowed.
/// Each of `kernels`, the users' own, is required too, on whatever device it was asked for; so is each of the
/// users' lanes and recordings that `require` names, of which a recording has to hold every tensor.
pub fn unmet(
    config: &LaneConfig,
    recordings: &[LaneName],
    kernels: &[LaneName],
    tensors: &[&[LaneRecord]],
) -> Vec<Unmet> {
    let replaced = |kind: LaneKind| recordings.iter().any(|r| r.kind() == Some(kind));
    let named = config.lanes.iter().filter(|kind| !replaced(**kind));
    let mut required: Vec<LaneKind> = Vec::new();
    let of_require = config.require.iter().filter_map(LaneName::kind);
    for kind in of_require.chain(named.copied()) {
        // The reference always runs.
        if kind != LaneKind::Reference && !required.contains(&kind) {
            required.push(kind);
        }
    }
    let mut all = Vec::new();
    for kind in required {
        let ran = |l: &LaneRecord| l.name.kind() == Some(kind) && l.status == Status::Ran;
        all.extend(one(kind.into(), ran, config.allow_software, tensors));
    }
    let users = config.require.iter().filter(|name| name.kind().is_none());
    let users = users.filter(|name| !kernels.contains(name));
    for lane in kernels.iter().chain(users) {
        let there = |l: &LaneRecord| {
            l.name.is_of(lane) && matches!(l.status, Status::Ran | Status::Recorded)
        };
        all.extend(one(lane.clone(), there, true, tensors));
    }
    all
}

/// The lane whose runs `ran` tells, where it did not run as it must.
fn one(
    lane: LaneName,
    ran: impl Fn(&LaneRecord) -> bool,
    allow_software: bool,
    tensors: &[&[LaneRecord]],
) -> Option<Unmet> {
    let (mut everywhere, mut software) = (true, None);
    for lanes in tensors {
        let runs = || lanes.iter().filter(|l| ran(l));
        let on_software = |l: &&LaneRecord| l.software == Some(true) && !allow_software;
        if runs().any(|l| !on_software(&l)) {
            continue;
        }
        match runs().next() {
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
