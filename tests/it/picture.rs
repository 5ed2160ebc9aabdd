//! Pictures and the page of any output at all: zeros, NaN, infinities, one group.

use crate::support::fake::{Fake, beside_reference};
use half::bf16;
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tq4::checkpoint::Checkpoint;
use tq4::fault::{Fault, emulate};
use tq4::format::TqModel;
use tq4::format::turboquant::{Config, write_tq_model};
use tq4::lane::{Slot, cpu::Cpu};
use tq4::picture::Picture;
use tq4::record::{OutputType, Rows, Run, StripSize};
use tq4::report::{Exporter, Markdown, Page, Table};
use tq4::run::{Job, Records, RunOptions, run};
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{GROUP_SIZES, Layout, Parts, TqTensor};

/// The run over the rows from `first` of a tensor, in which a lane returns `output`; the weights of a
/// source are of all rows.
fn judge(tensor: &TqTensor, first: usize, output: Vec<bf16>, source: Option<&[f32]>) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        layout: tensor.layout(),
        codebook: tensor.codebook().clone(),
    };
    let path = dir.path().join("tq4");
    write_tq_model(&path, &config, std::slice::from_ref(tensor)).unwrap();
    let model = TqModel::open(&path).unwrap();
    let base = tensor.base().to_owned();
    let source = source.map(|values| {
        let shape = vec![tensor.rows(), tensor.cols()];
        let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values)).unwrap();
        let bytes = safetensors::serialize([(format!("{base}.weight"), view)], None).unwrap();
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        Checkpoint::open(dir.path()).unwrap()
    });
    let options = RunOptions {
        rows: Rows {
            start: first,
            count: None,
        },
        strip: StripSize::Whole,
        pictures: true,
        ..RunOptions::default()
    };
    let job = Job::new(&model, source.as_ref(), &[base], &options).unwrap();
    let mut slots = [
        Slot::Live(Box::new(Cpu::new(OutputType::F32))),
        Slot::Live(Box::new(Fake::new("cuda", 1).wrong(move |_, out| {
            out.copy_from_slice(&output);
        }))),
    ];
    let mut records = Records::default();
    run(&job, &mut slots, &mut [&mut records], &mut |_| ()).unwrap();
    Run::new(job.header, records.tensors, records.plain)
}

