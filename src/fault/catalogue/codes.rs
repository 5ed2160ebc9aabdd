//! Faults of the unpacking and of the codebook.

use super::{FaultEntry, always, fitted, many_rows, one_if, row};
use crate::codebook::Codebook;
use crate::codec::{Packing, Unit};
use crate::fault::pipeline::Pipeline;
use crate::tensor::{GROUP_SIZES, TqTensor};
use half::{bf16, f16};
use std::sync::{LazyLock, Mutex};

const ORDER: &str = "each code is read at its index XOR {}: look at the order of bytes in a word, of codes in a byte and of \
    words in a vector load";

#[rustfmt::skip]
pub(super) static TABLE: &[FaultEntry] = &[
    // Two 4-bit codes or four 2-bit codes a byte: the halves change places.
    row("nibbles_swapped", whole_codes, |p, _| p.code_order ^= p.codes_per_byte() / 2,
        "the even element is the low nibble: look at the shift in the unpacking"),
    row("byte_high_code_first", two_bit_codes, |p, _| p.code_order ^= p.codes_per_byte() - 1,
        "four 2-bit codes share a byte, the first in the low bits: look at the shift in the unpacking"),
    row("codes_order_xor_{}", fitted, |p, mask| p.code_order ^= mask & (p.n - 1), ORDER),
    row("code_bits_swapped", two_bit_codes, |p, _| p.code_bits_swapped = true,
        "the two bits of a code are exchanged: look at the mask in the unpacking"),
    row("split_halves_order", whole_codes, |p, _| p.split_halves = true,
        "neighbouring codes share a byte: it is not the first half of the group low and the second high"),
    row("index_off_by_one_up", always, |p, _| p.code_shift += 1,
        "codes are read one element off: look at the index"),
    row("index_off_by_one_down", always, |p, _| p.code_shift -= 1,
        "codes are read one element off: look at the index"),
    row("codes_of_next_row", many_rows, |p, _| p.code_shift += p.tensor.cols() as isize,
        "codes are read one row off and scales are not: look at the base address of the codes"),
    row("codes_of_previous_row", many_rows, |p, _| p.code_shift -= p.tensor.cols() as isize,
        "codes are read one row off and scales are not: look at the base address of the codes"),
    row("codebook_reversed", always, |p, _| p.centroids.reverse(),
        "the codebook is in descending order"),
    row("codebook_gaussian", always, |p, _| p.centroids = gaussian(p.tensor.layout().bits(), p.n),
        "the codebook is the normal distribution's: take the model's own centroids"),
    row("codebook_unscaled", always, |p, _| unscale(&mut p.centroids, p.n),
        "the codebook is of unit variance: it must be divided by sqrt(n)"),
    row("codebook_converged", of_norms, |p, _| p.centroids = Recomputed::Converged.centroids(p.tensor.layout().bits(), p.n),
        "the codebook is what the updates converge to: take as many as the format has, or the model's own centroids"),
    row("codes_read_with_{}_bits", other_bits,
        |p, bits| (p.read_bits, p.centroids) = (Some(bits as u32), normal(bits, p.n)),
        "codes and codebook are read with {} bits, which other tensors of the model may have"),
    row("codebook_of_{}_bits", other_bits, |p, bits| p.centroids = stale(bits, p),
        "the codebook is that of {} bits, which other tensors of the model may have: upload it for each tensor"),
    row("codes_of_three_bytes_big_endian", dense_threes, |p, _| p.big_endian = true,
        "eight codes of 3 bits are a little-endian integer of three bytes: its bytes are read in the other order"),
    row("codebook_linear", always, |p, _| space_evenly(&mut p.centroids),
        "the centroids are evenly spaced: take the model's own"),
    row("codebook_f16", always, |p, _| each(&mut p.centroids, |c| f16::from_f32(c).to_f32()),
        "the centroids are rounded to F16: keep them in f32"),
    row("codebook_bf16", always, |p, _| each(&mut p.centroids, |c| bf16::from_f32(c).to_f32()),
        "the centroids are rounded to BF16: keep them in f32"),
    row("codebook_symmetrised", asymmetric, |p, _| symmetrise(&mut p.centroids),
        "the codebook was made symmetric: take the model's own centroids, of which the two halves differ"),
    row("codebook_mirrored_low", asymmetric, |p, _| mirror(&mut p.centroids, false),
        "the upper half of the codebook is the lower half mirrored: take the model's own centroids, of which the two halves differ"),
    row("codebook_mirrored_high", asymmetric, |p, _| mirror(&mut p.centroids, true),
        "the lower half of the codebook is the upper half mirrored: take the model's own centroids, of which the two halves differ"),
    row("codes_read_as_nibbles", dense_threes,
        |p, _| { p.read_bits = Some(4); p.centroids.resize(16, 0.0); },
        "codes of 3 bits without gaps are read as if each had a nibble: look at the unpacking"),
    row("codebook_int8_of_the_gemv", unit_of_four_bits, |p, _| to_int8_of_the_gemv(&mut p.centroids),
        "the centroids are round(c * 127 / 2.733), the int8 codebook of a fused GEMV, which is not this function: keep them in f32"),
    row("codebook_int8_of_three_bits", unit_of_three_bits, |p, _| p.centroids = INT8_OF_THREE_BITS.map(|c| c * 2.1519 / 127.0).to_vec(),
        "the centroids are 127, 79, 45 and 14 times 2.1519 / 127, symmetric and off by 6 %: take the model's own in f32"),
    row("codebook_int8", always, |p, _| to_int8(&mut p.centroids),
        "the centroids are rounded to int8 with one scale: keep them in f32"),
    row("codebook_of_dimension_{}", other_sizes,
        |p, n| p.centroids = Recomputed::LloydMax.centroids(p.tensor.layout().bits(), n.clamp(3, 4096)),
        "the codebook is that of group size {}: take the model's own centroids"),
];

