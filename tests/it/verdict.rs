//! The verdict on kernels of other people: correct ones of any arithmetic pass, wrong ones fail. The
//! kernels here are written for these tests and share no code with the program.

use half::{bf16, f16};
use std::sync::Arc;
use tq4::codebook::Codebook;
use tq4::judge_values;
use tq4::lane::Output;
use tq4::record::{Decision, GateName, LaneName, Verdict};
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{Layout, Parts, TqTensor};

/// Two centroids, each with its scale, to what the lower and the upper lane get.
type Butterfly = fn((f32, f32), (f32, f32)) -> [f32; 2];

/// A kernel, plainly: what each group of f32 values becomes.
#[derive(Clone, Copy)]
struct Kernel {
    /// Of a centroid and its scale.
    product: fn(f32, f32) -> f32,
    /// The first butterfly.
    first: Butterfly,
    descending: bool,
    /// What the sums become, of their number and the scale.
    norm: fn(f32, usize, f32) -> f32,
}

const PLAIN: Kernel = Kernel {
    product: |c, s| c * s,
    first: |(a, s), (b, _)| [a * s + b * s, a * s - b * s],
    descending: false,
    norm: |x, n, _| (f64::from(x) / (n as f64).sqrt()) as f32,
};

const MULTIPLY: Kernel = Kernel {
    norm: |x, n, _| x * (1.0 / (n as f64).sqrt()) as f32,
    ..PLAIN
};

impl Kernel {
    fn run(&self, t: &TqTensor, centroids: &[f32]) -> Vec<f32> {
        self.run_with(t, centroids, |_, s| s)
    }

    /// With scales changed by row.
    fn run_with(
        &self,
        t: &TqTensor,
        centroids: &[f32],
        scale: impl Fn(usize, f32) -> f32,
    ) -> Vec<f32> {
        let n = t.layout().group_size();
        let mut out = Vec::with_capacity(t.elements());
        for row in 0..t.rows() {
            for start in (0..t.cols()).step_by(n) {
                let s = scale(row, t.scales().get(row * t.groups_per_row() + start / n));
                let c: Vec<f32> = (0..n)
                    .map(|k| centroids[t.code(row, start + k) as usize])
                    .collect();
                let mut x: Vec<f32> = c.iter().map(|c| (self.product)(*c, s)).collect();
                let mut strides: Vec<usize> = (0..n.ilog2()).map(|k| 1 << k).collect();
                if self.descending {
                    strides.reverse();
                }
                for (stage, stride) in strides.into_iter().enumerate() {
                    for i in (0..n).filter(|i| i & stride == 0) {
                        let j = i + stride;
                        [x[i], x[j]] = match stage {
                            0 if !self.descending => (self.first)((c[i], s), (c[j], s)),
                            _ => [x[i] + x[j], x[i] - x[j]],
                        };
                    }
                }
                let signs = &t.signs()[start..start + n];
                out.extend(
                    x.iter()
                        .zip(signs)
                        .map(|(x, sign)| (self.norm)(*x, n, s) * f32::from(*sign)),
                );
            }
        }
        out
    }
}

/// The same in f64.
fn in_f64(t: &TqTensor) -> Vec<f32> {
    tq4::oracle::dequantize_rows(t, 0..t.rows())
        .into_iter()
        .map(|v| v as f32)
        .collect()
}

fn bf16s(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|v| bf16::from_f32(*v)).collect()
}

fn tensor(seed: u64, bits: u32, n: usize, rows: usize, cols: usize) -> TqTensor {
    let layout = Layout::new(bits, n).unwrap();
    synthetic::tensor(
        &mut Rng::new(seed),
        layout,
        rows,
        cols,
        ScaleDistribution::Usual,
    )
    .unwrap()
}

fn decide(t: &TqTensor, got: Output) -> Decision {
    let record = judge_values("mine", t.clone(), got).unwrap();
    record.decision_of(&LaneName::from("mine")).unwrap().clone()
}

