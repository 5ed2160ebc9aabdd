//! The catalogue: every fault that can be named, with a sentence for the user.

use crate::tensor::TqTensor;

/// Which neighbour is read in place of the right one; the last and the first are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Neighbour {
    /// The one after.
    Next,
    /// The one before.
    Previous,
}

impl Neighbour {
    /// +1 or -1.
    pub(super) fn step(self) -> isize {
        match self {
            Self::Next => 1,
            Self::Previous => -1,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Previous => "previous",
        }
    }
}

/// What stands where a kernel wrote nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fill {
    /// NaN: this program's poison, or memory that was never written.
    Nan,
    /// Zeros: memory that its owner cleared.
    Zero,
}

impl Fill {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Nan => ("unwritten", "NaN"),
            Self::Zero => ("zero", "zeros"),
        }
    }
}

/// A way in which a kernel is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Upper minus lower in the stages of this mask (bit s for stride 2^s).
    UpperLaneSign(u32),
    /// The stage of stride 2^s does not happen.
    StageDropped(u32),
    /// No transform at all.
    FwhtOmitted,
    /// No division by sqrt(n).
    NormMissing,
    /// Division by n in place of sqrt(n).
    NormByN,
    /// Transforms of half the group size.
    GroupHalved,
    /// Transforms of twice the group size.
    GroupDoubled,
    /// High nibble first within a byte.
    NibblesSwapped,
    /// The four 2-bit codes of a byte from the high bits down.
    ByteReversed,
    /// The two bits of each 2-bit code exchanged.
    CodeBitsSwapped,
    /// Low bits hold the first half of the group, high bits the second.
    SplitHalves,
    /// No multiplication by the signs.
    SignsOmitted,
    /// Signs applied before the transform in place of after it.
    SignsBefore,
    /// Signs of a neighbouring group of columns.
    SignsOf(Neighbour),
    /// Codes read one element too far, or too early.
    IndexOff(Neighbour),
    /// Codebook in descending order.
    CodebookReversed,
    /// Lloyd-Max centroids of a normal distribution, divided by sqrt(n), in place of the sphere's.
    CodebookGaussian,
    /// Centroids of unit variance, not divided by sqrt(n).
    CodebookUnscaled,
    /// Evenly spaced centroids over the same range.
    CodebookLinear,
    /// Scales indexed column-major.
    ScalesTransposed,
    /// Scale of a neighbouring group.
    ScaleOfGroup(Neighbour),
    /// Scale of a neighbouring row.
    ScaleOfRow(Neighbour),
    /// No multiplication by the scale.
    ScaleOmitted,
    /// Scale divided by the norm of the decoded centroids.
    ScaleNormCorrected,
    /// f16 subnormal scales read as zero.
    SubnormalsFlushed,
    /// Scales read as BF16.
    ScaleAsBf16,
    /// BF16 by dropping the low bits.
    Truncation,
    /// BF16 with ties away from zero.
    RoundHalfUp,
    /// Row r holds row r + k; the last and the first are neighbours.
    RowsShifted(isize),
    /// The output is column-major.
    Transposed,
    /// The last k rows are not written.
    TailRows(usize, Fill),
    /// The last k groups of the tensor are not written.
    TailGroups(usize, Fill),
    /// The last k groups of each row are not written.
    RowTailGroups(usize, Fill),
    /// From row p on, row r holds row r - p: what an earlier call left in the buffer.
    Stale(usize),
    /// All zeros.
    Zeros,
}

/// Strides that a kernel of one thread an element does by shuffles; the others go through shared memory.
const SHUFFLE_STAGES: u32 = 31;

