//! The independent reader in NumPy.

use super::cli::{stderr, stdout};
use super::{root, source};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;
use tq4::format::TqModel;
use tq4::reference;

/// The reference's f32 values of a whole weight, as wide as it is.
pub fn reference_values(model: &TqModel, base: &str) -> Vec<f32> {
    let info = model.info(base).unwrap();
    let [rows, cols] = info.shape;
    let values = reference::dequantize(&model.rows(base, 0..rows).unwrap());
    let rows = values.chunks_exact(info.cols);
    rows.flat_map(|row| row[..cols].to_vec()).collect()
}

/// Holds every weight of a model, decoded in NumPy from the format's description, against the reference; `kind`
/// is the type of a GGUF file's. Returns whether there is a Python.
pub fn numpy_agrees(model: &Path, kind: &str) -> bool {
    let Some(mut python) = source::python("tests/support/reader.py") else {
        return false;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.safetensors");
    let opened = TqModel::open(model).unwrap();
    let all: Vec<(String, [usize; 2], Vec<f32>)> = opened
        .bases()
        .map(|base| {
            let shape = opened.info(base).unwrap().shape;
            (base.to_owned(), shape, reference_values(&opened, base))
        })
        .collect();
    let views = all.iter().map(|(base, shape, values)| {
        let bytes = bytemuck::cast_slice(values);
        (
            base,
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &file).unwrap();
    let script = root().join("tests/support/reader.py");
    let run = python.args([&script, model, &file]).arg(kind).output();
    let run = run.unwrap();
    let expected = format!("{} weights equal\n", all.len());
    assert_eq!(
        stdout(&run),
        expected,
        "{}: {}",
        model.display(),
        stderr(&run)
    );
    true
}
