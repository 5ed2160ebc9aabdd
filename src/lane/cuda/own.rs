//! This project's kernels: which of them a device gets, and its launch.

use super::compile::CudaSource;
use crate::codec::{Normalisation, ScaleType, Scaling};
use crate::lane::kernel::{Argument, Launch, Part, ScalarValue};
use crate::record::OutputType;
use crate::tensor::{Layout, TqTensor};
use miniz_oxide::inflate::decompress_to_vec;
use std::sync::LazyLock;

/// Threads in a block of any of the kernels.
pub(super) const BLOCK_THREADS: u32 = 256;

/// Most elements in pieces of 32 that `tq4_dequant_sm75.cu` and `tq4_dequant_codecs.cu` count, and most groups of
/// `tq4_dequant_sm80.cu`.
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
pub enum OwnKernel {
    /// `kernels/tq4_dequant_sm75.cu`: plain layouts on compute capability 7.5.
    Sm75,
    /// `kernels/tq4_dequant_sm80.cu`: plain layouts on compute capability 8.0 and later.
    Sm80,
    /// `kernels/tq4_dequant_codecs.cu`: other layouts, and F16 of plain ones, on any.
    Codecs,
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

impl OwnKernel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sm75, Self::Sm80, Self::Codecs];

    /// The kernel for plain layouts on a compute capability; `None` where there is none.
    pub fn of(capability: (i32, i32)) -> Option<Self> {
        let fit = |own: &Self| own.capability() <= capability;
        [Self::Sm80, Self::Sm75].into_iter().find(fit)
    }

    /// The kernel for a layout, where this one is for plain ones.
    pub(super) fn for_layout(self, layout: Layout, output: OutputType) -> Self {
        if layout.is_plain() && output != OutputType::F16 {
            self
        } else {
            Self::Codecs
        }
    }

    /// Compute capability that it is made for, and runs on from there on.
    pub fn capability(self) -> (i32, i32) {
        match self {
            Self::Sm75 | Self::Codecs => (7, 5),
            Self::Sm80 => (8, 0),
        }
    }

    /// Its PTX, by NVRTC 12.0 for that capability.
    pub(super) fn ptx(self) -> &'static str {
        macro_rules! unpacked {
            ($file:literal) => {{
                static PTX: LazyLock<String> = LazyLock::new(|| {
                    let packed = include_bytes!(concat!(env!("OUT_DIR"), "/", $file));
                    let text = decompress_to_vec(packed).expect("the build script packs it");
                    String::from_utf8(text).expect("PTX is ASCII")
                });
                &PTX
            }};
        }
        match self {
            Self::Sm75 => unpacked!("tq4_dequant_sm75.ptx"),
            Self::Sm80 => unpacked!("tq4_dequant_sm80.ptx"),
            Self::Codecs => unpacked!("tq4_dequant_codecs.ptx"),
        }
    }

    /// Its CUDA C++.
    pub(super) fn source(self) -> CudaSource<'static> {
        let (name, text) = match self {
            Self::Sm75 => (
                "tq4_dequant_sm75.cu",
                include_str!("../../../kernels/tq4_dequant_sm75.cu"),
            ),
            Self::Sm80 => (
                "tq4_dequant_sm80.cu",
                include_str!("../../../kernels/tq4_dequant_sm80.cu"),
            ),
            Self::Codecs => (
                "tq4_dequant_codecs.cu",
                include_str!("../../../kernels/tq4_dequant_codecs.cu"),
            ),
        };
        CudaSource {
            name,
            text,
            help: "the NVRTC of this machine may be too old for its device: update it, or use the kernel that tq4 brings",
        }
    }

    /// The variants that it has for a layout; none where it does not have the layout.
    pub fn variants(self, layout: Layout, output: OutputType) -> &'static [Variant] {
        let plain = layout.is_plain() && output != OutputType::F16;
        match (self, layout.stored_bits(), output) {
            (Self::Codecs, ..) if !plain && has(layout) => &[Variant::Single],
            (Self::Codecs, ..) => &[],
            _ if !plain => &[],
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
        let output = output.name();
        if self == Self::Codecs {
            let (scales, stored) = (layout.scales(), layout.scales().stored.name());
            let form = match scales.scaling {
                _ if layout.is_plain() => "plain".into(),
                Scaling::Before => format!("{stored}by{}", scales.elements),
                Scaling::After => format!("{stored}last"),
            };
            return format!("tq4_dequant_codecs_b{bits}_{form}_{output}");
        }
        let (major, minor) = self.capability();
        let suffix = match variant {
            Variant::Single => "",
            Variant::Pairs => "_pairs",
        };
        format!("tq4_dequant_sm{major}{minor}_b{bits}_g{n}_{output}{suffix}")
    }

    /// What a variant is launched with; `None` for more elements than it counts.
    pub fn launch(self, variant: Variant, tensor: &TqTensor, room: Room) -> Option<Launch> {
        let n = tensor.layout().group_size();
        let (signs, scalars, grid): (&[Part], _, _) = match self {
            Self::Sm75 | Self::Codecs => {
                let pieces = tensor.elements() / 32;
                let pieces = (pieces <= MAX_PIECES).then_some(pieces as u32)?;
                let row_pieces = tensor.cols() as u32 / 32;
                let grid = pieces.div_ceil(BLOCK_THREADS);
                if self == Self::Sm75 {
                    (&[Part::Signs], vec![pieces, row_pieces], grid)
                } else {
                    let scalars = vec![pieces, row_pieces, (n / 32).ilog2()];
                    (&[Part::Signs, Part::SignsBefore], scalars, grid)
                }
            }
            Self::Sm80 => {
                let (groups, per_row) = (tensor.groups(), tensor.groups_per_row());
                let steps =
                    (groups <= MAX_GROUPS).then(|| steps(variant, n, groups, per_row, room))?;
                let scalars = vec![groups as u32, per_row as u32, steps.step];
                (&[Part::SignPairs], scalars, steps.blocks)
            }
        };
        let parts = [Part::Packed, Part::Scales].into_iter();
        let parts = parts.chain(signs.iter().copied());
        let parts = parts.chain([Part::Centroids, Part::Out]);
        let parts = parts.map(Argument::Part);
        let scalars = scalars
            .into_iter()
            .map(|v| Argument::Value(ScalarValue::from(v)));
        Some(Launch {
            grid: [grid, 1, 1],
            block: [BLOCK_THREADS, 1, 1],
            shared_memory: 0,
            arguments: parts.chain(scalars).collect(),
        })
    }
}