impl Fault {
    /// Every fault that can differ from a correct kernel on a tensor of this layout, plainest first.
    ///
    /// Faults with a number in them stand here with a usual one; a diagnosis fits others to the output.
    pub fn catalogue(tensor: &TqTensor) -> Vec<Self> {
        use Fault::*;
        use Neighbour::{Next, Previous};
        let n = tensor.layout().group_size();
        let stages = n.trailing_zeros();
        let all = (1 << stages) - 1;
        let (rows, two_bits) = (tensor.rows(), tensor.layout().stored_bits() == 2);
        let mut faults = vec![Zeros, UpperLaneSign(all)];
        if all & !SHUFFLE_STAGES != 0 {
            faults.extend([
                UpperLaneSign(all & SHUFFLE_STAGES),
                UpperLaneSign(all & !SHUFFLE_STAGES),
            ]);
        }
        faults.extend([FwhtOmitted, NormMissing, NormByN, GroupHalved]);
        if tensor.groups_per_row().is_multiple_of(2) {
            faults.push(GroupDoubled);
        }
        faults.push(NibblesSwapped);
        if two_bits {
            faults.extend([ByteReversed, CodeBitsSwapped]);
        }
        faults.extend([
            SplitHalves,
            SignsOmitted,
            SignsBefore,
            SignsOf(Next),
            SignsOf(Previous),
            IndexOff(Next),
            IndexOff(Previous),
            CodebookReversed,
            CodebookGaussian,
            CodebookUnscaled,
            CodebookLinear,
            ScalesTransposed,
            ScaleOfGroup(Next),
            ScaleOfGroup(Previous),
            ScaleOfRow(Next),
            ScaleOfRow(Previous),
            ScaleOmitted,
            ScaleNormCorrected,
            SubnormalsFlushed,
            ScaleAsBf16,
            Truncation,
            RoundHalfUp,
            Transposed,
        ]);
        if rows > 1 {
            faults.extend([RowsShifted(1), RowsShifted(-1), Stale(rows.div_ceil(2))]);
            faults.extend([TailRows(1, Fill::Nan), TailRows(1, Fill::Zero)]);
        }
        if tensor.groups_per_row() > 1 {
            for fill in [Fill::Nan, Fill::Zero] {
                faults.extend([TailGroups(1, fill), RowTailGroups(1, fill)]);
            }
        }
        faults.extend((0..stages).map(StageDropped));
        faults
    }

    /// The fault's name, in snake case; `stages` is log2 of the group size.
    pub fn name(self, stages: u32) -> String {
        use Fault::*;
        let plain = match self {
            UpperLaneSign(mask) => return sign_name(mask, (1 << stages) - 1),
            StageDropped(s) => return format!("fwht_stage_dropped_stride_{}", 1u32 << s),
            SignsOf(side) => return format!("signs_of_{}_group", side.word()),
            ScaleOfGroup(side) => return format!("scale_of_{}_group", side.word()),
            ScaleOfRow(side) => return format!("scale_of_{}_row", side.word()),
            RowsShifted(k) => return format!("rows_shifted_by_{k}"),
            TailRows(k, fill) => return format!("tail_rows_{}_{k}", fill.words().0),
            TailGroups(k, fill) => return format!("tail_groups_{}_{k}", fill.words().0),
            RowTailGroups(k, fill) => return format!("row_tail_groups_{}_{k}", fill.words().0),
            Stale(p) => return format!("stale_output_from_row_{p}"),
            FwhtOmitted => "fwht_omitted",
            NormMissing => "norm_missing",
            NormByN => "norm_by_n",
            GroupHalved => "group_halved",
            GroupDoubled => "group_doubled",
            NibblesSwapped => "nibbles_swapped",
            ByteReversed => "byte_high_code_first",
            CodeBitsSwapped => "code_bits_swapped",
            SplitHalves => "split_halves_order",
            SignsOmitted => "signs_omitted",
            SignsBefore => "signs_before_transform",
            IndexOff(Neighbour::Next) => "index_off_by_one_up",
            IndexOff(Neighbour::Previous) => "index_off_by_one_down",
            CodebookReversed => "codebook_reversed",
            CodebookGaussian => "codebook_gaussian",
            CodebookUnscaled => "codebook_unscaled",
            CodebookLinear => "codebook_linear",
            ScalesTransposed => "scales_transposed",
            ScaleOmitted => "scale_omitted",
            ScaleNormCorrected => "scale_norm_corrected",
            SubnormalsFlushed => "f16_subnormals_flushed",
            ScaleAsBf16 => "f16_read_as_bf16",
            Truncation => "bf16_truncation",
            RoundHalfUp => "bf16_round_half_up",
            Transposed => "output_transposed",
            Zeros => "zeros",
        };
        plain.into()
    }

    /// The fault with this name on tensors of this layout: the inverse of [`Fault::name`].
    pub fn named(name: &str, tensor: &TqTensor) -> Option<Self> {
        let stages = tensor.layout().group_size().trailing_zeros();
        // What a diagnosis fits stands in the catalogue with another number, or not at all.
        let masks = (1..1u32 << stages).map(Self::UpperLaneSign);
        let number = name
            .rsplit('_')
            .next()
            .and_then(|k| k.parse::<isize>().ok());
        let numbered = number.into_iter().flat_map(|k| {
            let count = k.unsigned_abs();
            let tails = [Fill::Nan, Fill::Zero].into_iter().flat_map(move |fill| {
                [
                    Self::TailRows(count, fill),
                    Self::TailGroups(count, fill),
                    Self::RowTailGroups(count, fill),
                ]
            });
            [Self::RowsShifted(k), Self::Stale(count)]
                .into_iter()
                .chain(tails)
        });
        Self::catalogue(tensor)
            .into_iter()
            .chain(masks)
            .chain(numbered)
            .find(|f| f.name(stages) == name)
    }

