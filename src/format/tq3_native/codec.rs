//! How its tensors decode.

use crate::codec::{Layout, ScaleGrid, ScaleType, Scaling, SignsBefore, Unit};
use crate::error::Result;

/// Codes without gaps, an f32 norm a group after everything else, signs before the transform as well as after.
///
/// # Errors
/// As [`Layout::new`].
pub fn layout(bits: u32, group_size: usize, before: &[i8]) -> Result<Layout> {
    let scales = ScaleGrid {
        elements: group_size,
        stored: ScaleType::F32,
        scaling: Scaling::After,
        unit: Unit::Norm,
    };
    Ok(Layout::new(bits, group_size)?
        .dense()
        .scaled(scales)
        .signed_before(SignsBefore::new(before)))
}
