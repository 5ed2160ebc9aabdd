//! What it takes for a lane to be right.

use half::f16;
use tq4::codebook::Codebook;
use tq4::codec::Codec;
use tq4::format::every_codec;
use tq4::judge_values;
use tq4::lane::{Lane, Output, decode};
use tq4::record::LaneName;
use tq4::run::Strip;
use tq4::synthetic::{self, Rng, ScaleDistribution};
use tq4::tensor::{GROUP_SIZES, Layout, Parts, TqTensor};

/// Every (bits, group size) that a lane implements.
pub fn layouts() -> impl Iterator<Item = Layout> {
    (2..=4).flat_map(|bits| GROUP_SIZES.map(|n| Layout::new(bits, n).unwrap()))
}

/// What every element of a lane must be.
#[derive(Clone, Copy)]
enum Rule {
    /// The reference's, as CUDA's must.
    Exact,
    /// That or the same sum times f32 1/sqrt(n), as a shader's.
    Multiply,
    /// Allowed: the plain shader divides, as well as its device does.
    Allowed,
}

fn within(rule: Rule, out: &Output, strip: &Strip) -> Result<(), String> {
    let tensor = strip.tensor().unwrap().clone();
    let record = judge_values("lane", tensor, out.clone()).map_err(|e| e.to_string())?;
    let d = record.decision_of(&LaneName::from("lane")).unwrap();
    let e = d.exactness.as_ref().unwrap();
    let moved = match rule {
        Rule::Exact => e.unequal,
        Rule::Multiply => e.unlike_multiply,
        Rule::Allowed => 0,
    };
    match d.verdict.passed() {
        Some(true) if moved == 0 => Ok(()),
        _ => Err(format!("{moved} elements are others; {}", d.reason)),
    }
}

/// Decodes and holds the result to the rule of the lane.
pub fn check(lane: &mut dyn Lane, strip: &Strip) -> Result<(), String> {
    let (out, timed) = decode(lane, strip).map_err(|e| e.to_string())?;
    let rule = match (lane.info().api.as_str(), &lane.info().name) {
        ("CPU" | "CUDA", _) => Rule::Exact,
        (_, LaneName::Named(name)) if name.starts_with("plain") => Rule::Allowed,
        _ => Rule::Multiply,
    };
    assert!(timed.device.is_none_or(|d| d <= timed.wall), "{timed:?}");
    within(rule, &out, strip).map_err(|e| {
        let layout = strip.tensor().unwrap().layout();
        let (rows, cols) = (strip.rows.len(), strip.cols);
        format!("{layout:?}, {rows} x {cols}: {e}")
    })
}

/// [`check`] of every strip, up to the first that fails.
pub fn check_all(lane: &mut dyn Lane, strips: &[Strip]) -> Result<(), String> {
    strips.iter().try_for_each(|strip| check(lane, strip))
}

/// A synthetic strip.
pub fn strip(
    seed: u64,
    layout: Layout,
    rows: usize,
    groups: usize,
    scales: ScaleDistribution,
) -> Strip {
    let cols = groups * layout.group_size();
    Strip::of(synthetic::tensor(&mut Rng::new(seed), layout, rows, cols, scales).unwrap())
}

/// `count` random strips over every layout, with odd row counts and every kind of scale.
pub fn random_strips(seed: u64, count: usize) -> Vec<Strip> {
    let mut rng = Rng::new(seed);
    let layouts: Vec<Layout> = layouts().collect();
    (0..count)
        .map(|i| {
            let (rows, groups) = (1 + rng.below(37), 1 + rng.below(13));
            let layout = layouts[i % layouts.len()];
            strip(rng.next_u64(), layout, rows, groups, ScaleDistribution::Any)
        })
        .collect()
}

/// A synthetic strip of any codec.
pub fn strip_of(
    seed: u64,
    codec: &Codec,
    rows: usize,
    groups: usize,
    scales: ScaleDistribution,
) -> Strip {
    let cols = groups * codec.layout.group_size();
    Strip::of(synthetic::of_codec(&mut Rng::new(seed), codec, rows, cols, scales).unwrap())
}

/// `count` random strips over every codec but the plain ones, as [`random_strips`] has those.
pub fn random_codecs(seed: u64, count: usize) -> Vec<Strip> {
    let mut rng = Rng::new(seed);
    let all = every_codec().into_iter().map(|(_, codec)| codec);
    let codecs: Vec<Codec> = all.filter(|codec| !codec.layout.is_plain()).collect();
    (0..count)
        .map(|i| {
            let (rows, groups) = (1 + rng.below(37), 1 + rng.below(13));
            let codec = &codecs[i % codecs.len()];
            strip_of(rng.next_u64(), codec, rows, groups, ScaleDistribution::Any)
        })
        .collect()
}

/// A row for each scale: zero of both signs, the ends of the subnormals, the ends of the others.
pub fn edge_scales(layout: Layout) -> Strip {
    const SCALES: [u16; 7] = [0, 0x8000, 1, 0x03FF, 0x0400, 0x3C00, 0x7BFF];
    let mut rng = Rng::new(6);
    let n = layout.group_size();
    let mask = if layout.bits() == 3 { 0x77 } else { 0xFF };
    let packed: Vec<u8> = (0..SCALES.len() * layout.packed_len(n))
        .map(|_| (rng.next_u64() >> 56) as u8 & mask)
        .collect();
    let parts = Parts {
        packed,
        scales: SCALES.map(f16::from_bits).to_vec().into(),
        signs: rng.signs(n),
    };
    let book = Codebook::lloyd_max(layout.bits(), n);
    Strip::of(TqTensor::new("edge", layout, [SCALES.len(), n], parts, book.into()).unwrap())
}

/// Outputs that lie halfway between two BF16 values: one group a row, every centroid a small integer
/// and 1/sqrt(n) a power of two, so that sums have few bits more than BF16.
pub fn ties() -> Strip {
    integers(3.0)
}

/// As [`ties`] between two F16 values, which have three bits more.
pub fn f16_ties() -> Strip {
    integers(211.0)
}

fn integers(scale: f32) -> Strip {
    let layout = Layout::new(4, 64).unwrap();
    let book = Codebook::new((0..16).map(|i| i as f32).collect(), None).unwrap();
    let mut rng = Rng::new(3);
    let packed: Vec<u8> = (0..64 * 32).map(|_| (rng.next_u64() >> 56) as u8).collect();
    let parts = Parts {
        packed,
        scales: vec![f16::from_f32(scale); 64].into(),
        signs: rng.signs(64),
    };
    Strip::of(TqTensor::new("ties", layout, [64, 64], parts, book.into()).unwrap())
}
