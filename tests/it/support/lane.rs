//! One test body for every lane.

use half::bf16;
use tq4::backend::{Backend, dequantize_bf16, dequantize_f32};
use tq4::metrics::bf16_steps;
use tq4::reference;
use tq4::synthetic::{self, Rng, Scales};
use tq4::tensor::{GROUP_SIZES, Layout, TqTensor};

/// Every (bits, group size) that a lane implements.
pub fn layouts() -> impl Iterator<Item = Layout> {
    (2..=4).flat_map(|bits| GROUP_SIZES.map(|n| Layout::new(bits, n).unwrap()))
}

/// The last-bit rule: f32 within one f32 step of the reference (a multiply by 1/sqrt(n) in place of
/// the division), BF16 within one step and at least 99.9 % equal (one element where that is less than
/// one); no NaN.
pub fn check(lane: &mut dyn Backend, tensor: &TqTensor<'_>) -> Result<(), String> {
    let reference = reference::dequantize(tensor);
    let got = dequantize_f32(lane, tensor).map_err(|e| e.to_string())?;
    for (i, (g, r)) in got.iter().zip(&reference).enumerate() {
        let ulp = (r.abs().next_up() - r.abs()).max(f32::MIN_POSITIVE);
        // Two roundings against one: the product with a rounded 1/sqrt(n) may be two steps away.
        if (g - r).abs() > 2.0 * ulp || g.is_nan() {
            return Err(format!("f32 element {i}: {g:e}, reference {r:e}"));
        }
    }
    let got = dequantize_bf16(lane, tensor).map_err(|e| e.to_string())?;
    let mut unequal = 0;
    for (i, (g, r)) in got.iter().zip(&reference).enumerate() {
        let steps = bf16_steps(*g, bf16::from_f32(*r));
        if steps > 1 {
            return Err(format!(
                "BF16 element {i}: {g}, reference {r:e}, {steps} steps away"
            ));
        }
        unequal += usize::from(steps == 1);
    }
    if unequal > (got.len() / 1000).max(1) {
        return Err(format!("{unequal} of {} elements differ", got.len()));
    }
    Ok(())
}

/// `count` random tensors over every layout, with odd row counts and every kind of scale.
pub fn random_tensors(seed: u64, count: usize) -> Vec<TqTensor<'static>> {
    let mut rng = Rng::new(seed);
    let layouts: Vec<Layout> = layouts().collect();
    (0..count)
        .map(|i| {
            let layout = layouts[i % layouts.len()];
            let rows = 1 + rng.below(37);
            let cols = layout.group_size() * (1 + rng.below(13));
            synthetic::tensor(&mut rng, layout, rows, cols, Scales::Any).unwrap()
        })
        .collect()
}

/// Runs the test body on every tensor and names the first that fails.
pub fn check_all(lane: &mut dyn Backend, tensors: &[TqTensor<'_>]) -> Result<(), String> {
    for (i, t) in tensors.iter().enumerate() {
        check(lane, t).map_err(|e| {
            format!(
                "tensor {i}, {:?}, {} x {}: {e}",
                t.layout(),
                t.rows(),
                t.cols()
            )
        })?;
    }
    Ok(())
}
