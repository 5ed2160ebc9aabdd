//! The codebook: Lloyd-Max centroids for one coordinate of a random unit vector.
//!
//! A coordinate of a vector drawn uniformly from the unit sphere in `d` dimensions has the density
//! `(1 - x^2)^((d - 3) / 2)` on [-1, 1], up to a constant (TurboQuant, arXiv:2504.19874).

mod lloyd_max;
mod normal;
mod quadrature;

use crate::error::{Error, Result};
use lloyd_max::iterate;
use quadrature::gauss_legendre;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Centroids and cell boundaries of a scalar quantiser, both ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    centroids: Vec<f32>,
    boundaries: Vec<f32>,
}

impl Codebook {
    /// Takes centroids as a model's configuration gives them.
    ///
    /// `boundaries` has one element more than `centroids`; `None` puts each interior boundary midway
    /// between its neighbours, as Lloyd-Max does.
    ///
    /// # Errors
    /// When the centroids are not 2, 4, 8 or 16 values, not finite, larger than an f16 can be, or not
    /// strictly ascending; when the boundaries do not fit them.
    pub fn new(centroids: Vec<f32>, boundaries: Option<Vec<f32>>) -> Result<Self> {
        let bad = |what: String, place: &str| {
            Err(Error::input(
                what,
                place,
                "write the codebook that the model was encoded with",
            ))
        };
        if !(2..=16).contains(&centroids.len()) || !centroids.len().is_power_of_two() {
            return bad(
                format!(
                    "{} centroids found, expected 4, 8 or 16 (2^bits)",
                    centroids.len()
                ),
                "centroids",
            );
        }
        // Larger values could overflow f32 inside the transform, where lanes need not agree.
        if let Some(c) = centroids.iter().find(|c| c.is_nan() || c.abs() > 65504.0) {
            return bad(
                format!("centroid {c} found, expected finite values"),
                "centroids",
            );
        }
        if let Some(i) = centroids.windows(2).position(|w| w[0] >= w[1]) {
            return bad(
                format!(
                    "centroids are not in ascending order: {} stands before {}",
                    centroids[i],
                    centroids[i + 1]
                ),
                "centroids",
            );
        }
        let boundaries = match boundaries {
            None => midpoints(&centroids),
            Some(b) => {
                if b.len() != centroids.len() + 1 {
                    return bad(
                        format!(
                            "{} boundaries found, expected {} (one more than centroids)",
                            b.len(),
                            centroids.len() + 1
                        ),
                        "boundaries",
                    );
                }
                if b.iter().any(|x| !x.is_finite()) || b.windows(2).any(|w| w[0] > w[1]) {
                    return bad(
                        "boundaries are not finite and ascending".into(),
                        "boundaries",
                    );
                }
                b
            }
        };
        Ok(Self {
            centroids,
            boundaries,
        })
    }

    /// The codebook that the published encoder writes: everything in f64, cast to f32 at the end. Its
    /// boundaries are those that the last update of the centroids was made from.
    ///
    /// # Panics
    /// When `bits` is not 1 to 4 or `dim` is under 3.
    pub fn encoder(bits: u32, dim: usize) -> Self {
        let (centroids, boundaries) = iterate(bits, dim, 1e-30, |x| x);
        let cast = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect();
        Self {
            centroids: cast(centroids),
            boundaries: cast(boundaries),
        }
    }

    /// The codebook that the published loader recomputes: centroids and boundaries kept in f32 between
    /// iterations; next to [`Codebook::encoder`]'s: within one f32 step for most layouts, 6 for 3 bits, 35 for 4 bits in
    /// 256 dimensions.
    ///
    /// # Panics
    /// As [`Codebook::encoder`].
    pub fn lloyd_max(bits: u32, dim: usize) -> Self {
        // It takes milliseconds, and every tensor asks for one of a few.
        static KNOWN: Mutex<BTreeMap<(u32, usize), Codebook>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.entry((bits, dim)).or_insert_with(|| {
            let (centroids, _) = iterate(bits, dim, 1e-300, |x| f64::from(x as f32));
            let centroids: Vec<f32> = centroids.into_iter().map(|x| x as f32).collect();
            let boundaries = midpoints(&centroids);
            Self {
                centroids,
                boundaries,
            }
        });
        found.clone()
    }

    /// The centroids, ascending; `2^bits` of them.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// The boundaries, ascending; one more than there are centroids.
    pub fn boundaries(&self) -> &[f32] {
        &self.boundaries
    }

    /// Whether `fma(x, H, x * L)` is `(f64::from(x) / sqrt(n)) as f32` for every sum `x` that these centroids
    /// can give, with `H = (1 / sqrt(n)) as f32` and `L = (1 / sqrt(n) - H) as f32`: so it is for zeros and for
    /// `|x| >= 2^-100` (`docs/kernels.md`), below which the rounding of a subnormal `x * L` shows.
    ///
    /// It takes that each centroid is 0 or at least 2^-50, and scales of f16 before the transform, or none there. An
    /// f32 of 2^-50 or more is a multiple of 2^-73, an f16 scale one of 2^-24, their product one of 2^-97; so is what it is rounded to, in f32, and every sum and
    /// difference of such, rounded or not. What is not 0 is thus at least 2^-97. Neither is a quotient subnormal
    /// then: instructions that flush such values, as x86's to BF16 do, have none to flush.
    pub fn exact_division(&self) -> bool {
        const LEAST: f32 = 1.0 / (1u64 << 50) as f32;
        self.centroids.iter().all(|c| *c == 0.0 || c.abs() >= LEAST)
    }