/// Correct kernels by the name of their arithmetic.
fn correct(t: &TqTensor) -> Vec<(&'static str, Vec<f32>)> {
    let book = t.codebook().centroids();
    let kernel = |k: Kernel| k.run(t, book);
    let (bits, n) = (t.layout().bits(), t.layout().group_size());
    let exact = n.ilog2().is_multiple_of(2);
    let name = |name, where_exact| if exact { where_exact } else { name };
    let mut all = vec![
        ("identical", kernel(PLAIN)),
        (name("multiply", "identical"), kernel(MULTIPLY)),
        (
            "contracted",
            kernel(Kernel {
                first: |(a, s), (b, _)| [a.mul_add(s, b * s), a.mul_add(s, -(b * s))],
                ..MULTIPLY
            }),
        ),
        (
            "factored",
            kernel(Kernel {
                first: |(a, s), (b, _)| [(a + b) * s, (a - b) * s],
                ..MULTIPLY
            }),
        ),
        (
            "scale_after",
            kernel(Kernel {
                product: |c, _| c,
                first: |(a, _), (b, _)| [a + b, a - b],
                norm: |x, n, s| x * s * (1.0 / (n as f64).sqrt()) as f32,
                ..PLAIN
            }),
        ),
        (
            name("scale_folded", "identical"),
            Kernel {
                norm: |x, _, _| x,
                ..PLAIN
            }
            .run_with(t, book, |_, s| s * (1.0 / (n as f64).sqrt()) as f32),
        ),
        (
            "strides_descending",
            kernel(Kernel {
                descending: true,
                ..PLAIN
            }),
        ),
        ("f64", in_f64(t)),
    ];
    all.push((
        "loader_codebook",
        MULTIPLY.run(t, Codebook::lloyd_max(bits, n).centroids()),
    ));
    all
}

#[test]
fn correct_kernels_of_every_arithmetic_pass_and_are_named() {
    let shapes = [
        (4, 128, 1024, 2048),
        (2, 64, 64, 1024),
        (3, 32, 64, 1024),
        (2, 256, 64, 1024),
    ];
    let mut told = std::collections::BTreeSet::new();
    for (bits, n, rows, cols) in shapes {
        let t = tensor(1, bits, n, rows, cols);
        // As the encoder writes it, so that the loader's is another.
        let parts = Parts {
            packed: t.packed().to_vec(),
            scales: t.scales().clone(),
            signs: t.signs().to_vec(),
        };
        let book = Arc::new(Codebook::encoder(bits, n));
        let t = TqTensor::new("t", t.layout(), [rows, cols], parts, book).unwrap();
        for (name, values) in correct(&t) {
            let halves = values.iter().map(|v| f16::from_f32(*v)).collect();
            for got in [
                Output::Bf16(bf16s(&values)),
                Output::F16(halves),
                Output::F32(values),
            ] {
                let d = decide(&t, got);
                let place = format!("{name}, {bits} bits, group {n}: {}", d.reason);
                assert_eq!(d.verdict.passed(), Some(true), "{place}");
                let e = d.exactness.unwrap();
                assert_eq!(e.outside, 0, "{place}");
                // Few levels and a coarse type: now and then another order gives the same values.
                let name = if e.unequal == 0 { "identical" } else { name };
                assert_eq!(e.arithmetic.unwrap().name(), name, "{place}");
                let identical = name == "identical";
                assert_eq!(d.verdict == Verdict::Identical, identical, "{place}");
                assert!(
                    identical || d.reason.contains("this is no fault"),
                    "{place}"
                );
                told.insert(name);
            }
        }
    }
    assert_eq!(told.len(), 9, "{told:?}");
}

