//! This project's kernels: which of them a device gets, and its launch.

use super::compile::Source;
use crate::lane::kernel::{Argument, Launch, Part, Value};
use crate::record::OutputType;
use crate::tensor::{Layout, TqTensor};

/// Threads in a block of either kernel.
pub(super) const BLOCK: u32 = 256;

/// Most elements in pieces of 32 that `tq4_dequant_sm75.cu` counts, and most groups of `tq4_dequant_sm80.cu`.
const MAX_PIECES: usize = 1 << 31;
const MAX_GROUPS: usize = 1 << 30;

/// Most turns that a block takes.
const MAX_TURNS: usize = 16;

/// What a block takes before its first turn: signs and centroids, in halves of a turn. A guess: none was
/// measured.
const SETUP: u64 = 1;

/// One of this project's kernels. Public for the tests that run it emulated.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// `kernels/tq4_dequant_sm75.cu`: compute capability 7.5.
    Sm75,
    /// `kernels/tq4_dequant_sm80.cu`: compute capability 8.0 and later.
    Sm80,
}

/// The variants of the second kernel's entry points.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A thread holds 32 elements.
    Single,
    /// A thread holds 64, and looks pairs of 4-bit codes up: fewer instructions and fewer warps.
    Pairs,
}

/// How many blocks a device has room for at once.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Multiprocessors of the device.
    pub multiprocessors: u32,
    /// Blocks of the kernel that one holds.
    pub blocks: u32,
}

impl Own {
    /// Both, from the lowest compute capability on.
    pub const ALL: [Self; 2] = [Self::Sm75, Self::Sm80];

    /// The kernel for a compute capability; `None` where there is none.
    pub fn of(capability: (i32, i32)) -> Option<Self> {
        let fit = |own: &Self| own.capability() <= capability;
        Self::ALL.into_iter().rev().find(fit)
    }

    /// Compute capability that it is made for, and runs on from there on.
    pub fn capability(self) -> (i32, i32) {
        match self {
            Self::Sm75 => (7, 5),
            Self::Sm80 => (8, 0),
        }
    }

    /// Its PTX, by NVRTC 12.0 for that capability.
    pub(super) fn ptx(self) -> &'static str {
        match self {
            Self::Sm75 => include_str!("../../../kernels/tq4_dequant_sm75.ptx"),
            Self::Sm80 => include_str!("../../../kernels/tq4_dequant_sm80.ptx"),
        }
    }

    /// Its CUDA C++.
    pub(super) fn source(self) -> Source<'static> {
        let (name, text) = match self {
            Self::Sm75 => (
                "tq4_dequant_sm75.cu",
                include_str!("../../../kernels/tq4_dequant_sm75.cu"),
            ),
            Self::Sm80 => (
                "tq4_dequant_sm80.cu",
                include_str!("../../../kernels/tq4_dequant_sm80.cu"),
            ),
        };
        Source {
            name,
            text,
            help: "the NVRTC of this machine may be too old for its device: update it, or use the kernel that tq4 brings",
        }
    }

    /// The variants that it has for a layout; none for F16.
    pub fn variants(self, layout: Layout, output: OutputType) -> &'static [Variant] {
        match (self, layout.stored_bits(), output) {
            (_, _, OutputType::F16) => &[],
            (Self::Sm80, 4, OutputType::Bf16) => &[Variant::Single, Variant::Pairs],
            _ => &[Variant::Single],
        }
    }

    /// The variant for a device: by the model of `docs/kernels.md` instructions bind on those of compute capability
    /// 9 and 10, where a block of pairs has turns enough to make up for its table.
    pub(super) fn variant(
        self,
        (major, _): (i32, i32),
        multiprocessors: u32,
        tensor: &TqTensor,
        output: OutputType,
    ) -> Option<Variant> {
        const TURNS: usize = 4;
        let variants = self.variants(tensor.layout(), output);
        let turn = multiprocessors as usize * Variant::Pairs.per_block();
        let large = tensor.elements() >= TURNS * turn;
        let pairs = (9..=10).contains(&major) && large && variants.contains(&Variant::Pairs);
        let variant = if pairs {
            Variant::Pairs
        } else {
            Variant::Single
        };
        (!variants.is_empty()).then_some(variant)
    }

    /// The entry point of one of its variants for a layout.
    pub fn entry(self, variant: Variant, layout: Layout, output: OutputType) -> String {
        let (bits, n) = (layout.stored_bits(), layout.group_size());
        let (major, minor) = self.capability();
        let output = output.name();
        let suffix = match variant {
            Variant::Single => "",
            Variant::Pairs => "_pairs",
        };
        format!("tq4_dequant_sm{major}{minor}_b{bits}_g{n}_{output}{suffix}")
    }

    /// What a variant is launched with; `None` for more elements than it counts.
    pub fn launch(self, variant: Variant, tensor: &TqTensor, room: Room) -> Option<Launch> {
        let (signs, scalars, grid) = match self {
            Self::Sm75 => {
                let pieces = tensor.elements() / 32;
                let pieces = (pieces <= MAX_PIECES).then_some(pieces as u32)?;
                let row_pieces = tensor.cols() as u32 / 32;
                let scalars = vec![pieces, row_pieces];
                (Part::Signs, scalars, pieces.div_ceil(BLOCK))
            }
            Self::Sm80 => {
                let (groups, per_row) = (tensor.groups(), tensor.groups_per_row());
                let n = tensor.layout().group_size();
                let steps =
                    (groups <= MAX_GROUPS).then(|| steps(variant, n, groups, per_row, room))?;
                let scalars = vec![groups as u32, per_row as u32, steps.step];
                (Part::SignPairs, scalars, steps.blocks)
            }
        };
        let parts = [
            Part::Packed,
            Part::Scales,
            signs,
            Part::Centroids,
            Part::Out,
        ];
        let parts = parts.map(Argument::Part).into_iter();
        let scalars = scalars.into_iter().map(|v| Argument::Value(Value::from(v)));
        Some(Launch {
            grid: [grid, 1, 1],
            block: [BLOCK, 1, 1],
            shared_memory: 0,
            arguments: parts.chain(scalars).collect(),
        })
    }
}

