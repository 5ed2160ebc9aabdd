//! The catalogue: every fault that can be named, with a sentence for the user.

use crate::tensor::TqTensor;

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
    /// High bits first within a byte.
    NibblesSwapped,
    /// Low bits hold the first half of the group, high bits the second.
    SplitHalves,
    /// The two bits of each 2-bit code exchanged.
    BitsReversed,
    /// No multiplication by the signs.
    SignsOmitted,
    /// Signs applied before the transform in place of after it.
    SignsBefore,
    /// Signs of the next group of columns.
    SignsOfNeighbour,
    /// Codes read one element too far.
    IndexUp,
    /// Codes read one element too early.
    IndexDown,
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
    /// Scale of the next group.
    ScaleOfNeighbourGroup,
    /// Scale of the next row.
    ScaleOfNeighbourRow,
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
    /// Each row holds the next one.
    RowsShifted,
    /// The output is column-major.
    Transposed,
    /// The last row is not written.
    TailRowsUnwritten,
    /// The last group of each row is not written.
    TailGroupsUnwritten,
    /// The second half of the rows holds what an earlier call wrote: the first half.
    Stale,
    /// All zeros.
    Zeros,
}

/// Stages that a warp does by shuffles when a thread holds 32 elements: strides 32 and up.
const SHUFFLE_STAGES: u32 = !31;

impl Fault {
    /// Every fault that can differ from a correct kernel on a tensor of this layout, plainest first.
    pub fn catalogue(tensor: &TqTensor<'_>) -> Vec<Self> {
        use Fault::*;
        let stages = tensor.layout().group_size().trailing_zeros();
        let all = (1 << stages) - 1;
        let mut faults = vec![Zeros, UpperLaneSign(all)];
        faults.extend([
            UpperLaneSign(all & SHUFFLE_STAGES),
            UpperLaneSign(all & !SHUFFLE_STAGES),
        ]);
        faults.extend([
            FwhtOmitted,
            NormMissing,
            NormByN,
            GroupHalved,
            GroupDoubled,
            NibblesSwapped,
            SplitHalves,
            BitsReversed,
            SignsOmitted,
            SignsBefore,
            SignsOfNeighbour,
            IndexUp,
            IndexDown,
            CodebookReversed,
            CodebookGaussian,
            CodebookUnscaled,
            CodebookLinear,
            ScalesTransposed,
            ScaleOfNeighbourGroup,
            ScaleOfNeighbourRow,
            ScaleOmitted,
            ScaleNormCorrected,
            SubnormalsFlushed,
            ScaleAsBf16,
            Truncation,
            RoundHalfUp,
            RowsShifted,
            Transposed,
            TailRowsUnwritten,
            TailGroupsUnwritten,
            Stale,
        ]);
        faults.extend((0..stages).map(StageDropped));
        faults.retain(|f| match f {
            UpperLaneSign(mask) => *mask != 0,
            BitsReversed => tensor.layout().stored_bits() == 2,
            GroupDoubled => tensor
                .cols()
                .is_multiple_of(2 * tensor.layout().group_size()),
            _ => true,
        });
        let mut seen = Vec::new();
        faults.retain(|f| {
            let fresh = !seen.contains(f);
            seen.push(*f);
            fresh
        });
        faults
    }