/// Whether `tq4_dequant_codecs.cu` has a layout.
fn has(layout: Layout) -> bool {
    let scales = layout.scales();
    let (bits, n) = (layout.bits(), layout.group_size());
    let gapless = bits == layout.stored_bits();
    match (scales.scaling, scales.stored, scales.elements) {
        _ if layout.is_plain() => true,
        (Scaling::Before, ScaleType::F16, 16) if bits != 2 => is_block(layout, gapless),
        (Scaling::Before, ScaleType::E3m5, 8) if bits == 3 => is_block(layout, gapless),
        (Scaling::After, ScaleType::F32, shared) => {
            gapless && shared == n && layout.normalisation() == Normalisation::Divide
        }
        _ => false,
    }
}

fn is_block(layout: Layout, gapless: bool) -> bool {
    let signed = layout.signs_before().is_some();
    let multiplied = layout.normalisation() == Normalisation::Multiply;
    gapless && layout.group_size() == 32 && !signed && multiplied
}

impl Variant {
    /// Elements that a block decodes in a turn.
    fn per_block(self) -> usize {
        let held = match self {
            Self::Single => 32,
            Self::Pairs => 64,
        };
        BLOCK_THREADS as usize * held
    }
}

/// How the grid goes over the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GridSteps {
    /// Groups that the grid decodes in a turn.
    step: u32,
    blocks: u32,
}

