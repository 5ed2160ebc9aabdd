//! The formats: what a model's files hold, as a codec and the bytes that it describes.
//!
//! Nothing outside this module knows a format's name.

mod foreign;
pub mod gguf;
mod model;
pub mod tq3_native;
pub mod turboquant;

pub use model::{TqInfo, TqModel, open_plain};

use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::tensor::{GROUP_SIZES, Layout};
use std::sync::Arc;

/// Every codec that a file may have, with its name: for tests of what takes any.
pub fn every_codec() -> Vec<(String, Codec)> {
    let mut all = Vec::new();
    for bits in 2..=4 {
        for n in GROUP_SIZES {
            let codebook = Arc::new(Codebook::lloyd_max(bits, n));
            let first = Layout::new(bits, n).expect("a size that there is");
            let first = Codec {
                layout: first,
                codebook,
            };
            let native = tq3_native::codec(bits, n, 42).expect("a size that there is");
            for (name, codec) in [("turboquant", first), ("tq3_native", native)] {
                all.push((format!("{name}, {bits} bits, group {n}"), codec));
            }
        }
    }
    let blocks = gguf::Block::ALL.map(|block| (block.name().to_owned(), block.codec()));
    all.extend(blocks);
    all
}
