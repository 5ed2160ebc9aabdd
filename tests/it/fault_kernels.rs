//! Broken kernels that share no code with the catalogue's decoder are named, all names of one function.

use half::{bf16, f16};
use tq4::codebook::Codebook;
use tq4::fault::{Diagnosis, diagnose};
use tq4::lane::{Output, POISON_BF16, POISON_F32};
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{Layout, TqTensor};

fn tensor(bits: u32, n: usize) -> TqTensor {
    let layout = Layout::new(bits, n).unwrap();
    let seed = 71 + u64::from(bits);
    synthetic::tensor(
        &mut Rng::new(seed),
        layout,
        19,
        6 * n,
        ScaleDistribution::Usual,
    )
    .unwrap()
}

/// A kernel as its author would write it, by the dense product in f64: each part can be broken.
struct Kernel<'a> {
    t: &'a TqTensor,
    centroid: Box<dyn Fn(usize, usize) -> f64 + 'a>,
    scale: Box<dyn Fn(usize, usize) -> f64 + 'a>,
    sign: Box<dyn Fn(usize) -> f64 + 'a>,
}

impl<'a> Kernel<'a> {
    fn new(t: &'a TqTensor) -> Self {
        Self {
            t,
            centroid: Box::new(|row, col| {
                t.codebook().centroids()[t.code(row, col) as usize].into()
            }),
            scale: Box::new(|row, group| t.scales().get(row * t.groups_per_row() + group).into()),
            sign: Box::new(|col| t.signs()[col].into()),
        }
    }

    fn values(&self) -> Vec<f64> {
        let (t, n) = (self.t, self.t.layout().group_size());
        let mut out = Vec::new();
        for row in 0..t.rows() {
            for group in 0..t.groups_per_row() {
                let x: Vec<f64> = (0..n)
                    .map(|j| (self.centroid)(row, group * n + j) * (self.scale)(row, group))
                    .collect();
                for i in 0..n {
                    let term = |(j, x): (usize, &f64)| {
                        if (i & j).count_ones() % 2 == 1 {
                            -x
                        } else {
                            *x
                        }
                    };
                    let sum: f64 = x.iter().enumerate().map(term).sum();
                    out.push(sum / (n as f64).sqrt() * (self.sign)(group * n + i));
                }
            }
        }
        out
    }

    fn bf16(&self) -> Vec<bf16> {
        let values = self.values().into_iter();
        values.map(|v| bf16::from_f32(v as f32)).collect()
    }
}

fn of(t: &TqTensor, got: Vec<bf16>) -> Diagnosis {
    diagnose("mine", t, &Output::Bf16(got), false).expect("something is wrong")
}

fn named(t: &TqTensor, got: Vec<bf16>, names: &[&str]) {
    let d = of(t, got);
    for name in names {
        assert!(
            d.names().iter().any(|n| n == name),
            "{name}: {}",
            d.evidence
        );
    }
    assert!(
        d.distinguishing >= 64 && !d.evidence.contains("consistent"),
        "{}",
        d.evidence
    );
}

/// The index of the code that is read instead.
fn order(t: &TqTensor, from: impl Fn(usize) -> usize) -> Vec<bf16> {
    let mut kernel = Kernel::new(t);
    kernel.centroid =
        Box::new(|row, col| t.codebook().centroids()[t.code(row, from(col)) as usize].into());
    kernel.bf16()
}

