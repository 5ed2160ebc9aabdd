//! The reference on each SIMD path against the scalar text, on any codes, scales, signs and centroids; with
//! the sanitizer this also walks every load and store of those paths.
#![no_main]

use half::{bf16, f16};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use tq4::codebook::Codebook;
use tq4::reference::{Simd, dequantize_bf16_into_with, dequantize_into_with};
use tq4::tensor::{GROUP_SIZES, Layout, Parts, TqTensor};

fn tensor(data: &[u8]) -> Option<TqTensor> {
    let [head @ .., _] = data.get(..4)? else {
        return None;
    };
    let mut rest = data[3..].iter().copied().cycle();
    let mut next = || rest.next().unwrap_or(0);
    let layout = Layout::new(2 + u32::from(head[0] % 3), GROUP_SIZES[usize::from(head[0] / 3) % 4]).ok()?;
    let (rows, groups) = (1 + usize::from(head[1] % 5), 1 + usize::from(head[2] % 5));
    let cols = groups * layout.group_size();
    let mask = if layout.bits() == 3 { 0x77 } else { 0xFF };
    let packed = (0..rows * layout.packed_len(cols)).map(|_| next() & mask).collect();
    let scales = (0..rows * groups)
        .map(|_| f16::from_bits(u16::from_le_bytes([next(), next() & 0x7F])))
        .collect();
    let signs = (0..cols).map(|_| if next() & 1 == 0 { 1 } else { -1 }).collect();
    let mut centroids: Vec<f32> = (0..layout.levels())
        .map(|_| f32::from(i16::from_le_bytes([next(), next()])) / 65536.0)
        .collect();
    centroids.sort_by(f32::total_cmp);
    let codebook = Codebook::new(centroids, None).ok()?;
    let parts = Parts { packed, scales, signs };
    TqTensor::new("fuzz", layout, [rows, cols], parts, Arc::new(codebook)).ok()
}

fuzz_target!(|data: &[u8]| {
    let Some(t) = tensor(data) else { return };
    let single = |simd| {
        let mut out = vec![0.0f32; t.elements()];
        dequantize_into_with(simd, &t, &mut out);
        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let half = |simd| {
        let mut out = vec![bf16::ZERO; t.elements()];
        dequantize_bf16_into_with(simd, &t, &mut out);
        out.into_iter().map(bf16::to_bits).collect::<Vec<_>>()
    };
    for simd in Simd::available() {
        assert_eq!(single(simd), single(Simd::OFF));
        assert_eq!(half(simd), half(Simd::OFF));
    }
});
