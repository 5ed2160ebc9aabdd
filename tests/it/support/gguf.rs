//! A writer of small GGUF files, from the format's description: it shares nothing with the program's.

use std::io::Write;
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

/// A file of version 3 with these keys of u16, as split files have them, and these tensors.
pub fn file(keys: &[(&str, u16)], tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64 + 1).to_le_bytes());
    string(&mut out, "general.architecture");
    out.extend(8u32.to_le_bytes());
    string(&mut out, "test");
    for (key, value) in keys {
        string(&mut out, key);
        out.extend(2u32.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    let mut offset = 0u64;
    for t in tensors {
        string(&mut out, &t.name);
        out.extend((t.dims.len() as u32).to_le_bytes());
        t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend(t.type_id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + t.data.len() as u64).next_multiple_of(32);
    }
    for t in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&t.data);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

pub fn write(path: &Path, keys: &[(&str, u16)], tensors: &[Tensor]) {
    let mut to = std::fs::File::create(path).unwrap();
    to.write_all(&file(keys, tensors)).unwrap();
}
