//! Digests: what is kept of an output when the output itself is too large to carry.
//!
//! Groups are taken together in blocks. Of each block there is a checksum, which says whether two
//! outputs are the same; four sketches, from which the size of their difference follows (each the sum
//! of the values under random signs: the mean square of the difference of two sketches is the sum of
//! squares of the difference of the values; Alon, Matias and Szegedy, STOC 1996); and the sum of
//! squares. Besides there is a sample of whole groups, evenly spread.

use crate::synthetic::Rng;
use half::bf16;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Sketches per block.
pub(super) const SKETCHES: usize = 4;
/// Most blocks in a file: 28 bytes each.
const MAX_BLOCKS: usize = 1 << 17;
/// Groups in the sample of a file, about.
const SAMPLE: usize = 4096;
/// Seed of the random signs; part of the format.
const SEED: u64 = 0x7104_D16E_57ED;

/// How the groups of a file's tensors are taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Groups per block, a power of two.
    pub groups_per_block: usize,
    /// Groups in the sample of each tensor.
    pub sampled: Vec<usize>,
}

impl Plan {
    /// For tensors of so many groups: the smallest blocks that keep the file at some megabytes.
    pub fn new(groups: &[usize]) -> Self {
        let total: usize = groups.iter().sum();
        let mut groups_per_block = 1;
        while total / groups_per_block > MAX_BLOCKS {
            groups_per_block *= 2;
        }
        let share =
            |g: &usize| ((SAMPLE as u128 * *g as u128 / total as u128) as usize).clamp(1, *g);
        Self {
            groups_per_block,
            sampled: groups.iter().map(share).collect(),
        }
    }

    /// How tensor `i` is cut.
    pub fn cut(&self, group_size: usize, i: usize) -> Cut {
        Cut {
            group_size,
            groups_per_block: self.groups_per_block,
            sampled: self.sampled[i],
        }
    }
}

/// How one tensor is cut into blocks, and how many of its groups are in the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Elements per group.
    pub group_size: usize,
    /// Groups per block, a power of two.
    pub groups_per_block: usize,
    /// Groups in the sample.
    pub sampled: usize,
}

/// The digest of some rows of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    /// Elements per group.
    pub group_size: usize,
    /// Groups in all.
    pub groups: usize,
    /// Groups per block; the last block may hold fewer.
    pub groups_per_block: usize,
    /// SipHash-1-3, zero key, of each block's BF16 bytes.
    pub sums: Vec<u64>,
    /// Four sketches of each block.
    pub sketches: Vec<[f32; SKETCHES]>,
    /// Sum of squares of each block.
    pub squares: Vec<f32>,
    /// Sampled groups, one after another: number `i` of `s` is group `i * groups / s`.
    pub sample: Vec<bf16>,
}

/// Makes a digest of values that come strip by strip, in order.
pub(super) struct Digester {
    digest: Digest,
    sampled: usize,
    /// Signs of every element of a block.
    signs: Vec<[f64; SKETCHES]>,
    seen: usize,
    hash: SipHasher13,
    sketch: [f64; SKETCHES],
    square: f64,
}

impl Digester {
    /// For so many groups.
    pub fn new(groups: usize, cut: Cut) -> Self {
        let Cut {
            group_size,
            groups_per_block,
            sampled,
        } = cut;
        let mut rng = Rng::new(SEED);
        let block = groups_per_block.min(groups) * group_size;
        let signs = (0..block)
            .map(|_| {
                let bits = rng.next_u64();
                std::array::from_fn(|j| if bits >> j & 1 == 1 { 1.0 } else { -1.0 })
            })
            .collect();
        Self {
            digest: Digest {
                group_size,
                groups,
                groups_per_block,
                sums: Vec::new(),
                sketches: Vec::new(),
                squares: Vec::new(),
                sample: Vec::new(),
            },
            sampled,
            signs,
            seen: 0,
            hash: SipHasher13::new(),
            sketch: [0.0; SKETCHES],
            square: 0.0,
        }
    }

    /// Takes the next groups, whole ones.
    pub fn push(&mut self, values: &[bf16]) {
        for group in values.chunks_exact(self.digest.group_size) {
            self.group(group);
        }
    }

