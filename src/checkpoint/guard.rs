//! Outputs are kept apart from inputs.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Refuses an output, a file or a directory, that is one of `inputs`, or inside or around an input
/// directory; links are followed on both sides.
///
/// # Errors
/// When it is; the input is named.
pub fn keep_apart(output: &Path, inputs: &[&Path]) -> Result<()> {
    let touches = |input: &&&Path| inside(output, input) || inside(input, output);
    match inputs.iter().find(touches) {
        None => Ok(()),
        Some(input) => Err(Error::input(
            format!(
                "the output would be written into the input {}",
                input.display()
            ),
            output.display().to_string(),
            "name a place outside what is read",
        )),
    }
}

/// Whether two paths, of which neither need exist, name one file; links are followed.
pub fn same_place(a: &Path, b: &Path) -> bool {
    resolve(a).is_some_and(|a| resolve(b) == Some(a))
}

/// Whether `path` is `dir` or below it.
fn inside(path: &Path, dir: &Path) -> bool {
    dir.canonicalize()
        .is_ok_and(|dir| resolve(path).is_some_and(|path| path.starts_with(dir)))
}

/// The path without links and `..`. What does not exist yet is put below the nearest parent that does.
fn resolve(path: &Path) -> Option<PathBuf> {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = PathBuf::new();
    for parent in full.ancestors() {
        if let Ok(real) = parent.canonicalize() {
            return Some(if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(&rest)
            });
        }
        rest = match parent.file_name() {
            Some(name) if rest.as_os_str().is_empty() => PathBuf::from(name),
            Some(name) => Path::new(name).join(&rest),
            None => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_known_by_every_path() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir_all(model.join("sub")).unwrap();
        let file = model.join("a.safetensors");
        std::fs::write(&file, "a").unwrap();
        for output in [
            "model",
            "model/new",
            "model/sub/new/file",
            "model/../model/x",
            "",
        ] {
            let output = dir.path().join(output);
            assert!(
                keep_apart(&output, &[&model]).is_err(),
                "{}",
                output.display()
            );
        }
        assert!(keep_apart(&file, &[&file]).is_err());
        for output in ["other", "model2/x", "model/../x"] {
            let output = dir.path().join(output);
            assert!(
                keep_apart(&output, &[&model]).is_ok(),
                "{}",
                output.display()
            );
        }
        assert!(keep_apart(&model.join("b"), &[&file]).is_ok());
    }
}
