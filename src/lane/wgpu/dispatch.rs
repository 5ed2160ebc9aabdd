//! What one dispatch of this project's shader takes.

use super::chunk;
use crate::codec::Scaling;
use crate::lane::kernel::{Argument, Launch, Part, centroids, part_bytes};
use crate::record::OutputType;
use crate::tensor::{Layout, TqTensor};
use bytemuck::Zeroable;
use std::borrow::Cow;
use std::ops::Range;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    groups_per_row: u32,
    reciprocal: u32,
    first_group: u32,
    workgroups_x: u32,
    minus_zero: f32,
    zero: u32,
    /// `vec4` stands at multiples of 16 bytes.
    padding: u32,
    centroids: [f32; 16],
    signs_before: [u32; 8],
}

/// The shader's uniform as far as its guard needs it.
#[doc(hidden)]
pub fn guard() -> Vec<u8> {
    let mut params = Params::zeroed();
    params.minus_zero = -0.0;
    bytemuck::bytes_of(&params).to_vec()
}

/// With it the shader divides by `groups_per_row`.
fn reciprocal(groups_per_row: u32) -> u32 {
    u32::MAX / groups_per_row
}

/// The shader's entry point.
#[doc(hidden)]
pub fn entry(layout: Layout, output: OutputType) -> &'static str {
    match (layout.group_size(), output.size()) {
        (256, 2) => "tq4_dequant_256",
        _ => "tq4_dequant",
    }
}

/// The shader's constants. `hand_over`: whether another invocation multiplies, where the scale comes first.
#[doc(hidden)]
pub fn constants(layout: Layout, output: OutputType, hand_over: bool) -> Vec<(String, f64)> {
    let n = layout.group_size() as f64;
    let scales = layout.scales();
    let after = scales.scaling == Scaling::After;
    let out: u32 = match output {
        OutputType::Bf16 => 0,
        OutputType::F32 => 1,
        OutputType::F16 => 2,
    };
    let flag = |set: bool| f64::from(u8::from(set));
    let constants = [
        ("N", n),
        ("STORED_BITS", layout.stored_bits().into()),
        ("SCALE_BITS", 8.0 * scales.stored.size() as f64),
        ("SHARED", scales.elements as f64),
        ("SIGNS_BEFORE", flag(layout.signs_before().is_some())),
        ("SCALE_AFTER", flag(after)),
        ("INV_SQRT_N", f64::from((1.0 / n.sqrt()) as f32)),
        ("OUT", out.into()),
        ("HAND_OVER", flag(hand_over && !after)),
    ];
    let owned = constants.into_iter().map(|(name, v)| (name.to_owned(), v));
    owned.collect()
}