#[test]
fn wrong_kernels_that_thresholds_let_through_fail() {
    let t = tensor(2, 4, 128, 2048, 2048);
    let (rows, cols, n) = (t.rows(), t.cols(), 128);
    let book = t.codebook().centroids();
    let values = PLAIN.run(&t, book);
    let right = bf16s(&values);
    let truncated = |v: f32| bf16::from_bits((v.to_bits() >> 16) as u16);
    let up = |v: bf16| bf16::from_bits(v.to_bits() + 1);
    let changed =
        |at: &dyn Fn(usize, usize) -> bool, change: &dyn Fn(usize) -> bf16| -> Vec<bf16> {
            (0..rows * cols)
                .map(|i| {
                    if at(i / cols, i % cols) {
                        change(i)
                    } else {
                        right[i]
                    }
                })
                .collect()
        };
    let truncate = |i: usize| truncated(values[i]);
    let step = |i: usize| up(right[i]);
    let by_norm = |factor: fn(f32) -> f32| {
        let values: Vec<f32> = MULTIPLY.run(&t, book).into_iter().map(factor).collect();
        bf16s(&values)
    };
    let scale_off = PLAIN.run_with(&t, book, |row, s| match row {
        5..8 => f16::from_bits(f16::from_f32(s).to_bits() + 1).to_f32(),
        _ => s,
    });
    let single = |of: &dyn Fn(&mut Vec<bf16>)| {
        let mut got = right.clone();
        of(&mut got);
        got
    };
    for (name, got) in [
        ("row 7 truncated", changed(&|r, _| r == 7, &truncate)),
        (
            "last two rows truncated",
            changed(&|r, _| r >= rows - 2, &truncate),
        ),
        ("row 7 one step up", changed(&|r, _| r == 7, &step)),
        ("column 0 one step up", changed(&|_, c| c == 0, &step)),
        ("rows 0 and 1 one step up", changed(&|r, _| r < 2, &step)),
        (
            "every 1024th group one step up",
            changed(&|r, c| (r * cols + c) / n % 1024 == 0, &step),
        ),
        ("scales of 3 rows one f16 step off", bf16s(&scale_off)),
        ("norm 0.088388", by_norm(|v| v / 0.088_388_35 * 0.088_388)),
        ("2^-18 off", by_norm(|v| v * (1.0 + 1.0 / 262_144.0))),
        (
            "one element one step up",
            single(&|g| g[12345] = up(g[12345])),
        ),
        ("one infinity", single(&|g| g[77] = bf16::INFINITY)),
        ("one NaN", single(&|g| g[78] = bf16::NAN)),
    ] {
        let d = decide(&t, Output::Bf16(got));
        assert_eq!(d.verdict, Verdict::Differs, "{name}: {}", d.reason);
        let gate = d.gates.iter().find(|g| !g.passed).unwrap();
        let want = match name {
            "one infinity" | "one NaN" => GateName::NoNan,
            _ => GateName::Allowed,
        };
        assert_eq!(gate.name, want, "{name}");
        assert!(
            d.reason
                .contains("furthest outside its allowed values, row"),
            "{name}: {}",
            d.reason
        );
    }
}

#[test]
fn a_sparse_tensor_hides_nothing() {
    let full = tensor(3, 4, 128, 2048, 128);
    let mut scales = vec![f16::ZERO; 2048];
    scales[..3].copy_from_slice(&full.scales().f16()[..3]);
    let parts = Parts {
        packed: full.packed().to_vec(),
        scales: scales.into(),
        signs: full.signs().to_vec(),
    };
    let book = Arc::clone(full.codebook());
    let t = TqTensor::new("t", full.layout(), [2048, 128], parts, book).unwrap();
    let values = PLAIN.run(&t, t.codebook().centroids());
    let got = values
        .iter()
        .map(|v| bf16::from_bits((v.to_bits() >> 16) as u16));
    assert_eq!(
        decide(&t, Output::Bf16(got.collect())).verdict,
        Verdict::Differs
    );
}

