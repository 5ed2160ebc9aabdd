//! What the driver's codes mean to the user.

use std::ffi::c_int;

/// What becomes of the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The call failed; the next may work.
    Failed,
    /// The device is not to be had now.
    Unavailable,
    /// Nothing works on the device until the process starts again.
    Lost,
}

pub(super) const OUT_OF_MEMORY: c_int = 2;
pub(super) const NO_DEVICE: c_int = 100;
pub(super) const INVALID_IMAGE: c_int = 200;
pub(super) const NO_BINARY_FOR_GPU: c_int = 209;
pub(super) const JIT_COMPILER_NOT_FOUND: c_int = 221;
pub(super) const UNSUPPORTED_PTX_VERSION: c_int = 222;

const FAULT: &str =
    "a kernel read, wrote or ran where it must not; compute-sanitizer names the place";

/// What the code does to the lane, and what helps; the codes are those of `CUresult` in cuda.h.
pub(super) fn meaning(code: c_int) -> (Effect, &'static str) {
    use Effect::{Failed, Lost, Unavailable};
    match code {
        OUT_OF_MEMORY => (
            Failed,
            "take smaller strips, or free memory on the device or the host",
        ),
        34 => (
            Unavailable,
            "this is the toolkit's stub, not the driver: take its folder (lib64/stubs) out of LD_LIBRARY_PATH",
        ),
        36 => (Unavailable, "install the NVIDIA driver 525 or later"),
        46 => (
            Unavailable,
            "another process has the device for itself, or nobody may use it: see `nvidia-smi -q -d COMPUTE`",
        ),
        214 => (
            Lost,
            "the device's memory is faulty (uncorrectable ECC error): see `nvidia-smi -q -d ECC`",
        ),
        220 => (
            Lost,
            "the link to another device is faulty: see `nvidia-smi nvlink -e`",
        ),
        700 | 714..=719 => (Lost, FAULT),
        701 => (
            Failed,
            "the kernel needs more registers or shared memory than a block gets: take smaller blocks",
        ),
        702 => (
            Lost,
            "the kernel ran longer than the system lets it: take smaller strips",
        ),
        709 => (Lost, "the driver has ended the context"),
        710 => (Lost, "an assert in the kernel did not hold"),
        800 => (
            Unavailable,
            "the system does not let this process use the device",
        ),
        802 => (
            Unavailable,
            "the system is not ready: on machines with NVSwitch start nvidia-fabricmanager, of the driver's version",
        ),
        803 => (
            Unavailable,
            "the driver's library and its kernel module are of different versions: restart, or install one of them anew",
        ),
        804 => (
            Unavailable,
            "the CUDA compatibility package does not work with this device: take its folder (compat) out of \
             LD_LIBRARY_PATH, or update the driver",
        ),
        805 => (
            Unavailable,
            "the MPS server does not answer: see its log, or stop it",
        ),
        999 => (Lost, "see the driver's log (dmesg, Xid)"),
        _ => (Failed, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_end_the_context_are_those_that_nvidia_names() {
        let lost: Vec<c_int> = (0..1000)
            .filter(|c| meaning(*c).0 == Effect::Lost)
            .collect();
        let expected = [
            214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999,
        ];
        assert_eq!(lost, expected);
        let unavailable: Vec<c_int> = (0..1000)
            .filter(|c| meaning(*c).0 == Effect::Unavailable)
            .collect();
        assert_eq!(unavailable, [34, 36, 46, 800, 802, 803, 804, 805]);
    }
}
