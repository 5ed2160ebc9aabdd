//! The reference and what it needs, as in tq4.

#![allow(dead_code)] // what the rest of tq4 uses

#[path = "../../src/codebook/mod.rs"]
pub mod codebook;
#[path = "../../src/codec.rs"]
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

/// The layouts that have a path of their own; the formats' modules read files, which the rest of tq4 does.
pub mod format {
    use crate::codebook::Codebook;
    use crate::codec::{Codec, GROUP_SIZES, Layout};
    use std::sync::Arc;

    pub fn every_codec() -> Vec<(String, Codec)> {
        let layouts = (2..=4).flat_map(|bits| GROUP_SIZES.map(|n| Layout::new(bits, n).unwrap()));
        let codec = |layout: Layout| Codec {
            layout,
            codebook: Arc::new(Codebook::lloyd_max(layout.bits(), layout.group_size())),
        };
        layouts.map(|layout| (layout.to_string(), codec(layout))).collect()
    }
}
