//! The shader's text.

/// The shader: the variant with subgroups, or the one through workgroup memory.
pub const fn shader(subgroups: bool) -> &'static str {
    if subgroups {
        concat!(
            include_str!("../../../shaders/exchange_subgroup.wgsl"),
            include_str!("../../../shaders/tq4_dequant.wgsl")
        )
    } else {
        concat!(
            include_str!("../../../shaders/exchange_workgroup.wgsl"),
            include_str!("../../../shaders/tq4_dequant.wgsl")
        )
    }
}