    /// The code of a normalised value: the number of interior boundaries below it.
    pub fn encode(&self, value: f32) -> u8 {
        let interior = &self.boundaries[1..self.centroids.len()];
        interior.iter().filter(|&&b| b < value).count() as u8
    }

    /// The squared error expected of a unit vector of `dim` elements that is coded by the interior
    /// boundaries: `dim * E[(x - c(x))^2]`, x with the density `(1 - x^2)^((dim - 3) / 2)` on [-1, 1].
    ///
    /// # Panics
    /// When `dim` is under 3.
    pub fn distortion(&self, dim: usize) -> f64 {
        /// Parts of a cell: the density is narrow in many dimensions, and a foreign cell may be wide.
        const PARTS: u32 = 2;
        assert!(dim >= 3);
        let exponent = (dim as f64 - 3.0) / 2.0;
        let density = |x: f64| (1.0 - x * x).max(0.0).powf(exponent);
        dim as f64 * self.error(1.0, PARTS, density)
    }

    /// The squared error expected of a value of the standard normal distribution that is coded by the interior
    /// boundaries.
    pub fn normal_distortion(&self) -> f64 {
        /// Standard deviations beyond which nothing is left in f64.
        const REACH: f64 = 9.0;
        self.error(REACH, 4, |x| (-x * x / 2.0).exp())
    }

    /// The squared error of a value with this density on [-reach, reach], up to its constant; each cell is cut
    /// into so many parts.
    fn error(&self, reach: f64, parts: u32, density: impl Fn(f64) -> f64) -> f64 {
        let rule = gauss_legendre();
        let interior = self.boundaries[1..self.centroids.len()].iter();
        let edges = interior.map(|b| f64::from(*b).clamp(-reach, reach));
        let (mut low, mut mass, mut error) = (-reach, 0.0, 0.0);
        for (centroid, high) in self.centroids.iter().zip(edges.chain([reach])) {
            let (c, width) = (f64::from(*centroid), (high - low) / f64::from(parts));
            for part in 0..parts {
                let centre = low + (f64::from(part) + 0.5) * width;
                for (node, weight) in &rule {
                    let x = centre + width / 2.0 * node;
                    let share = width / 2.0 * weight * density(x);
                    mass += share;
                    error += share * (x - c) * (x - c);
                }
            }
            low = high;
        }
        error / mass
    }
}