#[test]
fn orders_of_codes_are_named_with_the_signs_that_they_equal() {
    for n in [64, 128] {
        let t = tensor(4, n);
        // A word loaded big-endian: its bytes are in reverse, the nibbles of each byte are not.
        let big = |k: usize| k / 8 * 8 + (3 - k % 8 / 2) * 2 + k % 2;
        named(
            &t,
            order(&t, big),
            &["codes_order_xor_6", "fwht_upper_lane_sign_strides_2_4"],
        );
        let top = |k: usize| k / 8 * 8 + 7 - k % 8;
        named(
            &t,
            order(&t, top),
            &["codes_order_xor_7", "fwht_upper_lane_sign_strides_1_2_4"],
        );
        let halves = |k: usize| k / 16 * 16 + (k + 8) % 16;
        named(
            &t,
            order(&t, halves),
            &["codes_order_xor_8", "fwht_upper_lane_sign_strides_8"],
        );
        let words = |k: usize| k / 4 * 4 + (k + 2) % 4;
        named(
            &t,
            order(&t, words),
            &["codes_order_xor_2", "fwht_upper_lane_sign_strides_2"],
        );
        let back = |k: usize| k / n * n + n - 1 - k % n;
        let all = format!("codes_order_xor_{}", n - 1);
        named(&t, order(&t, back), &["fwht_upper_lane_sign", &all]);
        let d = of(&t, order(&t, back));
        assert!(d.evidence.contains("lane & stride") && d.evidence.contains("unpacking"));
        let nibbles = |k: usize| k ^ 1;
        named(
            &t,
            order(&t, nibbles),
            &[
                "nibbles_swapped",
                "codes_order_xor_1",
                "fwht_upper_lane_sign_strides_1",
            ],
        );
    }
    let t = tensor(2, 128);
    let top = |k: usize| k / 4 * 4 + 3 - k % 4;
    named(
        &t,
        order(&t, top),
        &[
            "byte_high_code_first",
            "codes_order_xor_3",
            "fwht_upper_lane_sign_strides_1_2",
        ],
    );
    // Two bugs that are one mask.
    let t = tensor(4, 128);
    let both = order(&t, |k| (k / 128 * 128 + 127 - k % 128) ^ 1);
    named(
        &t,
        both,
        &[
            "nibbles_swapped + fwht_upper_lane_sign",
            "codes_order_xor_126",
        ],
    );
}

#[test]
fn signs_are_named() {
    for (bits, n) in [(4, 128), (3, 64), (2, 256)] {
        let t = tensor(bits, n);
        let signs = |sign: Box<dyn Fn(usize) -> f64 + '_>| {
            let mut kernel = Kernel::new(&t);
            kernel.sign = sign;
            kernel.bf16()
        };
        let one = |col: usize| f64::from(t.signs()[col]);
        let negated = of(&t, signs(Box::new(move |c| -one(c))));
        let names = ["output_negated", "codebook_reversed", "signs_inverted"];
        assert_eq!(negated.names(), names, "the likeliest first");
        assert!(negated.title().starts_with("output_negated"));
        named(
            &t,
            signs(Box::new(move |c| one(c % 128))),
            &["signs_modulo_128"],
        );
        named(
            &t,
            signs(Box::new(move |c| one(c % n))),
            &[&format!("signs_modulo_{n}")],
        );
        named(
            &t,
            signs(Box::new(move |c| one(c).max(0.0))),
            &["signs_as_0_or_1"],
        );
        let cols = t.cols();
        named(
            &t,
            signs(Box::new(move |c| one((c + 1) % cols))),
            &["signs_off_by_one_up"],
        );
    }
}

#[test]
fn scales_and_codebooks_are_named() {
    for (bits, n) in [(4, 128), (3, 32), (2, 256)] {
        let t = tensor(bits, n);
        let per_row = t.groups_per_row();
        let scales = |at: &dyn Fn(usize, usize) -> f64| {
            let mut kernel = Kernel::new(&t);
            kernel.scale = Box::new(at);
            kernel.bf16()
        };
        let s = |at: usize| f64::from(t.scales().get(at));
        named(&t, scales(&|_, g| s(g)), &["scale_of_first_row"]);
        named(
            &t,
            scales(&|r, _| s(r * per_row)),
            &["scale_of_first_group"],
        );
        named(
            &t,
            scales(&|r, g| s((r * per_row + g) / 2)),
            &["scale_index_halved"],
        );
        named(
            &t,
            scales(&|r, g| s(r * per_row + (g ^ 1))),
            &["scales_swapped_in_pairs"],
        );
        let codebook = |to: &dyn Fn(f32) -> f32| {
            let mut kernel = Kernel::new(&t);
            let all: Vec<f32> = t.codebook().centroids().iter().map(|c| to(*c)).collect();
            let t = &t;
            kernel.centroid = Box::new(move |row, col| all[t.code(row, col) as usize].into());
            kernel.bf16()
        };
        named(
            &t,
            codebook(&|c| f16::from_f32(c).to_f32()),
            &["codebook_f16"],
        );
        named(
            &t,
            codebook(&|c| bf16::from_f32(c).to_f32()),
            &["codebook_bf16"],
        );
        let most = t.codebook().centroids()[t.codebook().centroids().len() - 1];
        let int8 = |c: f32| (c / most * 127.0).round() * (most / 127.0);
        named(&t, codebook(&int8), &["codebook_int8"]);
        let other = Codebook::encoder(bits, 64);
        let mut kernel = Kernel::new(&t);
        kernel.centroid = Box::new(|row, col| other.centroids()[t.code(row, col) as usize].into());
        named(&t, kernel.bf16(), &["codebook_of_dimension_64"]);
    }
}

