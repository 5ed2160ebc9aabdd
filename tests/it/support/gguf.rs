//! A writer of small GGUF files, from the format's description: it shares nothing with the program's.

use std::path::Path;

/// A tensor to be written.
pub struct Tensor {
    pub name: String,
    /// `ne0` first.
    pub dims: Vec<u64>,
    pub type_id: u32,
    pub data: Vec<u8>,
}

impl Tensor {
    pub fn new(name: &str, dims: &[u64], type_id: u32, data: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            dims: dims.into(),
            type_id,
            data,
        }
    }
}

/// A GGUF file under construction.
#[derive(Default)]
pub struct Gguf {
    keys: u64,
    metadata: Vec<u8>,
    tensors: Vec<Tensor>,
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
        self.tensors
            .push(Tensor::new(name, dims, id, bytes.to_vec()));
        self
    }

    /// The bytes of all keys and values.
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The file, data at multiples of `unit`.
    pub fn file(&self, unit: usize) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.keys.to_le_bytes());
        out.extend(&self.metadata);
        let mut data = Vec::new();
        for t in &self.tensors {
            out.extend(text(&t.name));
            out.extend((t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(t.type_id.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(&t.data);
            data.resize(data.len().next_multiple_of(unit), 0);
        }
        out.resize(out.len().next_multiple_of(unit), 0);
        out.extend(data);
        out
    }

    /// Writes it.
    pub fn write(&self, path: &Path, unit: usize) {
        std::fs::write(path, self.file(unit)).unwrap();
    }
}

/// A file of version 3 with these keys of u16, as split files have them, and these tensors.
pub fn file(keys: &[(&str, u16)], tensors: &[Tensor]) -> Vec<u8> {
    let start = Gguf::default().text("general.architecture", "test");
    let start = keys.iter().fold(start, |made, (key, value)| {
        made.key(key, 2, &value.to_le_bytes())
    });
    let add = |made: Gguf, t: &Tensor| made.tensor(&t.name, &t.dims, t.type_id, &t.data);
    tensors.iter().fold(start, add).file(32)
}

pub fn write(path: &Path, keys: &[(&str, u16)], tensors: &[Tensor]) {
    std::fs::write(path, file(keys, tensors)).unwrap();
}
