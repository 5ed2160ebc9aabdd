//! Whole models converted: a source model to a quantised one (`quantize`), a quantised model to plain BF16
//! (`dequantize`).
//!
//! Both go shard by shard and strip by strip: memory does not grow with the model, nor with a tensor.
//! Both write to a new directory that is whole only when they are done; stopped at any moment, they
//! leave nothing, or shards that the same call goes on from. A format whose models are one file has that file
//! whole or not at all.
//!
//! ```no_run
//! use std::path::Path;
//! use tq4::convert::{Choices, Encoding, QuantizeOptions, quantize};
//!
//! let options = QuantizeOptions {
//!     encoding: Encoding::new("turboquant", &Choices::default())?,
//!     include: Vec::new(),
//!     exclude: Vec::new(),
//! };
//! let done = quantize(Path::new("Qwen3.5-9B"), Path::new("Qwen3.5-9B-TQ4"), &options, &mut |_| ())?;
//! for weight in &done.weights {
//!     println!("{} {:.5}", weight.tensor_base, weight.rmse_ratio);
//! }
//! # Ok::<(), tq4::Error>(())
//! ```

mod dequantize;
mod job;
mod lock;
mod model;
mod names;
mod quantize;
mod weight;

pub use dequantize::{DequantizeOutcome, Dequantized, LeftOut, Restored, dequantize};
pub use quantize::{Left, QuantizeOptions, Quantized, quantize};
pub use weight::QuantizedWeight;

pub use crate::format::{Choices, Encoding, SignSeed};
pub use crate::run::RunEvent;
use std::ops::Range;

/// Elements worked on at a time: it bounds memory.
const CONVERT_STRIP: usize = 1 << 22;

/// Cuts `rows` of `cols` elements into strips of at most [`CONVERT_STRIP`] elements (at least one row), of
/// nearly the same size.
pub(crate) fn strips(rows: usize, cols: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (CONVERT_STRIP / cols.max(1)).max(1);
    let count = rows.div_ceil(most).max(1);
    (0..count).map(move |i| rows * i / count..rows * (i + 1) / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cover_the_rows_and_stay_small() {
        for (rows, cols) in [
            (1, 1),
            (7, CONVERT_STRIP),
            (3, 2 * CONVERT_STRIP),
            (100_003, 4096),
            (0, 128),
        ] {
            let all: Vec<_> = strips(rows, cols).collect();
            assert_eq!(all[0].start, 0);
            assert_eq!(all[all.len() - 1].end, rows);
            assert!(all.windows(2).all(|w| w[0].end == w[1].start));
            let longest = all.iter().map(Range::len).max().unwrap();
            assert!(longest <= 1 || longest * cols <= CONVERT_STRIP);
        }
    }
}
