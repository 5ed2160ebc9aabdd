//! A wgpu device that fails: the lane says so, works again where it can, and nothing panics or hangs.

use crate::support::lane::{check, strip};
use crate::support::not_run;
use std::time::Duration;
use tq4::Error;
use tq4::lane::wgpu::{Failure, Wgpu, WgpuOptions, list};
use tq4::lane::{self, Lane};
use tq4::record::LaneName;
use tq4::run::Strip;
use tq4::synthetic::ScaleDistribution;
use tq4::tensor::Layout;

/// Buffers of a strip: parameters, codes, scales, signs, the result and what the host reads.
const BUFFERS: u32 = 6;

fn some(rows: usize) -> Strip {
    strip(
        1,
        Layout::new(4, 128).unwrap(),
        rows,
        4,
        ScaleDistribution::Usual,
    )
}

fn there() -> bool {
    let any = !list().is_empty();
    if !any {
        not_run(
            "failures of wgpu",
            "no adapter (Debian: mesa-vulkan-drivers libvulkan1)",
        );
    }
    any
}

fn open(fail: Failure) -> Result<Wgpu, Error> {
    let options = WgpuOptions {
        fail: Some(fail),
        ..Default::default()
    };
    Wgpu::open(&options, LaneName::Wgpu)
}

fn decode(lane: &mut Wgpu, strip: &Strip) -> Result<(), Error> {
    lane::decode(lane, strip).map(|_| ())
}

#[track_caller]
fn breaks(result: Result<(), Error>) {
    let e = result.unwrap_err();
    assert!(matches!(e, Error::Backend(_)), "{e}");
    assert_eq!(e.to_string().lines().count(), 3, "{e}");
}

#[test]
fn an_allocation_that_fails_is_an_error_and_the_next_load_works() {
    if !there() {
        return;
    }
    for n in 1..=BUFFERS {
        let mut lane = open(Failure::Allocation(n)).unwrap();
        breaks(decode(&mut lane, &some(9)));
        check(&mut lane, &some(9)).unwrap_or_else(|e| panic!("after allocation {n}: {e}"));
    }
    for n in [BUFFERS + 1, BUFFERS + 2] {
        let mut lane = open(Failure::Allocation(n)).unwrap();
        decode(&mut lane, &some(9)).unwrap();
        breaks(lane.copy(4096).map(|_| ()));
        lane.copy(4096).unwrap();
        check(&mut lane, &some(9)).unwrap_or_else(|e| panic!("after allocation {n}: {e}"));
    }
}

/// The allocation that fails is the first after those of one strip.
#[test]
fn buffers_that_are_large_enough_are_used_again() {
    if !there() {
        return;
    }
    let mut lane = open(Failure::Allocation(BUFFERS + 1)).unwrap();
    for rows in [9, 9, 3, 9] {
        check(&mut lane, &some(rows)).unwrap();
    }
    breaks(decode(&mut lane, &some(10)));
    check(&mut lane, &some(10)).unwrap();
}

fn text(result: Result<(), Error>) -> String {
    let text = result.as_ref().unwrap_err().to_string();
    breaks(result);
    text
}

#[test]
fn a_lost_device_is_opened_again_by_the_next_load() {
    if !there() {
        return;
    }
    for n in 1..=2 {
        let mut lane = open(Failure::DeviceLost(n)).unwrap();
        for _ in 1..n {
            decode(&mut lane, &some(9)).unwrap();
        }
        let lost = text(decode(&mut lane, &some(9)));
        assert!(lost.starts_with("device lost: "), "{lost}");
        // Until then it says so again.
        assert_eq!(text(lane.run().map(|_| ())), lost);
        assert_eq!(text(lane.copy(4096).map(|_| ())), lost);
        lane.unload();
        check(&mut lane, &some(9)).unwrap_or_else(|e| panic!("after loss {n}: {e}"));
    }
}

#[test]
fn a_device_that_is_lost_twice_is_not_opened_again() {
    if !there() {
        return;
    }
    let mut lane = open(Failure::AlwaysLost(2)).unwrap();
    decode(&mut lane, &some(9)).unwrap();
    let first = text(decode(&mut lane, &some(9)));
    assert!(!first.contains("second"), "{first}");
    let mut ended = || {
        let e = decode(&mut lane, &some(9)).unwrap_err();
        assert!(matches!(e, Error::Lost(_)), "{e}");
        e.to_string()
    };
    let second = ended();
    assert!(second.starts_with("device lost: ") && second.contains("for the second time"));
    assert_eq!(ended(), second);
}

/// As on Metal, where wgpu takes a command buffer that failed for one that is done.
#[test]
fn work_that_did_not_run_is_no_output() {
    if !there() {
        return;
    }
    for n in 1..=2 {
        let mut lane = open(Failure::Dropped(n)).unwrap();
        for _ in 1..n {
            check(&mut lane, &some(9)).unwrap();
        }
        let e = text(decode(&mut lane, &some(9)));
        assert!(e.starts_with("the device did not run the work"), "{e}");
        check(&mut lane, &some(9)).unwrap_or_else(|e| panic!("after run {n}: {e}"));
    }
}

/// Says that it has not answered; a wait that begins late meets work that is done, and there are many.
#[track_caller]
fn silent(mut work: impl FnMut() -> Option<Error>) -> String {
    let e = (0..50).find_map(|_| work()).unwrap().to_string();
    let what = "the device has not answered for 0.000001 s";
    assert!(e.starts_with(what), "{e}");
    e[what.len()..].to_owned()
}

#[test]
fn a_device_that_does_not_answer_in_time_is_given_up() {
    if !there() {
        return;
    }
    let mut lane = open(Failure::Silent(1)).unwrap();
    let mut late = || silent(|| decode(&mut lane, &some(2048)).err());
    assert!(late().starts_with('\n'));
    assert!(late().starts_with("; for the second time"));
    let options = WgpuOptions {
        limit: Some(Duration::from_micros(1)),
        ..Default::default()
    };
    silent(|| Wgpu::open(&options, LaneName::Wgpu).err());
}

#[test]
fn a_device_below_the_default_limits_is_an_error() {
    if !there() {
        return;
    }
    breaks(open(Failure::LowLimits).and_then(|mut lane| decode(&mut lane, &some(9))));
}
