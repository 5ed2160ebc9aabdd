//! The reference and what it needs, as in tq4.

#![allow(dead_code)] // what the rest of tq4 uses

#[path = "../../src/codebook/mod.rs"]
pub mod codebook;
#[path = "../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../src/encode/mod.rs"]
pub mod encode;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/fwht.rs"]
pub mod fwht;
#[path = "../../src/oracle.rs"]
pub mod oracle;
#[path = "../../src/reference/mod.rs"]
pub mod reference;
#[path = "../../src/synthetic.rs"]
pub mod synthetic;
#[path = "../../src/tensor.rs"]
pub mod tensor;
#[path = "../../src/widest.rs"]
pub mod widest;

/// Layouts of every kind; the formats' modules read files, which the rest of tq4 does.
pub mod format {
    use crate::codebook::Codebook;
    use crate::codec::{
        Codec, GROUP_SIZES, Layout, Normalisation, ScaleGrid, ScaleType, Scaling, SignsBefore, Unit,
    };
    use crate::synthetic::Rng;
    use std::sync::Arc;

    pub fn every_codec() -> Vec<(String, Codec)> {
        let mut all = Vec::new();
        let mut add = |layout: Layout, codebook| {
            let codebook = Arc::new(codebook);
            all.push((layout.to_string(), Codec { layout, codebook }));
        };
        let scales = |elements, stored, scaling, unit| ScaleGrid {
            elements,
            stored,
            scaling,
            unit,
        };
        for bits in 2..=4 {
            for n in GROUP_SIZES {
                let plain = Layout::new(bits, n).unwrap();
                add(plain, Codebook::lloyd_max(bits, n));
                let last = scales(n, ScaleType::F32, Scaling::After, Unit::Norm);
                let before = SignsBefore::new(&Rng::new(42).signs(n));
                let layout = plain.dense().scaled(last).signed_before(before);
                add(layout, Codebook::normal(bits, n).unwrap());
            }
        }
        for (bits, elements, stored) in [
            (4, 16, ScaleType::F16),
            (3, 16, ScaleType::F16),
            (3, 8, ScaleType::E3m5),
        ] {
            // Of unit variance: eight deviations a unit, exact.
            let book = Codebook::normal_converged(bits, 64).unwrap();
            let centroids = book.centroids().iter().map(|c| c * 8.0).collect();
            let grid = scales(elements, stored, Scaling::Before, Unit::Deviation);
            let layout = Layout::new(bits, 32).unwrap().dense().scaled(grid);
            let layout = layout.normalised(Normalisation::Multiply).interleaved();
            add(layout, Codebook::new(centroids, None).unwrap());
        }
        all
    }
}
