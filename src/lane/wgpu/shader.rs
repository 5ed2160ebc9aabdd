//! The shader's text.

/// The shader.
pub const SHADER: &str = include_str!("../../../shaders/tq4_dequant.wgsl");
