//! Pictures and the page of any output at all: zeros, NaN, infinities, one group.

use half::bf16;
use proptest::prelude::*;
use tq4::backend::{Backend, Cost, Device, OutMut};
use tq4::fault::{Fault, Fill, emulate};
use tq4::lane::Lane;
use tq4::picture::Picture;
use tq4::report::{Report, html, markdown, picture_text};
use tq4::synthetic::{self, Rng, Scales};
use tq4::tensor::{GROUP_SIZES, Layout, TqTensor};
use tq4::validate::{Input, Source, validate};

/// A lane that returns what it is told to.
struct Told(Device, Vec<bf16>);

impl Backend for Told {
    fn device(&self) -> &Device {
        &self.0
    }

    fn dequantize(&mut self, _: &TqTensor<'_>, out: OutMut<'_>) -> tq4::Result<Cost> {
        match out {
            OutMut::Bf16(out) => out.copy_from_slice(&self.1),
            OutMut::F32(out) => out
                .iter_mut()
                .zip(&self.1)
                .for_each(|(o, v)| *o = v.to_f32()),
        }
        Ok(Cost::default())
    }
}

fn lane(output: Vec<bf16>) -> Lane {
    let device = Device {
        lane: "cuda".into(),
        device: "told".into(),
        driver: String::new(),
        api: "CPU".into(),
        software: true,
        kernel_variant: String::new(),
        kernel_checksum: String::new(),
    };
    Lane::new(Box::new(Told(device, output)))
}

/// What a value may be replaced by.
fn odd(kind: u8, v: f32) -> f32 {
    match kind {
        0 => 0.0,
        1 => f32::NAN,
        2 => f32::INFINITY,
        3 => f32::NEG_INFINITY,
        4 => f32::MAX,
        5 => f32::from_bits(1),
        6 => -v,
        _ => v,
    }
}

/// The picture, the page and the Markdown of a tensor of this seed and shape, some values of the lane
/// and of the source replaced.
fn draw(
    seed: u64,
    bits: u32,
    n: usize,
    shape: (usize, usize),
    source: Option<u8>,
    kernel: (u8, f32),
) -> (Picture, String, String) {
    let mut rng = Rng::new(seed);
    let layout = Layout::new(bits, n).unwrap();
    let tensor = synthetic::tensor(&mut rng, layout, shape.0, shape.1 * n, Scales::Any).unwrap();
    let output = tq4::reference::dequantize(&tensor)
        .into_iter()
        .map(|v| {
            let replaced = rng.uniform() < kernel.1;
            bf16::from_f32(if replaced { odd(kernel.0, v) } else { v })
        })
        .collect();
    let source = source.map(|kind| Source {
        model: "source".into(),
        values: (0..tensor.elements())
            .map(|i| odd(if i % 3 == 0 { kind } else { 7 }, rng.normal()))
            .collect(),
    });
    let input = Input {
        tq_model: "memory",
        tensor: &tensor,
        row_start: 5,
        source: source.as_ref(),
    };
    let mut lanes = [Lane::reference(), lane(output)];
    let outcome = validate(&input, &mut lanes, |_| ()).unwrap();
    let columns = outcome.columns(&input, &lanes);
    let picture = Picture::new(&tensor, &columns, &outcome.report.diagnosis);
    let lanes = outcome.report.lanes.clone();
    let report = Report::new(vec![outcome.report]);
    let page = html::page(&report, &lanes, &[&picture]);
    (picture, page, markdown(&report, &lanes))
}

