//! The division that the CUDA kernels and the reference's AVX-512 path do, `fma(x, H, x * L)`, against the scalar
//! text's: `docs/kernels.md` has the proof that this completes.

use crate::support::root;
use half::bf16;
use rayon::prelude::*;
use std::fmt::Write;
use tq4::tensor::GROUP_SIZES;

/// `1 / sqrt(n)` as the sum of two f32.
#[derive(Debug, Clone, Copy, PartialEq)]
struct InverseRoot {
    n: usize,
    high: f32,
    low: f32,
}

impl InverseRoot {
    fn of(n: usize) -> Self {
        let inverse = 1.0 / (n as f64).sqrt();
        let high = inverse as f32;
        let low = (inverse - f64::from(high)) as f32;
        Self { n, high, low }
    }

    /// What differs among the f32 of these bits.
    fn differences(self, bits: std::ops::Range<u32>) -> Differences {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has FMA, as just asked.
            return unsafe { self.differences_by_instruction(bits) };
        }
        self.differences_by(bits)
    }

    /// Where the compiler may not use the instruction, `mul_add` is a slow function.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "fma")]
    fn differences_by_instruction(self, bits: std::ops::Range<u32>) -> Differences {
        self.differences_by(bits)
    }

    #[inline(always)]
    fn differences_by(self, bits: std::ops::Range<u32>) -> Differences {
        let root = (self.n as f64).sqrt();
        let mut found = Differences::default();
        for x in bits.map(f32::from_bits) {
            let want = (f64::from(x) / root) as f32;
            let fused = x.mul_add(self.high, x * self.low);
            let product = x * self.high;
            if fused.to_bits() != want.to_bits() {
                found.fused += 1;
                found.last_fused = x.to_bits();
            }
            if product.to_bits() != want.to_bits() {
                found.product += 1;
                found.product_bf16 += u64::from(bf16::from_f32(product) != bf16::from_f32(want));
            }
        }
        found
    }

    /// [`Self::differences`] on every thread.
    fn all_differences(self, bits: std::ops::Range<u32>) -> Differences {
        const PART: u32 = 1 << 16;
        let parts = bits.len().div_ceil(PART as usize) as u32;
        (0..parts)
            .into_par_iter()
            .map(|i| {
                let start = bits.start + i * PART;
                self.differences(start..bits.end.min(start + PART))
            })
            .reduce(Differences::default, |a, b| Differences {
                fused: a.fused + b.fused,
                last_fused: a.last_fused.max(b.last_fused),
                product: a.product + b.product,
                product_bf16: a.product_bf16 + b.product_bf16,
            })
    }
}

/// How many values differ from the quotient.
#[derive(Debug, Default, PartialEq)]
struct Differences {
    fused: u64,
    /// The bits of the largest value that the fused division gets wrong.
    last_fused: u32,
    product: u64,
    /// After rounding to BF16.
    product_bf16: u64,
}

/// Every f32 from 2^`exponent` up to twice that.
fn binade(exponent: i32) -> std::ops::Range<u32> {
    2f32.powi(exponent).to_bits()..2f32.powi(exponent + 1).to_bits()
}

/// From 2^-100 on. Scaling `x` by a power of two scales `x * L`, the fused result and the quotient alike, as
/// long as none of them is subnormal or too large; so the binade of 1 proves all in which that holds: those
/// from 2^-96 on (`x * L` is at least 2^-126) to the last. In the binades below it `x * L` loses bits: each is gone
/// through. The last, of sums that cannot be (they end below 2^40), is there to say that the largest do not matter.
#[test]
fn the_fused_division_is_the_scalar_texts_for_every_significand() {
    for root in GROUP_SIZES.map(InverseRoot::of) {
        for exponent in [-100, -99, -98, -97, -96, 0, 40, 127] {
            let bits = if exponent == 127 {
                2f32.powi(127).to_bits()..f32::INFINITY.to_bits()
            } else {
                binade(exponent)
            };
            let found = root.all_differences(bits);
            assert_eq!(found.fused, 0, "{root:?}, 2^{exponent}: {found:?}");
        }
        // Zeros keep their sign, for no part of the root is negative.
        for zero in [0.0f32, -0.0] {
            let fused = zero.mul_add(root.high, zero * root.low);
            assert_eq!(fused.to_bits(), zero.to_bits(), "{root:?}");
        }
        assert!(root.high > 0.0 && root.low >= 0.0);
        // Where the root is a power of two the product alone is exact.
        assert_eq!(root.low == 0.0, root.n == 64 || root.n == 256);
    }
}

/// One product is not enough, and in these binades the fused division is not either: the limit is not idle.
#[test]
fn below_the_limit_and_by_one_product_some_values_are_others() {
    for (n, exponent) in [(32, -102), (128, -101)] {
        let root = InverseRoot::of(n);
        assert_eq!(root.all_differences(binade(exponent)).fused, 1, "{n}");
        assert!(root.all_differences(binade(0)).product > 1 << 20, "{n}");
    }
}

/// The constants of every kernel are the two parts.
#[test]
fn the_kernels_divide_by_these_constants() {
    let mut found = 0;
    for file in std::fs::read_dir(root().join("kernels")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "cu") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for root in GROUP_SIZES.map(InverseRoot::of) {
            let Some((_, text)) = source.split_once(&format!("InverseRoot<{}> {{", root.n)) else {
                continue;
            };
            let constant = |name: &str| -> f32 {
                let (_, value) = text.split_once(&format!("{name} = ")).unwrap();
                value.split('f').next().unwrap().parse().unwrap()
            };
            let (high, low) = (constant("HIGH"), constant("LOW"));
            assert_eq!(
                (high, low),
                (root.high, root.low),
                "{path:?}, n = {}",
                root.n
            );
            found += 1;
        }
    }
    assert!(found >= GROUP_SIZES.len());
}

/// The table of `docs/kernels.md`, from all 2^31 values that are not negative: minutes.
#[test]
#[ignore = "the table of docs/kernels.md, made on purpose"]
fn every_f32() {
    let mut table = String::new();
    for root in GROUP_SIZES.map(InverseRoot::of) {
        let found = root.all_differences(0..f32::INFINITY.to_bits());
        let from = match found.fused {
            0 => "all".into(),
            _ => {
                let first = f32::from_bits(found.last_fused + 1);
                format!("{first:e} (2^{:.2})", f64::from(first).log2())
            }
        };
        writeln!(
            table,
            "| {} | {from} | {} | {} | {} |",
            root.n, found.fused, found.product, found.product_bf16
        )
        .unwrap();
    }
    println!("{table}");
    let text = std::fs::read_to_string(root().join("docs/kernels.md")).unwrap();
    assert!(text.contains(&table), "docs/kernels.md has another table");
}