/// What a binding holds.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundBuffer<'a> {
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
    pub bindings: Vec<BoundBuffer<'a>>,
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
        let before = tensor.layout().signs_before();
        let params = Params {
            groups: groups.len() as u32,
            groups_per_row: tensor.groups_per_row() as u32,
            reciprocal: reciprocal(tensor.groups_per_row() as u32),
            first_group: (groups.start % tensor.groups_per_row()) as u32,
            workgroups_x: x,
            minus_zero: -0.0,
            zero: 0,
            padding: 0,
            centroids: centroids(tensor),
            signs_before: before.unwrap_or_default().words(),
        };
        let parts = [Part::Packed, Part::Scales, Part::SignPairs, Part::Out].map(Argument::Part);
        let params = Argument::Uniform(bytemuck::bytes_of(&params).to_vec());
        let launch = Launch {
            grid: [x, y, 1],
            block: [1; 3],
            shared_memory: 0,
            arguments: [params].into_iter().chain(parts).collect(),
        };
        let mut made = Self::of(launch, tensor, groups, output);
        // The shader reads whole vectors: the last groups' codes may end in the middle of one.
        for bound in &mut made.bindings {
            if let BoundBuffer::Read(bytes) = bound
                && bytes.len() % 16 != 0
            {
                let whole = bytes.len().next_multiple_of(16);
                bytes.to_mut().resize(whole, 0);
            }
        }
        made
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
            Argument::Uniform(bytes) => BoundBuffer::Uniform(bytes),
            Argument::Part(Part::Out) => BoundBuffer::Out((elements * output.size()) as u64),
            Argument::Part(part) => BoundBuffer::Read(part_bytes(part, tensor, groups.clone())),
            Argument::Value(_) => unreachable!("a shader gets scalars in uniform structs"),
        });
        Self {
            grid: launch.grid,
            bindings: bindings.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shader_computes_as_the_functions_here() {
        for line in [
            "let low = (a & 0xffffu) * (b & 0xffffu);",
            "let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);",
            "let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);",
            "return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);",
            "let rest = group - high_product(group, params.reciprocal) * params.groups_per_row;",
            "return min(rest, rest - params.groups_per_row);",
            "let exponent = (bits >> vec4<u32>(23u)) & vec4<u32>(255u);",
            "let significand = (bits & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);",
            "let shift = 126u - clamp(exponent, vec4<u32>(95u), vec4<u32>(113u));",
            "(vec4<u32>(1u) << (shift - 1u)) - 1u + ((significand >> shift) & vec4<u32>(1u));",
            "let half = ((significand + below) >> shift) + ((max(exponent, vec4<u32>(113u)) - 113u) << vec4<u32>(10u));",
            "return min(half, vec4<u32>(0x7c00u)) | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));",
        ] {
            assert!(crate::lane::wgpu::SHADER.contains(line), "{line}");
        }
    }

    /// As the shader's `high_product`, where no sum may overflow.
    fn high_product(a: u32, b: u32) -> u32 {
        let low = (a & 0xffff) * (b & 0xffff);
        let middle = (a >> 16) * (b & 0xffff) + (low >> 16);
        let other = (a & 0xffff) * (b >> 16) + (middle & 0xffff);
        (a >> 16) * (b >> 16) + (middle >> 16) + (other >> 16)
    }

    /// As the shader's `column_group`.
    fn column_group(group: u32, groups_per_row: u32) -> u32 {
        let rest = group - high_product(group, reciprocal(groups_per_row)) * groups_per_row;
        rest.min(rest.wrapping_sub(groups_per_row))
    }

    /// As the shader's `round_f16`.
    fn round_f16(value: f32) -> u32 {
        let bits = value.to_bits();
        let exponent = (bits >> 23) & 255;
        let significand = (bits & 0x7fffff) | 0x800000;
        let shift = 126 - exponent.clamp(95, 113);
        let below = (1 << (shift - 1)) - 1 + ((significand >> shift) & 1);
        let half = ((significand + below) >> shift) + ((exponent.max(113) - 113) << 10);
        half.min(0x7c00) | ((bits >> 16) & 0x8000)
    }

    #[test]
    fn f16_is_rounded_as_by_the_library() {
        // Every exponent; the significands next to a tie at each of its bits, and some others.
        let ends = (0..24).flat_map(|bit| {
            let tie = 1u32 << bit;
            [tie.wrapping_sub(1), tie, tie + 1, tie * 3, tie * 3 + 1]
        });
        let others = (0..2000u32).map(|i| i.wrapping_mul(0x9E37_79B9) >> 9);
        let all: Vec<u32> = ends.chain(others).map(|m| m & 0x7fffff).collect();
        for sign_and_exponent in 0..512 {
            // No NaN: values are finite, or infinite where a product is too large.
            let is_last = sign_and_exponent & 255 == 255;
            for m in all.iter().filter(|m| !is_last || **m == 0) {
                let value = f32::from_bits(sign_and_exponent << 23 | m);
                let half = half::f16::from_f32(value).to_bits();
                assert_eq!(round_f16(value), u32::from(half), "{value:e}");
            }
        }
    }

    /// Small, large, and about powers of two and multiples of each other.
    fn numbers() -> impl Strategy<Value = (u32, u32)> {
        let shifted = |all: std::ops::RangeInclusive<u32>| {
            (all, 0u32..32).prop_map(|(word, shift)| word >> shift)
        };
        let near = (shifted(1..=u32::MAX), any::<u32>(), 0u32..3).prop_map(|(d, k, off)| {
            let d = d.max(1);
            let multiple = (k % (u32::MAX / d).saturating_add(1)).saturating_mul(d);
            (multiple.saturating_add(off).saturating_sub(1), d)
        });
        let any = (shifted(0..=u32::MAX), shifted(1..=u32::MAX));
        prop_oneof![near, any.prop_map(|(x, d)| (x, d.max(1)))]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_group_is_found_in_its_row_without_a_division((group, per_row) in numbers()) {
            let high = ((u64::from(group) * u64::from(per_row)) >> 32) as u32;
            prop_assert_eq!(high_product(group, per_row), high);
            prop_assert_eq!(column_group(group, per_row), group % per_row);
        }
    }

    #[test]
    fn the_ends_of_what_a_word_holds_are_found() {
        let ends = [
            1,
            2,
            3,
            0xffff,
            0x1_0000,
            0x1_0001,
            1 << 31,
            u32::MAX - 1,
            u32::MAX,
        ];
        for per_row in ends {
            for group in ends.into_iter().chain([0]) {
                assert_eq!(column_group(group, per_row), group % per_row);
            }
        }
    }
}