fn check(picture: &Picture, page: &str, elements: u64) -> Result<(), TestCaseError> {
    let all = picture
        .comparisons
        .iter()
        .chain(picture.emulated.iter().map(|e| &e.comparison));
    for c in all {
        prop_assert_eq!(c.elements, elements);
        prop_assert_eq!(c.steps.iter().sum::<u64>(), elements);
        let s = &c.scatter;
        let counted = s.counts.iter().sum::<u64>()
            + s.equal.iter().sum::<u64>()
            + s.zero_equal
            + s.zero_wrong
            + s.not_finite;
        prop_assert_eq!(counted, elements);
        for grid in [&c.by_group, &c.by_position] {
            prop_assert_eq!(grid.value.len(), grid.rows * grid.cols);
            prop_assert!(grid.value.iter().all(|v| v.is_finite() && *v >= 0.0));
            prop_assert_eq!(grid.not_finite.iter().sum::<u64>(), s.not_finite);
        }
    }
    prop_assert_eq!(picture.codes.counts.iter().sum::<u64>(), elements);
    if let Some(n) = &picture.normalised {
        let counted = n.counts.iter().sum::<u64>() + n.outside;
        let skipped = n.skipped_groups * picture.group_size as u64;
        prop_assert_eq!(counted + skipped, elements);
    }
    let document = match roxmltree::Document::parse_with_options(
        page,
        roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        },
    ) {
        Ok(document) => document,
        Err(e) => return Err(TestCaseError::fail(format!("not well-formed: {e}"))),
    };
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        if node.has_tag_name("svg") || node.ancestors().any(|a| a.has_tag_name("svg")) {
            for a in node.attributes().filter(|a| a.name() != "aria-label") {
                let broken = ["NaN", "inf", "-2147483648", "2147483647"];
                prop_assert!(
                    !broken.iter().any(|b| a.value().contains(b)) || a.name() == "href",
                    "{}={}",
                    a.name(),
                    a.value()
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_output_breaks_a_plot(
        seed: u64,
        bits in 2u32..=4,
        n in prop::sample::select(GROUP_SIZES.to_vec()),
        shape in (1usize..4, 1usize..4),
        source in prop::option::of(0u8..8),
        kind in 0u8..8,
        share in prop::sample::select(vec![0.0f32, 0.1, 1.0]),
    ) {
        let (picture, page, text) = draw(seed, bits, n, shape, source, (kind, share));
        check(&picture, &page, (shape.0 * shape.1 * n) as u64)?;
        prop_assert!(text.contains("| comparison |"));
        for line in picture_text(&picture).lines() {
            prop_assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn the_smallest_tensor_of_nothing_but_one_odd_value() {
    for kind in 0..8 {
        let (picture, page, _) = draw(1, 4, 32, (1, 1), Some(kind), (kind, 1.0));
        check(&picture, &page, 32).unwrap();
    }
}

#[test]
fn the_picture_does_not_depend_on_the_number_of_threads() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build()
            .unwrap()
            .install(|| draw(3, 4, 128, (70, 3), Some(7), (6, 0.1)))
            .0
    };
    let one = on(1);
    assert_eq!(on(2), one);
    assert_eq!(on(5), one);
}

#[test]
fn a_wrong_sign_shows_as_stripes_by_position_and_beside_its_emulation() {
    let layout = Layout::new(4, 128).unwrap();
    let tensor = synthetic::tensor(&mut Rng::new(9), layout, 60, 512, Scales::Usual).unwrap();
    let fault = Fault::named("fwht_upper_lane_sign", &tensor).unwrap();
    let mut output = vec![bf16::ZERO; tensor.elements()];
    emulate(&tensor, &[fault], 0, &mut output);
    let input = Input {
        tq_model: "memory",
        tensor: &tensor,
        row_start: 0,
        source: None,
    };
    let mut lanes = [Lane::reference(), lane(output)];
    let outcome = validate(&input, &mut lanes, |_| ()).unwrap();
    let columns = outcome.columns(&input, &lanes);
    let p = Picture::new(&tensor, &columns, &outcome.report.diagnosis);
    let grid = &p.comparisons[0].by_position;
    for (i, v) in grid.value.iter().enumerate() {
        let odd = (i % 128).count_ones() % 2 == 1;
        assert!(if odd { *v > 1.9 } else { *v < 0.01 }, "{i}: {v}");
    }
    assert_eq!(p.emulated.len(), 1);
    assert_eq!(p.emulated[0].faults, "fwht_upper_lane_sign");
    assert_eq!(p.emulated[0].comparison.by_position, *grid);
    assert_eq!(p.emulated[0].comparison.steps, p.comparisons[0].steps);
}

#[test]
fn every_fault_is_found_by_its_name() {
    for n in GROUP_SIZES {
        let layout = Layout::new(2, n).unwrap();
        let t = synthetic::tensor(&mut Rng::new(2), layout, 3, 2 * n, Scales::Usual).unwrap();
        let stages = n.trailing_zeros();
        let mut faults = Fault::catalogue(&t);
        faults.extend([
            Fault::UpperLaneSign(0b1010),
            Fault::RowsShifted(-2),
            Fault::Stale(2),
            Fault::TailRows(2, Fill::Zero),
            Fault::TailGroups(3, Fill::Nan),
            Fault::RowTailGroups(1, Fill::Zero),
        ]);
        for f in faults {
            assert_eq!(Fault::named(&f.name(stages), &t), Some(f));
        }
        assert_eq!(Fault::named("no such fault", &t), None);
    }
}
