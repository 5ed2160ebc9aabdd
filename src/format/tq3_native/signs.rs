//! The two sign vectors, which every group of a model shares.

use rand_mt::Mt;

/// Signs before and after the transform of a group, +1 or -1, `[group_size]` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupSigns {
    /// Multiplied before the transform when decoding: `signs2` of the source.
    pub before: Vec<i8>,
    /// Multiplied after it: `signs1`.
    pub after: Vec<i8>,
}

impl GroupSigns {
    /// The signs of `quantizer_seed` for groups of `group` elements: torch's `randint(0, 2)` of its CPU
    /// generator, the lowest bit of each output of MT19937 (`init_genrand`), 1 for +1; `signs1` first, then
    /// `signs2`. Of a longer seed the generator takes the low 32 bits.
    pub(crate) fn of_seed(seed: u64, group: usize) -> Self {
        let mut mt = Mt::new(seed as u32);
        let mut draw = || -> Vec<i8> {
            (0..group)
                .map(|_| if mt.next_u32() & 1 == 1 { 1 } else { -1 })
                .collect()
        };
        let after = draw();
        let before = draw();
        Self { before, after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signs as a number: bit `i` says that element `i` is +1.
    fn bits(signs: &[i8]) -> u128 {
        let plus = signs.iter().enumerate().filter(|(_, s)| **s == 1);
        plus.fold(0, |bits, (i, _)| bits | 1 << i)
    }

    #[test]
    fn signs_of_seed_42_are_those_of_torch() {
        assert_eq!(Mt::new(42).next_u32(), 1_608_637_542);
        let signs = GroupSigns::of_seed(42, 128);
        assert_eq!(signs.after[..8], [-1, 1, -1, -1, -1, 1, -1, -1]);
        assert_eq!(
            bits(&signs.after),
            0x656b_5fe7_ff4a_baf6_01ab_7c17_3fd7_4222
        );
        assert_eq!(
            bits(&signs.before),
            0x1425_bfcb_c501_d238_2440_e65c_a821_d007
        );
    }

    /// One stream: where the second vector starts moves with the group.
    #[test]
    fn the_vector_before_the_transform_follows_the_other() {
        let (small, large) = (GroupSigns::of_seed(42, 64), GroupSigns::of_seed(42, 128));
        assert_eq!(small.after, large.after[..64]);
        assert_eq!(small.before, large.after[64..]);
    }

    #[test]
    fn a_seed_counts_modulo_2_to_the_32() {
        assert_eq!(
            GroupSigns::of_seed(42 + (1 << 32), 32),
            GroupSigns::of_seed(42, 32)
        );
        assert_ne!(GroupSigns::of_seed(43, 32), GroupSigns::of_seed(42, 32));
    }
}
