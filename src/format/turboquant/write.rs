//! Writing a model of this format.

use super::{CONFIG, Config};
use crate::checkpoint::{SINGLE, view, write_atomically, write_safetensors};
use crate::error::{Error, Result};
use crate::tensor::TqTensor;
use safetensors::Dtype;
use std::path::Path;

/// Writes TQ4 tensors as an unsharded TQ4 model: weights, then the configuration.
///
/// # Errors
/// When `dir` cannot be made or written.
pub fn write_tq_model(dir: &Path, config: &Config, tensors: &[TqTensor]) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, e))?;
    let mut views = Vec::new();
    for t in tensors {
        let [n, k] = [t.rows(), t.cols()];
        let name = |part: &str| format!("{}.{part}", t.base());
        let packed = [n, t.layout().packed_len(k)];
        views.push((name("tq_packed"), view(Dtype::U8, &packed, t.packed())));
        let scales = t.scales().bytes();
        views.push((
            name("tq_scales"),
            view(Dtype::F16, &[n, t.groups_per_row()], scales),
        ));
        let signs = bytemuck::cast_slice(t.signs());
        views.push((name("tq_signs"), view(Dtype::I8, &[k], signs)));
    }
    write_safetensors(&dir.join(SINGLE), &views, None)?;
    write_atomically(&dir.join(CONFIG), config.to_json().as_bytes())
}