    /// The fault's name, in snake case.
    pub fn name(self, stages: u32) -> String {
        use Fault::*;
        let plain = match self {
            UpperLaneSign(mask) => {
                let all = (1 << stages) - 1;
                return if mask == all {
                    "fwht_upper_lane_sign".into()
                } else if mask == all & SHUFFLE_STAGES {
                    "fwht_upper_lane_sign_shuffle_part".into()
                } else if mask == all & !SHUFFLE_STAGES {
                    "fwht_upper_lane_sign_register_part".into()
                } else {
                    format!("fwht_upper_lane_sign_stages_{mask:#b}")
                };
            }
            StageDropped(s) => return format!("fwht_stage_dropped_stride_{}", 1u32 << s),
            FwhtOmitted => "fwht_omitted",
            NormMissing => "norm_missing",
            NormByN => "norm_by_n",
            GroupHalved => "group_halved",
            GroupDoubled => "group_doubled",
            NibblesSwapped => "nibbles_swapped",
            SplitHalves => "split_halves_order",
            BitsReversed => "bits_reversed",
            SignsOmitted => "signs_omitted",
            SignsBefore => "signs_before_transform",
            SignsOfNeighbour => "signs_of_neighbour_group",
            IndexUp => "index_off_by_one_up",
            IndexDown => "index_off_by_one_down",
            CodebookReversed => "codebook_reversed",
            CodebookGaussian => "codebook_gaussian",
            CodebookUnscaled => "codebook_unscaled",
            CodebookLinear => "codebook_linear",
            ScalesTransposed => "scales_transposed",
            ScaleOfNeighbourGroup => "scale_of_neighbour_group",
            ScaleOfNeighbourRow => "scale_of_neighbour_row",
            ScaleOmitted => "scale_omitted",
            ScaleNormCorrected => "scale_norm_corrected",
            SubnormalsFlushed => "f16_subnormals_flushed",
            ScaleAsBf16 => "f16_read_as_bf16",
            Truncation => "bf16_truncation",
            RoundHalfUp => "bf16_round_half_up",
            RowsShifted => "rows_shifted_by_one",
            Transposed => "output_transposed",
            TailRowsUnwritten => "tail_rows_unwritten",
            TailGroupsUnwritten => "tail_groups_unwritten",
            Stale => "stale_output",
            Zeros => "zeros",
        };
        plain.into()
    }

    /// The fault with this name on tensors of this layout: the inverse of [`Fault::name`].
    pub fn named(name: &str, tensor: &TqTensor<'_>) -> Option<Self> {
        let stages = tensor.layout().group_size().trailing_zeros();
        // Any set of stages can be fitted, not only those of the catalogue.
        let masks = (1..1u32 << stages).map(Self::UpperLaneSign);
        Self::catalogue(tensor)
            .into_iter()
            .chain(masks)
            .find(|f| f.name(stages) == name)
    }

    /// What is wrong and where to look in a kernel.
    pub fn advice(self) -> &'static str {
        use Fault::*;
        match self {
            UpperLaneSign(_) => {
                "the upper lane of a butterfly gets upper - lower; it must be lower - upper: look at the branch on lane & stride"
            }
            StageDropped(_) => "one butterfly stage does not happen: look at the loop's bounds",
            FwhtOmitted => "the inverse transform does not happen",
            NormMissing => "the result is not divided by sqrt(n)",
            NormByN => "the result is divided by n; it must be sqrt(n)",
            GroupHalved | GroupDoubled => {
                "the transform runs over another group size than the model's: look at group_size"
            }
            NibblesSwapped => {
                "the even element is the low nibble: look at the shift in the unpacking"
            }
            SplitHalves => "codes are adjacent pairs, not first half low and second half high",
            BitsReversed => "the two bits of a code are exchanged: look at the unpacking",
            SignsOmitted => "the result is not multiplied by the signs",
            SignsBefore => "the signs belong after the inverse transform",
            SignsOfNeighbour => "the signs of another group are read: look at the column offset",
            IndexUp | IndexDown => "codes are read one element off: look at the index",
            CodebookReversed => "the codebook is in descending order",
            CodebookGaussian => {
                "the codebook is the normal distribution's: take the model's own centroids"
            }
            CodebookUnscaled => "the codebook is of unit variance: it must be divided by sqrt(n)",
            CodebookLinear => "the centroids are evenly spaced: take the model's own",
            ScalesTransposed => "scales are row-major, [rows, groups]: look at their index",
            ScaleOfNeighbourGroup | ScaleOfNeighbourRow => {
                "the scale of a neighbour is read: look at its index"
            }
            ScaleOmitted => "the values are not multiplied by the scale",
            ScaleNormCorrected => {
                "the scale is divided by the decoded norm: the format has no such correction"
            }
            SubnormalsFlushed => "f16 subnormal scales are read as zero: decode them by integers",
            ScaleAsBf16 => "scales are f16 and are read as BF16",
            Truncation => "BF16 by dropping bits: round to nearest, ties to even",
            RoundHalfUp => "BF16 with ties away from zero: ties go to even",
            RowsShifted => "each row holds the next one: look at the row index",
            Transposed => "the output is column-major",
            TailRowsUnwritten => "the last row is not written: look at the grid",
            TailGroupsUnwritten => "the last group of each row is not written: look at the grid",
            Stale => {
                "the second half holds the first half's output: a tile's buffer is read before it is written"
            }
            Zeros => "every element is zero: the kernel did not run, or its output was not copied",
        }
    }
}
