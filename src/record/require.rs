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
    let (kinds, users): (Vec<_>, Vec<_>) =
        (config.require.iter().cloned()).partition(|name| name.kind().is_some());
    let own = kernels.iter().cloned().chain(users);
    let mut required: Vec<LaneName> = Vec::new();
    for name in kinds
        .into_iter()
        .chain(named.map(|k| (*k).into()))
        .chain(own)
    {
        // The reference always runs.
        if name != LaneName::Reference && !required.contains(&name) {
            required.push(name);
        }
    }
    let missing = required.iter().filter_map(|lane| {
        let own = lane.kind().is_none();
        let ran = |l: &LaneRecord| {
            l.name.meets(lane) && (l.status == Status::Ran || own && l.status == Status::Recorded)
        };
        one(lane, ran, own || config.allow_software, tensors)
    });
    missing.collect()
}

/// The lane whose runs `ran` tells, where it did not run as it must.
fn one(
    lane: &LaneName,
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
        lane: lane.clone(),
        software: software.filter(|_| everywhere),
        several: tensors.len() > 1,
    })
}
