//! A kernel of the user's as a lane: CUDA C++, PTX or a cubin on a CUDA device, WGSL on a wgpu adapter.
//!
//! A manifest in TOML says what the kernel is called with; `docs/manifest.md` has its words. The lanes of
//! this project launch their own kernels by the same [`Launch`].

mod expression;
mod launch;
mod manifest;
mod parse;
#[cfg(test)]
mod tests;

pub use expression::Shape;
pub use launch::{Argument, CENTROIDS, Launch, Part, ScalarValue, centroids, part_bytes};
pub use manifest::{Form, Manifest};
