//! The independent reader in NumPy, and GGUF files put together by hand.

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

/// A GGUF file under construction.
#[derive(Default)]
pub struct Gguf {
    keys: u64,
    metadata: Vec<u8>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u64).to_le_bytes();
    [&length, text.as_bytes()].concat()
}

impl Gguf {
    /// A key with a value: the id of its type, and its bytes.
    pub fn key(mut self, key: &str, id: u32, value: &[u8]) -> Self {
        self.keys += 1;
        let entry = [&text(key)[..], &id.to_le_bytes(), value].concat();
        self.metadata.extend(entry);
        self
    }

    /// A key with a text.
    pub fn text(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &text(value))
    }

    /// A tensor, its contiguous dimension first.
    pub fn tensor(mut self, name: &str, dims: &[u64], id: u32, bytes: &[u8]) -> Self {
        let tensor = (name.to_owned(), dims.to_vec(), id, bytes.to_vec());
        self.tensors.push(tensor);
        self
    }

    /// The bytes of all keys and values.
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// Writes it, data at multiples of `unit`.
    pub fn write(&self, path: &Path, unit: usize) {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.keys.to_le_bytes());
        out.extend(&self.metadata);
        let mut data = Vec::new();
        for (name, dims, id, bytes) in &self.tensors {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(id.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(unit), 0);
        }
        out.resize(out.len().next_multiple_of(unit), 0);
        out.extend(data);
        std::fs::write(path, out).unwrap();
    }
}