/// Exact ties are rare: small integers as centroids, and 1/sqrt(n) a power of two.
#[test]
fn ties_away_from_zero_are_a_fault_of_their_own() {
    let layout = Layout::new(4, 64).unwrap();
    let book = Arc::new(Codebook::new((0..16).map(|i| i as f32).collect(), None).unwrap());
    let mut rng = Rng::new(4);
    let parts = Parts {
        packed: (0..64 * 32).map(|_| rng.next_u64() as u8).collect(),
        scales: vec![f16::from_f32(3.0); 64].into(),
        signs: rng.signs(64),
    };
    let t = TqTensor::new("t", layout, [64, 64], parts, book).unwrap();
    let values = PLAIN.run(&t, t.codebook().centroids());
    let away = |v: &f32| bf16::from_bits((v.to_bits().wrapping_add(0x8000) >> 16) as u16);
    let got: Vec<bf16> = values.iter().map(away).collect();
    let d = decide(&t, Output::Bf16(got.clone()));
    assert_eq!(d.verdict, Verdict::Differs, "{}", d.reason);
    let failed: Vec<GateName> = d
        .gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| g.name)
        .collect();
    assert_eq!(failed, [GateName::NotAFault]);
    assert!(d.reason.contains("bf16_round_half_up"), "{}", d.reason);
    // One tie to even, and it is no longer that fault.
    let mut mixed = got;
    let tie = (0..mixed.len())
        .find(|i| mixed[*i] != bf16::from_f32(values[*i]))
        .unwrap();
    mixed[tie] = bf16::from_f32(values[tie]);
    assert_eq!(decide(&t, Output::Bf16(mixed)).verdict, Verdict::Allowed);
}

/// Arithmetics without a name round some ties of those with one up: not all of many.
#[test]
fn correct_kernels_without_a_name_are_not_taken_for_that_fault() {
    let down = Kernel {
        descending: true,
        ..PLAIN
    };
    let after = Kernel {
        product: |c, _| c,
        first: |(a, _), (b, _)| [a + b, a - b],
        norm: |x, n, s| x * s / (n as f32).sqrt(),
        ..PLAIN
    };
    let kernels = [
        down,
        Kernel {
            norm: |x, n, _| x / (n as f32).sqrt(),
            ..down
        },
        after,
        Kernel {
            descending: true,
            ..after
        },
    ];
    for seed in 0..12 {
        let t = tensor(seed, 4, 128, 32, 1024);
        for (i, kernel) in kernels.iter().enumerate() {
            let got = bf16s(&kernel.run(&t, t.codebook().centroids()));
            // Of few rows, fewer ties tell the two apart.
            for rows in [1, 4, 32] {
                for start in (0..32).step_by(rows) {
                    let part = t.slice_rows(start..start + rows).unwrap();
                    let of_part = &got[start * 1024..(start + rows) * 1024];
                    let d = decide(&part, Output::Bf16(of_part.to_vec()));
                    assert_eq!(d.verdict.passed(), Some(true), "{seed} {i}: {}", d.reason);
                }
            }
        }
    }
}

/// A group in which the two ways to normalise differ, in every row: a share of elements says nothing.
#[test]
fn a_near_tie_in_every_group_is_allowed() {
    let t = tensor(5, 4, 128, 64, 8192);
    let book = t.codebook().centroids();
    let (a, b) = (PLAIN.run(&t, book), MULTIPLY.run(&t, book));
    let differs = |g: &usize| bf16s(&a[g * 128..][..128]) != bf16s(&b[g * 128..][..128]);
    let group = (0..t.groups()).find(differs).unwrap();
    let (row, start) = (group / 64, group % 64 * 128);
    let packed = &t.packed()[row * 4096 + start / 2..][..64];
    let parts = Parts {
        packed: packed.repeat(64),
        scales: vec![t.scales().f16()[group]; 64].into(),
        signs: t.signs()[start..start + 128].to_vec(),
    };
    let t = TqTensor::new("t", t.layout(), [64, 128], parts, Arc::clone(t.codebook())).unwrap();
    let got = bf16s(&MULTIPLY.run(&t, t.codebook().centroids()));
    let d = decide(&t, Output::Bf16(got));
    assert_eq!(d.verdict, Verdict::Allowed, "{}", d.reason);
    assert!(d.exactness.unwrap().unequal >= 64);
}