    fn group(&mut self, group: &[bf16]) {
        let within = self.seen % self.digest.groups_per_block;
        self.hash.write(bytemuck::cast_slice(group));
        let signs = &self.signs[within * group.len()..][..group.len()];
        for (v, s) in group.iter().zip(signs) {
            let v = f64::from(v.to_f32());
            for (sketch, s) in self.sketch.iter_mut().zip(s) {
                *sketch += s * v;
            }
            self.square += v * v;
        }
        let next = self.digest.sample.len() / group.len();
        if next < self.sampled && self.seen == sampled_group(next, self.sampled, self.digest.groups)
        {
            self.digest.sample.extend_from_slice(group);
        }
        self.seen += 1;
        if within + 1 == self.digest.groups_per_block || self.seen == self.digest.groups {
            let hash = std::mem::replace(&mut self.hash, SipHasher13::new());
            self.digest.sums.push(hash.finish());
            self.digest.sketches.push(self.sketch.map(|s| s as f32));
            self.digest.squares.push(self.square as f32);
            self.sketch = [0.0; SKETCHES];
            self.square = 0.0;
        }
    }

    /// The digest.
    ///
    /// # Panics
    /// When fewer or more groups came than were promised.
    pub fn finish(self) -> Digest {
        assert_eq!(self.seen, self.digest.groups, "every group is pushed once");
        self.digest
    }
}

/// Number of the group that is sample `i` of `sampled`.
fn sampled_group(i: usize, sampled: usize, groups: usize) -> usize {
    (i as u128 * groups as u128 / sampled as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Rng;
    use proptest::prelude::*;

    fn cut(group_size: usize, groups_per_block: usize, sampled: usize) -> Cut {
        Cut {
            group_size,
            groups_per_block,
            sampled,
        }
    }

    fn digest(values: &[bf16], group_size: usize, per_block: usize, sampled: usize) -> Digest {
        let cut = cut(group_size, per_block, sampled);
        let mut d = Digester::new(values.len() / group_size, cut);
        d.push(values);
        d.finish()
    }

    #[test]
    fn a_file_stays_at_some_megabytes() {
        // 10 GB of codes: 20e9 elements in groups of 128, in 300 tensors.
        let groups = vec![520_833; 300];
        let plan = Plan::new(&groups);
        assert_eq!(plan.groups_per_block, 2048);
        let blocks: usize = groups
            .iter()
            .map(|g| g.div_ceil(plan.groups_per_block))
            .sum();
        let sampled: usize = plan.sampled.iter().sum();
        let bytes = blocks * 28 + sampled * 256;
        assert!((2_000_000..5_000_000).contains(&bytes), "{bytes}");
        assert_eq!(Plan::new(&[3, 100]).groups_per_block, 1);
        assert_eq!(Plan::new(&[3, 100]).sampled, [3, 100]);
    }

    #[test]
    fn the_sketch_tells_the_size_of_a_difference() {
        let mut rng = Rng::new(5);
        let a: Vec<bf16> = (0..64 * 4096)
            .map(|_| bf16::from_f32(rng.normal()))
            .collect();
        let b: Vec<bf16> = a
            .iter()
            .map(|v| bf16::from_f32(v.to_f32() + 0.1 * rng.normal()))
            .collect();
        let (da, db) = (digest(&a, 64, 16, 8), digest(&b, 64, 16, 8));
        let square: f64 = da
            .sketches
            .iter()
            .zip(&db.sketches)
            .flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)))
            .sum::<f64>()
            / SKETCHES as f64;
        let exact: f64 = a
            .iter()
            .zip(&b)
            .map(|(a, b)| f64::from(a.to_f32() - b.to_f32()).powi(2))
            .sum();
        assert!((square / exact - 1.0).abs() < 0.15, "{}", square / exact);
    }

    proptest! {
        #[test]
        fn strips_do_not_matter(
            groups in 1usize..60,
            log in 0u32..5,
            cuts in prop::collection::vec(0usize..60, 0..4),
            seed in any::<u64>(),
        ) {
            let mut rng = Rng::new(seed);
            let values: Vec<bf16> = (0..groups * 32).map(|_| bf16::from_f32(rng.normal())).collect();
            let sampled = groups.min(7);
            let whole = digest(&values, 32, 1 << log, sampled);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(groups)).collect();
            cuts.extend([0, groups]);
            cuts.sort_unstable();
            let mut d = Digester::new(groups, cut(32, 1 << log, sampled));
            for w in cuts.windows(2) {
                d.push(&values[w[0] * 32..w[1] * 32]);
            }
            let strips = d.finish();
            prop_assert_eq!(&strips, &whole);
            prop_assert_eq!(whole.sums.len(), groups.div_ceil(1 << log));
            prop_assert_eq!(whole.sample.len(), sampled * 32);
        }
    }
}