/// Codes of which a byte holds whole ones.
fn whole_codes(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().stored_bits() != 3)
}

fn two_bit_codes(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().stored_bits() == 2)
}

fn other_sizes(t: &TqTensor) -> Vec<usize> {
    let own = t.layout().group_size();
    GROUP_SIZES.into_iter().filter(|n| *n != own).collect()
}

/// Lloyd-Max centroids of the normal distribution (Max, 1960, table I), divided by sqrt(n).
fn gaussian(bits: u32, n: usize) -> Vec<f32> {
    const HALF: [&[f32]; 3] = [
        &[0.4528, 1.510],
        &[0.2451, 0.7560, 1.344, 2.152],
        &[0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733],
    ];
    let half = HALF[bits as usize - 2];
    let all = half.iter().rev().map(|c| -c).chain(half.iter().copied());
    all.map(|c| c / (n as f32).sqrt()).collect()
}

fn of_norms(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().scales().unit == Unit::Norm)
}

fn dense_threes(t: &TqTensor) -> Vec<usize> {
    one_if(t.layout().stored_bits() == 3)
}

/// Of codes without gaps, whose codebooks are known for every number of bits.
fn other_bits(t: &TqTensor) -> Vec<usize> {
    let layout = t.layout();
    let known = layout.packing() == Packing::Dense && layout.scales().unit == Unit::Norm;
    let bits = (2..=4).filter(|b| known && *b != layout.bits() as usize);
    bits.collect()
}

/// That of a number of bits, which a name may say as it likes.
fn normal(bits: usize, n: usize) -> Vec<f32> {
    Recomputed::Normal.centroids(bits.clamp(2, 4) as u32, n)
}

/// Another codebook in the place of the tensor's: its first entries, and zeros where it has none.
fn stale(bits: usize, p: &Pipeline<'_>) -> Vec<f32> {
    let mut centroids = normal(bits, p.n);
    centroids.resize(p.tensor.layout().levels(), 0.0);
    centroids
}

const INT8_OF_THREE_BITS: [f32; 8] = [-127.0, -79.0, -45.0, -14.0, 14.0, 45.0, 79.0, 127.0];

fn asymmetric(t: &TqTensor) -> Vec<usize> {
    let c = t.codebook().centroids();
    one_if(c.iter().zip(c.iter().rev()).any(|(a, b)| *a != -b))
}

fn unit(t: &TqTensor, bits: u32) -> Vec<usize> {
    one_if(t.layout().scales().unit == Unit::Deviation && t.layout().bits() == bits)
}

fn unit_of_four_bits(t: &TqTensor) -> Vec<usize> {
    unit(t, 4)
}

fn unit_of_three_bits(t: &TqTensor) -> Vec<usize> {
    unit(t, 3)
}

fn symmetrise(centroids: &mut [f32]) {
    let all = centroids.to_vec();
    for (c, mirrored) in centroids.iter_mut().zip(all.iter().rev()) {
        *c = (*c - mirrored) / 2.0;
    }
}

fn mirror(centroids: &mut [f32], high: bool) {
    let all = centroids.to_vec();
    let half = all.len() / 2;
    for (i, (c, mirrored)) in centroids.iter_mut().zip(all.iter().rev()).enumerate() {
        if (i < half) == high {
            *c = -mirrored;
        }
    }
}

fn to_int8_of_the_gemv(centroids: &mut [f32]) {
    const STEP: f32 = 2.733 / 127.0;
    for c in centroids {
        *c = (*c / STEP).round() * STEP;
    }
}

fn unscale(centroids: &mut [f32], n: usize) {
    let root = (n as f32).sqrt();
    centroids.iter_mut().for_each(|c| *c *= root);
}

fn space_evenly(centroids: &mut [f32]) {
    let last = centroids.len() - 1;
    let (low, high) = (centroids[0], centroids[last]);
    for (i, c) in centroids.iter_mut().enumerate() {
        *c = low + (high - low) * i as f32 / last as f32;
    }
}

fn each(centroids: &mut [f32], to: fn(f32) -> f32) {
    centroids.iter_mut().for_each(|c| *c = to(*c));
}

fn to_int8(centroids: &mut [f32]) {
    let most = centroids.iter().fold(0f32, |m, c| m.max(c.abs()));
    let step = most / 127.0;
    for c in centroids {
        *c = (*c / step).round_ties_even() * step;
    }
}

/// A codebook that is recomputed.
#[derive(Clone, Copy, PartialEq)]
enum Recomputed {
    LloydMax,
    Normal,
    Converged,
}

impl Recomputed {
    /// Its centroids. Making one takes milliseconds, and a search tries it with every other fault.
    fn centroids(self, bits: u32, n: usize) -> Vec<f32> {
        type Made = Vec<((Recomputed, u32, usize), Codebook)>;
        static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
        let key = (self, bits, n);
        let mut made = MADE.lock().expect("no thread panics here");
        if let Some((_, book)) = made.iter().find(|(of, _)| *of == key) {
            return book.centroids().to_vec();
        }
        let book = match self {
            Self::LloydMax => Ok(Codebook::lloyd_max(bits, n)),
            Self::Normal => Codebook::normal(bits, n),
            Self::Converged => Codebook::normal_converged(bits, n),
        };
        let book = book.expect("a size that there is");
        let centroids = book.centroids().to_vec();
        made.push((key, book));
        centroids
    }
}