fn text(run: &Run, exporter: &dyn Exporter) -> String {
    let mut text = Vec::new();
    exporter.export(run, &mut text).unwrap();
    String::from_utf8(text).unwrap()
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

/// Rows before those that are drawn.
const FIRST: usize = 5;

/// A run over a tensor of this seed and shape, some values of the lane and of the source replaced.
fn draw(
    seed: u64,
    bits: u32,
    n: usize,
    shape: (usize, usize),
    source: Option<u8>,
    kernel: (u8, f32),
) -> Run {
    let mut rng = Rng::new(seed);
    let layout = Layout::new(bits, n).unwrap();
    let rows = FIRST + shape.0;
    let tensor =
        synthetic::tensor(&mut rng, layout, rows, shape.1 * n, ScaleDistribution::Any).unwrap();
    let compared = tensor.slice_rows(FIRST..rows).unwrap();
    let output = tq4::reference::dequantize(&compared)
        .into_iter()
        .map(|v| {
            let replaced = rng.uniform() < kernel.1;
            bf16::from_f32(if replaced { odd(kernel.0, v) } else { v })
        })
        .collect();
    let source: Option<Vec<f32>> = source.map(|kind| {
        (0..tensor.elements())
            .map(|i| odd(if i % 3 == 0 { kind } else { 7 }, rng.normal()))
            .collect()
    });
    judge(&tensor, FIRST, output, source.as_deref())
}

fn picture(run: &Run) -> &Picture {
    run.tensors[0].picture.as_deref().unwrap()
}

fn check(run: &Run, elements: u64) -> Result<(), TestCaseError> {
    let picture = picture(run);
    prop_assert_eq!(picture.row_start, FIRST);
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
    let page = text(run, &Page);
    let document = match roxmltree::Document::parse_with_options(
        &page,
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
        let run = draw(seed, bits, n, shape, source, (kind, share));
        check(&run, (shape.0 * shape.1 * n) as u64)?;
        prop_assert!(text(&run, &Markdown::default()).contains("| comparison |"));
        let drawn = Table { pictures: true, ..Table::default() };
        let printed = text(&run, &drawn);
        prop_assert!(printed.contains("cuda vs reference: error by row and group"));
        let long = |l: &&str| l.starts_with("diagnosis") || l.starts_with("decision");
        for line in printed.lines().filter(|l| !long(l)) {
            prop_assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn the_smallest_tensor_of_nothing_but_one_odd_value() {
    for kind in 0..8 {
        check(&draw(1, 4, 32, (1, 1), Some(kind), (kind, 1.0)), 32).unwrap();
    }
}

#[test]
fn the_picture_does_not_depend_on_the_number_of_threads() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = pool
            .build()
            .unwrap()
            .install(|| draw(3, 4, 128, (70, 3), Some(7), (6, 0.1)));
        picture(&run).clone()
    };
    let one = on(1);
    assert_eq!(on(2), one);
    assert_eq!(on(5), one);
}

#[test]
fn a_wrong_sign_shows_as_stripes_by_position_and_beside_its_emulation() {
    let layout = Layout::new(4, 128).unwrap();
    let tensor =
        synthetic::tensor(&mut Rng::new(9), layout, 60, 512, ScaleDistribution::Usual).unwrap();
    let fault = Fault::named("fwht_upper_lane_sign", &tensor).unwrap();
    let mut output = vec![bf16::ZERO; tensor.elements()];
    emulate(&tensor, &[fault], 0, &mut output);
    let run = judge(&tensor, 0, output, None);
    let p = picture(&run);
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
        let t = synthetic::tensor(&mut Rng::new(2), layout, 3, 2 * n, ScaleDistribution::Usual)
            .unwrap();
        let names = Fault::catalogue(&t).into_iter().map(Fault::name);
        let fitted = [
            "fwht_upper_lane_sign_strides_2_8",
            "rows_shifted_by_-2",
            "stale_output_from_row_1",
            "tail_rows_zero_2",
            "tail_groups_unwritten_3",
            "row_tail_groups_zero_2",
        ];
        let mut seen = std::collections::HashSet::new();
        for name in names.chain(fitted.map(str::to_owned)) {
            let fault = Fault::named(&name, &t).expect(&name);
            assert_eq!(fault.name(), name);
            assert!(seen.insert(name.clone()), "{name} twice");
            assert!(!fault.advice().contains(['{', '}']));
        }
        assert_eq!(Fault::named("no such fault", &t), None);
    }
}

#[test]
fn a_run_keeps_the_pictures_of_the_worst_tensors_only() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(4, 128).unwrap();
    let mut rng = Rng::new(3);
    let mut tensors = Vec::new();
    for i in 0..5 {
        let t = synthetic::tensor(&mut rng, layout, 4, 256, ScaleDistribution::Usual).unwrap();
        let parts = Parts {
            packed: t.packed().to_vec(),
            scales: t.scales().clone(),
            signs: t.signs().to_vec(),
        };
        let name = format!("t{i}");
        let codebook = t.codebook().clone();
        tensors.push(TqTensor::new(name, layout, [4, 256], parts, codebook).unwrap());
    }
    let codebook = tensors[0].codebook().clone();
    write_tq_model(dir.path(), &Config { layout, codebook }, &tensors).unwrap();
    let model = TqModel::open(dir.path()).unwrap();
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let options = RunOptions {
        pictures: true,
        ..RunOptions::default()
    };
    let job = Job::new(&model, None, &bases, &options).unwrap();
    let wrong = Fake::new("cuda", 1).wrong(|call, out| {
        if ["t1", "t3"].contains(&call.tensor().base()) {
            out.fill(bf16::ONE);
        }
    });
    let mut slots = beside_reference([wrong]);
    let mut records = Records {
        pictures: 2,
        ..Records::default()
    };
    run(&job, &mut slots, &mut [&mut records], &mut |_| ()).unwrap();
    let drawn = records.tensors.iter().filter(|t| t.picture.is_some());
    let names: Vec<&str> = drawn.map(|t| t.tensor_base.as_str()).collect();
    assert_eq!(names, ["t1", "t3"]);
}
