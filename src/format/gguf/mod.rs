//! GGUF files with TurboQuant's blocks.

mod block;

pub use block::Block;
