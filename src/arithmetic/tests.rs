//! Every arithmetic is within the bound, and is told from the others.

use super::{Rendering, UnpackedGroup, emulate, renderings};
use crate::allowed::Bound;
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::format::every_codec;
use crate::judge;
use crate::lane::Output;
use crate::record::{Arithmetic, LaneName, OutputType, Verdict};
use crate::synthetic::{self, Rng, ScaleDistribution};
use crate::tensor::{Layout, TqTensor};
use rayon::prelude::*;
use std::sync::Arc;

fn with_codebook(tensor: &TqTensor, centroids: Vec<f32>) -> TqTensor {
    let codebook = Codebook::new(centroids, None).unwrap();
    tensor.clone().with_codebook(Arc::new(codebook)).unwrap()
}

/// Each centroid one f32 step up, down or where it is.
fn stepped(rng: &mut Rng, centroids: &[f32]) -> Vec<f32> {
    let step = |c: &f32| [c.next_down(), *c, c.next_up()][rng.below(3)];
    centroids.iter().map(step).collect()
}

/// The exact group by butterflies in f64, which are off by less than the bound counts for the oracle.
fn exact(tensor: &TqTensor, group: usize, out: &mut [f64]) {
    let n = out.len();
    let (row, start) = (group * n / tensor.cols(), group * n % tensor.cols());
    for (k, x) in out.iter_mut().enumerate() {
        let code = tensor.code(row, start + k) as usize;
        let scale = f64::from(tensor.scale(row, start + k));
        let sign = tensor.layout().signs_before().map_or(1, |s| s.of(k));
        *x = f64::from(tensor.codebook().centroids()[code]) * scale * f64::from(sign);
    }
    let mut stride = 1;
    while stride < n {
        for i in (0..n).filter(|i| i & stride == 0) {
            let (a, b) = (out[i], out[i + stride]);
            (out[i], out[i + stride]) = (a + b, a - b);
        }
        stride *= 2;
    }
    for (k, x) in out.iter_mut().enumerate() {
        *x = *x / (n as f64).sqrt() * f64::from(tensor.signs()[start + k]);
    }
}

/// The largest error of some renderings over the bound, in one tensor.
fn largest(tensor: &TqTensor, renderings: &[Rendering]) -> f64 {
    let n = tensor.layout().group_size();
    let bound = Bound::for_layout(tensor.layout());
    let of_group = |group: usize| {
        let mut e = vec![0.0; n];
        exact(tensor, group, &mut e);
        let unpacked = UnpackedGroup::new(tensor, group);
        let bound = bound.of(unpacked.magnitudes(tensor.codebook().centroids()));
        let mut x = vec![0.0; n];
        let mut worst = 0.0f64;
        for rendering in renderings {
            rendering.group(&unpacked, OutputType::F32, &mut x);
            for (x, e) in x.iter().zip(&e) {
                worst = worst.max((f64::from(*x) - e).abs() / bound);
            }
        }
        worst
    };
    (0..tensor.groups())
        .into_par_iter()
        .map(of_group)
        .reduce(|| 0.0, f64::max)
}

#[test]
fn no_correct_arithmetic_has_an_element_outside() {
    let mut rng = Rng::new(0xA110);
    let mut elements = 0;
    for (name, codec) in every_codec() {
        let (rows, cols) = (200, 2048);
        let tensor =
            synthetic::of_codec(&mut rng, &codec, rows, cols, ScaleDistribution::Any).unwrap();
        elements += tensor.elements();
        let mut all = renderings(&tensor);
        // A codebook of which each centroid is up to one step off, through every order.
        let other = stepped(&mut rng, tensor.codebook().centroids());
        all.extend(renderings(&with_codebook(&tensor, other)));
        let worst = largest(&tensor, &all);
        assert!(worst <= 1.0, "{name}: {worst} bounds away");
        // The bound is not so wide that it says nothing.
        assert!(worst > 0.05, "{name}: {worst} bounds away");
    }
    assert!(elements > 10_000_000);
}

#[test]
fn the_arithmetic_that_was_used_is_named() {
    let mut rng = Rng::new(0xA111);
    let mut named = std::collections::BTreeSet::new();
    let layouts = [(4, 128), (3, 32), (2, 64), (4, 256)].map(|(bits, n)| {
        let layout = Layout::new(bits, n).unwrap();
        // The loader's codebook is told only from another.
        let codebook = Arc::new(Codebook::encoder(bits, n));
        (
            format!("{bits} bits, group {n}"),
            Codec { layout, codebook },
        )
    });
    let others = every_codec().into_iter();
    let others = others.filter(|(_, codec)| !codec.layout.is_plain());
    for (name, codec) in layouts.into_iter().chain(others) {
        let tensor =
            synthetic::of_codec(&mut rng, &codec, 24, 2048, ScaleDistribution::Usual).unwrap();
        let all = renderings(&tensor);
        for of in [OutputType::Bf16, OutputType::F16, OutputType::F32] {
            let outputs: Vec<Output> = all.iter().map(|r| emulate(&tensor, r, of)).collect();
            for (rendering, got) in all.iter().zip(&outputs) {
                // The first that gives the same values: the plainest of those that cannot be told apart.
                let first = outputs.iter().position(|o| same(o, got)).unwrap();
                let d = judge::decision(LaneName::Cuda, &tensor, got);
                let found = d.exactness.unwrap();
                let want = all[first].name();
                assert_eq!(found.arithmetic, Some(want), "{name} {of:?} {rendering:?}");
                assert_eq!(
                    d.verdict == Verdict::Identical,
                    want == Arithmetic::Identical
                );
                assert!(d.verdict.passed() == Some(true), "{}", d.reason);
                named.insert(want.name());
            }
        }
    }
    let names: Vec<&str> = named.into_iter().collect();
    let mut all = Arithmetic::ALL.map(Arithmetic::name);
    all.sort_unstable();
    assert_eq!(names, all);
}

/// Whether two outputs have the same values; +0 equals -0.
fn same(a: &Output, b: &Output) -> bool {
    a.single() == b.single()
}