fn midpoints(centroids: &[f32]) -> Vec<f32> {
    let between = |w: &[f32]| ((f64::from(w[0]) + f64::from(w[1])) / 2.0) as f32;
    let inner = centroids.windows(2).map(between);
    // The ends are those of the values that are coded, and of unit vectors unless centroids lie beyond.
    let last = centroids.iter().fold(1f32, |most, c| most.max(c.abs()));
    [-last].into_iter().chain(inner).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::tensor::{Layout, Parts, TqTensor};
    use half::f16;
    use std::sync::Arc;

    #[test]
    fn published_loader_codebook_for_128_dimensions() {
        let half = [
            0.011320936493575573_f64,
            0.03420550003647804,
            0.057857658714056015,
            0.08293882012367249,
            0.11041539162397385,
            0.14193911850452423,
            0.18096588551998138,
            0.23777654767036438,
        ];
        let book = Codebook::lloyd_max(4, 128);
        for (i, want) in half.iter().enumerate() {
            assert_eq!(f64::from(book.centroids()[8 + i]), *want, "centroid {i}");
            assert_eq!(f64::from(book.centroids()[7 - i]), -*want, "centroid -{i}");
        }
    }

    /// The positive half of a published model's configuration, which its encoder wrote.
    #[test]
    fn published_encoder_codebook_for_128_dimensions() {
        let centroids = [
            0.011320935562252998_f64,
            0.03420550003647804,
            0.05785765498876572,
            0.08293881267309189,
            0.11041539162397385,
            0.14193911850452423,
            0.18096588551998138,
            0.23777656257152557,
        ];
        let boundaries = [
            0.0_f64,
            0.02276451699435711,
            0.046034075319767,
            0.07040175050497055,
            0.09668136388063431,
            0.1261819452047348,
            0.16145724058151245,
            0.20937557518482208,
            1.0,
        ];
        let book = Codebook::encoder(4, 128);
        let double = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        assert_eq!(double(&book.centroids()[8..]), centroids);
        assert_eq!(double(&book.boundaries()[8..]), boundaries);
    }

    #[test]
    fn every_size_is_symmetric_and_ascending_and_both_are_close() {
        for bits in 2..=4 {
            for dim in [32, 64, 128, 256] {
                let (loader, encoder) =
                    (Codebook::lloyd_max(bits, dim), Codebook::encoder(bits, dim));
                for (a, b) in loader.centroids().iter().zip(encoder.centroids()) {
                    assert!((a - b).abs() <= 5e-6 * b.abs(), "{bits} {dim}: {a} {b}");
                }
                for book in [loader, encoder] {
                    let c = book.centroids().to_vec();
                    assert!(
                        c.iter()
                            .eq(c.iter().rev().map(|v| -v).collect::<Vec<_>>().iter())
                    );
                    Codebook::new(c, Some(book.boundaries().to_vec())).unwrap();
                }
            }
        }
    }

    /// Lloyd-Max for a normal variable has the distortions 0.1175, 0.03454 and 0.009497 (Max, 1960); the
    /// sphere's marginal tends to it from below.
    #[test]
    fn the_distortion_is_that_of_a_normal_variable_in_many_dimensions() {
        for (bits, normal) in [(2, 0.1175), (3, 0.03454), (4, 0.009497)] {
            let of = |dim| Codebook::encoder(bits, dim).distortion(dim);
            let all: Vec<f64> = [32, 64, 128, 256].map(of).into();
            assert!(all.is_sorted(), "{all:?}");
            assert!(all[0] > 0.92 * normal && all[3] < normal, "{all:?}");
            assert!((all[3] / normal - 1.0).abs() < 0.01, "{all:?}");
        }
    }

    /// One cell of any width is the density's second moment, 1 / dim an element.
    #[test]
    fn the_distortion_of_wide_cells_is_exact() {
        for dim in [32, 64, 128, 256] {
            let zero = Codebook::new(vec![0.0, 3.0], Some(vec![-1.0, 2.0, 4.0])).unwrap();
            assert!((zero.distortion(dim) - 1.0).abs() < 1e-9, "{dim}");
        }
    }

    #[test]
    fn a_value_on_a_boundary_belongs_to_the_cell_below() {
        let book = Codebook::lloyd_max(4, 128);
        for code in 1..16u8 {
            let b = book.boundaries()[code as usize];
            assert_eq!(book.encode(b), code - 1);
            assert_eq!(book.encode(b.next_up()), code);
        }
        assert_eq!(book.encode(-2.0), 0);
        assert_eq!(book.encode(2.0), 15);
    }

    #[test]
    fn division_is_exact_from_centroids_of_2_to_the_minus_50_on() {
        let with = |least: f32| Codebook::new(vec![-1.0, -0.5, least, 1.0], None).unwrap();
        let limit = 2f32.powi(-50);
        for (least, exact) in [
            (0.0, true),
            (-0.0, true),
            (limit, true),
            (-limit, true),
            (limit.next_down(), false),
            (-limit.next_down(), false),
            (f32::from_bits(1), false),
        ] {
            assert_eq!(with(least).exact_division(), exact, "{least:e}");
        }
        for bits in 2..=4 {
            for dim in [32, 64, 128, 256] {
                assert!(Codebook::lloyd_max(bits, dim).exact_division());
                assert!(Codebook::encoder(bits, dim).exact_division());
            }
        }
    }

    /// Sums that the fused division gets wrong, of a codebook that the guard keeps from it.
    #[test]
    fn division_is_not_exact_for_every_codebook() {
        for (n, bits) in [(32, 0x0CA3_E6B0_u32), (128, 0x0D23_E6B0)] {
            // The largest sum that is wrong; with the least scale, of one centroid among zeros.
            let (sum, scale) = (f32::from_bits(bits), f16::from_bits(1));
            let centroid = sum / scale.to_f32();
            let book = Arc::new(Codebook::new(vec![0.0, centroid, 1.0, 2.0], None).unwrap());
            assert!(!book.exact_division());
            let mut packed = vec![0; n / 4];
            packed[0] = 1;
            let parts = Parts {
                packed,
                scales: vec![scale].into(),
                signs: vec![1; n],
            };
            let layout = Layout::new(2, n).unwrap();
            let tensor = TqTensor::new("t", layout, [1, n], parts, book).unwrap();
            let inverse = 1.0 / (n as f64).sqrt();
            let high = inverse as f32;
            let low = (inverse - f64::from(high)) as f32;
            let fused = sum.mul_add(high, sum * low);
            for value in reference::dequantize(&tensor) {
                assert_eq!(value.next_up(), fused, "n = {n}");
            }
        }
    }

    #[test]
    fn foreign_codebooks_are_refused() {
        for c in [
            vec![],
            vec![0.0; 16],
            vec![1.0, 0.0, 2.0, 3.0],
            vec![0.0, 1.0, 2.0],
            vec![0.0, f32::NAN, 1.0, 2.0],
        ] {
            assert!(Codebook::new(c, None).is_err());
        }
        assert!(Codebook::new(vec![0., 1., 2., 3.], Some(vec![0.0; 3])).is_err());
    }
}