#[test]
fn what_is_written_is_named() {
    let t = tensor(4, 128);
    let values = Kernel::new(&t).values();
    let single = |v: &f64| *v as f32;
    let f16s = values
        .iter()
        .map(|v| bf16::from_f32(f16::from_f32(single(v)).to_f32()));
    named(&t, f16s.collect(), &["output_via_f16"]);
    let cut = |v: &f64| bf16::from_bits((single(v).to_bits() >> 16) as u16);
    let upper = values.iter().enumerate();
    let upper = upper.map(|(i, v)| {
        if i % 2 == 1 {
            cut(v)
        } else {
            bf16::from_f32(single(v))
        }
    });
    named(&t, upper.collect(), &["pair_upper_truncated"]);
    let mut swapped = Kernel::new(&t).bf16();
    swapped.chunks_mut(2).for_each(|pair| pair.swap(0, 1));
    named(&t, swapped, &["output_pairs_swapped"]);
    let transposed = (0..values.len()).map(|i| {
        let (col, row) = (i / t.rows(), i % t.rows());
        bf16::from_f32(single(&values[row * t.cols() + col]))
    });
    named(&t, transposed.collect(), &["output_transposed"]);
    // Outputs of f32 and F16, by another order of operations than the reference's.
    let negated = Output::F32(values.iter().map(|v| -single(v)).collect());
    let d = diagnose("mine", &t, &negated, true).unwrap();
    assert!(
        d.names().contains(&"output_negated".into()),
        "{}",
        d.evidence
    );
    let shifted = (0..values.len()).map(|i| values[(i + t.cols()) % values.len()]);
    let shifted = Output::F16(shifted.map(|v| f16::from_f32(v as f32)).collect());
    let d = diagnose("mine", &t, &shifted, true).unwrap();
    assert!(
        d.names().contains(&"rows_shifted_by_1".into()),
        "{}",
        d.evidence
    );
    let right = Output::F32(values.iter().map(single).collect());
    let d = diagnose("mine", &t, &right, true).unwrap();
    assert!(d.place.allowed && !d.explained, "{}", d.evidence);
    let bf16s = Output::F32(
        values
            .iter()
            .map(|v| bf16::from_f32(single(v)).to_f32())
            .collect(),
    );
    let d = diagnose("mine", &t, &bf16s, true).unwrap();
    assert!(
        d.names().contains(&"output_via_bf16".into()),
        "{}",
        d.evidence
    );
}

/// Butterflies with a rounding after each sum, and a stage that happens twice.
fn butterflies(t: &TqTensor, round: fn(f32) -> f32, twice: usize) -> Vec<bf16> {
    let n = t.layout().group_size();
    let mut out = Vec::new();
    for row in 0..t.rows() {
        for group in 0..t.groups_per_row() {
            let scale = t.scales().get(row * t.groups_per_row() + group);
            let code = |j: usize| t.code(row, group * n + j) as usize;
            let mut x: Vec<f32> = (0..n)
                .map(|j| round(t.codebook().centroids()[code(j)] * scale))
                .collect();
            for stage in 0..n.ilog2() {
                let stride = 1usize << stage;
                for _ in 0..if stride == twice { 2 } else { 1 } {
                    let y = x.clone();
                    for i in 0..n {
                        let other = y[i ^ stride];
                        x[i] = round(if i & stride == 0 {
                            y[i] + other
                        } else {
                            other - y[i]
                        });
                    }
                }
            }
            for (i, x) in x.iter().enumerate() {
                let norm = 1.0 / (n as f32).sqrt();
                out.push(bf16::from_f32(
                    x * norm * f32::from(t.signs()[group * n + i]),
                ));
            }
        }
    }
    out
}

