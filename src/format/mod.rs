//! The formats: what a model's files hold, as a codec and the bytes that it describes.
//!
//! Nothing outside this module knows a format's name.

mod encoding;
pub mod example;
mod foreign;
pub mod gguf;
mod model;
pub mod tq3_native;
pub mod turboquant;

pub use encoding::{Choices, ENCODINGS, Encoding};
pub(crate) use encoding::{Encodes, Matrix, ModelWriter, OutputTensor};
pub use model::{TqInfo, TqModel, open_plain};
pub use turboquant::SignSeed;

use crate::checkpoint::Checkpoint;
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::tensor::{GROUP_SIZES, Layout};
use std::sync::Arc;

/// Files by which readers know a format.
const MARKERS: [&str; 2] = [turboquant::CONFIG, tq3_native::CONFIG];

/// Whether a file of this name says that a model is quantised.
pub(crate) fn is_marker(file: &str) -> bool {
    MARKERS.contains(&file)
}

/// Whether a model is quantised already, as far as its names and types tell.
pub(crate) fn is_quantised(checkpoint: &Checkpoint) -> bool {
    let marked = MARKERS.iter().any(|m| checkpoint.dir().join(m).exists());
    marked
        || checkpoint.names().any(|name| {
            let info = checkpoint.shard_of(name).and_then(|s| s.info(name));
            let dtype = info.map(|i| format!("{:?}", i.dtype)).unwrap_or_default();
            name.ends_with(turboquant::PACKED)
                || gguf::BlockType::ALL.iter().any(|b| b.name() == dtype)
        })
}

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
    let blocks = gguf::BlockType::ALL.map(|block| (block.name().to_owned(), block.codec()));
    all.extend(blocks);
    all
}