    /// What is wrong and where to look in a kernel.
    pub fn advice(self) -> String {
        use Fault::*;
        let plain = match self {
            UpperLaneSign(_) => {
                "the upper lane of a butterfly gets upper - lower, it must be lower - upper: look at the branch on lane & stride"
            }
            StageDropped(s) => {
                return format!(
                    "the butterfly stage of stride {} does not happen: look at the loop's bounds and the barrier before it",
                    1u32 << s
                );
            }
            FwhtOmitted => "the inverse transform does not happen",
            NormMissing => "the result is not divided by sqrt(n)",
            NormByN => "the result is divided by n, it must be sqrt(n)",
            GroupHalved => {
                "the transform runs over half the model's group size: look at group_size"
            }
            GroupDoubled => {
                "the transform runs over twice the model's group size: look at group_size"
            }
            NibblesSwapped => {
                "the even element is the low nibble: look at the shift in the unpacking"
            }
            ByteReversed => {
                "four 2-bit codes share a byte, the first in the low bits: look at the shift in the unpacking"
            }
            CodeBitsSwapped => {
                "the two bits of a code are exchanged: look at the mask in the unpacking"
            }
            SplitHalves => {
                "neighbouring codes share a byte: it is not the first half of the group low and the second high"
            }
            SignsOmitted => "the result is not multiplied by the signs",
            SignsBefore => "the signs belong after the inverse transform",
            SignsOf(_) => "the signs of another group are read: look at the column offset",
            IndexOff(_) => "codes are read one element off: look at the index",
            CodebookReversed => "the codebook is in descending order",
            CodebookGaussian => {
                "the codebook is the normal distribution's: take the model's own centroids"
            }
            CodebookUnscaled => "the codebook is of unit variance: it must be divided by sqrt(n)",
            CodebookLinear => "the centroids are evenly spaced: take the model's own",
            ScalesTransposed => "scales are row-major, [rows, groups]: look at their index",
            ScaleOfGroup(_) => "the scale of a neighbouring group is read: look at its index",
            ScaleOfRow(_) => "the scale of a neighbouring row is read: look at its index",
            ScaleOmitted => "the values are not multiplied by the scale",
            ScaleNormCorrected => {
                "the scale is divided by the norm of the decoded centroids: the format has no such correction"
            }
            SubnormalsFlushed => "f16 subnormal scales are read as zero: decode them by integers",
            ScaleAsBf16 => "scales are f16 and are read as BF16",
            Truncation => "BF16 by dropping bits: round to nearest, ties to even",
            RoundHalfUp => "BF16 with ties away from zero: ties go to even",
            RowsShifted(k) => {
                return format!(
                    "row r holds row r {} {}: look at the row index",
                    if k < 0 { '-' } else { '+' },
                    k.unsigned_abs()
                );
            }
            Transposed => "the output is column-major",
            TailRows(k, fill) => {
                return format!(
                    "the last rows hold {} ({k} of them): look at the grid and the bounds check",
                    fill.words().1
                );
            }
            TailGroups(k, fill) => {
                return format!(
                    "the last groups of the tensor hold {} ({k} of them): look at the grid and the bounds check",
                    fill.words().1
                );
            }
            RowTailGroups(k, fill) => {
                return format!(
                    "the last groups of each row hold {} ({k} of them): look at the grid and the bounds check",
                    fill.words().1
                );
            }
            Stale(p) => {
                return format!(
                    "from row {p} on, row r holds row r - {p}: a buffer is read before the kernel has written it"
                );
            }
            Zeros => "every element is zero: the kernel did not run, or its output was not copied",
        };
        plain.into()
    }
}

fn sign_name(mask: u32, all: u32) -> String {
    const NAME: &str = "fwht_upper_lane_sign";
    if mask == all {
        NAME.into()
    } else if mask == all & SHUFFLE_STAGES {
        format!("{NAME}_shuffle_part")
    } else if mask == all & !SHUFFLE_STAGES {
        format!("{NAME}_shared_memory_part")
    } else {
        let strides: Vec<String> = (0..32)
            .filter(|s| mask >> s & 1 == 1)
            .map(|s| (1u32 << s).to_string())
            .collect();
        format!("{NAME}_strides_{}", strides.join("_"))
    }
}
