//! Writing checkpoints, whole or not at all.

use super::SINGLE;
use crate::error::{Error, Result};
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A plain BF16 weight to be written.
#[derive(Debug, Clone)]
pub struct PlainTensor {
    /// Full name, with `.weight`.
    pub name: String,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// Row-major values.
    pub values: Vec<bf16>,
}

/// Where a file at `path` goes: behind the links, and over nothing but a regular file, which a rename
/// would take the place of.
///
/// # Errors
/// When a directory, a device or a FIFO is there.
pub(crate) fn regular(path: &Path) -> Result<PathBuf> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => path.canonicalize().map_err(|e| Error::io("write", path, e)),
        Ok(meta) => Err(Error::input(
            if meta.is_dir() {
                "a directory is there"
            } else {
                "a device or a pipe is there"
            },
            path.display().to_string(),
            "name a file",
        )),
        Err(_) => Ok(path.to_owned()),
    }
}

/// Writes `bytes` to `path` through a temporary file in the same directory, then renames it: either
/// the old file stays or the whole new one is there.
///
/// # Errors
/// When the directory cannot be written or the disk is full; nothing is left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = regular(path)?;
    let path = target.as_path();
    let dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !dir.is_dir() {
        return Err(Error::input(
            "the directory does not exist",
            path.display().to_string(),
            "create it first",
        ));
    }
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| Error::io("write", path, e))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(|e| Error::io("write", path, e))?;
    // Temporary files are private; what a user asked for is readable like any other file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file()
            .set_permissions(readable)
            .map_err(|e| Error::io("write", path, e))?;
    }
    file.persist(path)
        .map_err(|e| Error::io("write", path, e.error))?;
    Ok(())
}

/// Serialises tensors as safetensors and writes them atomically.
pub(crate) fn write_safetensors(
    path: &Path,
    tensors: &[(String, TensorView<'_>)],
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let views = tensors.iter().map(|(n, v)| (n.as_str(), v));
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|e| Error::input(e.to_string(), path.display().to_string(), ""))?;
    write_atomically(path, &bytes)
}

/// The bytes of a tensor with their type and shape.
pub(crate) fn view<'a>(dtype: Dtype, shape: &[usize], data: &'a [u8]) -> TensorView<'a> {
    TensorView::new(dtype, shape.to_vec(), data).expect("the length follows from the shape")
}

/// Writes plain BF16 weights as an unsharded checkpoint.
///
/// # Errors
/// When `dir` cannot be made or written.
pub fn write_plain_model(dir: &Path, tensors: &[PlainTensor]) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, e))?;
    let views: Vec<_> = tensors
        .iter()
        .map(|t| {
            let bytes = bytemuck::cast_slice(&t.values);
            (t.name.clone(), view(Dtype::BF16, &t.shape, bytes))
        })
        .collect();
    write_safetensors(&dir.join(SINGLE), &views, None)
}