/// The number of turns with which the busiest multiprocessor is done first, among those that leave no room
/// empty: a block has `turns` of them and its setup, and blocks go to multiprocessors in equal numbers.
fn steps(variant: Variant, n: usize, groups: usize, per_row: usize, room: Room) -> GridSteps {
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
        ((turns > 1 && !fills, busiest), GridSteps { step, blocks })
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
    use crate::codec::{ScaleGrid, SignsBefore};
    use crate::format::every_codec;
    use crate::synthetic::{self, Rng, ScaleDistribution};
    use crate::tensor::GROUP_SIZES;
    use proptest::prelude::*;

    const H100: Room = Room {
        multiprocessors: 132,
        blocks: 4,
    };

    #[test]
    fn each_capability_has_its_kernel() {
        assert_eq!(OwnKernel::of((7, 0)), None);
        assert_eq!(OwnKernel::of((7, 5)), Some(OwnKernel::Sm75));
        for capability in [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)] {
            assert_eq!(OwnKernel::of(capability), Some(OwnKernel::Sm80));
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
        let tensor = synthetic::tensor(rng, layout, 1024, 1024, ScaleDistribution::Usual).unwrap();
        let variant = |capability, multiprocessors, output| {
            OwnKernel::Sm80.variant(capability, multiprocessors, &tensor, output)
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

    #[test]
    fn every_codec_has_its_kernel() {
        for (name, codec) in every_codec() {
            let layout = codec.layout;
            for output in [OutputType::Bf16, OutputType::F16, OutputType::F32] {
                for own in [OwnKernel::Sm75, OwnKernel::Sm80] {
                    let found = own.for_layout(layout, output);
                    let plain = layout.is_plain() && output != OutputType::F16;
                    assert_eq!(found, if plain { own } else { OwnKernel::Codecs });
                    let variants = found.variants(layout, output);
                    assert!(variants.contains(&Variant::Single), "{name}, {output:?}");
                    let entry = format!("{}(", found.entry(Variant::Single, layout, output));
                    assert!(found.ptx().contains(&entry), "{entry}");
                    assert_eq!(own.variants(layout, output).is_empty(), !plain);
                    assert_eq!(OwnKernel::Codecs.variants(layout, output).is_empty(), plain);
                }
            }
        }
    }

    #[test]
    fn a_layout_that_no_kernel_has_is_refused() {
        let plain = Layout::new(4, 64).unwrap();
        let last = |scales: ScaleGrid| plain.scaled(scales);
        let grid = ScaleGrid {
            stored: ScaleType::F32,
            scaling: Scaling::After,
            ..plain.scales()
        };
        let halves = ScaleGrid {
            elements: 16,
            ..plain.scales()
        };
        let signed = SignsBefore::new(&[-1]);
        let block = Layout::new(4, 32).unwrap().scaled(halves);
        for (layout, has) in [
            (last(grid), true),
            (last(grid).signed_before(signed), true),
            (last(grid).normalised(Normalisation::Multiply), false),
            (
                Layout::new(3, 64).unwrap().scaled(ScaleGrid {
                    elements: 64,
                    ..grid
                }),
                false,
            ),
            (plain.signed_before(signed), false),
            (plain.normalised(Normalisation::Multiply), false),
            (last(halves).normalised(Normalisation::Multiply), false),
            (block, false),
            (block.normalised(Normalisation::Multiply), true),
            (
                block
                    .normalised(Normalisation::Multiply)
                    .signed_before(signed),
                false,
            ),
        ] {
            for output in [OutputType::Bf16, OutputType::F16, OutputType::F32] {
                let variants = OwnKernel::Codecs.variants(layout, output);
                assert_eq!(!variants.is_empty(), has, "{layout:?}");
            }
        }
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