#[test]
fn precision_and_stages_of_the_transform_are_named() {
    for (bits, n) in [(4, 128), (2, 64), (3, 256)] {
        let t = tensor(bits, n);
        let half = |v: f32| f16::from_f32(v).to_f32();
        named(&t, butterflies(&t, half, 0), &["fwht_in_f16"]);
        named(
            &t,
            butterflies(&t, |v| bf16::from_f32(v).to_f32(), 0),
            &["fwht_in_bf16"],
        );
        let twice = butterflies(&t, |v| v, 8);
        named(&t, twice, &["fwht_stage_repeated_stride_8"]);
        // What goes into a matrix unit: ten bits of mantissa.
        let mut kernel = Kernel::new(&t);
        kernel.centroid = Box::new(|row, col| {
            let c = t.codebook().centroids()[t.code(row, col) as usize];
            let at = row * t.groups_per_row() + col / n;
            let bits = (c * t.scales().get(at)).to_bits() + (1 << 12);
            f32::from_bits(bits >> 13 << 13).into()
        });
        kernel.scale = Box::new(|_, _| 1.0);
        named(&t, kernel.bf16(), &["fwht_inputs_tf32"]);
        let mut codes = Kernel::new(&t).values();
        for (i, v) in codes.iter_mut().enumerate() {
            let (row, col) = (i / t.cols(), i % t.cols());
            let c = t.codebook().centroids()[t.code(row, col) as usize];
            let scale = t.scales().get(i / n);
            *v = f64::from(c * scale * f32::from(t.signs()[col]));
        }
        let codes = codes.into_iter().map(|v| bf16::from_f32(v as f32));
        named(
            &t,
            codes.collect(),
            &["fwht_twice", "fwht_and_norm_omitted"],
        );
    }
}

#[test]
fn poison_is_told_from_nan_and_zeros_from_zeros() {
    let t = tensor(4, 128);
    let right = Kernel::new(&t).bf16();
    let (poison, cols) = (bf16::from_bits(POISON_BF16), t.cols());
    let with = |ends: &dyn Fn(usize) -> bool, v: bf16| -> Vec<bf16> {
        let all = right.iter().enumerate();
        all.map(|(i, r)| if ends(i) { v } else { *r }).collect()
    };
    let len = right.len();
    let names = |got: Vec<bf16>, launched: bool| {
        diagnose("mine", &t, &Output::Bf16(got), launched)
            .unwrap()
            .names()
    };
    for (what, ends) in [
        (
            "tail_rows_{}_2",
            (&|i| i >= len - 2 * cols) as &dyn Fn(usize) -> bool,
        ),
        ("tail_elements_{}_160", &|i| i >= len - 160),
        ("row_tail_elements_{}_32", &|i| i % cols >= cols - 32),
        ("group_tail_elements_{}_32", &|i| i % 128 >= 96),
    ] {
        let name = |holds: &str| what.replace("{}", holds);
        assert_eq!(names(with(ends, poison), true), [name("unwritten")]);
        assert_eq!(names(with(ends, poison), false), [name("nan")]);
        assert_eq!(names(with(ends, bf16::NAN), true), [name("nan")]);
        assert_eq!(names(with(ends, bf16::ZERO), true), [name("zero")]);
    }
    let all: &dyn Fn(usize) -> bool = &|_| true;
    assert_eq!(names(with(all, poison), true), ["everything_unwritten"]);
    assert_eq!(names(with(all, poison), false), ["everything_nan"]);
    assert_eq!(names(with(all, bf16::ZERO), true), ["zeros"]);
    let signed = right.iter().map(|v| bf16::ZERO.copysign(*v));
    assert_eq!(names(signed.collect(), true), ["scales_zero"]);
    let f32s = Output::F32(vec![f32::from_bits(POISON_F32); len]);
    assert_eq!(
        diagnose("mine", &t, &f32s, true).unwrap().names(),
        ["everything_unwritten"]
    );
}

#[test]
fn correct_arithmetic_of_another_order_is_not_a_fault() {
    for bits in 2..=4 {
        for n in [32, 64, 128, 256] {
            let layout = Layout::new(bits, n).unwrap();
            let mut rng = Rng::new(u64::from(bits) << 16 | n as u64);
            let t = synthetic::tensor(&mut rng, layout, 16, 1024, ScaleDistribution::Any).unwrap();
            // The norm is folded into the scale.
            let mut kernel = Kernel::new(&t);
            kernel.scale = Box::new(|row, group| {
                let s = t.scales().get(row * t.groups_per_row() + group);
                f64::from(s * (1.0 / (n as f64).sqrt()) as f32) * (n as f64).sqrt()
            });
            if let Some(d) = diagnose("mine", &t, &Output::Bf16(kernel.bf16()), true) {
                assert!(!d.explained && d.place.allowed, "{}", d.evidence);
            }
        }
    }
}

#[test]
fn little_evidence_is_called_so() {
    let t = tensor(4, 128);
    let mut got = Kernel::new(&t).bf16();
    let len = got.len();
    got[len - 12..].fill(bf16::ZERO);
    let d = of(&t, got);
    assert!(
        d.evidence
            .starts_with("consistent with tail_elements_zero_12"),
        "{}",
        d.evidence
    );
    assert_eq!(d.distinguishing, 12);
}
