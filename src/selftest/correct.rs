//! Correct outputs of every arithmetic, on which a false alarm is looked for.

use crate::arithmetic::{self, renderings};
use crate::codebook::Codebook;
use crate::codec::Codec;
use crate::error::Result;
use crate::format::every_codec;
use crate::judge;
use crate::record::{Arithmetic, LaneName, OutputType};
use crate::synthetic::{self, Rng, ScaleDistribution};
use crate::tensor::{GROUP_SIZES, Layout};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::Arc;

/// Tensors that are looked at, each with a correct output.
pub const CORRECT: usize = 10_000;

/// What became of the outputs of one arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Correct {
    /// The arithmetic.
    pub arithmetic: Arithmetic,
    /// Outputs that were computed with it.
    pub outputs: usize,
    /// Outputs that failed a gate.
    pub false_alarms: usize,
    /// Outputs whose arithmetic was told: this one, or one that is the same function on the tensor.
    pub named: usize,
}

impl Correct {
    /// Whether every output passed and was told.
    pub fn passed(&self) -> bool {
        self.outputs > 0 && self.false_alarms == 0 && self.named == self.outputs
    }
}

/// Computes one output and judges it: its arithmetic, whether it passed, whether it was told.
fn judged(
    i: usize,
    codebooks: &[(Layout, Vec<Arc<Codebook>>)],
) -> Result<(Arithmetic, bool, bool)> {
    let mut rng = Rng::new(0xC0 + i as u64);
    let (layout, books) = &codebooks[i % codebooks.len()];
    let (rows, groups) = (1 + rng.below(9), 1 + rng.below(5));
    let cols = groups * layout.group_size();
    let codec = Codec {
        layout: *layout,
        codebook: Arc::clone(&books[i / codebooks.len() % books.len()]),
    };
    let tensor = synthetic::of_codec(&mut rng, &codec, rows, cols, ScaleDistribution::Any)?;
    // Every name as often as the others, however many renderings it has.
    let all = renderings(&tensor);
    let name = Arithmetic::ALL[i / codebooks.len() % Arithmetic::ALL.len()];
    let mut named: Vec<_> = all.iter().filter(|r| r.name() == name).collect();
    if named.is_empty() {
        // Where 1/sqrt(n) is exact there is nothing to fold or to multiply by.
        named = all.iter().collect();
    }
    let rendering = named[rng.below(named.len())];
    let of = [OutputType::Bf16, OutputType::F16, OutputType::F32][rng.below(3)];
    let output = arithmetic::emulate(&tensor, rendering, of);
    let d = judge::decision(LaneName::Cuda, &tensor, &output);
    let told = d.exactness.is_some_and(|e| e.arithmetic.is_some());
    Ok((rendering.name(), d.verdict.passed() == Some(true), told))
}

/// Looks for false alarms.
pub(super) fn run() -> Result<Vec<Correct>> {
    let mut codebooks = Vec::new();
    for bits in 2..=4 {
        for n in GROUP_SIZES {
            let books = [Codebook::encoder(bits, n), Codebook::lloyd_max(bits, n)];
            codebooks.push((Layout::new(bits, n)?, books.map(Arc::new).into()));
        }
    }
    let others = every_codec().into_iter().map(|(_, codec)| codec);
    let others = others.filter(|codec| !codec.layout.is_plain());
    codebooks.extend(others.map(|codec| (codec.layout, vec![codec.codebook])));
    let all: Vec<_> = (0..CORRECT)
        .into_par_iter()
        .map(|i| judged(i, &codebooks))
        .collect::<Result<_>>()?;
    let of = |arithmetic: Arithmetic| {
        let mine = || all.iter().filter(move |(name, ..)| *name == arithmetic);
        Correct {
            arithmetic,
            outputs: mine().count(),
            false_alarms: mine().filter(|(_, passed, _)| !passed).count(),
            named: mine().filter(|(.., told)| *told).count(),
        }
    };
    Ok(Arithmetic::ALL.map(of).into())
}
