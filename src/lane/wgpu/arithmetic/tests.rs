//! Devices by hand, each with one property.

use super::*;
use crate::lane::wgpu::{Wgpu, WgpuOptions};
use crate::record::LaneName;

/// What a device returns.
struct Words {
    single: [u32; 16],
    each: [Vec<u32>; 3],
    sums: [Vec<u32>; 3],
    quotients: Vec<u32>,
    stored: [u32; 2],
}

fn of_pairs(f: impl Fn(&ProductPair) -> u32) -> Vec<u32> {
    ProductPair::all(&given()).iter().map(f).collect()
}

impl Words {
    /// A device that does what the program says.
    fn strict() -> Self {
        let mut single = [0; 16];
        single[0] = RAN;
        single[3] = SMALL;
        single[4] = NORMAL;
        single[5] = HALF[1];
        Self {
            single,
            each: [0, 0, SMALL].map(|word| vec![word; INVOCATIONS]),
            sums: [(); 3].map(|()| of_pairs(ProductPair::strict)),
            quotients: of_pairs(ProductPair::quotient),
            stored: [SMALL; 2],
        }
    }

    fn tell(&self) -> Option<DeviceArithmetic> {
        let parts = self.each.iter().chain(&self.sums).chain([&self.quotients]);
        let words = self.single.iter().chain(parts.flatten());
        tell(&words.copied().collect::<Vec<_>>(), self.stored)
    }
}

const STRICT: DeviceArithmetic = DeviceArithmetic::STRICT;

/// What is told of a strict device after `change`.
fn told(change: impl FnOnce(&mut Words)) -> DeviceArithmetic {
    let mut words = Words::strict();
    change(&mut words);
    words.tell().unwrap()
}

/// `x*x + y` when it is fused.
const FUSED: u32 = 0x2880_0000;

#[test]
fn a_device_that_does_as_it_is_told_is_strict() {
    assert_eq!(told(|_| ()), STRICT);
    let [x, y] = [X, given()[1]].map(f32::from_bits);
    assert_eq!((x * x + y, x.mul_add(x, y).to_bits()), (0.0, FUSED));
    assert_eq!(FOUND, 16 + 3 * INVOCATIONS + 4 * PAIRS);
}

#[test]
fn each_property_is_told_and_no_other() {
    let contracts = |w: &mut Words| {
        w.single[1] = FUSED;
        w.sums[0] = of_pairs(|p| p.fused()[0]);
    };
    let found = told(contracts);
    assert!(found.sums_off > 500, "{found:?}");
    let expected = DeviceArithmetic {
        contracts: true,
        sums_off: found.sums_off,
        ..STRICT
    };
    assert_eq!(found, expected);
    // Where only sums are fused, or only the other product of each, they tell it.
    for product in [0, 1] {
        let found = told(|w| w.sums[0] = of_pairs(|p| p.fused()[product]));
        assert!(found.contracts && !found.factors, "{found:?}");
    }

    let found = told(|w| w.sums[0] = of_pairs(ProductPair::factored));
    assert!(found.sums_off > 500, "{found:?}");
    let expected = DeviceArithmetic {
        factors: true,
        sums_off: found.sums_off,
        ..STRICT
    };
    assert_eq!(found, expected);

    type Case = (fn(&mut Words), fn(&mut DeviceArithmetic));
    let cases: [Case; 9] = [
        (|w| w.single[2] = 1f32.to_bits(), |a| a.reassociates = true),
        (|w| w.single[3] = 0, |a| a.flushes_results = true),
        (|w| w.single[4] = 0, |a| a.flushes_operands = true),
        (|w| w.single[5] = 0, |a| a.reads_f16_subnormals = false),
        (|w| w.each[2][47] = 0, |a| a.moves_subnormals = false),
        (|w| w.stored[1] = 0, |a| a.moves_subnormals = false),
        (|w| w.stored = [0; 2], |a| a.moves_subnormals = false),
        (|w| w.quotients[4095] ^= 1, |a| a.division_off = 1),
        (|w| w.sums[0][9] ^= 1 << 20, |a| a.sums_off = 1),
    ];
    for (i, (change, expect)) in cases.into_iter().enumerate() {
        let mut expected = STRICT;
        expect(&mut expected);
        assert_eq!(told(change), expected, "case {i}");
    }
}

/// Products that are guarded and changed all the same: in one sum of one invocation.
#[test]
fn a_guard_that_does_not_hold_is_told_by_the_way_that_it_fails() {
    type Change = fn(&mut Words, usize);
    let changes: [Change; 4] = [
        |w, way| w.each[way][63] = FUSED,
        |w, way| w.sums[1 + way] = of_pairs(|p| p.fused()[0]),
        |w, way| w.sums[1 + way] = of_pairs(ProductPair::factored),
        |w, way| w.sums[1 + way][4095] ^= 1,
    ];
    for change in changes {
        for (way, by_fma, by_memory) in [(0, false, true), (1, true, false)] {
            let mut words = Words::strict();
            change(&mut words, way);
            let found = words.tell().unwrap();
            assert_eq!(
                (found.guard_by_fma, found.guard_by_memory),
                (by_fma, by_memory)
            );
            assert!(
                found.guard_holds() && !found.contracts && !found.factors,
                "{found:?}"
            );
            change(&mut words, 1 - way);
            assert!(!words.tell().unwrap().guard_holds());
        }
    }
}

#[test]
fn words_that_are_not_the_probes_tell_nothing() {
    assert_eq!(tell(&[0; FOUND], [0; 2]), None);
    assert_eq!(tell(&[RAN; 20], [SMALL; 2]), None);
    let mut words = Words::strict();
    words.single[0] ^= 1;
    assert_eq!(words.tell(), None);
}

#[test]
fn a_device_that_is_lost_is_an_error() {
    let Ok(mut lane) = Wgpu::open(&WgpuOptions::default(), LaneName::Wgpu) else {
        eprintln!("NOT RUN: the probe on a lost device: no adapter");
        return;
    };
    let gpu = lane.gpu.as_mut().unwrap();
    assert!(probe(gpu).unwrap().is_some());
    gpu.device.destroy();
    assert!(matches!(probe(gpu), Err(crate::Error::Backend(_))));
}
