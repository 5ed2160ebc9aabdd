//! The reference agrees with the f64 oracle within its stated bound.

use proptest::prelude::*;
use tq4::format::every_codec;
use tq4::oracle::{self, REFERENCE_BOUND};
use tq4::reference;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{GROUP_SIZES, Layout};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reference_is_within_its_bound_of_the_oracle(
        seed: u64,
        codec in prop::sample::select(every_codec()),
        rows in 1usize..4,
        groups_per_row in 1usize..4,
    ) {
        let (_, codec) = codec;
        let n = codec.layout.group_size();
        let mut rng = Rng::new(seed);
        let t = synthetic::of_codec(&mut rng, &codec, rows, n * groups_per_row, ScaleDistribution::Any).unwrap();
        let reference = reference::dequantize(&t);
        let oracle = oracle::dequantize_rows(&t, 0..rows);
        let largest = t.codebook().centroids().iter().fold(0f32, |m, c| m.max(c.abs()));
        let per_group = t.layout().scales_per_group();
        for (i, (r, o)) in reference.iter().zip(&oracle).enumerate() {
            let scales = (0..per_group).map(|k| t.scales().get(i / n * per_group + k).abs());
            let scale = scales.fold(0f32, f32::max);
            let reach = f64::from(scale) * f64::from(largest) * (n as f64).sqrt();
            prop_assert!(
                (f64::from(*r) - o).abs() <= REFERENCE_BOUND * reach,
                "element {i}: reference {r}, oracle {o}, reach {reach}"
            );
        }
    }
}

#[test]
fn quantising_and_decoding_loses_what_the_codebook_predicts() {
    // Lloyd-Max distortion of a unit variance normal at 2, 3 and 4 bits, as rmse (Max, 1960).
    for (bits, expected) in [(2, 0.3428), (3, 0.1859), (4, 0.0975)] {
        for n in GROUP_SIZES {
            let layout = Layout::new(bits, n).unwrap();
            let book = std::sync::Arc::new(tq4::codebook::Codebook::lloyd_max(bits, n));
            let mut rng = Rng::new(7);
            let weight = synthetic::weight(&mut rng, 32, 1024);
            let signs = rng.signs(1024);
            let t = tq4::encode::quantize("w", &weight, 1024, layout, &signs, &book).unwrap();
            let out = reference::dequantize(&t);
            let err: f64 = weight
                .iter()
                .zip(&out)
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum();
            let all: f64 = weight.iter().map(|a| f64::from(*a).powi(2)).sum();
            let ratio = (err / all).sqrt();
            assert!(
                (ratio / expected - 1.0).abs() < 0.08,
                "bits {bits}, n {n}: {ratio}"
            );
        }
    }
}
