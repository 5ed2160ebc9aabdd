//! What one dispatch of this project's shader takes.

use super::chunk;
use crate::lane::kernel::{Argument, Launch, Part, centroids, part_bytes};
use crate::record::OutputType;
use crate::tensor::{Layout, TqTensor};
use std::borrow::Cow;
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
pub fn constants(layout: Layout, is_f32: bool, reach: u32) -> Vec<(String, f64)> {
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
    let owned = constants.into_iter().map(|(name, v)| (name.to_owned(), v));
    owned.collect()
}

/// What a binding holds.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound<'a> {
    /// A uniform buffer.
    Uniform(Vec<u8>),
    /// A storage buffer that is read.
    Read(Cow<'a, [u8]>),
    /// The output, a storage buffer that is written; so many bytes.
    Out(u64),
}

/// A kernel's work on some groups of a tensor. Public for the tests that give it to Dawn.
#[doc(hidden)]
#[derive(Debug)]
pub struct Dispatch<'a> {
    /// Workgroups in x, y and z.
    pub grid: [u32; 3],
    /// In the order of the bindings, from 0.
    pub bindings: Vec<Bound<'a>>,
}

impl<'a> Dispatch<'a> {
    /// The dispatch of this project's shader over `groups`, with at most `max_workgroups` in one dimension.
    pub fn new(
        tensor: &'a TqTensor,
        groups: Range<usize>,
        max_workgroups: u32,
        output: OutputType,
    ) -> Self {
        let elements = groups.len() * tensor.layout().group_size();
        let workgroups = elements.div_ceil(chunk::ELEMENTS_PER_WORKGROUP) as u32;
        let [x, y] = chunk::grid(workgroups, max_workgroups);
        let params = Params {
            groups: groups.len() as u32,
            groups_per_row: tensor.groups_per_row() as u32,
            first_group: (groups.start % tensor.groups_per_row()) as u32,
            workgroups_x: x,
            centroids: centroids(tensor),
        };
        let parts = [Part::Packed, Part::Scales, Part::Signs, Part::Out].map(Argument::Part);
        let params = Argument::Uniform(bytemuck::bytes_of(&params).to_vec());
        let launch = Launch {
            grid: [x, y, 1],
            block: [1; 3],
            shared_memory: 0,
            arguments: [params].into_iter().chain(parts).collect(),
        };
        Self::of(launch, tensor, groups, output)
    }

    /// A launch with the memory that it names.
    pub(super) fn of(
        launch: Launch,
        tensor: &'a TqTensor,
        groups: Range<usize>,
        output: OutputType,
    ) -> Self {
        let elements = groups.len() * tensor.layout().group_size();
        let bindings = launch.arguments.into_iter().map(|argument| match argument {
            Argument::Uniform(bytes) => Bound::Uniform(bytes),
            Argument::Part(Part::Out) => Bound::Out((elements * output.size()) as u64),
            Argument::Part(part) => Bound::Read(part_bytes(part, tensor, groups.clone())),
            Argument::Value(_) => unreachable!("a shader gets scalars in uniform structs"),
        });
        Self {
            grid: launch.grid,
            bindings: bindings.collect(),
        }
    }
}
