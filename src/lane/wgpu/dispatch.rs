//! What one dispatch of the kernel takes.

use super::chunk;
use crate::record::OutputType;
use crate::tensor::{Layout, TqTensor};
use ::wgpu::BufferUsages;
use std::ops::Range;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    groups_per_row: u32,
    first_group: u32,
    workgroups_x: u32,
    centroids: [f32; 16],
}

/// The shader's constants. `reach`: strides that go by shuffles are below it, 1 without subgroups.
#[doc(hidden)]
pub fn constants(layout: Layout, is_f32: bool, reach: u32) -> Vec<(&'static str, f64)> {
    let n = layout.group_size() as f64;
    let mut constants = vec![
        ("N", n),
        ("STORED_BITS", layout.stored_bits().into()),
        ("INV_SQRT_N", f64::from((1.0 / n.sqrt()) as f32)),
        ("OUT_F32", f64::from(u8::from(is_f32))),
    ];
    if reach > 1 {
        constants.push(("REACH", reach.into()));
    }
    constants
}

/// The kernel's inputs for some groups of a tensor. Public for the test that gives them to Dawn.
#[doc(hidden)]
pub struct Dispatch<'a> {
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// Bytes of the result.
    pub out_bytes: u64,
    params: Params,
    packed: &'a [u8],
    scales: &'a [u8],
    signs: &'a [u8],
}

impl<'a> Dispatch<'a> {
    /// The dispatch of `groups`, with at most `max_workgroups` in one dimension.
    pub fn new(
        tensor: &'a TqTensor,
        groups: Range<usize>,
        max_workgroups: u32,
        output: OutputType,
    ) -> Self {
        let layout = tensor.layout();
        let elements = groups.len() * layout.group_size();
        let workgroups = elements.div_ceil(chunk::ELEMENTS_PER_WORKGROUP) as u32;
        let grid = chunk::grid(workgroups, max_workgroups);
        let mut params = Params {
            groups: groups.len() as u32,
            groups_per_row: tensor.groups_per_row() as u32,
            first_group: (groups.start % tensor.groups_per_row()) as u32,
            workgroups_x: grid[0],
            centroids: [0.0; 16],
        };
        params.centroids[..layout.levels()].copy_from_slice(tensor.codebook().centroids());
        let group = layout.packed_group();
        Self {
            grid,
            out_bytes: (elements * output.size()) as u64,
            params,
            packed: &tensor.packed()[groups.start * group..groups.end * group],
            scales: bytemuck::cast_slice(&tensor.scales()[groups]),
            signs: bytemuck::cast_slice(tensor.signs()),
        }
    }

    /// The inputs in the order of their bindings.
    pub fn inputs(&self) -> [(&'static str, &[u8], BufferUsages); 4] {
        [
            (
                "params",
                bytemuck::bytes_of(&self.params),
                BufferUsages::UNIFORM,
            ),
            ("packed", self.packed, BufferUsages::STORAGE),
            ("scales", self.scales, BufferUsages::STORAGE),
            ("signs", self.signs, BufferUsages::STORAGE),
        ]
    }
}
