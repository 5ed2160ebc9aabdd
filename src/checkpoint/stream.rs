//! Writing a safetensors file piece by piece: the header first, then each tensor's bytes where they
//! belong, so that no tensor need be in memory whole.

use super::unfinished::Unfinished;
use super::{Dtype, Sum};
use crate::error::{Error, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::path::Path;

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Full name.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A safetensors file under construction, in a temporary file beside its final path.
///
/// Dropped before [`StreamWriter::commit`], it leaves nothing. A killed process leaves the temporary
/// file, whose name follows from the path: the next writer of the same path removes it.
#[derive(Debug)]
pub struct StreamWriter {
    file: Unfinished,
    /// The tensors, with their places in the data.
    tensors: Vec<(PlannedTensor, (usize, usize))>,
    /// Start and end of each tensor in the file.
    places: HashMap<String, (u64, u64)>,
    data_start: u64,
}

impl StreamWriter {
    /// Starts the file: makes it as long as it will be and writes its header, byte for byte as the
    /// `safetensors` library writes it (tensors by element size, then by name).
    ///
    /// # Errors
    /// When the directory cannot be written or a shape overflows.
    pub fn create(
        path: &Path,
        mut tensors: Vec<PlannedTensor>,
        metadata: Option<HashMap<String, String>>,
    ) -> Result<Self> {
        let bad = |what: String| Error::input(what, path.display().to_string(), "");
        tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let mut end = 0usize;
        let mut spans = Vec::with_capacity(tensors.len());
        for t in &tensors {
            let bits = t
                .shape
                .iter()
                .try_fold(t.dtype.bits(), |n, d| n.checked_mul(*d))
                .ok_or_else(|| bad(format!("shape {:?} of {} overflows", t.shape, t.name)))?;
            spans.push((end, end + bits.div_ceil(8)));
            end += bits.div_ceil(8);
        }
        let tensors: Vec<_> = tensors.into_iter().zip(spans).collect();
        let header = header(&tensors, metadata).map_err(bad)?;
        let data_start = 8 + header.len() as u64;
        let writer = Self {
            file: Unfinished::create(path, data_start + end as u64)?,
            places: tensors
                .iter()
                .map(|(t, (s, e))| {
                    let place = (data_start + *s as u64, data_start + *e as u64);
                    (t.name.clone(), place)
                })
                .collect(),
            tensors,
            data_start,
        };
        let length = (header.len() as u64).to_le_bytes();
        writer.file.write_at(&length, 0)?;
        writer.file.write_at(&header, 8)?;
        Ok(writer)
    }

    /// Writes other metadata, of the same length, over those given at the start: for checksums that
    /// are known only when all has been read.
    ///
    /// # Errors
    /// When the disk fails.
    ///
    /// # Panics
    /// When the length differs.
    pub fn rewrite_metadata(&self, metadata: HashMap<String, String>) -> Result<()> {
        let header =
            header(&self.tensors, Some(metadata)).expect("the tensors were written before");
        assert_eq!(8 + header.len() as u64, self.data_start, "the same length");
        self.file.write_at(&header, 8)
    }

    /// Writes a piece of a tensor, `offset` bytes from its start.
    ///
    /// # Errors
    /// When the disk is full or fails.
    ///
    /// # Panics
    /// When there is no such tensor or the piece reaches outside it.
    pub fn write_at(&self, tensor: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let (start, end) = self.places[tensor];
        assert!(
            start + offset + bytes.len() as u64 <= end,
            "the piece lies in the tensor"
        );
        self.file.write_at(bytes, start + offset)
    }

    /// Makes sure that all is on the disk, and sums it up. The file has its temporary name still.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn sync(&self) -> Result<Sum> {
        self.file.sync()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn commit(self) -> Result<()> {
        self.file.commit()
    }
}

/// The header of a safetensors file, without its length.
fn header(
    tensors: &[(PlannedTensor, (usize, usize))],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, String> {
    let infos = tensors
        .iter()
        .map(|(t, span)| {
            let dtype = t.dtype.safetensors();
            let info = TensorInfo {
                dtype: dtype.ok_or_else(|| format!("{} is of type {:?}", t.name, t.dtype))?,
                shape: t.shape.clone(),
                data_offsets: *span,
            };
            Ok((t.name.clone(), info))
        })
        .collect::<Result<_, String>>()?;
    let metadata = Metadata::new(metadata, infos).map_err(|e| e.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::super::Dtype as Own;
    use super::*;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    #[test]
    fn the_file_is_the_one_that_the_library_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let (b, a) = ([1u8, 2, 3, 4, 5, 6], [9u8; 8]);
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let views = [
            ("b", TensorView::new(Dtype::U8, vec![2, 3], &b).unwrap()),
            ("c", TensorView::new(Dtype::BF16, vec![4], &a).unwrap()),
            ("a", TensorView::new(Dtype::F32, vec![2], &a).unwrap()),
        ];
        let expected = safetensors::serialize(views.clone(), Some(metadata.clone())).unwrap();
        let planned = views
            .iter()
            .map(|(name, v)| PlannedTensor {
                name: (*name).to_owned(),
                dtype: Own::of(v.dtype()),
                shape: v.shape().to_vec(),
            })
            .collect();
        let writer = StreamWriter::create(&path, planned, Some(metadata)).unwrap();
        for (name, v) in &views {
            let (low, high) = v.data().split_at(3);
            writer.write_at(name, 3, high).unwrap();
            writer.write_at(name, 0, low).unwrap();
        }
        let sum = writer.sync().unwrap();
        assert!(!path.exists());
        writer.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert_eq!(sum.bytes, expected.len() as u64);
        assert_eq!(Sum::of(&path).unwrap(), sum);
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        drop(StreamWriter::create(&path, Vec::new(), None).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
