//! A wgpu device that fails: the lane says so, the other lanes report, nothing panics or hangs.

use crate::support::lane::check;
use crate::support::not_run;
use half::bf16;
use tq4::Error;
use tq4::backend::wgpu::{Failure, Options, Wgpu, list};
use tq4::backend::{Backend, OutMut};
use tq4::lane::Lane;
use tq4::report::Status;
use tq4::synthetic::{self, Rng, Scales};
use tq4::tensor::{Layout, TqTensor};
use tq4::validate::{Input, validate};

fn tensor() -> TqTensor<'static> {
    let layout = Layout::new(4, 128).unwrap();
    synthetic::tensor(&mut Rng::new(1), layout, 9, 512, Scales::Usual).unwrap()
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

fn open(fail: Option<Failure>) -> Result<Wgpu, Error> {
    // The variant without a probe: its buffers are those of the call alone.
    Wgpu::open(
        &Options {
            subgroups: Some(false),
            fail,
            ..Default::default()
        },
        "wgpu",
    )
}

fn decode(lane: &mut Wgpu, tensor: &TqTensor<'_>) -> Result<u32, Error> {
    let mut out = vec![bf16::ZERO; tensor.elements()];
    let cost = lane.dequantize(tensor, OutMut::Bf16(&mut out))?;
    Ok(cost.allocations)
}

#[test]
fn an_allocation_that_fails_is_an_error_and_the_next_call_works() {
    if !there() {
        return;
    }
    let t = tensor();
    let all = decode(&mut open(None).unwrap(), &t).unwrap();
    assert!(all >= 6, "inputs, result and what is read: {all}");
    for n in 1..=all {
        let mut lane = open(Some(Failure::Allocation(n))).unwrap();
        let e = decode(&mut lane, &t).unwrap_err();
        assert!(matches!(e, Error::Backend(_)), "allocation {n}: {e}");
        assert_eq!(e.to_string().lines().count(), 3, "allocation {n}: {e}");
        check(&mut lane, &t).unwrap_or_else(|e| panic!("after allocation {n}: {e}"));
    }
}

#[test]
fn a_lost_device_is_an_error_each_time() {
    if !there() {
        return;
    }
    let t = tensor();
    for n in 1..=2 {
        let mut lane = open(Some(Failure::DeviceLost(n))).unwrap();
        for _ in 1..n {
            decode(&mut lane, &t).unwrap();
        }
        for _ in 0..2 {
            let e = decode(&mut lane, &t).unwrap_err();
            assert!(matches!(e, Error::Backend(_)), "{e}");
        }
    }
}

#[test]
fn a_device_below_the_default_limits_is_an_error() {
    if !there() {
        return;
    }
    let failed = open(Some(Failure::LowLimits)).and_then(|mut l| decode(&mut l, &tensor()));
    let e = failed.unwrap_err();
    assert!(matches!(e, Error::Backend(_)), "{e}");
}

#[test]
fn the_other_lanes_report() {
    if !there() {
        return;
    }
    let t = tensor();
    let input = Input {
        tq_model: "m",
        tensor: &t,
        row_start: 0,
        source: None,
    };
    for fail in [Failure::Allocation(1), Failure::DeviceLost(1)] {
        let good = Wgpu::open(&Options::default(), "wgpu:1").unwrap();
        let mut lanes = vec![
            Lane::reference(),
            Lane::new(Box::new(open(Some(fail)).unwrap())),
            Lane::new(Box::new(good)),
        ];
        let report = validate(&input, &mut lanes, |_| ()).unwrap().report;
        let status: Vec<Status> = report.lanes.iter().map(|l| l.status).collect();
        assert_eq!(
            status,
            [Status::Ran, Status::Failed, Status::Ran],
            "{fail:?}"
        );
        let passed = |lane: &str| {
            report
                .decisions
                .iter()
                .find(|d| d.lane == lane)
                .unwrap()
                .passed
        };
        assert_eq!((passed("wgpu"), passed("wgpu:1")), (None, Some(true)));
    }
}
