//! Writing a safetensors file piece by piece: the header first, then each tensor's bytes where they
//! belong, so that no tensor need be in memory whole.

use super::Dtype;
use super::write::regular;
use crate::error::{Error, Result};
use crate::hash::Hashing;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Full name.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Length and SHA-256 of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sum {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Sum {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let read = |e: std::io::Error| Error::io("read", path, e);
        let mut file = Hashing::new(File::open(path).map_err(read)?);
        let mut pieces = BufReader::with_capacity(1 << 20, &mut file);
        let bytes = io::copy(&mut pieces, &mut io::sink()).map_err(read)?;
        Ok(Self {
            bytes,
            sha256: file.finish(),
        })
    }
}

/// A safetensors file under construction, in a temporary file beside its final path.
///
/// Dropped before [`StreamWriter::commit`], it leaves nothing. A killed process leaves the temporary
/// file, whose name follows from the path: the next writer of the same path removes it.
#[derive(Debug)]
pub struct StreamWriter {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    /// The tensors, with their places in the data.
    tensors: Vec<(Planned, (usize, usize))>,
    /// Start and end of each tensor in the file.
    places: HashMap<String, (u64, u64)>,
    data_start: u64,
    committed: bool,
}

impl StreamWriter {
    /// Starts the file: makes it as long as it will be and writes its header, byte for byte as the
    /// `safetensors` library writes it (tensors by element size, then by name).
    ///
    /// # Errors
    /// When the directory cannot be written or a shape overflows.
    pub fn create(
        path: &Path,
        mut tensors: Vec<Planned>,
        metadata: Option<HashMap<String, String>>,
    ) -> Result<Self> {
        let target = regular(path)?;
        let path = target.as_path();
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
        let temporary = temporary(path);
        let io = |e: std::io::Error| Error::io("write", path, e);
        remove_if_there(&temporary)?;
        // Never an existing file, nor through a link: what is opened here is new.
        let file = File::create_new(&temporary).map_err(io)?;
        let data_start = 8 + header.len() as u64;
        let writer = Self {
            file,
            path: path.to_owned(),
            temporary,
            places: tensors
                .iter()
                .map(|(t, (s, e))| {
                    let place = (data_start + *s as u64, data_start + *e as u64);
                    (t.name.clone(), place)
                })
                .collect(),
            tensors,
            data_start,
            committed: false,
        };
        writer.file.set_len(data_start + end as u64).map_err(io)?;
        write_all_at(&writer.file, &(header.len() as u64).to_le_bytes(), 0).map_err(io)?;
        write_all_at(&writer.file, &header, 8).map_err(io)?;
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
        write_all_at(&self.file, &header, 8).map_err(|e| Error::io("write", &self.path, e))
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
        write_all_at(&self.file, bytes, start + offset)
            .map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes sure that all is on the disk, and sums it up. The file has its temporary name still.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn sync(&self) -> Result<Sum> {
        self.file
            .sync_all()
            .map_err(|e| Error::io("write", &self.path, e))?;
        Sum::of(&self.temporary)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn commit(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|e| Error::io("write", &self.path, e))?;
        self.committed = true;
        sync_directory(&self.path);
        Ok(())
    }
}

/// The header of a safetensors file, without its length.
fn header(
    tensors: &[(Planned, (usize, usize))],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, String> {
    let infos = tensors
        .iter()
        .map(|(t, span)| {
            let info = TensorInfo {
                dtype: t.dtype.0,
                shape: t.shape.clone(),
                data_offsets: *span,
            };
            (t.name.clone(), info)
        })
        .collect();
    let metadata = Metadata::new(metadata, infos).map_err(|e| e.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Name of the temporary file for `path`, in the same directory.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tq4-part"))
}

/// Removes a file, or the link of that name.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Puts the names in the directory of `path` on the disk, where the system can.
pub(crate) fn sync_directory(path: &Path) {
    #[cfg(unix)]
    if let Some(dir) = path.parent() {
        // Some file systems cannot; the files themselves are synced.
        let _ = File::open(dir).and_then(|d| d.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_write(bytes, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
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
            .map(|(name, v)| Planned {
                name: (*name).to_owned(),
                dtype: Own(v.dtype()),
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