impl Variant {
    /// Elements that a block decodes in a turn.
    fn per_block(self) -> usize {
        let held = match self {
            Self::Single => 32,
            Self::Pairs => 64,
        };
        BLOCK as usize * held
    }
}

/// How the grid goes over the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    /// Groups that the grid decodes in a turn.
    step: u32,
    blocks: u32,
}

/// The number of turns with which the busiest multiprocessor is done first, among those that leave no room
/// empty: a block has `turns` of them and its setup, and blocks go to multiprocessors in equal numbers.
fn steps(variant: Variant, n: usize, groups: usize, per_row: usize, room: Room) -> Steps {
    let per_block = variant.per_block() / n;
    let unit = (128 / n).max(1);
    // A thread keeps its columns where a step is whole rows, and whole units.
    let period = per_row * unit / gcd(per_row, unit);
    let multiprocessors = u64::from(room.multiprocessors.max(1));
    let all = (1..=MAX_TURNS).map(|turns| {
        let step = groups.div_ceil(turns).next_multiple_of(period);
        let blocks = step.div_ceil(per_block);
        let turns = groups.div_ceil(step) as u64;
        let busiest = (blocks as u64).div_ceil(multiprocessors) * (2 * turns + SETUP);
        let fills = blocks as u64 > multiprocessors * u64::from(room.blocks.saturating_sub(1));
        let (step, blocks) = (step as u32, blocks as u32);
        // One turn has the most blocks: it stands where not even they fill the device.
        ((turns > 1 && !fills, busiest), Steps { step, blocks })
    });
    let best = all.min_by_key(|(cost, _)| *cost);
    best.expect("there is a choice").1
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{self, Rng, Scales};
    use crate::tensor::GROUP_SIZES;
    use proptest::prelude::*;

    const H100: Room = Room {
        multiprocessors: 132,
        blocks: 4,
    };

    #[test]
    fn each_capability_has_its_kernel() {
        assert_eq!(Own::of((7, 0)), None);
        assert_eq!(Own::of((7, 5)), Some(Own::Sm75));
        for capability in [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)] {
            assert_eq!(Own::of(capability), Some(Own::Sm80));
        }
    }

    /// Shapes of a model on a large device: many blocks of several turns, and no turn nearly empty.
    #[test]
    fn a_grid_is_cut_for_the_device() {
        let steps = |rows: usize, cols: usize| {
            steps(Variant::Single, 128, rows * cols / 128, cols / 128, H100)
        };
        let (small, square, tall) = (steps(1024, 1024), steps(4096, 4096), steps(12288, 4096));
        // 128 blocks of 64 groups: fewer than there is room for.
        assert_eq!((small.step, small.blocks), (8192, 128));
        assert_eq!((square.step, square.blocks), (131_072 / 4, 512));
        assert_eq!((tall.step, tall.blocks), (393_216 / 12, 512));
    }

    #[test]
    fn pairs_are_for_large_tensors_where_instructions_bind() {
        let layout = Layout::new(4, 128).unwrap();
        let rng = &mut Rng::new(1);
        let tensor = synthetic::tensor(rng, layout, 1024, 1024, Scales::Usual).unwrap();
        let variant = |capability, multiprocessors, output| {
            Own::Sm80.variant(capability, multiprocessors, &tensor, output)
        };
        assert_eq!(variant((9, 0), 16, OutputType::Bf16), Some(Variant::Pairs));
        assert_eq!(variant((10, 3), 16, OutputType::Bf16), Some(Variant::Pairs));
        for (capability, multiprocessors, output) in [
            ((9, 0), 17, OutputType::Bf16),
            ((9, 0), 16, OutputType::F32),
            ((8, 9), 16, OutputType::Bf16),
            ((12, 0), 16, OutputType::Bf16),
        ] {
            let found = variant(capability, multiprocessors, output);
            assert_eq!(found, Some(Variant::Single));
        }
        assert_eq!(variant((9, 0), 16, OutputType::F16), None);
    }

    proptest! {
        #[test]
        fn a_step_is_whole_rows_and_units_and_the_blocks_are_just_enough(
            n in prop::sample::select(&GROUP_SIZES[..]),
            per_row in 1usize..5000,
            rows in 1usize..3000,
            multiprocessors in 1u32..200,
            blocks in 1u32..8,
            variant in prop::sample::select(vec![Variant::Single, Variant::Pairs]),
        ) {
            let groups = rows * per_row;
            let room = Room { multiprocessors, blocks };
            let found = steps(variant, n, groups, per_row, room);
            let (step, blocks) = (found.step as usize, found.blocks as usize);
            prop_assert_eq!(step % per_row, 0);
            prop_assert_eq!(step * n % 128, 0);
            let per_block = variant.per_block() / n;
            prop_assert!(blocks * per_block >= step && (blocks - 1) * per_block < step);
        }
    }
}
